"""The native engine as ``solve`` calls it: from torch's objects to the compiled loop and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.status import Status
from ...core.stop_conditions import guarded
from ...core.trajectory import Attempt, Trajectory
from ...methods import registry
from ...methods.selection import SMALL, choose
from ...translate import TranslationRefused
from .event_conditions import native_conditions
from .families import FAMILIES
from .fields import BoundField, native_field
from .observer import Observer
from .solve import integrate as integrate_native
from .trajectory import NativeTrajectory

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.norm import Tolerance
    from ...core.options import Options
    from ...core.stop_conditions import Limits
    from ...core.vector_field import VectorField
    from ...methods.base import Method
    from ..torch.event_detection import EventDetector
    from .conditions import Watched

COUNTS = ("accepted", "rejected", "nfe", "njac", "nlu", "nsolve", "newton_failures")
INSTEAD = "or leave out backend='native'"


class NativeSegment(Trajectory):
    """The Trajectory of a native solve. It makes tensors of what the loop wrote when they are asked
    for.

    bound: the field of the solve with its tensors. solved: the result of the loop.
    """

    def __init__(self, bound: BoundField, solved: NativeTrajectory, start: Tensor) -> None:
        super().__init__(solved.t0, start, None, solved.h0)
        del self.polynomials, self.attempts, self.ys  # made on demand below
        self.bound = bound
        self.solved = solved
        self.times = solved.times.tolist()
        self.t = solved.t
        self.end = solved.end
        self.y = torch.from_numpy(solved.y)
        if solved.slopes is not None:
            self.slopes = list(torch.from_numpy(solved.slopes).unbind(0))[1:]
        self.status = solved.status
        if solved.starts is not None:
            self.recording = NativeRecording(solved)

    def changed(self) -> bool:
        """Whether a tensor that f uses has changed since the solve."""
        return self.solved.changed()

    @cached_property
    def ys(self) -> list[Tensor]:  # type: ignore[override]  # made on demand
        """(n,) at the output times that were reached."""
        return list(torch.from_numpy(self.solved.outputs).unbind(0))

    @property
    def output_count(self) -> int:
        return len(self.solved.outputs)

    @property
    def queries(self) -> list[float]:
        """The times of ``outputs``."""
        return self.times[: self.output_count] + [hit.t for hit in self.hits]

    def outputs(self) -> Tensor:
        rows = torch.from_numpy(self.solved.outputs)
        if self.hits:
            return torch.cat((rows, torch.stack([hit.y for hit in self.hits])))
        return rows

    @cached_property
    def polynomials(self) -> list[Tensor]:  # type: ignore[override]  # made on demand
        """One (degree + 1, n) for each step, with dense output."""
        if not self.solved.dense:
            return []
        return list(torch.from_numpy(self.solved.polynomials()).unbind(0))

    @cached_property
    def attempts(self) -> list[Attempt]:  # type: ignore[override]  # made on demand
        """The last attempted steps."""
        return self.solved.attempts


class NativeRecording:
    """The recorded steps. starts, sizes: as lists of floats."""

    taped = False
    steps: tuple = ()

    def __init__(self, solved: NativeTrajectory) -> None:
        self._solved = solved

    @cached_property
    def starts(self) -> list[float]:
        return self._solved.starts.tolist()

    @cached_property
    def sizes(self) -> list[float]:
        return self._solved.sizes.tolist()


class NativeBackend:
    """pynode's own solvers in compiled code, on the CPU."""

    name = "native"

    @staticmethod
    def method(name: str | type[Method] | Method) -> Method:
        """The Method of this name. ValueError for a method that has no native code."""
        return checked(registry.get(name))

    @staticmethod
    def choose(
        field: VectorField, t0: float, t1: float, y0: Tensor, tol: Tolerance
    ) -> tuple[Method, str]:
        """(method, reason in one sentence) for method='auto', as methods/selection.choose."""
        if field.mass is not None and field.size > SMALL:
            why = f"QNDF: M y' = f with more than {SMALL} states"
            return registry.get("qndf"), why
        if field.size <= SMALL:
            why = (
                f"Rodas5P: up to {SMALL} states its steps in native code cost little, stiff or not"
            )
            return registry.get("rodas5p"), why
        method, why = choose(registry.get, field, t0, t1, y0, tol)
        if FAMILIES.get(method) is not None:
            return method, why
        method = registry.get("kencarp47")
        return method, f"KenCarp47: {why.partition(': ')[2]}; native code does not switch"

    @staticmethod
    def twin(method: Method) -> Method:
        """The method of the torch engine that repeats what this one did."""
        return method

    @staticmethod
    def integrate(
        field: VectorField,
        method: Method,
        y0: Tensor,
        times: list[float],
        options: Options,
        atol: Tensor,
        record: Callable[..., object] | None = None,
        dense: bool = False,
        slopes: bool = False,
        watch: Any = None,
        limits: Limits | None = None,
    ) -> Trajectory:
        """Integrate as backends.torch.loop.integrate does, with the same arguments.

        record: keeps the steps for the gradient, except None. It returns the Checkpoints, or None
        for all steps (NativeDiscreteAdjoint.record).
        """
        check(field)
        checkpoints: Any = None
        if record is not None:
            checkpoints = record(field, method, None)
        try:
            bound = native_field(field, times[0], y0)
        except TranslationRefused:
            if not bool(torch.isfinite(field.initial_slope(times[0], y0)).all()):
                return _at_start(times, y0, Status.NONFINITE)
            raise
        deadline = None
        bounds = None
        if limits is not None:
            deadline = limits.deadline
            bounds = _bounds(limits, len(y0))
        stats = field.stats
        if limits is not None and not stats.accepted and not limits.in_domain(times[0], y0):
            return _at_start(times, y0, Status.DOMAIN)
        allow = None
        look = None
        observer = Observer(field, watch, limits)
        if limits is not None and limits.domain is not None:
            allow = observer.allow
        seen = limits is not None and limits.callback is not None
        if watch is not None:
            watch.begin(times[0], y0)
            if not seen:
                observer.watched = watch_conditions(watch, field, times[0], y0)
        if watch is not None or seen:
            look = observer.watch
        counted = {name: getattr(stats, name) for name in COUNTS}
        before = (stats.accepted + stats.rejected, stats.nfe)
        most: float | None = options.max_nfe
        if most is None:
            most = method.evaluations_a_step * options.max_steps
        with guarded(stats, most, limits):
            solved = integrate_native(
                bound,
                method,
                y0.detach().numpy(),
                times,
                options,
                atol.detach().numpy(),
                record=record is not None,
                dense=dense,
                slopes=slopes,
                bounds=bounds,
                deadline=deadline,
                counts=before,
                allow=allow,
                watch=look,
                watched=observer.watched,
                checkpoints=checkpoints,
            )
        for name, value in counted.items():
            setattr(stats, name, value + getattr(solved, name))
        stats.nfe = solved.nfe
        segment = NativeSegment(bound, solved, y0)
        if watch is not None:
            segment.hits = watch.hits
        return segment


def watch_conditions(
    events: EventDetector, field: VectorField, t0: float, y0: Tensor
) -> Watched | None:
    """The conditions of an EventDetector, which has begun at (t0, y0), in compiled code; None if
    Python has to evaluate one of them at every step."""
    conditions = native_conditions(
        events.events, events.sizes, field.layout, events.field.args, t0, y0
    )
    if conditions is None:
        return None
    events.compiled = conditions.evaluator(events.field.dtype)
    watched = conditions.watched()
    watched.note(events.signs.known)
    return watched


def _at_start(times, y0, status):
    """The Trajectory of a solve that cannot leave its start."""
    path = Trajectory(times[0], y0, None, 0.0)
    path.times = times
    path.status = status
    return path


def check(field: VectorField | RowField, device: bool = False) -> None:
    """ValueError for a problem that the native engine does not take. device: whether its kernel
    will run (cuda/), and not its loop on the CPU."""
    if field.mass is not None and device:
        raise ValueError(
            "the kernel of the native engine takes no mass matrix: leave out mass, or pass"
            " backend='native'"
        )
    if field.user_jac is not None:
        raise ValueError(
            f"the native engine makes the Jacobian of f itself: leave out jac, {INSTEAD}"
        )
    if getattr(field, "parts", None) is not None:
        raise ValueError(
            f"the native engine takes no SplitField: pass the whole field as a module, {INSTEAD}"
        )
    if field.device.type != "cpu" and not device:
        raise ValueError(
            f"the native engine runs on the CPU, but y0 is on {field.device}: move f and y0 there,"
            " pass backend=NativeBackend(device='cuda') for the rows of a batch on a GPU,"
            f" {INSTEAD}"
        )
    if field.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"the native engine takes float64 and float32, not {field.dtype}: pass y0.float(),"
            f" {INSTEAD}"
        )


def _bounds(limits, n):
    """(lowest, floor), (n,) each, of the components that must not be negative, or None."""
    if limits.bounds is None:
        return None
    lowest = limits.bounds.lowest.expand(n).double().numpy()
    return lowest, limits.bounds.floor.expand(n).double().numpy()


def checked(method: Method) -> Method:
    """The method. ValueError if it has no native code."""
    if FAMILIES.get(method) is None:
        raise ValueError(
            f"the native engine has no {method.name}: choose an explicit, Rosenbrock or"
            f" backward differentiation method ('tsit5', 'rodas5p', 'qndf'), {INSTEAD}"
        )
    if method.compile:
        raise ValueError(
            "the native engine is compiled as it is: leave out compile, or backend='native'"
        )
    if method.jacobian != "dense":
        raise ValueError(
            "the native engine has dense Jacobians: leave out jacobian (a structure of the"
            " Jacobian), or backend='native'"
        )
    return method
