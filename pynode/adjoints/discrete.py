"""DiscreteAdjoint: the exact gradient of the steps that were taken. The integrator runs without a graph; the recorded
steps are differentiated backwards, each once."""

from __future__ import annotations

import torch

from ..methods.bdf import BDF
from ..methods.explicit import ExplicitRungeKutta
from ..methods.rosenbrock import RosenbrockMethod
from . import discrete_bdf, discrete_rosenbrock, discrete_rungekutta, onestep, stepwise_rosenbrock
from .outputs import Outputs

# Above this size an explicit method goes back by vector-Jacobian products instead of Jacobians (benchmarks/gradient.py).
JACOBIANS_UP_TO = 32


class DiscreteAdjoint:
    """Replays the accepted steps in reverse. Cost: a fraction of the forward solve for small systems."""

    name = "discrete"

    def pullback(self, field, method, trajectory, times, grads):
        """Cotangents grads, (T, n), of the outputs at times to (cotangent of y0 (n,), list beside field.parameters)."""
        outputs = Outputs(trajectory, times, grads)
        with torch.no_grad():
            ybar, params = self._steps(field, method, trajectory, outputs)
        return ybar + outputs.at_start, params

    def _steps(self, field, method, trajectory, outputs):
        if isinstance(method, BDF):
            return discrete_bdf.pullback(field, method, trajectory, outputs)
        if isinstance(method, RosenbrockMethod) and field.structure is not None:
            return stepwise_rosenbrock.pullback(field, method, trajectory, outputs)
        if isinstance(method, RosenbrockMethod):
            return onestep.pullback(field, discrete_rosenbrock.Replay, method, trajectory, outputs)
        assert isinstance(method, ExplicitRungeKutta)
        if field.size > JACOBIANS_UP_TO:
            return discrete_rungekutta.sequential(field, method, trajectory, outputs)
        return onestep.pullback(field, discrete_rungekutta.Replay, method, trajectory, outputs)
