"""The forward solve by Julia. It takes the same arguments as the torch engine, and returns a
Trajectory too."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

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
from .runtime import INSTALL, JuliaUnavailable, JuliaValue, Runtime, start

# SciMLBase's return codes. DtLessThanMin and Unstable have many causes; ``_cause`` finds the right
# one from the last state.
_ENDS = {
    "Success": Status.SUCCESS,
    "Terminated": Status.EVENT,
    "MaxIters": Status.MAX_STEPS,
    "DtNaN": Status.NONFINITE,
    "ConvergenceFailure": Status.NEWTON,
    "InitialFailure": Status.NONFINITE,
    "DtLessThanMin": Status.STEP_TOO_SMALL,
    "Unstable": Status.STEP_TOO_SMALL,
}


class Span(NamedTuple):
    """One accepted step of a dense trajectory: from t to t + h, with the state y, (n,), at its
    end."""

    t: float
    h: float
    y: torch.Tensor


class JuliaTrajectory(Trajectory):
    """A Trajectory from Julia.

    solved: Julia's solution, dense if the gradient or dense output needs it. foreign: the field
    that Julia calls. reached: Julia's time at the end.
    """

    solved: JuliaValue = None
    foreign: ForeignField
    reached: float = math.inf

    def inner(self, t: float) -> float:
        """Julia's time at the time t of f. Rounding must not move it beyond the end."""
        return min(self.foreign.inner(t), self.reached)


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
) -> JuliaTrajectory:
    """Integrate as backends.torch.loop.integrate does, with the same arguments.

    record: any value except None keeps Julia's dense solution for its adjoints. state: where Julia
    keeps the state, 'cpu' or 'cuda'.
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
    if watch is not None:
        watch.begin(times[0], y0)
    final = options.step_size is not None or method.sundials
    foreign = ForeignField(field, method, times[0], times[-1], y0, watch, limits, state, final)
    path.foreign = foreign
    handle = foreign.bind(julia.package)
    before = stats.accepted
    whole = record is not None or dense
    outputs = torch.tensor([foreign.inner(t) for t in times], dtype=torch.float64)
    host_y = y0.detach().to("cpu", copy=True)  # the state at the start, later at the end
    path.solved = _forward(
        julia, field, method, foreign, handle, options, atol, limits, outputs, host_y, whole
    )
    if path.solved is None:  # a limit stopped the solve before the first step
        path.status = foreign.status
        return path
    path.status, size = _count(julia.package, path, stats, before)
    path.reached = julia.package.ending_b(path.solved, handle, host_y.data_ptr())
    path.t = path.end = foreign.outer(path.reached)
    path.y = host_y.to(y0)
    path.attempts = [Attempt(path.t, size, 1.0, None)]
    if watch is not None:
        path.hits = watch.hits
    if foreign.cut is not None:
        path.t = foreign.cut.t
        path.y = foreign.cut.y
    if foreign.status is not None:
        path.status = foreign.status
    elif path.status is Status.STEP_TOO_SMALL:
        path.status = _cause(field, path, foreign, options.min_step)
    path.ys = _outputs(julia.package, path, handle, field, y0, outputs, whole)
    if dense:
        _sample(julia.package, path)
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
        return JuliaTrajectory(times[0], y0, None, 0.0), Status.DOMAIN
    path = JuliaTrajectory(times[0], y0, f0, 0.0)
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
    handle: JuliaValue,
    options: Options,
    atol: torch.Tensor,
    limits: Limits | None,
    outputs: torch.Tensor,
    start_y: torch.Tensor,
    whole: bool,
) -> JuliaValue:
    """Julia's solution; None if a limit stopped the solve before the first step.

    outputs: (T,) times of Julia; start_y: (n,) on the CPU; whole: whether to keep the dense
    solution.
    """
    stats = field.stats
    krylov = field.structure is not None and field.structure.name == "krylov"
    if method.algorithm is not None:
        algorithm = method.algorithm
    else:
        algorithm = julia.algorithm(method.name, krylov)
    stops = _stops(foreign, options.tstops, outputs)
    tolerance = atol.detach().to("cpu").expand(field.size).contiguous()
    if field.mass is None:
        mass = None
    else:
        mass = field.mass.to_dense().detach().to("cpu").t().contiguous()
    if options.max_nfe is None:
        most = math.inf
    else:
        most = options.max_nfe
    with guarded(stats, most, limits):
        return foreign.call(
            julia.package.forward,
            handle,
            algorithm,
            start_y.data_ptr(),
            float(outputs[0]),
            float(outputs[-1]),
            options.rtol,
            tolerance.data_ptr(),
            _array(outputs),
            _array(stops),
            dense=whole,
            mass=0 if mass is None else mass.data_ptr(),
            first=options.step_size or options.first_step or 0.0,
            fixed=options.step_size is not None,
            smallest=options.min_step,
            largest=options.max_step,
            maxiters=max(1, options.max_steps - stats.accepted - stats.rejected),
            matrix=not krylov,
            uniform=mass is not None or "Radau" in method.name,  # SciML takes only one atol there
        )


def _stops(foreign: ForeignField, times: Sequence[float], outputs: torch.Tensor) -> torch.Tensor:
    """The times at which steps must end, as times of Julia, (m,). outputs: (T,) times of Julia."""
    stops = torch.tensor([foreign.inner(t) for t in times], dtype=torch.float64)
    # A stop nearer to the start than this would need a step below floating-point resolution.
    least = max(SMALLEST * float(outputs[-1] - outputs[0]), sys.float_info.min)
    return stops[(stops - outputs[0] > least) & (stops < outputs[-1])]


def _outputs(
    package: JuliaValue,
    path: JuliaTrajectory,
    handle: JuliaValue,
    field: VectorField,
    y0: torch.Tensor,
    outputs: torch.Tensor,
    whole: bool,
) -> list[torch.Tensor]:
    """The states, (n,) each, at the output times that the solve reached."""
    times = path.times
    if times[-1] > times[0]:
        direction = 1.0
    else:
        direction = -1.0
    states = torch.zeros(len(times), field.size, dtype=field.dtype)
    reached = package.outputs_b(path.solved, handle, states.data_ptr(), _array(outputs), whole)
    reached = sum(1 for t in times[:reached] if direction * (path.t - t) >= 0)
    return [y0, *states.to(y0)[1:reached].unbind(0)]


def _prepare_cuda(julia: Runtime, field: VectorField, method: JuliaMethod) -> None:
    """Load what a state on the GPU needs. Raises ValueError or JuliaUnavailable, with the remedy,
    if something is missing."""
    if field.device.type != "cuda":
        raise ValueError(
            "JuliaBackend(state='cuda') keeps the state on the device of y0, and y0 is on"
            f" {field.device.type}: move y0 and the field to the GPU, or leave out state"
        )
    if "Radau" in method.name or method.sundials:
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


def _array(tensor: torch.Tensor) -> tuple[int, int]:
    """(address, length) of a tensor, from which Julia makes an array."""
    return tensor.data_ptr(), tensor.numel()


def _count(
    package: JuliaValue, path: JuliaTrajectory, stats: Stats, before: int
) -> tuple[Status, float]:
    """Add Julia's counts to stats. Returns how the solve ended, and the size of the last step.

    The hooks have already counted evaluations, Jacobians and products. before: the accepted steps
    before this solve.
    """
    code, accepted, rejected, factorisations, solves, failures, size, switches = package.statistics(
        path.solved
    )
    stats.accepted = before + accepted
    stats.rejected += rejected
    stats.nlu += factorisations
    stats.nsolve += solves
    stats.newton_failures += failures
    stats.switches += switches
    return _ENDS.get(str(code), Status.STEP_TOO_SMALL), size


def _cause(
    field: VectorField, path: JuliaTrajectory, foreign: ForeignField, min_step: float
) -> Status:
    """Why Julia's steps became smaller than floating-point resolution, or than min_step."""
    # f receives the time in the dtype of the state.
    rounding = 16 * torch.finfo(field.dtype).eps * abs(path.t)
    near = abs(foreign.refusal - path.t) <= 1e-9 * abs(path.t - path.t0) + rounding
    if foreign.refused or near:
        return Status.DOMAIN
    try:
        finite = bool(torch.isfinite(field.eval(*foreign.point())).all())  # where Julia asked last
    except RejectStep:
        return Status.DOMAIN
    if not finite:
        return Status.NONFINITE
    if min_step and path.attempts[-1].h <= min_step:
        return Status.MIN_STEP
    return Status.STEP_TOO_SMALL


def _sample(package: JuliaValue, path: JuliaTrajectory) -> None:
    """Compute the polynomials of all steps from Julia's interpolant at the nodes."""
    foreign = path.foreign
    count = package.steps(path.solved, foreign.handle)
    n = foreign.field.size
    m = len(foreign.nodes)
    mesh = torch.zeros(count + 1, dtype=torch.float64)
    states = torch.zeros(count, m, n, dtype=foreign.field.dtype)
    package.mesh_b(path.solved, foreign.handle, mesh.data_ptr())
    package.sample_b(path.solved, foreign.handle, states.data_ptr())
    times = mesh.tolist()
    states = states.to(path.y0)
    coefficients = torch.einsum(
        "ij,kjn->kin", foreign.monomial.to(states.device), states.to(torch.float64)
    ).to(states)
    path.polynomials = list(coefficients.unbind(0))
    path.recording = Recording(foreign.field, None, None)
    path.recording.starts.extend(times[:-1])
    path.recording.sizes.extend(b - a for a, b in zip(times, times[1:]))
    path.recording.steps = [
        Span(a, b - a, y) for a, b, y in zip(times, times[1:], states[:, -1].unbind(0))
    ]
