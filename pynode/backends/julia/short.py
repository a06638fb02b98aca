"""A solve by Julia with native functions that asks for outputs and their gradient, and no more
(solve_short.py). What does not depend on the start, the times and the tensors of f is prepared
once and kept with the code of f."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...core.memory import raise_if_exhausted
from ...core.status import Status
from ...core.trajectory import Trajectory
from ..native.machine import call
from .clock import Clock
from .entries import Kept
from .functions import native_functions
from .request import Outcome, Request
from .runtime import start as start_julia
from .solve import ENDINGS, write_options

if TYPE_CHECKING:
    from torch import Tensor

    from ...core.options import Options
    from ..native.fields import BoundField
    from .algorithms import JuliaMethod
    from .runtime import Runtime

NO_STOPS = np.empty(0)
MANY = 2**62  # evaluations that are no limit


class Template:
    """The part of a Request that solves of one field with one method and options share.

    numbers: the memory of the request; held: what lies behind its addresses.
    """

    def __init__(
        self,
        julia: Runtime,
        bound: BoundField,
        method: JuliaMethod,
        options: Options,
        atol: np.ndarray,
        record: bool,
    ) -> None:
        functions = native_functions(bound, method, "dense", record)
        tolerance = np.ascontiguousarray(np.broadcast_to(atol, bound.n), dtype=atol.dtype)
        self.held = (functions, tolerance)
        request = Request()
        request.bits = 64 if bound.dtype == torch.float64 else 32
        request.n = bound.n
        request.np = sum(x.numel() for x in bound.targets)
        request.signals = 1
        request.seconds = math.inf
        functions.fill(request)
        request.algorithm = julia.algorithm(method.name)
        request.atol = tolerance.ctypes.data
        request.uniform = method.one_atol
        write_options(request, options)
        request.maxiters = options.max_steps
        request.most = MANY
        if options.max_nfe is not None:
            request.most = options.max_nfe - 1  # the slope at the start is the first one
        request.stops = NO_STOPS.ctypes.data
        request.matrix = 1
        request.dense = record
        self.numbers = bytes(request)
        self.slope = bound.function("f")


class ShortTrajectory(Trajectory):
    """The Trajectory of a short solve.

    bound: the field with its tensors. clock: Julia's time. states: (T, n) at the output times.
    kept: Julia's solution, for the gradient, or None. reached: Julia's time at the end. outcome:
    Julia's counts.
    """

    states: Tensor
    outcome: Outcome

    def __init__(
        self,
        template: Template,
        bound: BoundField,
        times: list[float],
        start: Tensor,
        clock: Clock,
    ) -> None:
        super().__init__(times[0], start, None, 0.0)
        self.template = template
        self.bound = bound
        self.times = times
        self.clock = clock
        self.kept: Kept | None = None
        self.reached = 0.0
        self._slope = self._slope_at_start()

    def outputs(self) -> Tensor:
        # Another tensor, because autograd gives the one that it returns a graph, which owns this
        # trajectory: the two would keep one another.
        return self.states.detach()

    def inner(self, t: float) -> float:
        """Julia's time at the time t of f."""
        return min(self.clock.inner(t), self.reached)

    def changed(self) -> bool:
        """Whether a tensor that f uses has changed since the solve: f at the start is another."""
        return not np.array_equal(self._slope, self._slope_at_start(), equal_nan=True)

    def _slope_at_start(self):
        function = self.template.slope
        start = self.y0.numpy()
        slope = np.empty_like(start)
        work = np.empty(max(1, function.work), start.dtype)
        inputs = self.bound.pointers()[0]
        call(function.address, self.t0, start, start, inputs, slope, work)
        return slope


def integrate(
    bound: BoundField,
    method: JuliaMethod,
    start: Tensor,
    times: list[float],
    options: Options,
    atol: np.ndarray,
    record: bool,
) -> ShortTrajectory | None:
    """The solve from start, (n,), at times[0] to times[-1]; None where it does not succeed, and
    where a derivative cannot become native code: the long way then calls Python, or says why.

    record: whether Julia keeps its solution for a gradient.
    """
    julia = start_julia()
    template = _template(julia, bound, method, options, atol, record)
    if template is None:
        return None
    request = Request.from_buffer_copy(template.numbers)
    clock = Clock.of(times[0], times[-1])
    request.origin = clock.origin
    request.direction = clock.direction
    outputs = np.array(times)
    if clock.direction != 1.0 or clock.origin != 0.0:
        outputs = clock.direction * (outputs - clock.origin)
    request.t0 = outputs[0]
    request.t1 = outputs[-1]
    request.outputs = outputs.ctypes.data
    request.output_count = len(outputs)
    end = start.clone()  # Julia writes the state at the end there
    states = torch.empty(len(times), bound.n, dtype=bound.dtype)
    # A copy, because the caller may change y0 before the gradient.
    path = ShortTrajectory(template, bound, times, start.clone(), clock)
    request.start = end.data_ptr()
    request.states = states.data_ptr()
    request.inputs = bound.pointers()[0].ctypes.data
    served = julia.entries.forward(request)
    outcome = request.outcome
    if outcome.kept:
        path.kept = Kept(julia.entries, outcome.kept)
    if not served or ENDINGS[outcome.ending] is not Status.SUCCESS or outcome.cause:
        return None
    path.reached = outcome.t
    path.t = path.end = times[-1]
    path.y = end
    path.states = states
    path.status = Status.SUCCESS
    path.outcome = outcome
    return path


def _template(julia, bound, method, options, atol, record):
    """The Template of a solve, kept with the code of f; None where it cannot be made."""
    key = ("julia template", method, _key(options), atol.tobytes(), record)
    found = bound.kept.get(key)
    if found is None:
        refused = ("julia refused", method, record)
        if refused in bound.kept:
            return None
        try:
            found = bound.kept[key] = Template(julia, bound, method, options, atol, record)
        # Translation differentiates f, and what f does there can raise any exception.
        except Exception as error:
            raise_if_exhausted(error)
            bound.kept[refused] = True
            return None
    return found


def _key(options):
    """What of Options a Template depends on."""
    return (
        options.rtol,
        options.first_step,
        options.min_step,
        options.max_step,
        options.max_steps,
        options.max_nfe,
    )
