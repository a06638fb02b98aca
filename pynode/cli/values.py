"""Parsers for values of the command line, and the message for a missing matplotlib."""

from __future__ import annotations

import argparse
from collections.abc import Callable

NO_PLOTS = (
    "No plots were drawn, because matplotlib is not installed: pip install 'torch-stiff-ode[plot]'"
)


def names(text: str) -> tuple[str, ...]:
    """'a, b' as ('a', 'b')."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def count(least: int) -> Callable[[str], int]:
    """The type of a whole number that is at least `least`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return value

    return read


def positive(text: str) -> float:
    """A positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def numbers(text: str) -> tuple[float, ...]:
    """'1e-4,1e-6' as floats."""
    return _all(float, text, "numbers such as 1e-4,1e-6")


def widths(text: str) -> tuple[int, ...]:
    """'64,64' as whole numbers."""
    return _all(int, text, "widths such as 64,64")


def _all(kind, text, what) -> tuple:
    try:
        return tuple(kind(part) for part in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {what}") from None
