"""What continuous adjoints share: the choice of the reverse solver, and the reverse solve in
segments from output to output."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch

from ...backends.torch.loop import integrate
from ...core.options import Options
from ...methods import registry
from ...methods.base import OneStep
from ...methods.switching import AutoSwitch
from ..base import Adjoint

# Below this order a method serves short solves with fixed steps, not a reverse solve to a
# tolerance.
ORDER = 3
# atol of the cotangents where none is given, as a fraction of rtol times their natural size
# (``sizes``).
SMALL = 1e-5


class Continuous(Adjoint):
    """An adjoint that solves a differential equation backwards.

    method: of the reverse solve, any of the registry; by default RadauIIA9 where the forward one is
    implicit (of the same accuracy in a third of Rodas5P's time, benchmarks/adjoints.py; multistep
    methods start anew at every output), else the forward one where it is a one-step method of order
    3 or more, else Tsit5. rtol: of the reverse solve, that of the forward one by default; atol: in
    units of the cotangents, by default 1e-5 rtol times their natural size, for each component
    (``sizes``). ValueError or TypeError for anything else.
    """

    needs = "dense"

    def __init__(self, method=None, rtol=None, atol=None):
        if method is None:
            self.method = None
        else:
            self.method = registry.get(method)
        if self.method is not None and self.method.separable:
            raise ValueError(
                f"{self.method.name} is for separable systems, and the adjoint equation is none:"
                " use 'tsit5'"
            )
        self.rtol, self.atol = positive("rtol", rtol, self.name), positive("atol", atol, self.name)

    def check(self, field, method):
        """ValueError where this adjoint does not serve the field under the forward method."""
        mass = field.mass
        solver = self.solver(field, method)
        if mass is not None and mass.singular:
            raise ValueError(
                f"{self.name} does not serve a singular mass matrix, whose adjoint equation has"
                " algebraic parts that jump with the outputs: use adjoint='discrete'"
            )
        if field.structure is not None and solver.implicit:
            raise ValueError(
                f"{self.name} makes dense Jacobians of the adjoint equation, which"
                f" jacobian={field.structure.name!r} is there to avoid: use adjoint='discrete'"
            )

    def pullback(self, field, method, trajectory, times, grads, options):
        # Nothing can be integrated: what a sum over steps would give.
        if not bool(torch.isfinite(grads).all()):
            return torch.full_like(trajectory.y0, math.nan), [
                torch.full_like(p, math.nan) for p in field.parameters
            ]
        return self.solve_back(field, method, trajectory, times, grads, options)

    @abstractmethod
    def solve_back(self, field, method, trajectory, times, grads, options):
        """What pullback returns, for finite cotangents."""

    def solver(self, field, method):
        """The method of the reverse solve, method being that of the forward one."""
        if self.method is not None:
            return self.method
        if isinstance(method, AutoSwitch) and not field.stats.switches:
            method = method.explicit
        if method.implicit:
            return registry.get("radauiia9")
        if isinstance(method, OneStep) and method.order >= ORDER and method.adaptive:
            return method
        return registry.get("tsit5")

    def options(self, options, sizes):
        """(Options, atol) of a reverse solve whose cotangents have these sizes, (n,)."""
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


def positive(what, value, name):
    """The value, a positive number or None; ValueError otherwise."""
    if value is not None and not (isinstance(value, (int, float)) and 0 < value < math.inf):
        raise ValueError(f"{what} of {name} must be a positive number, not {value!r}")
    return value


def sizes(trajectory, found, atol):
    """(what counts as large for each component of lambda (n,), size of the loss); found: from
    ``jumps``; atol: of y.

    The unit of lambda_i is that of the loss over that of y_i: a species of 1e-10 may enter the loss
    with a cotangent of 1 and yet move it by 1e-10 alone, and the cotangents of the others are then
    as small. But none counts as larger than the largest jump.
    """
    points = torch.stack([*trajectory.ys, *(step.y for step in trajectory.steps)])
    states = torch.maximum(points.abs().amax(0), atol)
    jump = torch.stack([g for _, g in found]).abs().amax(0)
    loss = (jump * states).sum()
    return torch.minimum(loss / states, jump.max()), float(loss)


def jumps(trajectory, times, grads):
    """[(t, cotangent (n,))] of distinct times, latest first; those without any are left out."""
    found = {}
    for t, grad, size in zip(times, grads, grads.abs().amax(1).tolist(), strict=True):
        if size != 0:
            if t in found:
                found[t] = found[t] + grad
            else:
                found[t] = grad
    return sorted(found.items(), key=lambda item: -trajectory.direction * item[0])


def segment(name, field, method, y, start, end, options, atol, watch=None, dense=False, tol=None):
    """The trajectory of a reverse solve between two times of the forward one, in its own time from
    0 on.

    RuntimeError with the reason where it fails.
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


def prepare(adjoint, trajectory, times, grads, options):
    """(jumps, Options, atol (n,), size of the loss) of a reverse solve for these cotangents of the
    outputs."""
    found = jumps(trajectory, times, grads)
    if found:
        size, loss = sizes(trajectory, found, options.atol)
    else:
        size = torch.ones_like(trajectory.y0)
        loss = 1.0
    return found, *adjoint.options(options, size), loss


def sweep(adjoint, field, method, trajectory, times, grads, options, watch=None, dense=False):
    """(lambda(t0) (n,), [(start, trajectory)] of the segments where dense): the adjoint equation
    from the last output to t0.

    field: AdjointField; lambda jumps at each output by its cotangent.
    watch: of every segment; dense: keep the polynomials of the segments.
    """
    solver = adjoint.solver(field.inner, method)
    lam = torch.zeros_like(trajectory.y0)
    at = None
    paths = []
    found, chosen, atol, _ = prepare(adjoint, trajectory, times, grads, options)
    for t, jump in [*found, (trajectory.t0, None)]:
        if at is not None and t != at:
            path = segment(adjoint.name, field, solver, lam, at, t, chosen, atol, watch, dense)
            lam = path.y
            if dense:
                paths.append((at, path))
        at = t
        if jump is not None:
            lam = lam + jump
    if watch is not None:
        watch.flush()
    return lam, paths
