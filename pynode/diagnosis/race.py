"""Short timed solves of the problem itself: the finalists run against one another, and who cannot
win is stopped."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from ..core.formatting import duration
from ..core.status import Status
from ..methods import registry
from ..solve import solve
from .costs import STIFF

# Times as many explicit steps for stability as for accuracy: which finalists there are.
SHORT = 0.3
LONG = 30.0
# Times the estimate of the walk's method, that of an explicit one, up to which explicit ones are
# tried.
CLOSE = 2.0
EXTENDED = 1e4  # the same, up to which the stages of RKC can reach: their number is about its root
# A solve is stopped after SLACK times the best one's time, and not before LEAST seconds.
SLACK = 2.5
LEAST = 0.3
# who lies within AGAIN of the best runs so many times more, in turn
AGAIN = 1.6
ROUNDS = 2
QUICK = 1.0  # seconds above which one run tells enough
TIE = 1.15  # times the fastest one's time, up to which another is as fast
# A difference from the walk, in units of the tolerances, that a recommended method stays below.
FAR = 100.0


@dataclass(frozen=True)
class Trial:
    """One finalist.

    seconds: the least of its runs, of the processor where torch has one thread and of the clock
    otherwise; finished: whether it was neither stopped nor failed; status: its sentence;
    difference: root mean square of its distance from the walk at the times of both, in units of
    atol + rtol |y|, NaN where it did not finish.
    """

    method: str
    structure: str
    seconds: float
    finished: bool
    status: str
    steps: int
    evaluations: int
    difference: float

    def __str__(self):
        name = self.method + (f" ({self.structure})" if self.structure != "dense" else "")
        if self.finished:
            return f"{name} {duration(self.seconds)}"
        if self.status == Status.MAX_SECONDS.sentence:
            return f"{name} more than {duration(self.seconds)}"
        return f"{name} failed"


def finalists(costs, spectrum, rtol, size, structures) -> list:
    """[(method, structure)] in the order in which they are likely to be good. structures: those
    that the Jacobian may have."""
    if rtol > 1e-4:
        explicit = ["tsit5", "bs3"]
    elif rtol > 1e-9:
        explicit = ["vern7", "tsit5"]
    else:
        explicit = ["vern7", "dp8"]
    if costs.evaluation > 3e-4:  # two evaluations a step pay where an evaluation is most of a step
        explicit.append("adamspece")
    if rtol < 1e-4:
        implicit = ["qndf", "rodas5p", "radauiia9", "fbdf", "kencarp47"]
    else:
        implicit = ["qndf", "rodas5p", "kencarp4", "fbdf"]
    if float(spectrum.frequency().max(initial=0.0)) * 3 > float(
        spectrum.largest().max(initial=0.0)
    ):
        # Near the imaginary axis the stability of BDF ends at order 2.
        implicit = [name for name in implicit if name != "fbdf"]
        implicit.append(implicit.pop(0))
        if "radauiia9" not in implicit:
            implicit += ["radauiia5"]
        else:
            implicit += []
    if costs.severity > LONG and costs.explicit > CLOSE * costs.implicit:
        chosen = [implicit[0], *_stabilised(costs, spectrum, size), *implicit[1:]]
    elif costs.severity > STIFF * SHORT:
        chosen = [implicit[0], *_stabilised(costs, spectrum, size), *explicit, *implicit[1:]]
    else:
        chosen = [*explicit, implicit[0]]
    found = []
    for name in chosen:
        method = registry.get(name)
        # A method has as many entries as structures, and so there are fewer methods.
        if len(structures) > 1 and name in ("radauiia9", "fbdf", "rodas5p"):
            continue
        if method.implicit:
            kinds = [kind for kind in structures if kind in method.structures]
        else:
            kinds = ["dense"]
        found += [(method.name, kind) for kind in kinds]
    return found


def _stabilised(costs, spectrum, size) -> list:
    """RKC, where there are many states, the fast eigenvalues lie near the negative axis and not too
    far out."""
    fast = [v[np.abs(v) > 0.1 * np.abs(v).max(initial=0.0)] for v in spectrum.values if len(v)]
    near = all(np.all(np.abs(v.imag) < 0.1 * np.abs(v.real)) and np.all(v.real < 0) for v in fast)
    if size >= 20 and costs.severity < EXTENDED and fast and near:
        return ["rkc"]
    return []


def race(problem, field, walk, candidates, rtol, atol, jumps, max_seconds) -> list:
    """Trials of the candidates over the part that the walk reached, the fastest first; max_seconds:
    for all together."""
    timed = _TimedSolves(problem, field, walk, rtol, atol, jumps)
    # Who takes longer than the walk itself, with a method that is robust rather than fast, is not
    # to be recommended.
    deadline = time.perf_counter() + max_seconds
    best_wall = walk.seconds
    trials = {}
    for candidate in candidates:
        left = deadline - time.perf_counter()
        if left <= 0:
            break
        trial, wall = timed.run(candidate, min(left, max(SLACK * best_wall, LEAST)))
        trials[candidate] = trial
        if trial.finished:
            best_wall = min(best_wall, wall)
    for _ in range(ROUNDS):
        best = min((trial.seconds for trial in trials.values() if trial.finished), default=math.inf)
        for candidate, trial in trials.items():
            left = deadline - time.perf_counter()
            if trial.finished and trial.seconds <= AGAIN * best < AGAIN * QUICK and left > 0:
                again, _ = timed.run(candidate, left)
                if again.finished and again.seconds < trial.seconds:
                    trials[candidate] = again
    return sorted(trials.values(), key=lambda trial: (not trial.finished, trial.seconds))


class _TimedSolves:
    """Solves of the problem over the part that the walk reached, timed and compared with it."""

    def __init__(self, problem, field, walk, rtol, atol, jumps):
        t0 = walk.times[0]
        end = walk.reached
        if not walk.status.success:
            end = t0 + 0.99 * (end - t0)  # what happens at the very end cannot be asked of all
        self.problem = problem
        self.layout = field.layout
        self.tol = walk.tol
        self.times = [t0 + (end - t0) * i / 4 for i in range(5)]
        self.marks = torch.stack([walk.state(t) for t in self.times[1:]])
        self.rtol = rtol
        self.atol = atol
        self.jumps = jumps
        if torch.get_num_threads() == 1 and field.device.type == "cpu":
            self.clock = time.process_time
        else:
            self.clock = time.perf_counter

    def run(self, candidate, max_seconds):
        """(Trial of the candidate, seconds that it took by the clock on the wall)."""
        method, structure = candidate
        began_wall = time.perf_counter()
        began = self.clock()
        with torch.no_grad():
            solution = solve(
                self.problem.f,
                self.problem.y0,
                self.times,
                method=method,
                structure=structure,
                rtol=self.rtol,
                atol=self.atol,
                args=self.problem.args,
                jac=self.problem.jac if structure == "dense" else None,
                jumps=self.jumps,
                throw=False,
                max_seconds=max_seconds,
                max_steps=10**7,
            )
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
        """Distance of a solution from the walk, see Trial; NaN where it did not finish."""
        if not solution.success:
            return math.nan
        count = len(self.marks)
        flat = torch.stack([self.layout.ravel(_at(solution.y, i + 1)) for i in range(count)])
        apart = (flat - self.marks) / self.tol.scale(self.marks)
        return self.tol.rms(apart.flatten(), 1.0) * count**-0.5


def _at(y, i):
    """The i-th state of a solution's y, in whatever structure."""
    if isinstance(y, dict):
        return {key: _at(value, i) for key, value in y.items()}
    if isinstance(y, torch.Tensor):
        return y[i]
    return tuple(_at(part, i) for part in y)


def winner(trials, unstable) -> Trial | None:
    """The fastest that stays near the walk, or of those about as fast the nearest where it is over
    a tolerance away; where solutions part in any case, the fastest; None where none finished."""
    finished = [trial for trial in trials if trial.finished]
    if unstable or not finished:
        if finished:
            return finished[0]
        return None
    limit = max(FAR, 10 * min(trial.difference for trial in finished))
    near = [trial for trial in finished if trial.difference <= limit]
    fast = [trial for trial in near if trial.seconds <= TIE * near[0].seconds]
    return min(fast, key=lambda trial: max(trial.difference, 1.0))
