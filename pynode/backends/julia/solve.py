"""The forward solve by Julia: the same arguments and the same Trajectory as those of the torch
engine."""

from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple

import torch

from ...core.status import RejectStep, Status
from ...core.stop_conditions import guarded
from ...core.trajectory import Attempt, Trajectory
from ..torch.checkpoints import Recording
from ..torch.loop import SMALLEST
from .field import ForeignField
from .runtime import INSTALL, JuliaUnavailable, start

# SciMLBase's return codes. Its DtLessThanMin and Unstable have many causes, told apart by the state
# they leave.
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
    """One accepted step of a dense trajectory, as far as its polynomial needs it."""

    t: float
    h: float
    y: torch.Tensor


class JuliaTrajectory(Trajectory):
    """solved: Julia's solution, dense where it was kept for a gradient; foreign: the field that it
    asks; reached: Julia's time at its end."""

    solved: Any = None
    foreign: Any = None
    reached = math.inf

    def inner(self, t: float) -> float:
        """Julia's time at a time t of the span, which rounding must not bring beyond its end."""
        return min(self.foreign.inner(t), self.reached)


def integrate(
    field,
    method,
    y0,
    times,
    options,
    atol,
    record=None,
    dense=False,
    slopes=False,
    watch=None,
    limits=None,
    state="cpu",
):
    """As backends.torch.integrate. record: not None keeps Julia's dense solution, which its
    adjoints need. state: where Julia holds it, 'cpu' or 'cuda'."""
    julia = start()
    stats = field.stats
    method.check(field, options, limits)
    if state == "cuda":
        _on_cuda(julia, field, method)
    path, refusal = _begun(field, y0, times, limits)
    if refusal is not None:
        return _ended(path, refusal)
    if watch is not None:
        watch.begin(times[0], y0)
    final = options.step_size is not None or method.sundials
    foreign = ForeignField(field, method, times[0], times[-1], y0, watch, limits, state, final)
    path.foreign = foreign
    handle = foreign.bind(julia.package)
    before = stats.accepted
    whole = record is not None or dense
    outputs = torch.tensor([foreign.inner(t) for t in times], dtype=torch.float64)
    host_y = y0.detach().to("cpu", copy=True)  # of the start, and once solved of the end
    path.solved = _forward(
        julia, field, method, foreign, handle, options, atol, limits, outputs, host_y, whole
    )
    if path.solved is None:  # a limit was met before the first step
        return _ended(path, foreign.status)
    path.status, size = _count(julia.package, path, stats, before)
    path.reached = julia.package.ending_b(path.solved, handle, host_y.data_ptr())
    path.t = path.end = foreign.outer(path.reached)
    path.y = host_y.to(y0)
    path.attempts = [Attempt(path.t, size, 1.0, None)]
    if foreign.cut is not None:
        path.t = foreign.cut.t
        path.y = foreign.cut.y
        path.hits = watch.hits
    elif watch is not None:
        path.hits = watch.hits
    if foreign.status is not None:
        path.status = foreign.status
    elif path.status is Status.STEP_TOO_SMALL:
        path.status = _cause(field, path, foreign, options.min_step)
    path.ys = _outputs(julia.package, path, handle, field, y0, outputs, whole)
    if dense:
        _sample(julia.package, path)
    if slopes:
        reached = len(path.ys)
        path.slopes = [field.slope(t, y) for t, y in zip(times[1:reached], path.ys[1:])]
    return path


def _begun(field, y0, times, limits):
    """(trajectory that holds the start alone, Status of a start that cannot be left, else None)."""
    try:
        f0 = field.first(times[0], y0)
    except RejectStep:
        return JuliaTrajectory(times[0], y0, None, 0.0), Status.DOMAIN
    path = JuliaTrajectory(times[0], y0, f0, 0.0)
    path.times = times
    if not bool(torch.isfinite(f0).all()):
        return path, Status.NONFINITE
    if limits is not None and not field.stats.accepted and not limits.allow(times[0], y0):
        return path, Status.DOMAIN
    return path, None


def _forward(julia, field, method, foreign, handle, options, atol, limits, outputs, start_y, whole):
    """Julia's solution, None where a limit was met before its first step.

    outputs: (T,) times of Julia; start_y: (n,) on the CPU; whole: whether the dense solution is
    kept.
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
        mass = field.mass.dense().detach().to("cpu").t().contiguous()
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
            uniform=mass is not None or "Radau" in method.name,  # there SciML takes one atol alone
        )


def _stops(foreign, times, outputs):
    """The times at which steps must end, as times of Julia, (m,); outputs: (T,) likewise."""
    stops = torch.tensor([foreign.inner(t) for t in times], dtype=torch.float64)
    # Nearer to the start than this a stop would ask for a step that is none.
    least = max(SMALLEST * float(outputs[-1] - outputs[0]), sys.float_info.min)
    return stops[(stops - outputs[0] > least) & (stops < outputs[-1])]


def _outputs(package, path, handle, field, y0, outputs, whole):
    """The states (n,) at the output times that were reached, a list."""
    times = path.times
    if times[-1] > times[0]:
        direction = 1.0
    else:
        direction = -1.0
    states = torch.zeros(len(times), field.size, dtype=field.dtype)
    reached = package.outputs_b(path.solved, handle, states.data_ptr(), _array(outputs), whole)
    reached = sum(1 for t in times[:reached] if direction * (path.t - t) >= 0)
    return [y0, *states.to(y0)[1:reached].unbind(0)]


def _on_cuda(julia, field, method):
    """What a state on the GPU needs, loaded; a sentence where it is missing."""
    if field.device.type != "cuda":
        raise ValueError(
            "JuliaBackend(state='cuda') holds the state where the field has it, and y0 is on"
            f" {field.device.type}: move y0 and the field to the GPU, or leave state away"
        )
    if "Radau" in method.name or method.sundials:
        raise ValueError(
            f"{method.name} of Julia does not run on a GPU: choose FBDF or Rodas5P, or leave"
            " state='cuda' away"
        )
    if field.structure is not None and field.structure.name != "krylov":
        raise ValueError(
            "JuliaBackend(state='cuda') takes jacobian='dense' or 'krylov': leave out jacobian"
            " or state"
        )
    if not julia.loads("CUDA"):
        raise JuliaUnavailable(
            f"state='cuda' needs the Julia package CUDA: {INSTALL} --gpu; without state the solve"
            " runs too"
        )
    if not julia.main.CUDA.functional():
        raise JuliaUnavailable(
            "CUDA.jl finds no GPU that it can use: see CUDA.versioninfo() in Julia, or leave state"
            " away"
        )


def _ended(path, status):
    path.status = status
    return path


def _array(tensor):
    return tensor.data_ptr(), tensor.numel()


def _count(package, path, stats, before):
    """Add Julia's counts to ours; returns how it ended, and the size of the last step.

    Evaluations, Jacobians and products the hooks have counted.
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


def _cause(field, path, foreign, min_step) -> Status:
    """Why Julia's steps shrank to nothing, or to less than min_step."""
    # F is told the time in the dtype of the state.
    rounding = 16 * torch.finfo(field.dtype).eps * abs(path.t)
    near = abs(foreign.refusal - path.t) <= 1e-9 * abs(path.t - path.t0) + rounding
    if foreign.refused or near:
        return Status.DOMAIN
    try:
        finite = bool(torch.isfinite(field.at(*foreign.point())).all())  # where it was asked last
    except RejectStep:
        return Status.DOMAIN
    if not finite:
        return Status.NONFINITE
    if min_step and path.attempts[-1].h <= min_step:
        return Status.MIN_STEP
    return Status.STEP_TOO_SMALL


def _sample(package, path):
    """The polynomials of all steps, from Julia's interpolant at the nodes."""
    foreign = path.foreign
    count = package.steps(path.solved, foreign.handle)
    n = foreign.field.size
    m = len(foreign.nodes)
    mesh = torch.zeros(count + 1, dtype=torch.float64)
    states = torch.zeros(count, m, n, dtype=foreign.field.dtype)
    package.mesh_b(path.solved, foreign.handle, mesh.data_ptr())
    package.sample_b(path.solved, foreign.handle, states.data_ptr())
    mesh = mesh.tolist()
    states = states.to(path.y0)
    coefficients = torch.einsum(
        "ij,kjn->kin", foreign.monomial.to(states.device), states.to(torch.float64)
    ).to(states)
    path.polynomials = list(coefficients.unbind(0))
    path.recording = Recording(foreign.field, None, None)
    path.recording.starts.extend(mesh[:-1])
    path.recording.sizes.extend(b - a for a, b in zip(mesh, mesh[1:]))
    path.recording.steps = [
        Span(a, b - a, row) for a, b, row in zip(mesh, mesh[1:], states[:, -1].unbind(0))
    ]
