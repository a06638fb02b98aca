"""The two histories of the BDF for masked passes: bdf_formulas.py with all numbers of the rows as
tensors, and masks in place of indices.

k, h and other numbers of rows are tensors (m,), h float64. A history z is (r, m, n); past, (r, m),
has the distances of its times, or no times at all.
"""

from __future__ import annotations

from math import factorial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core import products
from ...core.arithmetic import Tensors
from ...core.transfer import constant, tensor
from ..bdf.formulas import MAX_ORDER, DifferenceHistory, ValueHistory
from .bdf_formulas import (
    FACTORIAL,
    LEVELS,
    SIZE,
    DifferenceSums,
    divided,
    first_differences,
    first_values,
    lagrange_bases,
    leading_terms,
)
from .masked import Interpolant

if TYPE_CHECKING:
    from ...core.norm import RowTolerance


class DifferenceMasks:
    """Backward differences on the grid of the row's step."""

    def __init__(self, form: DifferenceHistory, like: Tensor) -> None:
        numbers = like.new_zeros(0, dtype=torch.float64)
        self.matrices = DifferenceSums(form, like)
        self.alpha = constant(form.alpha, numbers)
        self.error = constant(form.error, numbers)
        self.levels = tensor(LEVELS, like)
        self.orders = torch.arange(SIZE, device=like.device).unsqueeze(1)
        self.inverse_factorials = constant([1 / factorial(j) for j in range(SIZE)], like)
        # Of the interpolant: the ends of the last steps on the grid.
        self.nodes = constant([[1.0 - j] for j in range(MAX_ORDER)], numbers)

    @staticmethod
    def start(y: Tensor, slope: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """(z, past) at the starts y, (m, n). slope: h f there."""
        return first_differences(y, slope), h.new_zeros(0, len(h))

    def rescaled(self, z: Tensor, rows: Tensor, k: Tensor, ratio: Tensor) -> Tensor:
        """z with the histories of the rows in the mask on grids ratio (m,) times as wide."""
        # The others keep theirs, whatever their ratios are.
        ratio = torch.where(rows, ratio, 1.0)
        matrices = self.matrices.redifferences(k.to(z.dtype), ratio.to(z.dtype))
        old = z[:SIZE]
        moved = products.bmm(matrices, old.transpose(0, 1)).transpose(0, 1)
        return torch.cat((torch.where(rows.unsqueeze(1), moved, old), z[SIZE:]))

    def predicted(self, z: Tensor, past: Tensor, k: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted values and sums of the other terms of the formula, (m, n) each."""
        sums = products.mm(self.matrices.sums, z.view(len(z), -1)).view(2, *z.shape[1:])
        alpha = self.alpha.index_select(0, k).to(z.dtype).unsqueeze(1)
        return sums[0], sums[1] / alpha

    def error_constants(self, past: Tensor, k: Tensor, h: Tensor) -> Tensor:
        return self.error.index_select(0, k)

    def updated(
        self, z: Tensor, past: Tensor, rows: Tensor, k: Tensor, h: Tensor, d: Tensor, y1: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(z, past, d - D_(k+1)) after steps of the rows in the mask to y1, (m, n), where d is y1
        minus the prediction."""
        moves = self.matrices.moves(z, d)
        changed = (self.levels <= k) & rows
        return torch.where(changed.unsqueeze(2), z + moves, z), past, moves[-1]

    def neighbours(
        self,
        z: Tensor,
        past: Tensor,
        upper: Tensor,
        k: Tensor,
        h: Tensor,
        tol: RowTolerance,
        reciprocal: Tensor,
    ) -> Tensor:
        """(2, m): scaled errors that the orders k - 1 and k + 1 would have made. reciprocal: 1 /
        scale, (m, n)."""
        lower = z.gather(0, k.view(1, -1, 1).expand(1, *z.shape[1:]))
        norms = tol.norms_there(torch.cat((lower, upper.unsqueeze(0))) * reciprocal)
        constants = torch.stack((k - 1, k + 1)).view(-1)
        return norms * self.error.index_select(0, constants).view(2, -1)

    def raised(self, z: Tensor, rows: Tensor, k: Tensor) -> Tensor:
        """z with d as the difference of order k + 1 in the rows of the mask."""
        chosen = (self.orders == k + 1) & rows
        return torch.cat((torch.where(chosen.unsqueeze(2), z[-1], z[:SIZE]), z[SIZE:]))

    def interpolant(self, z: Tensor, past: Tensor, k: Tensor, size: Tensor) -> Interpolant:
        """The interpolant of the formula's own values on the last steps, of orders k."""
        weights = self.inverse_factorials.view(-1, 1, 1) * (self.orders <= k).unsqueeze(2)
        return Interpolant(z[:SIZE] * weights, self.nodes)


class ValueMasks:
    """Past values, and the distances of their times from the present one, signed by h."""

    def __init__(self, form: ValueHistory, like: Tensor) -> None:
        self.form = form
        numbers = like.new_zeros(0, dtype=torch.float64)
        self.alpha = constant(form.alpha, numbers)
        self.factorials = constant(FACTORIAL, numbers)
        self.orders = torch.arange(form.rows, device=like.device).unsqueeze(1)
        self.same = torch.eye(form.rows, dtype=torch.bool, device=like.device).unsqueeze(2)
        self.plain = torch.zeros(2, SIZE, 1, dtype=torch.float64, device=like.device)
        self.plain[0, 0] = 1.0

    def start(self, y: Tensor, slope: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """(z, past) at the starts y, (m, n). slope: h f there."""
        unknown = torch.full_like(h, torch.nan).expand(self.form.rows - 2, -1)
        past = torch.cat((torch.stack((torch.zeros_like(h), h)), unknown))
        return first_values(self.form, y, slope), past

    def rescaled(self, z: Tensor, rows: Tensor, k: Tensor, ratio: Tensor) -> Tensor:
        """Past values do not change."""
        return z

    def predicted(self, z: Tensor, past: Tensor, k: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted values and sums of the other terms of the formula, (m, n) each."""
        orders = self.orders[:SIZE]
        same = self.same[:SIZE, :SIZE]
        bases, flat = lagrange_bases(Tensors, -past[:SIZE] / h, k, orders, same)
        values, slopes = torch.where(flat, self.plain, bases).unbind(0)
        slopes = slopes / self.alpha.index_select(0, k)
        old = z[:SIZE]
        value = (values.to(z.dtype).unsqueeze(2) * old).sum(0)
        return value, (slopes.to(z.dtype).unsqueeze(2) * old).sum(0)

    def error_constants(self, past: Tensor, k: Tensor, h: Tensor) -> Tensor:
        own, rest = leading_terms(Tensors, past[:SIZE], k, h, self.orders[:SIZE])
        return torch.maximum(own, (own - self.alpha.index_select(0, k) + rest).abs())

    def updated(
        self, z: Tensor, past: Tensor, rows: Tensor, k: Tensor, h: Tensor, d: Tensor, y1: Tensor
    ) -> tuple[Tensor, Tensor, Any]:
        """(z, past, None) after steps of the rows in the mask to y1, (m, n)."""
        moved = torch.cat((y1.unsqueeze(0), z[:-1]))
        times = torch.cat((torch.zeros_like(h).unsqueeze(0), past[:-1] + h))
        return torch.where(rows.unsqueeze(1), moved, z), torch.where(rows, times, past), None

    def neighbours(
        self,
        z: Tensor,
        past: Tensor,
        upper: Any,
        k: Tensor,
        h: Tensor,
        tol: RowTolerance,
        reciprocal: Tensor,
    ) -> Tensor:
        """(2, m): m! h^(m+1) times the divided differences of order m + 1, m = k - 1 and k + 1."""
        x = -past / h
        terms = []
        for m in (k - 1, k + 1):
            weights = divided(Tensors, x, m + 2, self.orders, self.same)
            weights = weights * self.factorials.index_select(0, m)
            terms.append((weights.to(z.dtype).unsqueeze(2) * z).sum(0))
        norms = tol.norms_there(torch.stack(terms) * reciprocal)
        # Rounding can make two close times equal. The error is then unknown.
        return torch.where(torch.isnan(norms), torch.inf, norms)

    def raised(self, z: Tensor, rows: Tensor, k: Tensor) -> Tensor:
        """Nothing to do: the history has the values for all orders."""
        return z

    def interpolant(self, z: Tensor, past: Tensor, k: Tensor, size: Tensor) -> Interpolant:
        """The interpolant of the formula's own values: divided differences of the last k + 1."""
        used = (self.orders[:SIZE] <= k).unsqueeze(2)
        nodes = 1 - past[:SIZE] / size
        x = nodes.to(z.dtype).unsqueeze(2)
        level = z[:SIZE]
        found = [level[0]]
        for j in range(1, SIZE):
            level = (level[1:] - level[:-1]) / (x[j:] - x[:-j])
            found.append(level[0])
        coefficients = torch.where(used, torch.stack(found), 0.0)
        # The last coefficient that is used needs no node, and nodes beyond it may be unknown.
        return Interpolant(coefficients, torch.where(used[1:].squeeze(2), nodes[:-1], 0.0))


MASKED_HISTORIES: dict[type, Any] = {
    DifferenceHistory: DifferenceMasks,
    ValueHistory: ValueMasks,
}
