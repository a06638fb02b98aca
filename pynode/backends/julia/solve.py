"""The forward solve by Julia. It takes the same arguments as the torch engine, and returns a
Trajectory too."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch

from ...core.options import Options
from ...core.stats import Stats
from ...core.status import RejectStep, Status
from ...core.stop_conditions import Limits, guarded
from ...core.trajectory import Attempt, Trajectory
from ...core.vector_field import VectorField
from ..torch.checkpoints import Recording
from ..torch.event_detection import EventDetector
from ..torch.loop import SMALLEST
from .algorithms import JuliaMethod
from .field import ForeignField
from .request import Outcome, Request
from .runtime import INSTALL, JuliaUnavailable, Runtime, start
from .translated import native_part

if TYPE_CHECKING:
    from .entries import Entries

# How Julia ends a solve (julia/src/entries.jl). The last three have many causes; ``_cause`` finds
# the right one from the last state.
ENDINGS = (
    Status.SUCCESS,
    Status.EVENT,
    Status.MAX_STEPS,
    Status.NONFINITE,
    Status.NEWTON,
    Status.NONFINITE,
    Status.STEP_TOO_SMALL,
    Status.STEP_TOO_SMALL,
    Status.STEP_TOO_SMALL,
)


class Span(NamedTuple):
    """One accepted step of a dense trajectory: from t to t + h, with the state y, (n,), at its
    end."""

    t: float
    h: float
    y: torch.Tensor


class JuliaTrajectory(Trajectory):
    """A Trajectory from Julia. Its polynomials are read from Julia's solution when somebody asks.

    foreign: the field that Julia calls; it holds Julia's solution if the gradient or dense output
    needs it. reached: Julia's time at the end. dense: whether there are polynomials. hooks: by
    what Julia evaluates f: 'native' or 'python'.
    """

    foreign: ForeignField
    entries: Entries
    reached: float = math.inf
    dense = False
    hooks = ""

    def __init__(self, t0: float, y0: torch.Tensor, f0: torch.Tensor | None) -> None:
        super().__init__(t0, y0, f0, 0.0)
        del self.polynomials, self.recording  # made on demand below

    def inner(self, t: float) -> float:
        """Julia's time at the time t of f. Rounding must not move it beyond the end."""
        return min(self.foreign.timer.inner(t), self.reached)

    @cached_property
    def _samples(self) -> tuple[list[float], torch.Tensor]:
        """(the mesh, states (steps, nodes, n) at the nodes of every step)."""
        foreign = self.foreign
        number = foreign.kept.number  # type: ignore[union-attr]  # a dense solution is kept
        count = self.entries.steps(number)
        nodes = foreign.nodes
        mesh = torch.zeros(count + 1, dtype=torch.float64)
        states = torch.zeros(count, len(nodes), foreign.field.size, dtype=foreign.field.dtype)
        self.entries.sample(
            number, nodes.data_ptr(), len(nodes), mesh.data_ptr(), states.data_ptr()
        )
        return mesh.tolist(), states.to(self.y0)

    @cached_property
    def polynomials(self) -> list[torch.Tensor]:  # type: ignore[override]  # made on demand
        """One (degree + 1, n) for each step, with dense output."""
        if not self.dense:
            return []
        _, states = self._samples
        monomial = self.foreign.monomial.to(states.device)
        coefficients = torch.einsum("ij,kjn->kin", monomial, states.to(torch.float64))
        return list(coefficients.to(states).unbind(0))

    @cached_property
    def recording(self) -> Recording | None:
        """The steps, with dense output."""
        if not self.dense:
            return None
        times, states = self._samples
        recording = Recording(self.foreign.field, None, None)
        recording.starts.extend(times[:-1])
        recording.sizes.extend(b - a for a, b in zip(times, times[1:]))
        recording.steps = [
            Span(a, b - a, y)  # type: ignore[misc]  # it has what dense output reads
            for a, b, y in zip(times, times[1:], states[:, -1].unbind(0))
        ]
        return recording


def integrate(
    field: VectorField,
    method: JuliaMethod,
    y0: torch.Tensor,
    times: list[float],
    options: Options,
    atol: torch.Tensor,
    record: Callable[..., object] | None = None,
    dense: bool = False,
    slopes: bool = False,
    watch: EventDetector | None = None,
    limits: Limits | None = None,
    state: str = "cpu",
    hooks: str = "auto",
) -> JuliaTrajectory:
    """Integrate as backends.torch.loop.integrate does, with the same arguments.

    record: any value except None keeps Julia's dense solution for its adjoints. state: where Julia
    keeps the state, 'cpu' or 'cuda'. hooks: see JuliaBackend.
    """
    julia = start()
    stats = field.stats
    method.check(field, options, limits)
    if state == "cuda":
        _prepare_cuda(julia, field, method)
    path, failure = _initial_path(field, y0, times, limits)
    if failure is not None:
        path.status = failure
        return path
    bound, functions = native_part(field, method, times[0], y0, state, hooks, record is not None)
    if watch is not None:
        watch.begin(times[0], y0)
    final = options.step_size is not None or method.sundials
    foreign = ForeignField(
        field,
        method,
        times[0],
        times[-1],
        y0,
        watch,
        limits,
        state,
        final,
        bound,
        functions,
    )
    path.foreign = foreign
    path.entries = julia.entries
    path.hooks = "python" if functions is None else "native"
    before = stats.accepted
    path.dense = dense
    whole = record is not None or dense
    outputs = torch.tensor([foreign.timer.inner(t) for t in times], dtype=torch.float64)
    host_y = y0.detach().to("cpu", copy=True)  # the state at the start, later at the end
    states = torch.zeros(len(times), field.size, dtype=field.dtype)
    request = foreign.request
    request.dense = whole
    served = _forward(julia, field, method, foreign, options, atol, limits, outputs, host_y, states)
    if not served:  # a limit stopped the solve before the first step
        path.status = foreign.status
        return path
    outcome = request.outcome
    path.status = _count(outcome, stats, before, functions is not None)
    path.reached = outcome.t
    path.t = path.end = foreign.timer.outer(path.reached)
    path.y = host_y.to(y0)
    path.attempts = [Attempt(path.t, outcome.next_step, 1.0, None)]
    if watch is not None:
        path.hits = watch.hits
    if foreign.cut is not None:
        path.t = foreign.cut.t
        path.y = foreign.cut.y
    if foreign.status is not None:
        path.status = foreign.status
    elif path.status is Status.STEP_TOO_SMALL:
        path.status = _cause(field, path, foreign, options.min_step)
    path.ys = _outputs(path, y0, states, outcome.reached)
    if slopes:
        reached = len(path.ys)
        path.slopes = [field.dydt(t, y) for t, y in zip(times[1:reached], path.ys[1:])]
    return path


def _initial_path(
    field: VectorField, y0: torch.Tensor, times: list[float], limits: Limits | None
) -> tuple[JuliaTrajectory, Status | None]:
    """(trajectory that contains only the start, Status if no step can leave the start, else
    None)."""
    try:
        f0 = field.initial_slope(times[0], y0)
    except RejectStep:
        return JuliaTrajectory(times[0], y0, None), Status.DOMAIN
    path = JuliaTrajectory(times[0], y0, f0)
    path.times = times
    if not bool(torch.isfinite(f0).all()):
        return path, Status.NONFINITE
    if limits is not None and not field.stats.accepted and not limits.allow(times[0], y0):
        return path, Status.DOMAIN
    return path, None


def _forward(
    julia: Runtime,
    field: VectorField,
    method: JuliaMethod,
    foreign: ForeignField,
    options: Options,
    atol: torch.Tensor,
    limits: Limits | None,
    outputs: torch.Tensor,
    start_y: torch.Tensor,
    states: torch.Tensor,
) -> bool:
    """Have Julia solve; False if a limit stopped the solve before the first step.

    outputs: (T,) times of Julia; start_y: (n,) on the CPU, at the end the state reached; states:
    (T, n) for the results.
    """
    stats = field.stats
    krylov = field.structure is not None and field.structure.name == "krylov"
    request = foreign.request
    if method.algorithm is not None:
        request.algorithm = julia.chosen(method.algorithm)
    else:
        request.algorithm = julia.algorithm(method.name, krylov)
    stops = _stops(foreign, options.tstops, outputs)
    tolerance = atol.detach().to("cpu").expand(field.size).contiguous()
    mass = None
    if field.mass is not None:
        mass = field.mass.to_dense().detach().to("cpu").t().contiguous()
        request.mass = mass.data_ptr()
    most = math.inf
    if options.max_nfe is not None:
        most = options.max_nfe
    write_options(request, options)
    request.maxiters = max(1, options.max_steps - stats.accepted - stats.rejected)
    request.start = start_y.data_ptr()
    request.t0 = float(outputs[0])
    request.t1 = float(outputs[-1])
    request.atol = tolerance.data_ptr()
    request.outputs = outputs.data_ptr()
    request.output_count = len(outputs)
    request.stops = stops.data_ptr()
    request.stop_count = len(stops)
    request.states = states.data_ptr()
    request.matrix = not krylov
    request.uniform = mass is not None or method.one_atol
    deadline = None
    if limits is not None:
        deadline = limits.deadline
    with guarded(stats, most, limits):
        return foreign.solve(julia.entries, most - stats.nfe, deadline)


def write_options(request: Request, options: Options) -> None:
    """Write into a request what Options say of the steps."""
    request.rtol = options.rtol
    request.first = options.step_size or options.first_step or 0.0
    request.fixed = options.step_size is not None
    request.smallest = options.min_step
    request.largest = options.max_step


def _stops(foreign: ForeignField, times: Sequence[float], outputs: torch.Tensor) -> torch.Tensor:
    """The times at which steps must end, as times of Julia, (m,). outputs: (T,) times of Julia."""
    stops = torch.tensor([foreign.timer.inner(t) for t in times], dtype=torch.float64)
    # A stop nearer to the start than this would need a step below floating-point resolution.
    least = max(SMALLEST * float(outputs[-1] - outputs[0]), sys.float_info.min)
    return stops[(stops - outputs[0] > least) & (stops < outputs[-1])]


def _outputs(
    path: JuliaTrajectory, y0: torch.Tensor, states: torch.Tensor, reached: int
) -> list[torch.Tensor]:
    """The states, (n,) each, at the output times that the solve reached. states: (T, n), of which
    Julia has written the first ones. An event can cut off more."""
    direction = path.direction
    reached = sum(1 for t in path.times[:reached] if direction * (path.t - t) >= 0)
    return [y0, *states.to(y0)[1:reached].unbind(0)]


def _prepare_cuda(julia: Runtime, field: VectorField, method: JuliaMethod) -> None:
    """Load what a state on the GPU needs. Raises ValueError or JuliaUnavailable, with the remedy,
    if something is missing."""
    if field.device.type != "cuda":
        raise ValueError(
            "JuliaBackend(state='cuda') keeps the state on the device of y0, and y0 is on"
            f" {field.device.type}: move y0 and the field to the GPU, or leave out state"
        )
    if method.option is not None:
        raise ValueError(
            f"{method.name} of Julia does not run on a GPU: choose FBDF or Rodas5P, or leave"
            " out state='cuda'"
        )
    if field.structure is not None and field.structure.name != "krylov":
        raise ValueError(
            "JuliaBackend(state='cuda') takes jacobian='dense' or 'krylov': leave out jacobian"
            " or state"
        )
    if not julia.loads("CUDA"):
        raise JuliaUnavailable(
            f"state='cuda' needs the Julia package CUDA: {INSTALL} --gpu, or leave out state"
        )
    if not julia.main.CUDA.functional():
        raise JuliaUnavailable(
            "CUDA.jl finds no usable GPU: see CUDA.versioninfo() in Julia, or leave out state"
        )


def _count(outcome: Outcome, stats: Stats, before: int, native: bool) -> Status:
    """Add Julia's counts to stats. Returns how the solve ended.

    Python's hooks have already counted evaluations, Jacobians and products; native: whether native
    functions did their work. before: the accepted steps before this solve.
    """
    stats.accepted = before + outcome.accepted
    stats.rejected += outcome.rejected
    stats.nlu += outcome.factorisations
    stats.nsolve += outcome.solves
    stats.newton_failures += outcome.failures
    stats.switches += outcome.switches
    if native:
        stats.nfe += outcome.nfe
        stats.njac += outcome.njac
        stats.njvp += outcome.njvp
    return ENDINGS[outcome.ending]


def _cause(
    field: VectorField, path: JuliaTrajectory, foreign: ForeignField, min_step: float
) -> Status:
    """Why Julia's steps became smaller than floating-point resolution, or than min_step."""
    # f receives the time in the dtype of the state.
    rounding = 16 * torch.finfo(field.dtype).eps * abs(path.t)
    near = abs(foreign.refusal - path.t) <= 1e-9 * abs(path.t - path.t0) + rounding
    if foreign.refused or near:
        return Status.DOMAIN
    finite = bool(foreign.request.outcome.finite)
    if foreign.functions is None:
        try:
            # Where Julia asked last.
            finite = bool(torch.isfinite(field.eval(*foreign.point())).all())
        except RejectStep:
            return Status.DOMAIN
    if not finite:
        return Status.NONFINITE
    if min_step and path.attempts[-1].h <= min_step:
        return Status.MIN_STEP
    return Status.STEP_TOO_SMALL
