"""Units in the names of quantities, such as 'Glucose [mmol/L]'."""

from __future__ import annotations

import re

_BRACKETS = re.compile(r"^(.*?)\s*\[([^\[\]]*)\]$")
_PARENTHESES = re.compile(r"^(.*?)(\s*)\(([^()]*)\)$")
_SLASH = re.compile(r"^(.+?)\s+(?:/|in)\s+(\S+)$")
_DEGREES = re.compile(r"^(.+?)[ _]((?:°|deg)[CFK]?|%)$")
_LIKE_A_UNIT = re.compile(
    r"^(?:%|[a-zA-Z°µμΩ]{1,4}|.*[/^°µμΩ·%].*|seconds|minutes|hours|days|weeks|months|years|mmol|"
    r"counts|cells|molar|celsius|kelvin|volts|watts|metres|meters)$"
)
# Numbers in brackets are indices.
_INDEX = re.compile(r"^[\d\s,:]*$")


def split_unit(name: str) -> tuple[str, str]:
    """'Glucose [mmol/L]' as ('Glucose', 'mmol/L'). The unit is '' if the name has none."""
    for pattern in (_BRACKETS, _DEGREES):
        found = pattern.match(name)
        if found and found[1]:
            return found[1].strip(), found[2].strip()
    found = _PARENTHESES.match(name)
    # Without a blank, parentheses may be a part of the name: y(1).
    if found and found[1] and _LIKE_A_UNIT.match(found[3].strip()):
        if found[2] or "/" in found[3] or "°" in found[3]:
            return found[1].strip(), found[3].strip()
    found = _SLASH.match(name)
    if found and _LIKE_A_UNIT.match(found[2]):
        return found[1].strip(), found[2].strip()
    return name, ""


def is_unit(text: str) -> bool:
    """Whether a text by itself looks like a unit: 'min', 'mol/L', '°C'."""
    return bool(_LIKE_A_UNIT.match(text))


def unit_of(name: str) -> str:
    """The unit in a name of a component, '' if it has none. 'y[2]' is a name with an index."""
    unit = split_unit(name)[1]
    if _INDEX.match(unit):
        return ""
    return unit


def with_unit(name: str, unit: str = "") -> str:
    """What an axis says of a quantity: 'Glucose (mmol/L)'. The plain name if nothing is known of
    its unit.

    unit: the unit, '' to take it from the name.
    """
    short = name
    own = unit_of(name)
    if own:
        short = split_unit(name)[0]
    known = unit or own
    if not known:
        return name
    return f"{short} ({known})"
