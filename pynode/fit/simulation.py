"""All runs of a table as one batch: their states, and the derivatives of the states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..backends.packages import missing_for_native
from ..core.memory import raise_if_exhausted
from ..core.status import SolveError
from ..core.switches import Switches, switches_of
from ..integrate import solve
from .bound_model import BoundModel, NamedModel

NUMBERS = 1 << 22  # of cotangents in memory together
NATIVE_DEFAULT = "rodas5p"  # up to this many states, as method="auto" of the native engine
MOST_FOR_ROSENBROCK = 50
MANY_STATES = "qndf"


class Sensitivities(NamedTuple):
    """y: (T, B, n) states. of_free: (T, B, n, k), their derivatives in the free parameters of the
    row; of_start: (T, B, n, n), in its start, or None."""

    y: Tensor
    of_free: Tensor
    of_start: Tensor | None

    def split(self, rows: int) -> list[Sensitivities]:
        """Parts of so many rows."""
        count = self.y.shape[1] // rows
        starts: Any = [None] * count
        if self.of_start is not None:
            starts = self.of_start.split(rows, 1)
        states = self.y.split(rows, 1)
        return [
            Sensitivities(*part)
            for part in zip(states, self.of_free.split(rows, 1), starts, strict=True)
        ]


class Simulator:
    """Solves B runs of a bound model.

    grid: (T, B) times, a column for each run. given: (B, c) conditions. atol: a number or (n,).
    backend: 'native', 'torch', or 'auto' for native code where it serves. engine: what the last
    solve ran on; reason: why it was not native code, or ''.
    """

    def __init__(
        self,
        named: NamedModel,
        bound: BoundModel,
        grid: Tensor,
        given: Tensor,
        method: str = "auto",
        rtol: float = 1e-6,
        atol: float | Tensor = 1e-9,
        backend: str = "auto",
        max_steps: int = 10_000,
    ) -> None:
        self.named = named
        self.bound = bound
        self.grid = grid
        self.given = given
        self.method = method
        self.rtol = rtol
        self.atol = atol
        self.max_steps = max_steps
        self.reason = ""
        self.engine = backend
        if backend == "auto":
            missing = missing_for_native()
            self.engine = "native"
            if named.events:
                self.engine = "torch"
                self.reason = "the model has events, so its runs are solved one after the other"
            elif missing:
                self.engine = "torch"
                self.reason = f"{' and '.join(missing)} not installed"
        self.is_open = backend == "auto" and self.engine == "native"

    def states(self, free: Tensor, start: Tensor, grid: Tensor | None = None) -> Tensor:
        """(T, B, n), differentiable in free, (B, k), and start, (B, n). Raises SolveError.

        With a multiple of B rows these are copies of all runs, one below the other. grid: other
        times, (T, B).
        """
        if grid is None:
            grid = self.grid
        return self._tried(lambda: self._solved(free, start, grid, "auto"))

    def sensitivities(self, free: Tensor, start: Tensor, of_start: bool) -> Sensitivities:
        """The states with their derivatives, by forward sensitivities. Raises SolveError.

        of_start: whether those in the start are wanted.
        """
        with torch.enable_grad():
            free = free.detach().requires_grad_()
            start = start.detach().requires_grad_(of_start)
            y = self._tried(lambda: self._solved(free, start, self.grid, "forward"))
        inputs = [free]
        if of_start:
            inputs.append(start)
        found = _derivatives(y, inputs)
        if of_start:
            return Sensitivities(y.detach(), found[0], found[1])
        return Sensitivities(y.detach(), found[0], None)

    def _tried(self, solved):
        """The result of solved(); by the torch engine if native code does not take the model."""
        try:
            y = solved()
        except SolveError:
            raise
        except (ValueError, TypeError, RuntimeError) as error:
            raise_if_exhausted(error)
            # RuntimeError is that of torch.vmap. An error of the model itself comes again.
            if not self.is_open:
                raise
            self.engine = "torch"
            self.reason = str(error)
            y = solved()
        self.is_open = False
        return y

    def _solved(self, free, start, grid, adjoint):
        method = self.method
        if method == "auto":
            method = NATIVE_DEFAULT
            if start.shape[1] > MOST_FOR_ROSENBROCK:
                method = MANY_STATES
        options: dict[str, Any] = {
            "method": method,
            "rtol": self.rtol,
            "atol": self.atol,
            "max_steps": self.max_steps,
        }
        copies = len(free) // len(self.given)
        given = self.given.repeat(copies, 1)
        grid = grid.repeat(1, copies)
        if self.named.events:
            return self._simulated(free, start, grid, given, options)
        jumps = self.named.jumps(free, given)
        if jumps is not None:
            options["jumps"] = jumps
        if self.engine != "torch":
            return solve(
                self.bound,
                start,
                grid,
                args=(free, given),
                by_row=[True, True],
                batched=True,
                backend=self.engine,
                adjoint=adjoint,
                **options,
            ).y
        return self._one_by_one(free, start, grid, given, adjoint, options)

    def _one_by_one(self, free, start, grid, given, adjoint, options):
        """Each run by itself, by the torch engine, which has no forward sensitivities of rows."""
        runs = []
        jumps = options.pop("jumps", None)
        for i in range(len(start)):
            if jumps is not None:
                options["jumps"] = jumps[i]
            run = solve(
                _Single(self.bound),
                start[i],
                grid[:, i],
                args=(free[i], given[i]),
                backend="torch",
                adjoint=adjoint,
                **options,
            )
            runs.append(run.y)
        return torch.stack(runs, 1)

    def _simulated(self, free, start, grid, given, options):
        """Each run of a model with events, by the model's own simulation."""
        model = self.named.model
        runs = []
        for i in range(len(start)):
            constants = self.bound.constants(free[i : i + 1], given[i : i + 1])[0]
            runs.append(model.simulate(grid[:, i], constants, start[i], **options).y)
        return torch.stack(runs, 1)


class _Single(torch.nn.Module):
    """A bound model for one run: t 0-d, y (n,), free (k,), given (c,)."""

    def __init__(self, bound: BoundModel) -> None:
        super().__init__()
        self.bound = bound

    @property
    def pynode_switches(self) -> Switches | None:
        """Where the model jumps."""
        found = switches_of(self.bound)
        if found is None:
            return None

        def changed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            return lambda t, *args: function(t.reshape(1, 1), *(x[None] for x in args))[0]

        return found.within(changed)

    def forward(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        if not self.bound.by_row:
            return self.bound.rate(t, y, free, given)
        return self.bound.rate(t.reshape(1, 1), y[None], free[None], given[None])[0]


def _derivatives(y, inputs):
    """The derivatives of y, (T, B, n), in each input, (B, q): (T, B, n, q). Row i of y depends on
    row i of the inputs alone, so one cotangent serves all rows."""
    times, rows, n = y.shape
    if not y.requires_grad:
        return [y.new_zeros(times, rows, n, x.shape[1]) for x in inputs]
    count = times * n
    size = max(1, NUMBERS // max(1, y.numel()))
    parts: list[list[Tensor]] = [[] for _ in inputs]
    for first in range(0, count, size):
        last = min(count, first + size)
        unit = y.new_zeros(last - first, count)
        unit[:, first:last].fill_diagonal_(1.0)
        cotangents = unit.reshape(-1, times, 1, n).expand(-1, -1, rows, -1)
        found = torch.autograd.grad(
            y, inputs, cotangents, retain_graph=True, is_grads_batched=True, materialize_grads=True
        )
        for part, grads in zip(parts, found, strict=True):
            part.append(grads)
    return [torch.cat(part).reshape(times, n, rows, -1).transpose(1, 2) for part in parts]
