"""The texts NAME=VALUE of ``pynode fit``, about parameters, states and columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

SCALES = ("lin", "log", "log10")


def read(kind: Callable[[str], Any], texts: Iterable[str]) -> dict[str, Any]:
    """The values of texts NAME=VALUE by name. kind: reads a value. Raises ValueError."""
    return dict(_pair(kind, text) for text in texts)


def _pair(kind, text) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"{text!r} does not read NAME=VALUE")
    try:
        return name.strip(), kind(value.strip())
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None


def bounds(text: str) -> tuple[float, float]:
    """'1e-3,1e3' as two numbers."""
    low, comma, high = text.partition(",")
    if not comma or "," in high:
        raise ValueError("bounds are two numbers, such as NAME=1e-3,1e3")
    return float(low), float(high)


def scale(text: str) -> str:
    """The name of a scale."""
    if text not in SCALES:
        raise ValueError(f"the scale is one of {', '.join(SCALES)}")
    return text


def prior(text: str) -> tuple[str, float, float]:
    """'normal,0,1' as a kind, a mean and a width."""
    parts = text.split(",")
    if len(parts) != 3:
        raise ValueError("a prior reads normal,MEAN,WIDTH or laplace,MEAN,WIDTH")
    return parts[0].strip(), float(parts[1]), float(parts[2])


def value_or_estimate(text: str) -> float | str:
    """A number, or the word estimate."""
    if text == "estimate":
        return text
    return float(text)


def noise(text: str) -> float | str | dict[str, float | str]:
    """'0.1', 'estimate', or 'A=0.1,B=estimate'."""
    try:
        if "=" not in text:
            return value_or_estimate(text)
        parts = [part.strip() for part in text.split(",")]
        return read(value_or_estimate, [part for part in parts if part])
    except ValueError:
        raise ValueError(f"{text!r} is not a number, 'estimate' or NAME=X,...") from None
