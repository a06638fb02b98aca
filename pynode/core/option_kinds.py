"""The kinds of options that records have, and how the command line reads their texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token

Backend = Literal["auto", "torch", "native", "julia"]
# The engines of a command that cannot use Julia's.
OwnBackend = Literal["auto", "torch", "native"]


def _separated(kind: Callable[[str], Any], what: str) -> Callable[[Any, Sequence[Token]], Any]:
    """The converter of values with commas between them, or of an array in a file of options."""

    def convert(_: Any, tokens: Sequence[Token]) -> tuple[Any, ...]:
        text = ",".join(token.value for token in tokens)
        parts = [part.strip() for part in text.split(",")]
        try:
            return tuple(kind(part) for part in parts if part)
        except ValueError:
            raise ValueError(f"{text!r} is not a list of {what}") from None

    return convert


def listed(kind: Callable[[str], Any], what: str, metavar: str) -> Parameter:
    """An option whose values have commas between them. kind: reads one of them; what: the name of
    the values and an example, for the message."""
    return Parameter(
        converter=_separated(kind, what),
        n_tokens=1,
        metavar=metavar,
        negative="",
        allow_leading_hyphen=True,
    )


def as_typed(value: Any) -> str | None:
    """A default as somebody would type it; None if it is nothing to show."""
    if isinstance(value, bool) or not value or value == math.inf:
        return None
    if isinstance(value, tuple):
        return ",".join(str(as_typed(part)) for part in value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def read_count(least: int) -> Callable[[Any, Sequence[Token]], int]:
    """The converter of a whole number that is at least `least`."""

    def convert(_: Any, tokens: Sequence[Token]) -> int:
        text = tokens[0].value
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise ValueError(f"{text!r} is not a whole number from {least} on")
        return value

    return convert


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _positive(_: Any, tokens: Sequence[Token]) -> float:
    text = tokens[0].value
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{text!r} is not a positive number")
    return value


def _from_data(_: Any) -> str:
    return "from the data"


def _one_token(converter: Callable[..., Any], metavar: str) -> Parameter:
    return Parameter(
        converter=converter, n_tokens=1, metavar=metavar, allow_leading_hyphen=True, negative=""
    )


NAMES = listed(str, "names", "NAMES")
NUMBERS = listed(float, "numbers such as 1e-4,1e-6", "X,...")
Names = Annotated[tuple[str, ...], NAMES]
Numbers = Annotated[tuple[float, ...], NUMBERS]
Widths = Annotated[tuple[int, ...], listed(int, "widths such as 64,64", "WIDTHS")]
# A whole number, also one from 0 or from 1 on, and a positive number.
Whole = Annotated[int, _one_token(read_count(0), "N")]
Count = Annotated[int, _one_token(read_count(1), "N")]
Positive = Annotated[float, _one_token(_positive, "X")]
Float = Annotated[float, Parameter(metavar="X")]
Integer = Annotated[int, _one_token(_whole, "N")]
Text = Annotated[str, Parameter(metavar="NAME")]
# The data choose the value if nobody gives it.
FROM_DATA = Parameter(show_default=_from_data)
# An option that can also be switched off, with --no-...
SWITCH = Parameter(negative=None)
