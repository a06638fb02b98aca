"""What is wrong with random solves of problems whose solutions are known.

python -m tests.support.random_solves 17 18       # what these cases are made of, and what is wrong
"""

import math
import sys
import traceback
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp

from pynode import solve
from tests.support.random_gradients import refused
from tests.support.random_plans import ALLOWED, FEW, Built, Plan, plan


@dataclass(frozen=True)
class Failure:
    """kind: wrong, unsolved (SciPy does it), or error (what is no sentence of pynode's)."""

    plan: Plan
    kind: str
    text: str

    def __str__(self):
        return f"{self.plan.number}: {self.kind}: {self.text}\n    {self.plan}"


def judged(plan):
    """(Failure or None, how the case ended: solved, refused, given up)."""
    built = Built(plan)
    try:
        solution = solve(**built.call(), throw=False)
    except Exception as error:
        if refused(error) and isinstance(error, (ValueError, TypeError)):
            return None, f"refused: {error}"
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        return Failure(plan, "error", text), "error"
    statuses = solution.statuses if plan.rows else [solution.status]
    ended = [i for i, status in enumerate(statuses) if not status.success]
    for i in [] if built.excused else ended:
        if unpredictable(built, i):
            continue
        if other := finished(built, i):
            text = f"row {i}: {statuses[i].name}, but SciPy's {other}; {solution.stats}"
            return Failure(plan, "unsolved", text), "given up"
    worst = max(error_of(built, solution, i, status) for i, status in enumerate(statuses))
    if worst > ALLOWED:
        return Failure(plan, "wrong", f"{worst:.3g} tolerances; {solution.stats}"), "wrong"
    why = "an explicit method on a stiff problem" if built.excused else "as SciPy does"
    return None, f"given up, {why}: {statuses[ended[0]].name}" if ended else "solved"


def unpredictable(built, i):
    """Whether the tolerance grows beyond row i's solution: those that begin within it may blow up,
    as logistic growth from below zero does."""
    s = np.linspace(0.0, built.problems[i].length, 20)
    return bool((built.tolerance(i, s) > np.abs(built.problems[i].exact(s)).max()).any())


def error_of(built, solution, i, status):
    """The largest error of a row in tolerances, at the outputs and between them."""
    problem, plan = built.problems[i], built.plan
    y = solution.y[:, i] if plan.rows else solution.y
    y = y[~y.isnan().any(-1)] if not status.success else y
    times = built.times[:, i]
    at, found = times[: len(y)], [y]
    if built.call().get("dense") and status.success:
        between = times[0] + np.array((0.03, 0.5, 0.77)) * (times[-1] - times[0])
        at = np.concatenate((at, between))
        found.append(solution(torch.tensor(between)))
    u = torch.cat(found).double().numpy() / built.scale.numpy()
    s = np.clip((at - plan.t0) / plan.pace, 0.0, None)
    errors = np.abs(u - problem.exact(s))
    if np.isnan(errors).any():
        return math.inf
    # Where nothing is allowed, as for u = 0 without atol, nothing must be wrong.
    allowed = np.maximum(built.tolerance(i, s), np.finfo(float).tiny)
    return float((errors / allowed).max(initial=0.0))


def finished(built, i):
    """The name of a SciPy method that solves row i within FEW evaluations, None if none does."""
    plan, f = built.plan, built.field(torch.float64)
    data = [(x[i] if plan.rows else x).double() for x in built.data]
    y0 = (built.y0[i] if plan.rows else built.y0).double().numpy()
    for name in ("LSODA", "BDF", "Radau"):
        left = [FEW]

        def counted(t, y, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise TimeoutError
            slope = f(torch.tensor(t, dtype=torch.float64), torch.from_numpy(y), *data)
            return (slope if built.mass is None else slope / built.mass.double()).numpy()

        atol = (built.atol * built.scale).clamp(min=1e-300).numpy()
        try:
            out = solve_ivp(counted, built.times[[0, -1], i], y0, name, rtol=plan.rtol, atol=atol)
        except (TimeoutError, ValueError, np.linalg.LinAlgError):
            continue
        # LSODA takes steps below the resolution of t, in which no time passes.
        moved = (np.diff(out.t) != 0).all()
        if out.success and moved and np.isfinite(out.y[:, -1]).all():
            return f"{name} does it in {FEW - left[0]} evaluations"
    return None


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number in sys.argv[1:]:
        case = plan(int(number))
        failure, ending = judged(case)
        print(case, failure or ending, sep="\n")
