"""What a method offers for the rows of a batch (backends/torch/batched_loop.py), and the way
between its two kinds of numbers.

A stepper holds the state of all running rows. ``advance(t, h)`` takes every row as far as one
evaluation of f, or one step, takes it, and returns a PassResult; ``states(which)`` are the states
that rows have reached; ``select(keep)`` leaves rows out for good, keep the indices of those that
stay. ``refused`` is None, or a function of the loop: refused(which, y, start) -> (w,) mask of the
rows in which that may not end their step from start, (w, n), at y, (w, n).

What is one number a row (times, steps, orders, norms, decisions) is a NumPy array on the host,
where an operation on a thousand numbers takes a microsecond; what has the size of the states is a
tensor on their device. A pass copies the norms of the rows to the host and the rows' steps to the
device (on the CPU the two share their memory), and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from ..base import ByFamily

# The steppers, each registered for a family of methods beside its class.
STEPPERS = ByFamily()


class PassResult(NamedTuple):
    """What a pass did to each row: masks (m,), the factor for the next step (m,), and the
    polynomials of the steps.

    accepted, rejected: the row's step ended so (neither: it goes on iterating); broken: something
    was not finite; unsolved: Newton's iteration did not converge; outside: the step ended at a
    state that the limits refuse; polynomial(which): (degree + 1,
    len(which), n) coefficients of the powers of theta, for rows just accepted, before the next
    pass. tape(which): what the gradient needs of their steps, tensors of len(which) rows
    (adjoints/discrete/batched.py).
    """

    accepted: np.ndarray
    rejected: np.ndarray
    broken: np.ndarray
    unsolved: np.ndarray
    outside: np.ndarray
    factor: np.ndarray
    polynomial: Callable
    tape: Callable


def outside(refused, which, good, y, start) -> np.ndarray:
    """The mask, (w,), of the rows in which whose steps are good and end where they may not.

    refused: of the stepper; good: (w,) mask; y, start: (w, n).
    """
    found = np.zeros(len(which), dtype=bool)
    if refused is None or not np.count_nonzero(good):
        return found
    some = np.flatnonzero(good)
    index = tensor(some, y)
    found[some] = refused(which[some], y.index_select(0, index), start.index_select(0, index))
    return found


def tensor(array, like) -> torch.Tensor:
    """A NumPy array of indices, or of numbers to be multiplied with tensors like this one, as a
    tensor beside it."""
    found = torch.from_numpy(array)
    if array.dtype.kind == "f":
        dtype = like.dtype
    else:
        dtype = found.dtype
    # The same memory; ``to`` would say so too, for the price of a kernel.
    if like.is_cpu and found.dtype is dtype:
        return found
    return found.to(like.device, dtype)
