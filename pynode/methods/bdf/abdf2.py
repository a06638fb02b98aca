"""ABDF2: the two-step BDF with the coefficients of the actual steps. Celaya, Aguirrezabala &
Chatzipantelidis, Procedia Comput. Sci. 29 (2014) 1014-1026; Hairer, Norsett & Wanner I, III.5.

With w = h / h_before: y1 = ((1 + w)^2 y - w^2 y_before) / (1 + 2 w) + h (1 + w) / (1 + 2 w) f(t1,
y1). The first steps are implicit Euler. It is a form of the BDF in step.py, with a history of past
values at the times of their steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .formulas import ValueHistory
from .step import BDF

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


MAX_ORDER = 2


def variable_leading(past: Any, k: int, h: float) -> float:
    """h times the sum of 1 / (t1 - t_i) over the k values that the formula uses. past: their
    distances from the present time."""
    total = 0.0
    for j in range(k):
        total += h / (h + past[j])
    return total


def scale_terms(nodes: Any, k: int, alpha: float, slopes: Any) -> None:
    """Multiply the weights of the formula's other terms, made for the leading coefficient alpha, by
    alpha over that of the actual steps. nodes: of the values."""
    total = 0.0
    for j in range(k):
        total += 1 / (1 - nodes[j])
    factor = alpha / total
    for j in range(k + 1):
        slopes[j] *= factor


class VariableHistory(ValueHistory):
    """Past values. The leading coefficient of the formula follows from the actual steps."""

    rows = 5
    largest = 2.0  # growth of a step; the formula is stable up to 1 + sqrt(2), step after step

    def leading(self, past: tuple, k: int, h: float) -> float:
        return variable_leading(past, k, h)

    def _read(self, nodes: tuple, k: int) -> np.ndarray:
        pq = super()._read(nodes, k)
        scale_terms(nodes, k, self.alpha[k], pq[1])
        return pq

    def error_constant(self, past: tuple, k: int, h: float, equal: int) -> float:
        """Local error over the distance between prediction and solution."""
        return h / (h + past[k])

    def neighbours(
        self, z: Tensor, past: tuple, k: int, h: float, scale: Tensor
    ) -> tuple[float | None, float | None]:
        """The method takes order 2 as soon as it pays, and keeps it."""
        if k == MAX_ORDER:
            return None, None
        return None, super().neighbours(z, past, k, h, scale)[1]


class ABDF2(BDF):
    """The two-step backward differentiation formula of variable step."""

    name = "ABDF2"
    order = MAX_ORDER
    reference = (
        "Celaya, Aguirrezabala & Chatzipantelidis, Implementation of an adaptive BDF2 formula,"
        " Procedia Comput. Sci. 29 (2014)"
    )
    history = VariableHistory()
