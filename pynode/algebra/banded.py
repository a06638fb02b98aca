"""M - c J in LAPACK's band storage, with gbtrf and gbtrs on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .compressed import Plan
from .pattern import Pattern
from .sparse import mass_entries, scipy

if TYPE_CHECKING:
    from ..core.vector_field import VectorField


class BandedPlan(Plan):
    """The positions of the entries of M and J in band storage. Entry (i, j) is number lower + upper
    + i - j of column j."""

    def __init__(self, lower: int, upper: int, field: VectorField) -> None:
        n = field.size
        self.lower = min(lower, n - 1)
        self.upper = min(upper, n - 1)
        super().__init__(Pattern.band(n, self.lower, self.upper), field)
        self.height = 2 * self.lower + self.upper + 1
        rows, cols, values = mass_entries(field.mass, n)
        if ((rows - cols > self.lower) | (cols - rows > self.upper)).any():
            raise ValueError(
                f"mass has entries outside the band of {lower} diagonals below and {upper} above:"
                " widen the band"
            )
        self.places = self._place(self.pattern.rows, self.pattern.cols)
        self.constant = np.zeros(
            n * self.height, dtype=np.float32 if field.dtype == torch.float32 else np.float64
        )
        self.constant[self._place(rows, cols)] = values
        self.factor, self.solve = scipy().linalg.get_lapack_funcs(
            ("gbtrf", "gbtrs"), (self.constant,)
        )

    def _place(self, rows, cols):
        return cols * self.height + self.lower + self.upper + rows - cols

    def factorised(self, values: np.ndarray, c: float) -> BandedLU:
        """Factorise M - c J. values: the entries of J, in the order of the pattern."""
        data = self.constant.copy()
        data[self.places] -= c * values
        return BandedLU(self, data.reshape(-1, self.height).T)


class BandedLU:
    """The factorised matrix W = M - c J. ok is False if W is singular or not finite."""

    def __init__(self, plan: BandedPlan, band: np.ndarray) -> None:
        self.plan = plan
        self.ok = bool(np.isfinite(band).all())
        if self.ok:
            self.lu, self.pivots, info = plan.factor(
                band, plan.lower, plan.upper, overwrite_ab=True
            )
            self.ok = info == 0

    def solve(self, b: Tensor, factor: float = 1.0) -> Tensor:
        """factor W^-1 b, (n,)."""
        return self._solve(b, 0, factor)

    def solve_transposed(self, b: Tensor) -> Tensor:
        """W^-T b, (n,)."""
        return self._solve(b, 1, 1.0)

    def _solve(self, b, trans, factor):
        rhs = b.detach().cpu().numpy() * factor
        x, _ = self.plan.solve(
            self.lu, self.plan.lower, self.plan.upper, rhs, self.pivots, trans=trans
        )
        return torch.from_numpy(x).to(b)
