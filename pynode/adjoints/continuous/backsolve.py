"""BacksolveAdjoint: solves the states backward with lambda. The forward solve stores only its
outputs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core.cotangents import zero_grads
from ...core.norm import Tolerance
from ...methods import registry
from .augmented_field import AugmentedField
from .base import Continuous, prepare, reverse_segment
from .reverse_stability import reverse_error_growth

if TYPE_CHECKING:
    from ...core.options import Options
    from ...core.trajectory import Trajectory
    from ...core.vector_field import VectorField
    from ...methods.base import Method

# A larger error of the reversed states, in units of the tolerances, gives a warning.
DRIFT = 1e3


class BacksolveAdjoint(Continuous):
    """Solves states, cotangents and parameters' cotangents backward together. It stores only the
    outputs.

    Chen et al., Neural ordinary differential equations, NeurIPS (2018).

    method: the reverse solver, an explicit method.
    rtol, atol: of the reverse solve.
    checkpoints: restart the states at each output of the forward solve.
    seminorm: leave the parameters' cotangents out of the error norm, like torchdiffeq's option of
        this name.

    Raises ValueError if the reversed problem is explosive: if errors of the states would grow by
    more than the factor 1 / eps of the dtype (adjoints/continuous/reverse_stability.py). Otherwise
    ``Stats.backward_drift`` reports the error of the reversed states, and a RuntimeWarning follows
    from 1000 tolerances on.
    """

    name = "BacksolveAdjoint"
    needs = "outputs"

    def __init__(
        self,
        method: str | Method | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        checkpoints: bool = True,
        seminorm: bool = False,
    ) -> None:
        super().__init__(method, rtol, atol)
        if self.method is not None and self.method.implicit:
            raise ValueError(
                f"BacksolveAdjoint needs an explicit reverse solver, not {self.method.name}: if a"
                " problem needs an implicit one, the reversed problem is explosive; use"
                " GaussAdjoint"
            )
        self.checkpoints = bool(checkpoints)
        self.seminorm = bool(seminorm)

    def solver(self, field: VectorField, method: Method) -> Method:
        if self.method is None and method.implicit:
            return registry.get("tsit5")
        return super().solver(field, method)

    def validate_trajectory(self, field: VectorField, trajectory: Trajectory) -> None:
        checkpoints = _checkpoints(trajectory)
        direction = trajectory.direction
        points = sorted(checkpoints.items(), key=lambda item: direction * item[0])
        if len(points) < 2:
            return
        growth = reverse_error_growth(field, points, direction, self.checkpoints)
        limit = -math.log(torch.finfo(field.dtype).eps)
        if growth > limit:
            raise ValueError(
                f"BacksolveAdjoint is refused: from t = {points[-1][0]:.6g} back to"
                f" {points[0][0]:.6g} errors of the states would grow by about"
                f" 10^{growth / math.log(10):.3g}, because the forward problem decays as fast; the"
                " gradient would be noise. Use adjoint='discrete', or 'gauss', which reads the"
                " states from the forward solve"
            )

    def solve_back(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        solver = self.solver(field, method)
        checkpoints = _checkpoints(trajectory)
        equation = AugmentedField(field, None, trajectory.direction)
        output_jumps, reverse_options, atol, loss = prepare(self, trajectory, times, grads, options)
        mu = zero_grads(field.parameters)
        lam = torch.zeros_like(trajectory.y0)
        last_time = None
        y = None
        if not output_jumps:
            return lam, mu
        forward = Tolerance(options.rtol, options.atol, field.size)
        drift_norm = 0.0
        sizes = torch.cat((options.atol.expand(field.size), atol))
        tol = equation.tolerance(reverse_options.rtol, sizes, loss, self.seminorm, self.atol)
        for t, jump in [*output_jumps, (trajectory.t0, None)]:
            if last_time is not None and t != last_time:
                z = reverse_segment(
                    self.name,
                    equation,
                    solver,
                    equation.join(y, lam, mu),
                    last_time,
                    t,
                    reverse_options,
                    tol.atol,
                    tol=tol,
                ).y
                (y, lam), mu = z[: 2 * field.size].split(field.size), equation.parameters_of(z)
                if t in checkpoints:
                    drift_norm = max(
                        drift_norm, forward.rms(y - checkpoints[t], forward.scale(checkpoints[t]))
                    )
            if y is None:
                if t in checkpoints:
                    y = checkpoints[t]
                else:
                    y = trajectory.evaluate([t])[0]
            elif self.checkpoints and t in checkpoints:
                y = checkpoints[t]
            last_time = t
            if jump is not None:
                lam = lam + jump
        equation.count(field.stats)
        field.stats.backward_drift = max(field.stats.backward_drift, drift_norm)
        if not drift_norm < DRIFT:
            warnings.warn(
                "BacksolveAdjoint: the reversed states differ from the forward ones by"
                f" {drift_norm:.2g} times the tolerances, so the gradient is doubtful; use"
                " adjoint='discrete', or 'gauss'",
                RuntimeWarning,
                stacklevel=2,
            )
        return lam, mu


def _checkpoints(trajectory):
    """{t: y (n,)} of the states that a solve stored at its outputs and events."""
    checkpoints = dict(zip(trajectory.times, trajectory.ys))
    checkpoints.update((hit.t, hit.y) for hit in trajectory.hits)
    checkpoints[trajectory.t] = trajectory.y
    return checkpoints
