"""Measured orders."""

import math

# Steps over a span of one, by order: the leading term rules, and rounding does not.
STEPS = {1: 128, 2: 64, 3: 64, 4: 64, 5: 32, 6: 8, 7: 8, 8: 8, 9: 4}


def observed(errors):
    """The order that two errors show, the second one with twice the steps."""
    return math.log2(errors[0] / errors[1])
