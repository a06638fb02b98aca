"""Whether a trajectory oscillates for ever, so that there is no rest to wait for.

A solve with loose tolerances shows some periods of an oscillation in a few hundred steps. A
trajectory oscillates if its speed does not fall from period to period, and if Newton's iteration
finds no stable state near its course.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.status import Status
from .newton import newton

if TYPE_CHECKING:
    from .newton import Equations
    from .trajectory import Trajectory

# Of the short solve, and how much longer than the failed one it may be.
STEPS = 2500
LONGER = 10.0
RTOL = 1e-4
# The part of the largest state that counts as zero in the short solve.
ATOL = 1e-8
# A speed falls if it falls to a smaller part from one half of the swings to the other.
FALLS = 0.7
# A rate of decay that is a smaller part of the fastest rate is no decay.
CENTRE = 1e-9
TINY = np.finfo(float).tiny


class Course(NamedTuple):
    """Accepted steps of one row: times (k,), states (k, n) and speeds |dy/dt| (k,), in units of
    the largest values of the states."""

    times: np.ndarray
    states: np.ndarray
    speeds: np.ndarray

    def swings(self) -> list[int]:
        """The steps, at least two, at which the state that changes most rises through the middle
        of its range. The first third of the time, which the start rules, does not count for the
        range."""
        late = self.states[self.times >= self.times[0] + (self.times[-1] - self.times[0]) / 3]
        low = late.min(0)
        high = late.max(0)
        widest = int(np.argmax((high - low) / np.maximum(np.maximum(-low, high), TINY)))
        above = self.states[:, widest] > (low[widest] + high[widest]) / 2
        return (np.flatnonzero(~above[:-1] & above[1:]) + 1).tolist()

    def repeats(self) -> bool:
        """Whether the speed in the later half of the swings is that in the earlier half."""
        swings = self.swings()
        if len(swings) < 3:
            return False
        middle = swings[len(swings) // 2]
        before = self.speeds[swings[0] : middle].max()
        return self.speeds[middle : swings[-1]].max() > FALLS * before

    def last_swings(self) -> slice:
        """The steps of the later half of the swings."""
        swings = self.swings()
        return slice(swings[len(swings) // 2], swings[-1])


@torch.no_grad()
def reason(
    equations: Equations, trajectory: Trajectory, start: Tensor, row: int, span: float
) -> str | None:
    """Why the trajectory of a row from start, (n,), will not come to rest, as the end of a
    sentence; None if it may."""
    course = _course(equations, trajectory, start, row, LONGER * span)
    if course is None or not course.repeats():
        return None
    points = _stationary(equations, course, start, row)
    if any(stable for _, stable in points):
        return None
    begin = course.times[course.swings()[0]]
    text = (
        f"it oscillates: between t = {begin:.3g} and {course.times[-1]:.3g} its speed does not fall"
    )
    if points:
        values = ", ".join(f"{value:.3g}" for value in points[0][0][:6])
        text += f", and the stationary point at y = {values} is unstable"
    return text


def _course(
    equations: Equations, trajectory: Trajectory, start: Tensor, row: int, span: float
) -> Course | None:
    """The accepted steps of a row in a short solve; None where it fails."""
    times: list[float] = []
    states: list[Tensor] = []

    def collect(t: Tensor, y: Tensor, stats: object) -> None:
        now = float(torch.as_tensor(t).reshape(-1)[0])
        if not times or now > times[-1]:
            times.append(now)
            states.append(trajectory.rows.flat_state(y)[0].detach().clone())

    which = torch.tensor([row], device=start.device)
    atol = ATOL * float(start.abs().max()) or ATOL
    options = {"rtol": RTOL, "atol": atol, "max_steps": STEPS, "callback": collect, "throw": False}
    solution = trajectory.solved(start.unsqueeze(0), which, span, options)
    if trajectory.rows.batched:
        status = solution.statuses[0]
    else:
        status = solution.status
    if status not in (Status.SUCCESS, Status.MAX_STEPS) or len(times) < 100:
        return None
    path = torch.stack(states)
    rates = equations.rows.values(path, which.expand(len(path)))
    size = path.abs().amax(0)
    size = torch.where(size > 0, size, torch.ones_like(size))
    speeds = (rates.abs() / size).amax(1)
    return Course(np.array(times), path.cpu().numpy(), speeds.cpu().numpy())


def _stationary(
    equations: Equations, course: Course, start: Tensor, row: int
) -> list[tuple[np.ndarray, bool]]:
    """Stationary points that Newton's iteration finds near the course, with their stability."""
    late = course.last_swings()
    weights = np.gradient(course.times[late])
    mean = (course.states[late] * weights[:, None]).sum(0) / weights.sum()
    slow = course.states[late][course.speeds[late].argmin()]
    guesses = [mean, slow, course.states[-1]]
    guess = torch.as_tensor(np.stack(guesses)).to(start)
    which = torch.full((len(guesses),), row, device=start.device)
    found = newton(equations, guess, which, 1e-8, 1e-10 * start.abs().max())
    points = []
    for y in found.y[found.converged]:
        jacobian = equations.rows.jacobians(y.unsqueeze(0), which[:1])[0].double().cpu().numpy()
        reduced = equations.conserved[row].reduced(jacobian)
        if not len(reduced) or not np.isfinite(reduced).all():
            continue
        values = np.linalg.eigvals(reduced)
        stable = bool(values.real.max() < -CENTRE * np.abs(values).max())
        points.append((y.cpu().numpy(), stable))
    return points
