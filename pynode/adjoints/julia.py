"""Gradients of Julia's solves: SciMLSensitivity's adjoints by name, and pynode's own Gauss adjoint
without it.

Some combinations raise an error. BDF as the reverse solver: its quadrature has one node, and
versions before 2.4.8 reject steps wrongly backward in time. An implicit reverse solver of a state
that contains the parameters: measured 50 times slower. Kvaerno's methods started by
SciMLSensitivity: it does not know their corrections in julia/src/solve.jl.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..backends.julia import algorithms
from ..backends.julia.request import GradientRequest
from ..backends.julia.runtime import INSTALL, JuliaUnavailable, start
from ..core.cotangents import add_at, zero_grads
from .base import Adjoint
from .continuous.backsolve import BacksolveAdjoint
from .targets import of_parameters

if TYPE_CHECKING:
    from ..backends.julia.algorithms import JuliaMethod
    from ..backends.julia.clock import Clock
    from ..core.options import Options
    from ..core.vector_field import VectorField

NAMES = (
    "GaussAdjoint",
    "GaussKronrodAdjoint",
    "QuadratureAdjoint",
    "InterpolatingAdjoint",
    "BacksolveAdjoint",
)
JOINT = ("InterpolatingAdjoint", "BacksolveAdjoint")
# Options of the torch engine's adjoints that SciMLSensitivity does not have.
FOREIGN = ("nodes", "quadrature_rtol", "seminorm")
NATIVE = "NativeGauss"
# The default atol of the reverse solve, as a fraction of rtol times the natural size of each
# cotangent (cotangent_scales in julia/src/gauss.jl).
ATOL = 1e-5
# A reverse solve that ends this near to the start, as a fraction of the span, has reached it.
CLOSE = 1e-12


class JuliaAdjoint(Adjoint):
    """One of NAMES by SciMLSensitivity, or NATIVE by the package PyNODE.

    method: the reverse solver; by default Rodas5P after an implicit forward method, otherwise the
    forward method. rtol, atol: of the reverse solve; by default rtol of the forward solve, and
    1e-5 of it times the natural size of each cotangent. checkpoints: with True SciMLSensitivity
    solves forward again between the outputs instead of storing the dense solution. For
    BacksolveAdjoint the default is True: it restarts the states at each step of the forward solve.
    """

    needs = "steps"

    def __init__(
        self,
        name: str = "GaussAdjoint",
        method: str | JuliaMethod | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        checkpoints: bool = False,
    ) -> None:
        self.name = name
        self.method = method
        self.rtol = rtol
        self.atol = atol
        self.checkpoints = checkpoints

    @classmethod
    def of(cls, adjoint: str | Adjoint | type[Adjoint]) -> JuliaAdjoint:
        """The Julia adjoint for an adjoint of the torch engine, its class or its name. Raise
        ValueError if Julia does not have it."""
        if isinstance(adjoint, cls):
            return adjoint
        if isinstance(adjoint, str):
            name = adjoint
        else:
            name = adjoint.name
        key = name.lower().replace("_", "").removesuffix("adjoint")
        names_by_key = {n.lower().removesuffix("adjoint"): n for n in (*NAMES, NATIVE)}
        if key == "auto":
            key = NATIVE.lower()
        if key not in names_by_key:
            raise ValueError(
                f"backend='julia' has no adjoint {name!r}: choose one of"
                f" {', '.join((*NAMES, NATIVE))}; the torch engine has the discrete adjoint,"
                " backend='torch'"
            )
        for option in FOREIGN:
            if getattr(adjoint, option, None):
                raise ValueError(
                    f"only the torch engine has the option {option} of {name}: remove it, or use"
                    " backend='torch'"
                )
        if isinstance(adjoint, str):
            options = {}
        else:
            options = {k: getattr(adjoint, k, None) for k in ("method", "rtol", "atol")}
        return cls(
            names_by_key[key],
            checkpoints=bool(getattr(adjoint, "checkpoints", key == "backsolve")),
            **options,
        )

    def check(self, field: VectorField, method: Any) -> None:
        if field.mass is not None and (field.mass.singular or self.name != NATIVE):
            raise ValueError(
                "with backend='julia' only adjoint='NativeGauss' differentiates a solve with a mass"
                " matrix, and the matrix needs an inverse: use it, or backend='torch',"
                " adjoint='discrete'"
            )
        self.reverse(method)

    def validate_trajectory(self, field: VectorField, trajectory: Any) -> None:
        if self.name == BacksolveAdjoint.name and not self.checkpoints:
            BacksolveAdjoint(checkpoints=False).validate_trajectory(field, trajectory)

    def reverse(self, forward: JuliaMethod) -> JuliaMethod:
        """The reverse solver as a JuliaMethod. Raise ValueError for a known problem."""
        chosen = self.method or ("Rodas5P" if forward.implicit else forward)
        method = algorithms.get(chosen)
        if "BDF" in method.name or "NDF" in method.name:
            raise ValueError(
                f"{method.name} loses accuracy as the reverse solver of an adjoint: choose"
                " 'Rodas5P'"
            )
        if method.sundials or method.exponential:
            raise ValueError(
                f"{method.name} cannot be the reverse solver of an adjoint: choose 'Rodas5P'"
            )
        if self.name in JOINT and method.implicit:
            raise ValueError(
                f"{self.name} has the parameters in its state, and an implicit reverse solver"
                " factorises this whole state: use 'gauss', or, if the problem is not stiff, an"
                " explicit reverse method"
            )
        if self.checkpoints:
            solvers = [method, forward]
        else:
            solvers = [method]
        if self.name != NATIVE and any("Kvaerno" in solver.name for solver in solvers):
            raise ValueError(
                "SciML's Kvaerno methods lose orders if f depends on t: choose KenCarp4, or"
                " adjoint='NativeGauss'"
            )
        return method

    def pullback(
        self,
        field: VectorField,
        method: Any,
        trajectory: Any,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        starts, cotangents = _by_time(trajectory, times, grads)
        parameters = zero_grads(field.parameters)
        if not cotangents:
            return starts, parameters
        order = sorted(cotangents)
        table = torch.stack([cotangents[s] for s in order]).to("cpu").contiguous()
        largest = float(table.abs().max())
        if largest == 0.0:
            return starts, parameters
        if not math.isfinite(largest):
            # The solver cannot integrate NaN. A sum over steps would give NaN as well.
            return starts + math.nan, [p + math.nan for p in parameters]
        request = GradientRequest()
        request.rtol = options.rtol if self.rtol is None else self.rtol
        request.atol, request.scaled = reverse_atol(request.rtol, self.atol)
        request.checkpointing = self.checkpoints
        request.t1 = trajectory.inner(trajectory.t)
        with trajectory.foreign.kept.lock:
            dy0, pieces = self._reversed(field, method, trajectory, request, order, table)
        return starts + dy0.to(starts), [p.to(like) for p, like in zip(pieces, parameters)]

    def _reversed(self, field, method, trajectory, request, order, table):
        """(cotangent of the start, (n,), cotangents of field.parameters). order: Julia's times of
        the cotangents in table, (m, n)."""
        julia = start()
        foreign = trajectory.foreign
        reverse = self.reverse(method)
        request.algorithm = julia.algorithm(reverse.name)
        name = self._available(julia)
        if field.leaves is not foreign.field.leaves:
            foreign.extend(julia, field)
        with field.stats.of_gradient():
            count = foreign.parameter_count
            serve = partial(foreign.pull, julia.entries, request)
            dy0, dp = pulled(request, name, order, table, count, serve)
        if foreign.functions is not None:
            field.stats.backward_nvjp += request.nvjp
            field.stats.backward_njac += request.njac
        if foreign.status is not None:
            raise ValueError(
                "f refuses (RejectStep) a state between the steps, but this adjoint needs its"
                " derivatives there: use backend='torch', adjoint='discrete'"
            )
        self.check_end(trajectory, reverse, foreign.timer, request.reached)
        return dy0, _pieces(foreign, field, dp)

    def check_end(
        self, trajectory: Any, reverse: JuliaMethod, clock: Clock, reached: float
    ) -> None:
        """Raise RuntimeError if the reverse solve did not reach the start. reached: Julia's time at
        its end."""
        first = trajectory.inner(trajectory.t0)
        if not abs(reached - first) <= CLOSE * (trajectory.reached - first):
            raise RuntimeError(
                f"the reverse solve of {self.name} with {reverse.name} came no further than"
                f" t = {clock.outer(reached):.6g} on its way back to {trajectory.t0:.6g}: loosen"
                " the rtol and atol of this adjoint, or use backend='torch', adjoint='discrete',"
                " which takes the steps of the forward solve"
            )

    def _available(self, julia):
        """The name of the adjoint that runs. Without SciMLSensitivity the native adjoint replaces
        the Gauss adjoint."""
        if self.name == NATIVE or julia.loads("SciMLSensitivity"):
            return self.name
        if self.name == "GaussAdjoint":
            return NATIVE
        raise JuliaUnavailable(
            f"{self.name} needs the Julia package SciMLSensitivity: {INSTALL} --sensitivity;"
            " adjoint='gauss' runs without"
        )


def reverse_atol(rtol: float, atol: float | None) -> tuple[float, bool]:
    """(atol of a reverse solve, whether it is a fraction of the sizes of the cotangents). atol:
    what the user has named, or None."""
    if atol is None:
        return ATOL * rtol, True
    return atol, False


def pulled(
    request: GradientRequest,
    name: str,
    times: Sequence[float],
    cotangents: Tensor,
    parameters: int,
    serve: Callable[[], object],
) -> tuple[Tensor, Tensor]:
    """(cotangent of the start (n,), of the parameters (parameters,)) by the adjoint of this name.

    times: Julia's, ascending, of the cotangents, (m, n), on the CPU. serve: has Julia serve the
    request.
    """
    clock = torch.tensor(times, dtype=torch.float64)
    dy0 = torch.zeros(cotangents.shape[1], dtype=cotangents.dtype)
    dp = torch.zeros(parameters, dtype=cotangents.dtype)
    text = ctypes.create_string_buffer(name.encode())
    if name != NATIVE:
        request.adjoint = ctypes.addressof(text)
        request.adjoint_length = len(name)
    request.cotangents = cotangents.data_ptr()
    request.times = clock.data_ptr()
    request.count = len(clock)
    request.dy0 = dy0.data_ptr()
    request.dp = dp.data_ptr()
    serve()
    return dy0, dp


def _pieces(foreign, field, dp):
    """The cotangents of field.parameters. dp: of all parameters that Julia knows."""
    if foreign.functions is None:
        pieces = dp.split([p.numel() for p in field.parameters])
        return [piece.view_as(p) for piece, p in zip(pieces, field.parameters)]
    targets = foreign.bound.targets
    pieces = dp.split([x.numel() for x in targets])
    return of_parameters(field, targets, [part.view_as(x) for part, x in zip(pieces, targets)])


def _by_time(trajectory, times, grads):
    """Return (cotangent (n,) of the start, {Julia's time: cotangent (n,) of the state there}),
    summed over outputs at the same time. grads: (T, n)."""
    starts = torch.zeros_like(trajectory.y0)
    cotangents = {}
    for t, g in zip(times, grads.unbind(0)):
        if t == trajectory.t0:
            starts = starts + g
        else:
            add_at(cotangents, trajectory.inner(t), g)
    return starts, cotangents
