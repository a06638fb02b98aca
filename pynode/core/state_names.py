"""The names of the components of a state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def names_of_field(f: Any) -> tuple[str, ...] | None:
    """What f calls its components, from its attribute ``state_names``; None if it has none."""
    names = _attribute(f, "state_names")
    if names is None:
        return None
    return tuple(map(str, names))


def units_of_field(f: Any) -> tuple[str, ...]:
    """The units of the components of f, from its attribute ``state_units``; () if it has none."""
    units = _attribute(f, "state_units")
    if units is None:
        return ()
    return tuple(map(str, units))


def time_unit_of_field(f: Any) -> str:
    """The unit of the time of f, from its attribute ``time_unit``; '' if it has none."""
    unit = _attribute(f, "time_unit")
    if unit is None:
        return ""
    return str(unit)


def _attribute(f, name):
    """An attribute of f, None if it has none."""
    value = getattr(f, "__dict__", {}).get(name)
    # Through the class, because a module looks for a missing attribute for a microsecond.
    if value is None and hasattr(type(f), name):
        value = getattr(f, name, None)
    return value


def checked(names: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple. Raise TypeError or ValueError if they are no list of different
    texts."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f'names must be a list of texts, one for each component, such as ["A", "B"], not'
            f" {names!r}"
        )
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ValueError(
            f"names has {', '.join(map(repr, twice))} more than once: give each component a name of"
            " its own"
        )
    return tuple(names)


def spread(names: Sequence[str], shape: Sequence[int]) -> tuple[str, ...] | None:
    """The names of all components of a tensor whose last dimension they name: 'A', or 'A[0]' where
    the tensor has further dimensions in front. None if they do not fit."""
    if not shape or shape[-1] != len(names):
        return None
    count = math.prod(shape[:-1])
    if len(shape) == 1:
        return tuple(names)
    return tuple(f"{name}[{index}]" for index in range(count) for name in names)
