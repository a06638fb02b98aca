"""Short timed solves of the problem: the candidates compete, and those that cannot win are
stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..backends.registry import native_engine
from ..core.formatting import duration
from ..core.problem import ODEProblem
from ..core.status import Status
from ..core.vector_field import VectorField
from ..integrate import solve
from ..methods import registry
from .costs import STIFF, Costs
from .reference_solve import ReferenceSolve
from .spectrum import Spectrum

# The severity says how many times more explicit steps stability needs than accuracy. Above SHORT
# times STIFF implicit methods are candidates, above LONG explicit ones may be none.
SHORT = 0.3
LONG = 30.0
# Explicit methods are no candidates if their estimate is above CLOSE times that of the implicit
# method of the reference solve.
CLOSE = 2.0
EXTENDED = 1e4  # the severity up to which RKC can be used: it has about the root of it as stages
# A solve is stopped after PATIENCE times the time of the best one, but not before LEAST seconds.
PATIENCE = 2.5
LEAST = 0.3
# Candidates within AGAIN times the best time run ROUNDS more times, in turn.
AGAIN = 1.6
ROUNDS = 2
QUICK = 1.0  # a run of more seconds is not repeated
TIE = 1.15  # a method counts as equally fast up to so many times the fastest time
# A recommended method must be closer to the reference solve than so many tolerances.
FAR = 100.0


@dataclass(frozen=True)
class Trial:
    """The timed solves of one candidate.

    seconds: the least of its runs; processor time if torch has one thread, otherwise wall-clock
        time.
    finished: whether it was neither stopped nor failed.
    status: the sentence of its status.
    difference: root mean square of its distance from the reference solve at common times, in units
        of atol + rtol |y|. NaN if it did not finish.
    """

    method: str
    structure: str
    seconds: float
    finished: bool
    status: str
    steps: int
    evaluations: int
    difference: float

    def __str__(self) -> str:
        name = self.method + (f" ({self.structure})" if self.structure != "dense" else "")
        if self.finished:
            return f"{name} {duration(self.seconds)}"
        if self.status == Status.MAX_SECONDS.sentence:
            return f"{name} more than {duration(self.seconds)}"
        return f"{name} failed"


def finalists(
    costs: Costs, spectrum: Spectrum, rtol: float, size: int, structures: Sequence[str]
) -> list[tuple[str, str]]:
    """[(method, structure)], the most promising first. structures: those that the Jacobian may
    have."""
    if rtol > 1e-4:
        explicit = ["tsit5", "bs3"]
    elif rtol > 1e-9:
        explicit = ["vern7", "tsit5"]
    else:
        explicit = ["vern7", "dp8"]
    if costs.evaluation > 3e-4:  # two evaluations a step are best if f is most of the cost
        explicit.append("adamspece")
    if rtol < 1e-4:
        implicit = ["qndf", "rodas5p", "radauiia9", "fbdf", "kencarp47"]
    else:
        implicit = ["qndf", "rodas5p", "kencarp4", "fbdf"]
    if float(spectrum.frequency().max(initial=0.0)) * 3 > float(
        spectrum.largest().max(initial=0.0)
    ):
        # Near the imaginary axis BDF is stable only up to order 2.
        implicit = [name for name in implicit if name != "fbdf"]
        implicit.append(implicit.pop(0))
        if "radauiia9" not in implicit:
            implicit.append("radauiia5")
    if costs.severity > LONG and costs.explicit > CLOSE * costs.implicit:
        chosen = [implicit[0], *_stabilised(costs, spectrum, size), *implicit[1:]]
    elif costs.severity > STIFF * SHORT:
        chosen = [implicit[0], *_stabilised(costs, spectrum, size), *explicit, *implicit[1:]]
    else:
        chosen = [*explicit, implicit[0]]
    candidates = []
    for name in chosen:
        method = registry.get(name)
        # Each method has an entry for each structure, therefore fewer methods compete.
        if len(structures) > 1 and name in ("radauiia9", "fbdf", "rodas5p"):
            continue
        if method.implicit:
            kinds = [kind for kind in structures if kind in method.structures]
        else:
            kinds = ["dense"]
        candidates += [(method.name, kind) for kind in kinds]
    return candidates


def has_native_code(name: str) -> bool:
    """Whether the native engine has the method of this name."""
    try:
        native_engine().method(name)
    except ValueError:
        return False
    return True


def _stabilised(costs, spectrum, size) -> list:
    """RKC, if there are many states, and the fast eigenvalues lie near the negative axis and not
    too far from zero."""
    fast = [v[np.abs(v) > 0.1 * np.abs(v).max(initial=0.0)] for v in spectrum.values if len(v)]
    near = all(np.all(np.abs(v.imag) < 0.1 * np.abs(v.real)) and np.all(v.real < 0) for v in fast)
    if size >= 20 and costs.severity < EXTENDED and fast and near:
        return ["rkc"]
    return []


def race(
    problem: ODEProblem,
    field: VectorField,
    reference: ReferenceSolve,
    candidates: Sequence[tuple[str, str]],
    rtol: float,
    atol: torch.Tensor,
    jumps: Sequence[float],
    max_seconds: float,
) -> list[Trial]:
    """Trials of the candidates over the part that the reference solve reached, the fastest first.
    max_seconds: for all together. The engine is that of the reference solve."""
    timed = _TimedSolves(problem, field, reference, rtol, atol, jumps)
    if reference.engine == "native":
        timed.compile(candidates)
    # The method of the reference solve is robust rather than fast: a candidate that takes longer is
    # not recommended.
    deadline = time.perf_counter() + max_seconds
    best_wall = reference.seconds
    trials: dict[tuple[str, str], Trial] = {}
    for candidate in candidates:
        remaining = deadline - time.perf_counter()
        if remaining <= 0:
            break
        trial, wall = timed.run(candidate, min(remaining, max(PATIENCE * best_wall, LEAST)))
        trials[candidate] = trial
        if trial.finished:
            best_wall = min(best_wall, wall)
    for _ in range(ROUNDS):
        best = min((trial.seconds for trial in trials.values() if trial.finished), default=math.inf)
        for candidate, trial in trials.items():
            remaining = deadline - time.perf_counter()
            close = trial.finished and trial.seconds <= AGAIN * best < AGAIN * QUICK
            if close and remaining > 0:
                repeated, _ = timed.run(candidate, remaining)
                if repeated.finished and repeated.seconds < trial.seconds:
                    trials[candidate] = repeated
    return sorted(trials.values(), key=lambda trial: (not trial.finished, trial.seconds))


class _TimedSolves:
    """Timed solves of the problem over the part that the reference solve reached, compared with
    it."""

    def __init__(self, problem, field, reference, rtol, atol, jumps):
        t0 = reference.times[0]
        end = reference.reached
        if not reference.status.success:
            end = t0 + 0.99 * (end - t0)  # a candidate may fail a little earlier
        self.problem = problem
        self.layout = field.layout
        self.tol = reference.tol
        self.times = [t0 + (end - t0) * i / 4 for i in range(5)]
        self.references = torch.stack([reference.state(t) for t in self.times[1:]])
        self.rtol = rtol
        self.atol = atol
        self.jumps = jumps
        self.backend = reference.engine
        if torch.get_num_threads() == 1 and field.device.type == "cpu":
            self.clock = time.process_time
        else:
            self.clock = time.perf_counter

    def compile(self, candidates):
        """Compile the native code of the candidates, which is not to be timed."""
        for candidate in candidates:
            with torch.no_grad():
                self._solve(candidate, max_steps=1)

    def _solve(self, candidate, **limits):
        """The Solution of a candidate."""
        method, structure = candidate
        jac = None
        if structure == "dense":
            jac = self.problem.jac
        return solve(
            self.problem.f,
            self.problem.y0,
            self.times,
            method=registry.get(method, jacobian=structure),
            rtol=self.rtol,
            atol=self.atol,
            args=self.problem.args,
            jac=jac,
            jumps=self.jumps,
            throw=False,
            backend=self.backend,
            **limits,
        )

    def run(self, candidate, max_seconds):
        """(Trial of the candidate, its wall-clock seconds)."""
        method, structure = candidate
        began_wall = time.perf_counter()
        began = self.clock()
        with torch.no_grad():
            solution = self._solve(candidate, max_seconds=max_seconds, max_steps=10**7)
            seconds = self.clock() - began
            wall = time.perf_counter() - began_wall
            difference = self._difference(solution)
        trial = Trial(
            method,
            structure,
            seconds,
            solution.success,
            solution.status.sentence,
            solution.stats.accepted,
            solution.stats.nfe,
            difference,
        )
        return trial, wall

    def _difference(self, solution):
        """The distance of a solution from the reference solve, see Trial. NaN if it did not
        finish."""
        if not solution.success:
            return math.nan
        count = len(self.references)
        flat = torch.stack([self.layout.ravel(_at(solution.y, i + 1)) for i in range(count)])
        distance = (flat - self.references) / self.tol.scale(self.references)
        return self.tol.rms(distance.flatten(), 1.0) * count**-0.5


def _at(y, i):
    """The i-th state of a solution's y, which is a tensor, a tuple or a dict."""
    if isinstance(y, dict):
        return {key: _at(value, i) for key, value in y.items()}
    if isinstance(y, torch.Tensor):
        return y[i]
    return tuple(_at(part, i) for part in y)


def winner(trials: Sequence[Trial], unstable: bool) -> Trial | None:
    """The fastest trial near the reference solve. Among equally fast ones it is the nearest, if
    that matters by more than a tolerance. For unstable problems, whose solutions diverge in any
    case, it is the fastest. None if no trial finished."""
    finished = [trial for trial in trials if trial.finished]
    if unstable or not finished:
        if finished:
            return finished[0]
        return None
    limit = max(FAR, 10 * min(trial.difference for trial in finished))
    near = [trial for trial in finished if trial.difference <= limit]
    fast = [trial for trial in near if trial.seconds <= TIE * near[0].seconds]
    return min(fast, key=lambda trial: max(trial.difference, 1.0))
