"""A few functions of Python floats, in the form of core/arithmetic.py.

They are a module, because numba can pass a module to a rule. The loops in native code then use the
same rules.
"""

from __future__ import annotations

import math

minimum = min
maximum = max
floor = math.floor
log = math.log


def where(condition: bool, a: float, b: float) -> float:
    """a if the condition holds, otherwise b."""
    if condition:
        return a
    return b
