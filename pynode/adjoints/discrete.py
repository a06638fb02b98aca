"""DiscreteAdjoint: the exact gradient of the steps that were taken. The integrator runs without a graph; the recorded
steps are differentiated backwards, each once."""

from __future__ import annotations

import torch

from ..methods.auto import AutoSwitch
from ..methods.bdf import BDF
from ..methods.dirk import DIRK
from ..methods.explicit import ExplicitRungeKutta
from ..methods.radau import Radau
from ..methods.rosenbrock import RosenbrockMethod
from . import (
    discrete_bdf,
    discrete_dirk,
    discrete_radau,
    discrete_rosenbrock,
    discrete_rungekutta,
    discrete_step,
    onestep,
    stepwise_dirk,
    stepwise_rosenbrock,
)
from .base import Adjoint
from .outputs import Outputs

# Above this size explicit methods go back by vector-Jacobian products instead of Jacobians (benchmarks/gradient.py).
JACOBIANS_UP_TO = 32
REPLAYS = {
    ExplicitRungeKutta: discrete_rungekutta,
    DIRK: discrete_dirk,
    RosenbrockMethod: discrete_rosenbrock,
    Radau: discrete_radau,
}
# The same a step at a time, where the Jacobian has a structure.
STEPWISE = {DIRK: stepwise_dirk, RosenbrockMethod: stepwise_rosenbrock}


class DiscreteAdjoint(Adjoint):
    """Replays the accepted steps in reverse. Cost: a fraction of the forward solve for small systems."""

    name = "DiscreteAdjoint"

    def pullback(self, field, method, trajectory, times, grads, options):
        outputs = Outputs(trajectory, times, grads)
        with torch.no_grad():
            ybar, params = self._steps(field, method, trajectory, outputs)
        return ybar + outputs.at_start, params

    def _steps(self, field, method, trajectory, outputs):
        if isinstance(method, BDF):
            return discrete_bdf.pullback(field, method, trajectory, outputs)
        for family, module in STEPWISE.items():
            if isinstance(method, family) and field.structure is not None:
                return module.pullback(field, method, trajectory, outputs)
        if method.carried:
            return discrete_step.pullback(field, trajectory, outputs)
        ybar = torch.zeros_like(trajectory.y0)
        grads = [torch.zeros_like(p) for p in field.parameters]
        for taken, first, last in reversed(_runs(method, trajectory.steps)):
            ybar, found = _one_step(field, taken, trajectory, outputs, ybar, (first, last))
            grads = [a + b for a, b in zip(grads, found)]
        return ybar, grads


def _runs(method, steps):
    """(method, first, last): stretches of steps of one method, in order; one stretch but for automatic switching."""
    if not isinstance(method, AutoSwitch):
        return [(method, 0, len(steps))]
    starts = [i for i, step in enumerate(steps) if i == 0 or step.method is not steps[i - 1].method]
    return [(steps[i].method, i, j) for i, j in zip(starts, [*starts[1:], len(steps)])]


def _one_step(field, method, trajectory, outputs, ybar, span):
    if isinstance(method, ExplicitRungeKutta) and field.size > JACOBIANS_UP_TO:
        return discrete_rungekutta.sequential(field, method, trajectory, outputs, ybar, span)
    for family, module in REPLAYS.items():
        if isinstance(method, family):
            return onestep.pullback(field, module.Replay, method, trajectory, outputs, ybar, span)
    raise AssertionError(f"{method.name} has no discrete adjoint")
