"""What the commands have in common: values as they are written on a command line, and what is said without matplotlib."""

from __future__ import annotations

import argparse

NO_PLOTS = "Plots were left out, because matplotlib is not installed: pip install 'pynode[plot]'"


def names(text) -> tuple:
    """'a, b' as ('a', 'b')."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def positive(text) -> float:
    """A positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def numbers(text) -> tuple:
    """'1e-4,1e-6' as floats."""
    try:
        return tuple(float(part) for part in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1e-4,1e-6") from None
