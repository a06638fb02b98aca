"""The names of the components of a state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def names_of_field(f: Any) -> tuple[str, ...] | None:
    """What f calls its components, from its attribute ``state_names``; None if it has none."""
    names = getattr(f, "__dict__", {}).get("state_names")
    # Through the class, because a module looks for a missing attribute for a microsecond.
    if names is None and hasattr(type(f), "state_names"):
        names = getattr(f, "state_names", None)
    if names is None:
        return None
    return tuple(map(str, names))


def time_unit_of_field(f: Any) -> str:
    """The unit of the time of f, from its attribute ``time_unit``; '' if it has none."""
    unit = getattr(f, "__dict__", {}).get("time_unit")
    # Through the class, because a module looks for a missing attribute for a microsecond.
    if unit is None and hasattr(type(f), "time_unit"):
        unit = getattr(f, "time_unit", None)
    if isinstance(unit, str):
        return unit
    return ""


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
