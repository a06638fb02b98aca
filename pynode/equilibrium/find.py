"""``steady_state``: how the pieces work together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..core.problem import ODEProblem, as_problem, check_finite
from ..core.status import SolveError, Status
from ..core.suggestions import suggests_options
from ..core.unseen_events import refuse_events
from .conserved import Conserved, none, of_samples, of_sums
from .newton import Equations, differentiable, newton
from .rows import BatchOfSystems, SingleSystem
from .trajectory import FIRST_STEPS, GROWTH, MAX_GROWTHS, Trajectory, first_span
from .unrest import reason

if TYPE_CHECKING:
    from ..backends.registry import Backend

METHODS = ("auto", "newton", "solve")
SAMPLES = 2
# How far Newton's iteration may move a state that the trajectory has nearly reached.
NEAR = 1e-2
SETTLED = 1e-7


class SteadyStateError(RuntimeError):
    """No steady state was found. The message says why, and what to do."""


@dataclass(frozen=True)
class SteadyState:
    """A steady state, or the steady states of a batch.

    y: in the structure of y0, differentiable in args, in the parameters of f and, through the
        conserved sums, in y0.
    stable: whether every eigenvalue of the Jacobian has a negative real part, conserved sums apart.
        False where one is zero. A bool; (B,) with batched=True.
    how: 'newton', 'solve and newton', or 'solve' where the trajectory itself came to rest, as with
        a singular Jacobian. A tuple of B words with batched=True.
    residual: the largest |f|; (B,) with batched=True.
    conserved: (c, n) coefficients of the sums that f conserves; a tuple of B with batched=True.
    span: the time to which the trajectory was followed.
    """

    y: Any
    stable: Any
    how: Any
    residual: Any
    conserved: Any
    span: float = 0.0


@suggests_options
def steady_state(
    f: Callable | nn.Module | ODEProblem,
    y0: Tensor | tuple | list | dict | None = None,
    *,
    args: Any = (),
    t: float | None = None,
    method: Literal["auto", "newton", "solve"] = "auto",
    rtol: float = 1e-10,
    atol: float | Tensor = 1e-12,
    batched: bool = False,
    by_row: bool | Sequence[bool] | None = None,
    conserved: Any = "detect",
    span: float | None = None,
    solver: Any = "qndf",
    backend: Backend = "auto",
) -> SteadyState:
    """The steady state of dy/dt = f(t, y, *args) at a fixed t: f = 0.

    f, y0, args, batched, by_row: as in ``pynode.solve``. f must broadcast over rows with
        batched=True. Each row has a steady state.
    t: the time at which f is evaluated, 0 by default. A field that depends on the time needs it:
        its steady state belongs to one time.
    method: 'auto' follows the trajectory from y0 until Newton's iteration can take over nearby. It
        finds the steady state that the trajectory reaches. 'newton' begins with Newton's
        iteration at y0, which is faster. Where f has several steady states, it can find another
        stable one than the trajectory reaches, also one with negative components. Where it does
        not converge, or finds an unstable state, it goes on as 'auto'. 'solve' follows the
        trajectory until it rests, without Newton's iteration.
    rtol, atol: the last correction is below atol + rtol |y|. atol is one value or (n,).
    conserved: the sums L y that f conserves: 'detect' finds them at y0 and at random points near
        it; None says there are none; (c, n) gives them. With batched=True also a list with one
        entry for each row.
    span: the time to which the trajectory is followed first; ten times the longest time constant by
        default. It only matters for the speed.
    solver, backend: method and backend of the solves.

    The gradient comes from the implicit function theorem. It reaches args, the parameters of f and,
    through the conserved sums, y0. Second derivatives work, too. Where the
    Jacobian is singular (the state depends on the way to it), the gradient goes through the solve,
    and ``how`` is 'solve'.

    Raise SteadyStateError if there is no steady state (growth, oscillation, a field that changes
    with the time) or none was found.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    time = 0.0
    if t is not None:
        time = float(t)
    if isinstance(f, ODEProblem):
        problem = f
    else:
        problem = as_problem(f, y0, [time, time + 1.0], args, None, None)
    refuse_events(problem.f)
    rows: SingleSystem | BatchOfSystems
    if batched:
        rows = BatchOfSystems(problem, time, by_row, native=backend == "native")
    else:
        rows = SingleSystem(problem, time)
    check_finite(rows.y0.detach())
    equations = Equations(rows, _conserved(rows, conserved))
    options = {"method": solver, "backend": backend, "rtol": 1e-8, "atol": atol}
    search = _Search(equations, rtol, torch.as_tensor(atol).to(rows.y0), options)
    search.run(method, span)
    if t is None and not rows.still(search.y):
        raise SteadyStateError(
            "f depends on the time: where it is zero at t = 0, it is not zero later. A steady state"
            " belongs to one time. Pass the time at which f is taken, such as t=0.0, or follow"
            " the course of the system with pynode.solve"
        )
    return search.result()


def _conserved(rows: SingleSystem | BatchOfSystems, given: Any) -> list[Conserved]:
    """The conserved sums of every row."""
    batch, n = rows.y0.shape
    if given is None:
        return [none(n)] * batch
    if isinstance(given, str):
        if given != "detect":
            raise ValueError("conserved must be 'detect', None, a matrix (c, n), or a list of them")
        return _detected(rows)
    if not isinstance(given, (list, tuple)) or not hasattr(given[0], "shape"):
        given = [given]
    ready: dict[int, Conserved] = {}
    for sums in given:
        if id(sums) not in ready:
            ready[id(sums)] = of_sums(_as_sums(sums, n))
    one = [ready[id(sums)] for sums in given]
    if len(one) == 1:
        return one * batch
    if len(one) != batch:
        raise ValueError(f"conserved has {len(one)} entries for {batch} rows: give one for each")
    return one


def _as_sums(sums: Any, n: int) -> np.ndarray:
    sums = np.asarray(torch.as_tensor(sums).detach().cpu(), dtype=np.float64)
    if sums.ndim != 2 or sums.shape[1] != n:
        raise ValueError(f"conserved must be (c, {n}), one line for each sum, not {sums.shape}")
    return sums


@torch.no_grad()
def _detected(rows: SingleSystem | BatchOfSystems) -> list[Conserved]:
    """The sums that f conserves at y0 and at random points near it."""
    start = rows.y0.detach()
    which = torch.arange(len(start), device=start.device)
    generator = torch.Generator().manual_seed(0)
    typical = start.abs().amax(dim=1, keepdim=True)
    typical = torch.where(typical > 0, typical, torch.ones_like(typical))
    points = [start]
    for _ in range(SAMPLES):
        random = torch.rand(start.shape, generator=generator, dtype=torch.float64).to(start)
        points.append(start * (0.5 + random) + typical * random)
    columns = []
    for point in points:
        columns.append(rows.jacobians(point, which))
        columns.append(rows.values(point, which).unsqueeze(2))
    samples = torch.cat(columns, dim=2).to(torch.float64).cpu().numpy()
    return [of_samples(sample) for sample in samples]


def _ended(error: SolveError) -> str:
    """How a solve failed."""
    statuses = getattr(error.solution, "statuses", None) or [error.status]
    return next(status.value[0] for status in statuses if status is not Status.SUCCESS)


class _Search:
    """The rows of a problem on their way to their steady states.

    y: (B, n) detached; found: (B,) which rows have theirs; how: the words of each row. spans: of
    rows whose Jacobian is singular, the time after which the trajectory rests.
    """

    def __init__(
        self, equations: Equations, rtol: float, atol: Tensor, options: dict[str, Any]
    ) -> None:
        self.equations = equations
        self.rows = equations.rows
        self.rtol = rtol
        self.atol = atol
        self.options = options
        self.y = self.rows.y0.detach().clone()
        batch = len(self.y)
        self.found = torch.zeros(batch, dtype=torch.bool, device=self.y.device)
        self.stable = self.found.clone()
        self.how = [""] * batch
        self.spans: dict[int, float] = {}
        self.reached = 0.0

    def run(self, method: str, span: float | None) -> None:
        """Search until every row has its steady state. span: the first end of the trajectory."""
        if method == "newton":
            self._newton(self.y, self._open(), "newton", near=False)
        if len(self._open()):
            self._follow(method != "solve", span)

    def _open(self) -> Tensor:
        return torch.nonzero(~self.found).squeeze(1)

    def _newton(self, guess: Tensor, which: Tensor, word: str, near: bool) -> None:
        """Newton's iteration for the rows in which. near: refuse a state far from the guess."""
        result = newton(self.equations, guess, which, self.rtol, self.atol)
        good = result.converged & torch.isfinite(result.y).all(dim=1)
        if near:
            size = result.y.abs()
            room = NEAR * size + 1e-6 * size.amax(dim=1, keepdim=True) + self.atol
            good = good & ((result.y - guess).abs() <= room).all(dim=1)
        kept = torch.nonzero(good).squeeze(1)
        if not len(kept):
            return
        states = self._without_rounding(result.y[kept], which[kept])
        stable = self.equations.stable(states, which[kept])
        self._take(states[stable], which[kept][stable], word, True)

    def _without_rounding(self, y: Tensor, which: Tensor) -> Tensor:
        """y with zero where rounding made a component negative that began nonnegative."""
        start = self.rows.y0.detach()[which]
        return torch.where((y < 0) & (y >= -self.atol) & (start >= 0), torch.zeros_like(y), y)

    def _take(self, y: Tensor, which: Tensor, word: str, stable: bool) -> None:
        self.y[which] = y
        self.found[which] = True
        self.stable[which] = stable
        for i in which.tolist():
            self.how[i] = word

    @torch.no_grad()
    def _follow(self, polish: bool, span: float | None) -> None:
        """Follow the trajectories of the open rows to growing times."""
        trajectory = Trajectory(self.rows, self.options)
        span = span or first_span(self.equations, self._open())
        begin = 0.0
        guess = self.rows.y0.detach()[self._open()]
        for _ in range(MAX_GROWTHS):
            which = self._open()
            state = self._end(trajectory, guess, which, begin, span)
            rests = self._rests(guess, state)
            if polish:
                self._newton(state, which, "solve and newton", near=True)
            self._settle(state, which, rests & ~self.found[which], span)
            self.reached = span
            left = ~self.found[which]
            if not bool(left.any()):
                return
            guess = state[left]
            begin = span
            span *= GROWTH
        raise SteadyStateError(
            f"no steady state was reached by t = {begin:.3g} in {int(left.sum())} of"
            f" {len(self.y)} rows: the trajectory oscillates, grows, or has not come to rest. Look"
            " at it with pynode.solve"
        )

    def _end(
        self, trajectory: Trajectory, guess: Tensor, which: Tensor, begin: float, span: float
    ) -> Tensor:
        """The states of the rows in which at the time span. guess: their states at begin."""
        try:
            return trajectory.end(guess, which, span - begin, FIRST_STEPS)
        except SolveError:
            for start, row in zip(guess, which.tolist(), strict=True):
                why = reason(self.equations, trajectory, start, row, span - begin)
                if why is not None:
                    raise SteadyStateError(self._unreached(row, why)) from None
        try:
            return trajectory.end(guess, which, span - begin)
        except SolveError as error:
            raise SteadyStateError(
                f"no steady state was found: of the trajectory to t = {span:.3g}, {_ended(error)}."
                " It grows without bound, or oscillates, or comes to rest slowly. Look at it with"
                " pynode.solve, or pass method='newton', which does not begin with it"
            ) from error

    def _unreached(self, row: int, why: str) -> str:
        """The sentence for a row whose trajectory will not come to rest."""
        whose = ""
        if self.rows.batched:
            whose = f" of row {row}"
        return (
            f"no steady state was found: the trajectory from y0{whose} does not come to rest;"
            f" {why}. pynode.solve gives its course: take the part that you need from"
            " there, or begin at a y0 from which the system rests"
        )

    def _rests(self, before: Tensor, after: Tensor) -> Tensor:
        """(m,) whether the last solve, to the tenfold time, has changed nothing."""
        room = SETTLED * after.abs() + self.atol
        return ((after - before).abs() <= room).all(dim=1)

    def _settle(self, state: Tensor, which: Tensor, rests: Tensor, span: float) -> None:
        """Take rows that rest where Newton's iteration does not serve."""
        if not bool(rests.any()):
            return
        chosen = which[rests]
        stable = self.equations.stable(state[rests], chosen)
        for k, i in enumerate(chosen.tolist()):
            self.spans[i] = span
            self._take(state[rests][k : k + 1], chosen[k : k + 1], "solve", bool(stable[k]))

    def result(self) -> SteadyState:
        """The SteadyState, with its graph."""
        y = self.y
        if torch.is_grad_enabled():
            y = self._with_graph()
        which = torch.arange(len(y), device=y.device)
        with torch.no_grad():
            residual = self.rows.values(self.y, which).abs().amax(dim=1)
        sums = tuple(torch.as_tensor(one.sums).to(y) for one in self.equations.conserved)
        state = self.rows.state(y)
        if self.rows.batched:
            how = tuple(self.how)
            return SteadyState(state, self.stable, how, residual, sums, self.reached)
        stable = bool(self.stable[0])
        rest = float(residual[0])
        return SteadyState(state, stable, self.how[0], rest, sums[0], self.reached)

    def _with_graph(self) -> Tensor:
        """y, (B, n), with its graph: from the implicit function theorem, or from a solve."""
        device = self.y.device
        solved = sorted(self.spans)
        implicit = [i for i in range(len(self.y)) if i not in self.spans]
        parts = []
        if implicit:
            chosen = torch.tensor(implicit, device=device)
            parts.append(differentiable(self.equations, self.y[chosen], chosen))
        for i in solved:
            chosen = torch.tensor([i], device=device)
            trajectory = Trajectory(self.rows, self.options)
            parts.append(trajectory.end(self.rows.y0[chosen], chosen, self.spans[i]))
        order = torch.tensor(implicit + solved, device=device)
        return torch.cat(parts)[torch.argsort(order)]
