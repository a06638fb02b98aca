"""What continuous adjoints share: the choice of the reverse solver, and the reverse solve in legs from output to output."""

from __future__ import annotations

import math

import torch

from ..backends.torch import integrate
from ..methods import registry
from ..methods.auto import AutoSwitch
from ..methods.base import OneStep
from ..options import Options
from .base import Adjoint

# Below this order a method serves short solves with fixed steps, not a reverse solve to a tolerance.
ORDER = 3
# atol of the cotangents where none is given, in units of rtol times the largest of them.
SMALL = 1e-4


class Continuous(Adjoint):
    """An adjoint that solves a differential equation backwards.

    method: of the reverse solve, any of the registry; by default the forward one where it is a one-step method of order
    3 or more, else Tsit5 or, for implicit ones, Rodas5P: multistep methods start anew at every output. rtol: of the
    reverse solve, that of the forward one by default; atol: in units of the cotangents, by default 1e-4 rtol times the
    largest. ValueError or TypeError for anything else.
    """

    needs = "dense"

    def __init__(self, method=None, rtol=None, atol=None):
        self.method = None if method is None else registry.get(method)
        if self.method is not None and self.method.separable:
            raise ValueError(f"{self.method.name} is for separable systems, and the adjoint equation is none: use 'tsit5'")
        for name, value in (("rtol", rtol), ("atol", atol)):
            if value is not None and not (isinstance(value, (int, float)) and 0 < value < math.inf):
                raise ValueError(f"{name} of {self.name} must be a positive number, not {value!r}")
        self.rtol, self.atol = rtol, atol

    def check(self, field, method):
        """ValueError where this adjoint does not serve the field under the forward method."""
        mass, solver = field.mass, self.solver(field, method)
        if mass is not None and mass.singular:
            raise ValueError(
                f"{self.name} does not serve a singular mass matrix, whose adjoint equation has algebraic parts that jump "
                "with the outputs: use adjoint='discrete'"
            )
        if mass is not None and not solver.takes_mass:
            raise ValueError(f"{solver.name} cannot solve the adjoint equation with a mass matrix: use method='rodas5p'")
        if field.structure is not None and solver.implicit:
            raise ValueError(
                f"{self.name} makes dense Jacobians of the adjoint equation, which structure={field.structure.name!r} is "
                "there to avoid: use adjoint='discrete'"
            )

    def solver(self, field, method):
        """The method of the reverse solve, method being that of the forward one."""
        if self.method is not None:
            return self.method
        serves = isinstance(method, (OneStep, AutoSwitch)) and method.order >= ORDER and not method.separable
        if serves and getattr(method, "adaptive", True) and (field.mass is None or method.takes_mass):
            return method
        return registry.get("rodas5p" if method.implicit else "tsit5")

    def options(self, options, size: float):
        """(Options, atol) of a reverse solve whose cotangents are as large as size."""
        rtol = options.rtol if self.rtol is None else self.rtol
        rtol = max(rtol, 4 * torch.finfo(options.atol.dtype).eps)
        atol = SMALL * rtol * size if self.atol is None else self.atol
        made = Options(rtol, atol, max_steps=options.max_steps)
        return made, torch.tensor(atol, dtype=options.atol.dtype, device=options.atol.device)


def jumps(trajectory, times, grads):
    """[(t, cotangent (n,))] of distinct times, latest first; those without any are left out."""
    found = {}
    for t, grad, size in zip(times, grads, grads.abs().amax(1).tolist(), strict=True):
        if size != 0:  # NaN too: it goes on into the result
            found[t] = found[t] + grad if t in found else grad
    return sorted(found.items(), key=lambda item: -trajectory.grid().direction * item[0])


def leg(name, field, method, y, start, end, options, atol, watch=None, dense=False):
    """The trajectory of a reverse solve from start to end; RuntimeError with the reason where it fails."""
    path = integrate(field, method, y, [start, end], options, atol, dense=dense, watch=watch)
    if not path.status.success:
        raise RuntimeError(
            f"the reverse solve of {name} with {method.name} failed at t = {path.t:.6g}, on its way from {start:.6g} to "
            f"{end:.6g}: {path.status.sentence}. What to do: {path.status.remedy}; or use adjoint='discrete', which takes "
            "the steps of the forward solve"
        )
    return path


def solve_back(adjoint, field, method, trajectory, times, grads, options, watch=None, dense=False):
    """(lambda(t0) (n,), trajectories of the legs): the adjoint equation from the last output to t0.

    field: AdjointField; lambda jumps at each output by its cotangent, (M^T)^-1 times it with a mass matrix M.
    watch: of every leg; dense: keep the polynomials of the legs.
    """
    solver = adjoint.solver(field.inner, method)
    lam, at, paths = torch.zeros_like(trajectory.y0), None, []
    found = jumps(trajectory, times, grads)
    chosen, atol = adjoint.options(options, max((float(g.abs().max()) for _, g in found), default=1.0))
    for t, jump in [*found, (trajectory.t0, None)]:
        if at is not None and t != at:
            paths.append(leg(adjoint.name, field, solver, lam, at, t, chosen, atol, watch, dense))
            lam = paths[-1].y
        at = t
        if jump is not None:
            lam = lam + (jump if field.mass is None else field.mass.rate(jump))
    return lam if field.mass is None else field.mass.times(lam), paths
