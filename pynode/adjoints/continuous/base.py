"""The common part of continuous adjoints: the choice of the reverse solver, and the reverse solve
from output to output."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...backends.torch.loop import integrate
from ...core.cotangents import add_at
from ...core.options import Options
from ...methods import registry
from ...methods.base import OneStep
from ...methods.switching import AutoSwitch
from ..base import Adjoint

if TYPE_CHECKING:
    from ...core.norm import Tolerance
    from ...core.trajectory import Trajectory
    from ...core.vector_field import VectorField
    from ...methods.base import Method
    from .adjoint_field import AdjointField
    from .quadrature import CellObserver

# A method of lower order suits short solves with fixed steps, not a reverse solve to a tolerance.
ORDER = 3
# The default atol of the cotangents, as a fraction of rtol times their natural size
# (``cotangent_scales``).
SMALL = 1e-5


class Continuous(Adjoint):
    """An adjoint that solves a differential equation backward.

    method: of the reverse solve, any method of the registry. The default after an implicit forward
        method is RadauIIA9: it reaches Rodas5P's accuracy in a third of its time
        (benchmarks/adjoints.py), and multistep methods would restart at every output. The default
        after a one-step method of order 3 or more is this method, otherwise Tsit5.
    rtol: the relative tolerance of the reverse solve. By default it is the one of the forward
        solve.
    atol: the absolute tolerance, in units of the cotangents. By default it is 1e-5 rtol times the
        natural size of each component (``cotangent_scales``).

    Raises ValueError or TypeError for other values.
    """

    needs = "dense"

    def __init__(
        self,
        method: str | Method | None = None,
        rtol: float | None = None,
        atol: float | None = None,
    ) -> None:
        if method is None:
            self.method = None
        else:
            self.method = registry.get(method)
        if self.method is not None and self.method.separable:
            raise ValueError(
                f"{self.method.name} is for separable systems, but the adjoint equation is not"
                " separable: use 'tsit5'"
            )
        self.rtol, self.atol = positive("rtol", rtol, self.name), positive("atol", atol, self.name)

    def check(self, field: VectorField, method: Method) -> None:
        """Raise ValueError if this adjoint does not support the field with the forward method."""
        mass = field.mass
        solver = self.solver(field, method)
        if mass is not None and mass.singular:
            raise ValueError(
                f"{self.name} does not support a singular mass matrix, because the algebraic parts"
                " of its adjoint equation jump at the outputs: use adjoint='discrete'"
            )
        if field.structure is not None and solver.implicit:
            raise ValueError(
                f"{self.name} makes dense Jacobians of the adjoint equation, but"
                f" jacobian={field.structure.name!r} avoids dense matrices: use"
                " adjoint='discrete'"
            )

    def pullback(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        # The solver cannot integrate NaN. A sum over steps would give NaN as well.
        if not bool(torch.isfinite(grads).all()):
            return torch.full_like(trajectory.y0, math.nan), [
                torch.full_like(p, math.nan) for p in field.parameters
            ]
        return self.solve_back(field, method, trajectory, times, grads, options)

    @abstractmethod
    def solve_back(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        """The result of pullback, for finite cotangents."""

    def solver(self, field: VectorField, method: Method) -> Method:
        """The method of the reverse solve. method: of the forward solve."""
        if self.method is not None:
            return self.method
        if isinstance(method, AutoSwitch) and not field.stats.switches:
            method = method.explicit
        if method.implicit:
            return registry.get("radauiia9")
        if isinstance(method, OneStep) and method.order >= ORDER and method.adaptive:
            return method
        return registry.get("tsit5")

    def options(self, options: Options, sizes: Tensor) -> tuple[Options, Tensor]:
        """Return (Options, atol) of a reverse solve. sizes: of its cotangents, (n,)."""
        if self.rtol is None:
            rtol = options.rtol
        else:
            rtol = self.rtol
        rtol = max(rtol, 4 * torch.finfo(sizes.dtype).eps)
        if self.atol is None:
            atol = SMALL * rtol * sizes
        else:
            atol = torch.full_like(sizes, self.atol)
        return Options(rtol, 0.0, max_steps=options.max_steps), atol.clamp(
            min=torch.finfo(sizes.dtype).tiny
        )


def positive(what: str, value: float | None, name: str) -> float | None:
    """Return value, a positive number or None. Raise ValueError for other values."""
    if value is not None and not (isinstance(value, (int, float)) and 0 < value < math.inf):
        raise ValueError(f"{what} of {name} must be a positive number, not {value!r}")
    return value


def cotangent_scales(
    trajectory: Trajectory, output_jumps: Sequence[tuple[float, Tensor]], atol: Tensor
) -> tuple[Tensor, float]:
    """Return (natural size of each component of lambda (n,), size of the loss). output_jumps: from
    ``jumps``. atol: of y.

    The unit of lambda_i is the unit of the loss divided by that of y_i. A species of 1e-10 can
    enter the loss with a cotangent of 1 and change it by only 1e-10; the cotangents of the other
    species are then as small. No component counts as larger than the largest jump.
    """
    points = torch.stack([*trajectory.ys, *(step.y for step in trajectory.steps)])
    states = torch.maximum(points.abs().amax(0), atol)
    jump = torch.stack([g for _, g in output_jumps]).abs().amax(0)
    loss = (jump * states).sum()
    return torch.minimum(loss / states, jump.max()), float(loss)


def jumps(
    trajectory: Trajectory, times: Sequence[float], grads: Tensor
) -> list[tuple[float, Tensor]]:
    """[(t, cotangent (n,))] of distinct times, latest first, without zero cotangents."""
    sums: dict[float, Tensor] = {}
    for t, grad, size in zip(times, grads, grads.abs().amax(1).tolist(), strict=True):
        if size != 0:
            add_at(sums, t, grad)
    return sorted(sums.items(), key=lambda item: -trajectory.direction * item[0])


def reverse_segment(
    name: str,
    field: AdjointField,
    method: Method,
    y: Tensor,
    start: float,
    end: float,
    options: Options,
    atol: Tensor,
    watch: CellObserver | None = None,
    dense: bool = False,
    tol: Tolerance | None = None,
) -> Trajectory:
    """The trajectory of a reverse solve between two times of the forward solve. Its own time starts
    at 0.

    Raise RuntimeError with the reason if it fails.
    """
    field.origin = start
    path = integrate(
        field, method, y, [0.0, abs(end - start)], options, atol, dense=dense, watch=watch, tol=tol
    )
    if not path.status.success:
        raise RuntimeError(
            f"the reverse solve of {name} with {method.name} failed at t ="
            f" {field.time(path.t):.6g}, on its way from {start:.6g} to {end:.6g}:"
            f" {path.status.sentence}. What to do: {path.status.remedy}; or use adjoint='discrete',"
            " which takes the steps of the forward solve"
        )
    return path


def prepare(
    adjoint: Continuous,
    trajectory: Trajectory,
    times: Sequence[float],
    grads: Tensor,
    options: Options,
) -> tuple[list[tuple[float, Tensor]], Options, Tensor, float]:
    """Return (jumps, Options, atol (n,), size of the loss) of a reverse solve for these cotangents
    of the outputs."""
    output_jumps = jumps(trajectory, times, grads)
    if output_jumps:
        scales, loss = cotangent_scales(trajectory, output_jumps, options.atol)
    else:
        scales = torch.ones_like(trajectory.y0)
        loss = 1.0
    return output_jumps, *adjoint.options(options, scales), loss


def solve_adjoint_equation(
    adjoint: Continuous,
    field: AdjointField,
    method: Method,
    trajectory: Trajectory,
    times: Sequence[float],
    grads: Tensor,
    options: Options,
    watch: CellObserver | None = None,
    dense: bool = False,
) -> tuple[Tensor, list[tuple[float, Trajectory]]]:
    """Solve the adjoint equation from the last output to t0. Return (lambda(t0) (n,), [(start,
    trajectory)] of the segments if dense).

    lambda jumps at each output by its cotangent. watch: observes every step. dense: keep the
    polynomials of the segments.
    """
    solver = adjoint.solver(field.inner, method)
    lam = torch.zeros_like(trajectory.y0)
    last_time = None
    paths = []
    output_jumps, reverse_options, atol, _ = prepare(adjoint, trajectory, times, grads, options)
    for t, jump in [*output_jumps, (trajectory.t0, None)]:
        if last_time is not None and t != last_time:
            path = reverse_segment(
                adjoint.name, field, solver, lam, last_time, t, reverse_options, atol, watch, dense
            )
            lam = path.y
            if dense:
                paths.append((last_time, path))
        last_time = t
        if jump is not None:
            lam = lam + jump
    if watch is not None:
        watch.flush()
    return lam, paths
