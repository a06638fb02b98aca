"""What a method offers for the rows of a batch (backends/torch/batched_loop.py).

A stepper holds the state of all running rows. ``advance(t, h)`` advances every row by one
evaluation of f, or by one step, and returns a PassResult. ``states(which)`` returns the states that
rows have reached. ``select(keep)`` removes the other rows for good; keep: the indices of the rows
that stay. ``refused`` is None, or a function of the loop: refused(which, y, start) -> (w,) mask of
the rows in which whose step from start, (w, n), may not end at y, (w, n). ``carries_ended`` says
whether rows that have ended can stay for some passes, without effect on others.

A quantity with one number for each row (times, steps, orders, norms, decisions) is a NumPy array on
the host, where an operation on a thousand numbers takes a microsecond. A quantity with the size of
the states is a tensor on their device. A pass copies only the norms of the rows to the host and the
rows' steps to the device. On the CPU the two share their memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ...core.transfer import tensor
from ..base import ByFamily

# The steppers, each registered for a family of methods beside its class.
STEPPERS = ByFamily()


class PassResult(NamedTuple):
    """What a pass did to each row: masks (m,), the factor for the next step (m,), and the
    polynomials of the steps.

    accepted, rejected: whether the row's step was accepted or rejected. A row with neither still
    iterates. broken: whether a value was not finite. unsolved: whether Newton's iteration did not
    converge. outside: whether the step ended at a state that the limits refuse. polynomial(which):
    (degree + 1, len(which), n) coefficients of the powers of theta, for rows that were just
    accepted; valid until the next pass. tape(which): what the gradient needs of their steps,
    tensors of len(which) rows (adjoints/discrete/batched.py).
    """

    accepted: np.ndarray
    rejected: np.ndarray
    broken: np.ndarray
    unsolved: np.ndarray
    outside: np.ndarray
    factor: np.ndarray
    polynomial: Callable
    tape: Callable


def outside(
    refused: Callable | None, which: np.ndarray, good: np.ndarray, y: Tensor, start: Tensor
) -> np.ndarray:
    """A mask, (w,), of the rows in ``which`` whose good steps end at a refused state.

    refused: the attribute of the stepper; good: (w,) mask; y, start: (w, n).
    """
    mask = np.zeros(len(which), dtype=bool)
    if refused is None or not np.count_nonzero(good):
        return mask
    some = np.flatnonzero(good)
    index = tensor(some, y)
    mask[some] = refused(which[some], y.index_select(0, index), start.index_select(0, index))
    return mask
