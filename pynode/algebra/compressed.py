"""A Jacobian of known pattern from a few products: one for each colour of its columns or rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

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
    """What a pattern determines: colours, seeds, and the position of each entry in the products.

    The plan colours columns. It colours rows instead if rows need fewer colours, for example with
    the dense row of a conservation law; the products are then v^T J. The last seed is random and
    checks the entries.
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
        """Whether the plan fits the size, dtype and mass matrix of a field."""
        if (
            self.pattern.size != field.size
            or self.dtype != field.dtype
            or (self.mass is None) != (field.mass is None)
        ):
            return False
        return self.mass is field.mass or torch.equal(self.mass.given, field.mass.given)

    def factorised(self, values: np.ndarray, c: float) -> Any:
        """Factorise M - c J. values: the entries of J. Each kind of plan defines it."""
        raise NotImplementedError

    def entries(self, field: VectorField, t: float, y: Tensor) -> tuple[np.ndarray, int | None]:
        """Return (values of the entries, (m,); a row that lacks an entry, or None)."""
        products = Products(field, t, y)
        if self.transposed:
            out = products.vjps(self.seeds)
        else:
            out = products.jvps(self.seeds)
        values = out.reshape(-1)[self._places].cpu().numpy()
        return values, self._incomplete(values, out[-1].cpu().numpy())

    def _incomplete(self, values, product):
        """The index of a row (or column) whose entries do not reproduce the product with the random
        vector; None if all do."""
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
    """Linearises a field with a sparse or banded Jacobian. A Jacobian is (plan, entries)."""

    def __init__(self, field: VectorField, structure: Sparse | Banded) -> None:
        self.field = field
        self.structure = structure
        self.stats = field.stats

    def __call__(self, t: float, y: Tensor) -> PlannedJacobian:
        """Return (plan, entries) of df/dy at (t, y). Finite differences replace entries that are
        not finite."""
        self.stats.njac += 1
        plan = self.structure.plan(self.field, t, y)
        values, lacking = plan.entries(self.field, t, y)
        if lacking is not None:
            plan = self.structure.extended(self.field, t, y, lacking)
            values, _ = plan.entries(self.field, t, y)
        if not np.isfinite(values).all():
            time = torch.full((), t, dtype=self.field.dtype, device=self.field.device)
            pattern = plan.pattern
            values = repaired_entries(
                lambda moved: self.field.eval(time, moved), y, values, pattern.rows, pattern.cols
            )
        return plan, values

    def with_time(
        self, t: float, y: Tensor, graph: bool = False
    ) -> tuple[PlannedJacobian, Tensor | None]:
        """Return ((plan, entries), df/dt). df/dt is None if f does not depend on t."""
        if graph:
            raise ValueError(
                "adjoint='direct' of a Rosenbrock method differentiates its Jacobian. Only a dense"
                " Jacobian allows this: use adjoint='discrete', which gives the same gradient"
            )
        with torch.inference_mode(False), torch.enable_grad():
            time = torch.full((), t, dtype=self.field.dtype, device=self.field.device)
            slope = time_derivative(self.field, time, y.detach().clone(), False)
        jac = self(t, y)
        if slope is not None:
            y = y.detach()
            slope = repaired_slope(lambda moved: self.field.eval(moved, y), time, y, slope)
        return jac, slope

    def factorised(
        self, jac: PlannedJacobian, c: float, scale: Tensor | None = None
    ) -> SuperLU | BandedLU:
        """Factorise M - c J."""
        plan, values = jac
        self.stats.nlu += 1
        return plan.factorised(values, c)
