"""What a method offers for the rows of a batch (backends/torch_batched.py).

A stepper holds the state of all running rows. ``advance(t, h)`` takes every row as far as one evaluation of f, or one step,
takes it, and returns a Done; ``select(keep)`` leaves rows out for good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch


class Done(NamedTuple):
    """What a pass did to each row: masks (m,), the factor for the next step (m,), and the polynomials of the steps.

    accepted, rejected: the row's step ended so (neither: it goes on iterating); broken: something was not finite;
    polynomial(): (degree + 1, m, n) coefficients of the powers of theta, right for the accepted rows.
    """

    accepted: torch.Tensor
    rejected: torch.Tensor
    broken: torch.Tensor
    factor: torch.Tensor
    polynomial: Callable
