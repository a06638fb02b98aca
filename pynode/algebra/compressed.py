"""A Jacobian of known pattern from a few products: one for each colour of its columns, or of its
rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..core.finite_differences import repaired_entries, repaired_slope
from .colouring import colour_columns
from .jacobian import time_derivative
from .products import Products

if TYPE_CHECKING:
    from ..core.vector_field import VectorField
    from .banded import BandedLU
    from .pattern import Pattern
    from .sparse import SuperLU
    from .structure import Banded, Sparse


class Plan:
    """What is made once for a pattern: colours, seeds, and where in the products each entry stands.

    Columns are coloured, or rows where those need fewer colours (as with a dense row, a
    conservation law); then the products are v^T J. A last seed is random and checks the entries
    found.
    """

    def __init__(self, pattern: Pattern, field: VectorField) -> None:
        self.pattern = pattern
        self.dtype = field.dtype
        self.mass = field.mass
        n = pattern.size
        rows = pattern.rows
        cols = pattern.cols
        by_column = colour_columns(rows, cols, n)
        by_row = colour_columns(cols, rows, n)
        self.transposed = bool(by_row.max() < by_column.max())
        if self.transposed:
            colours = by_row
            seeded = rows
            read = cols
        else:
            colours = by_column
            seeded = cols
            read = rows
        self.colours = int(colours.max()) + 1
        self._places = torch.from_numpy(colours[seeded] * n + read).to(field.device)
        self._seeded = seeded
        self._read = read
        self._random = np.random.default_rng(1).uniform(0.5, 1.5, n) * np.where(
            np.arange(n) % 3 == 0, -1, 1
        )
        with torch.inference_mode(False):
            seeds = torch.zeros(self.colours + 1, n, dtype=field.dtype, device=field.device)
            seeds[
                torch.from_numpy(colours).to(field.device), torch.arange(n, device=field.device)
            ] = 1
            seeds[-1] = torch.from_numpy(self._random).to(seeds)
        self.seeds = seeds

    def fits(self, field: VectorField) -> bool:
        """Whether the plan was made for such a field: its size, dtype and mass matrix."""
        if (
            self.pattern.size != field.size
            or self.dtype != field.dtype
            or (self.mass is None) != (field.mass is None)
        ):
            return False
        return self.mass is field.mass or torch.equal(self.mass.given, field.mass.given)

    def entries(self, field: VectorField, t: float, y: Tensor) -> tuple[np.ndarray, int | None]:
        """(values (m,) of the entries as an array, row that lacks one or None)."""
        products = Products(field, t, y)
        out = (products.vjps if self.transposed else products.jvps)(self.seeds)
        values = out.reshape(-1)[self._places].cpu().numpy()
        return values, self._incomplete(values, out[-1].cpu().numpy())

    def _incomplete(self, values, product):
        """Index of the row (or column) where the entries do not make up the product with the random
        vector."""
        terms = values * self._random[self._seeded]
        total = np.bincount(self._read, terms, len(product))
        size = np.bincount(self._read, np.abs(terms), len(product))
        if values.dtype == np.float64:
            fine = 1e-6
        else:
            fine = 1e-2
        wrong = np.abs(total - product) > fine * size + 1e-4 * fine * max(
            size.max(), np.finfo(values.dtype).tiny
        )
        if wrong.any() and np.isfinite(values).all():
            return int(np.argmax(wrong))
        return None


# The plan of a pattern, and the values of its entries.
PlannedJacobian: TypeAlias = tuple[Plan, np.ndarray]


class CompressedJacobian:
    """Linearisation of a field whose Jacobian is sparse or banded: a Jacobian is (plan,
    entries)."""

    def __init__(self, field: VectorField, structure: Sparse | Banded) -> None:
        self.field = field
        self.structure = structure
        self.stats = field.stats
        self._start = None

    def __call__(self, t: float, y: Tensor) -> PlannedJacobian:
        """(plan, entries) of df/dy at (t, y). Where a solve starts differences stand for entries
        that are not finite."""
        self.stats.njac += 1
        plan = self.structure.plan(self.field, t, y)
        values, lacking = plan.entries(self.field, t, y)
        if lacking is not None:
            plan = self.structure.extended(self.field, t, y, lacking)
            values, _ = plan.entries(self.field, t, y)
        if self._start is None:
            self._start = t
        if t == self._start and not np.isfinite(values).all():
            time = torch.full((), t, dtype=self.field.dtype, device=self.field.device)
            pattern = plan.pattern
            values = repaired_entries(
                lambda moved: self.field.eval(time, moved), y, values, pattern.rows, pattern.cols
            )
        return plan, values

    def with_time(
        self, t: float, y: Tensor, graph: bool = False
    ) -> tuple[PlannedJacobian, Tensor | None]:
        """((plan, entries), df/dt), the latter None where f does not depend on t."""
        if graph:
            raise ValueError(
                "adjoint='direct' of a Rosenbrock method differentiates its Jacobian, which only"
                " the dense one allows: use adjoint='discrete', which gives the same gradient"
            )
        with torch.inference_mode(False), torch.enable_grad():
            time = torch.full((), t, dtype=self.field.dtype, device=self.field.device)
            slope = time_derivative(self.field, time, y.detach().clone(), False)
        jac = self(t, y)
        if slope is not None and t == self._start:
            y = y.detach()
            slope = repaired_slope(lambda moved: self.field.eval(moved, y), time, y, slope)
        return jac, slope

    def factorised(
        self, jac: PlannedJacobian, c: float, scale: Tensor | None = None
    ) -> SuperLU | BandedLU:
        """M - c J ready for solves."""
        plan, values = jac
        self.stats.nlu += 1
        return plan.factorised(values, c)
