"""Numbers, times and sizes in memory as text for people."""

from __future__ import annotations

import math


def number(x: float) -> str:
    """Two digits, with an exponent only if it is shorter: 0.084, 150, 1.1e6."""
    if x == 0 or not math.isfinite(x):
        return f"{x:g}"
    if 1e-3 <= abs(x) < 1e5:
        return f"{float(f'{x:.2g}'):,.10g}"
    digits, power = f"{x:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def duration(seconds: float) -> str:
    """A time in the unit that fits."""
    if not math.isfinite(seconds):
        return "an unknown time"
    for size, unit in (
        (365 * 86400, "years"),
        (86400, "days"),
        (3600, "h"),
        (60, "min"),
        (1, "s"),
        (1e-3, "ms"),
    ):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(1e6 * seconds)} us"


def memory(count: float) -> str:
    """A number of bytes in the decimal unit that fits, with three digits: 1.23 MB."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.3g} B"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: 1 start, 2 starts. plural: where it is not the noun with an s."""
    if count == 1:
        return f"{count} {noun}"
    return f"{count} {plural or noun + 's'}"
