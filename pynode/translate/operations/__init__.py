"""The operations of torch that native code has, each as a few statements of graph.py.

What is not in the table RULES is refused.
"""

from . import (  # noqa: F401, they fill the table
    activations,
    elementwise,
    indices,
    moves,
    products,
    reductions,
    systems,
)
from .call import RULES, Call

# Results whose numbers do not depend on the arguments' numbers, and those that nobody reads.
EMPTY = frozenset("empty empty_like new_empty new_empty_strided empty_strided".split())
FACTORIES = EMPTY | frozenset(
    "zeros_like ones_like full_like new_zeros new_ones new_full scalar_tensor".split()
)

__all__ = ["EMPTY", "FACTORIES", "RULES", "Call"]
