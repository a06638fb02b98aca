"""f and its Jacobian at a fixed time, for the rows of a batch. A single system is one row."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..algebra.jacobian import Jacobian
from ..core.batched_field import RowField, check_independent
from ..core.vector_field import VectorField
from .native_rows import NativeFunctions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.problem import ODEProblem

# How much later f is looked at, to see whether it depends on the time.
LATER = (0.37, 1.0, 1e3)


class SingleSystem:
    """f of one system, as a batch of one row. y0: (1, n)."""

    batched = False
    by_row: list[bool] | None = None

    def __init__(self, problem: ODEProblem, t: float) -> None:
        self.t = t
        self.layout = problem.layout()
        self.y0 = self.layout.ravel(problem.y0).unsqueeze(0)
        self.problem = problem
        self.field = VectorField(problem, self.layout, t, direct=True)
        self._jacobian = Jacobian(self.field)

    def values(self, y: Tensor, which: Tensor) -> Tensor:
        """f, (m, n), of the rows in which at y, (m, n), with its graph."""
        time = torch.full((), self.t, dtype=y.dtype, device=y.device)
        return torch.stack([self.field.eval(time, row) for row in y])

    def jacobians(self, y: Tensor, which: Tensor) -> Tensor:
        """df/dy, (m, n, n), detached."""
        return torch.stack([self._jacobian(self.t, row) for row in y])

    def still(self, y: Tensor | None = None) -> bool:
        """Whether f at y, (1, n), does not depend on t, as far as some later times show. y: by
        default the start."""
        if y is None:
            y = self.y0
        state = y[0].detach()
        with torch.no_grad():
            now = self.field.probe(self.t, state)
            return all(torch.equal(now, self.field.probe(self.t + x, state)) for x in LATER)

    def arguments(self, which: Tensor) -> tuple:
        """The args of f."""
        return self.problem.args

    def state(self, y: Tensor) -> Any:
        """y, (1, n), in the structure of y0."""
        return self.layout.unravel(y[0])

    def flat_state(self, y: Any) -> Tensor:
        """A state in the structure of y0: (1, n)."""
        return self.layout.ravel(y).unsqueeze(0)

    def flat(self, y: Any) -> Tensor:
        """States of a solution, (T, ...) in the structure of y0, at the last time: (1, n)."""
        return self.flat_state(_last(y))


class BatchOfSystems:
    """f of the rows of a batch. y0: (B, n)."""

    batched = True

    def __init__(
        self,
        problem: ODEProblem,
        t: float,
        by_row: bool | Sequence[bool] | None,
        native: bool = False,
    ) -> None:
        self.t = t
        self.field = RowField(problem, by_row)
        self.by_row = self.field.by_row
        self.layout = self.field.layout
        self.y0 = self.layout.ravel_rows(problem.y0, self.field.batch)
        self.problem = problem
        self.native: NativeFunctions | None = None
        start = self.y0.detach()
        check = partial(check_independent, self.field, self._times(start), start)
        if not native:
            check()
            return
        from ..backends.native.row_fields import check_once

        check_once(self.field, start[0], check)
        self.native = NativeFunctions(self.field, t, start)

    def _times(self, y: Tensor) -> Tensor:
        return torch.full((len(y),), self.t, dtype=torch.float64, device=y.device)

    def values(self, y: Tensor, which: Tensor) -> Tensor:
        """f, (m, n), of the rows in which at y, (m, n), with its graph."""
        if self.native is not None and not torch.is_grad_enabled():
            return self.native.values(self.t, y, which)
        return self.field.select(which).eval(self._times(y), y)

    def jacobians(self, y: Tensor, which: Tensor) -> Tensor:
        """df/dy, (m, n, n), detached."""
        if self.native is not None:
            return self.native.jacobians(self.t, y, which)
        part = self.field.select(which)
        return part.jacobian(self._times(y), y, torch.arange(len(y), device=y.device))

    def still(self, y: Tensor | None = None) -> bool:
        """Whether f at y, (B, n), does not depend on t, as far as some later times show. y: by
        default the start."""
        if y is None:
            y = self.y0
        states = y.detach()
        if self.native is not None:
            which = torch.arange(len(states))
            first = self.native.values(self.t, states, which)
            return all(
                torch.equal(first, self.native.values(self.t + x, states, which)) for x in LATER
            )
        times = self._times(states)
        with torch.no_grad():
            now = self.field.probe(times, states)
            return all(torch.equal(now, self.field.probe(times + x, states)) for x in LATER)

    def arguments(self, which: Tensor) -> tuple:
        """The args of f for the rows in which."""
        return self.field.select(which).args

    def state(self, y: Tensor) -> Any:
        """y, (m, n), in the structure of y0."""
        return self.layout.unravel(y)

    def flat(self, y: Any) -> Tensor:
        """States of a solution, (T, m, ...) in the structure of y0, at the last time: (m, n)."""
        return self.flat_state(_last(y))

    def flat_state(self, y: Any) -> Tensor:
        """States of rows, (m, ...) in the structure of y0: (m, n)."""
        first = y
        while not isinstance(first, Tensor):
            if isinstance(first, dict):
                first = tuple(first.values())
            first = first[0]
        return self.layout.ravel_rows(y, len(first))


def _last(state: Any) -> Any:
    """The last of the states along the first dimension of every part."""
    if isinstance(state, Tensor):
        return state[-1]
    if isinstance(state, dict):
        return {key: _last(value) for key, value in state.items()}
    return tuple(_last(item) for item in state)
