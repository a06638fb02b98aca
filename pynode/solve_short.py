"""The short way of a solve by native code, or by Julia with native code, that asks for outputs and
their gradient, and nothing else but one event that ends it.

In native code the steps of a small system take less time than what surrounds a solve: the search
for tensors that need gradients, events, segments and limits. Here nothing of it is needed: the
native code itself says which tensors f reads. Every other solve, and every solve that does not
succeed, takes the long way (solve.py), which gives the same numbers.
"""

from __future__ import annotations

import functools
from dataclasses import fields, replace
from operator import attrgetter, is_
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .adjoints.base import Integrate
from .backends.registry import JuliaBackend, native_engine
from .backends.torch.event_time_gradient import moved_time, saltated
from .core.arguments import Arguments
from .core.events import Event, EventRecord
from .core.options import FEW
from .core.solution import DenseSegment, Solution
from .core.stats import Stats
from .core.status import Status
from .failure.ending import waited_for

if TYPE_CHECKING:
    import numpy as np

    from .adjoints.short import ShortGradient
    from .core.layout import Layout
    from .core.options import Options
    from .core.problem import ODEProblem

# Arguments that the short way reads. All others must have their defaults.
READ = {"f", "y0", "t", "method", "rtol", "atol", "args", "backend", "throw", "adjoint", "params"}
READ |= {"names", "first_step", "min_step", "max_step", "max_steps", "max_nfe"}
DEFAULTS = {field.name: field.default for field in fields(Arguments) if field.name not in READ}
OTHERS = attrgetter(*DEFAULTS)
SETTINGS = attrgetter(
    "method", "rtol", "first_step", "min_step", "max_step", "max_steps", "max_nfe"
)
REAL = (torch.float32, torch.float64)
LEAVES = (Tensor, torch.nn.Parameter)
MOST = 64  # settings that are kept for one f
COUNTS = ("nfe", "njac", "nlu", "nsolve", "accepted", "rejected", "newton_failures")


def short_solve(arguments: Arguments, problem: ODEProblem) -> Solution | None:
    """The Solution of the problem by native code, or None if it must take the long way."""
    way = _way(arguments)
    if way is None:
        return None
    event = None
    if arguments.events != () and way.name == NativeWay.name:
        event = _native_parts().terminal_event(arguments.events)
        if event is not None:
            arguments = replace(arguments, events=())
    if not _plain(arguments, problem):
        return None
    adjoint = way.adjoint(arguments)
    if not adjoint:
        return None
    parts = _parts()
    layout = problem.layout()
    start = problem.y0.detach()  # type: ignore[union-attr]  # a tensor
    # The first solve of an f takes the long way: f may keep tensors of its first call, with their
    # graph.
    native = parts.translated_before(problem.f, start, problem.args)
    if native is None:
        return None
    try:
        bound = parts.BoundField(native)
    except parts.TranslationRefused:
        return None
    method, options, atol = settings_of(arguments, layout, start, native.kept, way)
    if way.refuses(method, layout.dtype):
        return None
    times = _times(problem, native.kept)
    inputs = _inputs(problem, bound.targets, arguments.params)
    path: Any
    if event is None:
        path = way.integrate(bound, method, start, times, options, atol, inputs is not None)
    else:
        settings = (method, start, times, options, atol, inputs is not None)
        path = _native_parts().integrate_to_event(bound, *settings, event, layout, problem.args)
    if path is None:
        return None
    stats = Stats(**way.counts(path))
    outputs = path.outputs()
    if inputs is not None:
        gradient = way.gradient(arguments, problem, path, stats, inputs, method)
        outputs = Integrate.apply(path.outputs, gradient.rules, problem.y0, *inputs)
    status = Status.SUCCESS
    message = f"{status.sentence}, t = {path.t:.6g}."
    records: list[EventRecord] = []
    if event is not None:
        status = path.status
        message = _ending(path, event)
        count = path.output_count
        times = times[:count]
        records = [
            _record(event, hit, row, layout, problem.args, path.t0)
            for hit, row in zip(path.hits, outputs[count:], strict=True)
        ]
        outputs = outputs[:count]
    return Solution(
        t=torch.tensor(times, dtype=torch.float64),
        y=outputs,
        status=status,
        message=message,
        stats=stats,
        method=method.name,
        layout=layout,
        segments=[DenseSegment(path, path.evaluate)],
        events=records,
        adjoint=adjoint,
        backend=way.name,
        hooks=way.hooks,
    )


def _ending(path: Any, event: Event) -> str:
    """How a solve to an event ended."""
    if path.hits:
        return f"{path.status.sentence}: {event.name!r} at t = {path.t:.10g}."
    sentence = f"{path.status.sentence}, t = {path.t:.6g}."
    return sentence + waited_for([event])


def _record(
    event: Event, hit: Any, y: Tensor, layout: Layout, args: tuple, start: float
) -> EventRecord:
    """The record of an event that ended a solve from the time start. y: (n,), differentiable at
    fixed time."""

    def condition(t: Tensor, y: Tensor) -> Tensor:
        return event.value(t, layout.unravel(y), args)[hit.index]

    def clock(t: Tensor) -> Tensor:
        return t.squeeze(0).to(layout.dtype)

    time = torch.tensor(hit.t, dtype=torch.float64)
    if torch.is_grad_enabled():
        moved = moved_time(condition, clock, hit.t, start, y, hit.slope, event.name)
        if moved is not None:
            time = time + moved.to(time)
            y = saltated(y, hit.slope, time)
    state = layout.unravel(y)
    return EventRecord(time, state, state, 0, hit.index, event.name or "")


def _way(arguments: Arguments) -> NativeWay | JuliaWay | None:
    """The engine of the short way, or None if there is none for this backend."""
    backend = arguments.backend
    if backend == "native":
        return NativeWay()
    if backend == "julia":
        return JuliaWay()
    if isinstance(backend, JuliaBackend) and backend.state == "cpu" and backend.hooks != "python":
        return JuliaWay()
    return None


class NativeWay:
    """The short way of the native engine."""

    name = "native"
    hooks = ""
    ADJOINTS = {
        "auto": "DiscreteAdjoint",
        "discrete": "DiscreteAdjoint",
        "forward": "ForwardSensitivity",
    }

    def adjoint(self, arguments: Arguments) -> str:
        """The name of the adjoint; '' if it needs the long way."""
        return self.ADJOINTS.get(str(arguments.adjoint), "")

    def method(self, name: Any) -> Any:
        """The Method of this name."""
        return native_engine().method(name)

    def refuses(self, method: Any, dtype: torch.dtype) -> bool:
        """Whether a method needs the long way."""
        return False

    def integrate(
        self,
        bound: Any,
        method: Any,
        start: Tensor,
        times: list[float],
        options: Options,
        atol: np.ndarray,
        record: bool,
    ) -> Any:
        """The NativeSegment of the solve, or None if it does not succeed."""
        parts = _native_parts()
        solved = parts.integrate(bound, method, start.numpy(), times, options, atol, record=record)
        if solved.status is not Status.SUCCESS:
            return None
        return parts.NativeSegment(bound, solved, start)

    def counts(self, path: Any) -> dict[str, int]:
        """The counts of the solve."""
        return {name: getattr(path.solved, name) for name in COUNTS}

    def gradient(
        self,
        arguments: Arguments,
        problem: ODEProblem,
        path: Any,
        stats: Stats,
        inputs: list[Tensor],
        method: Any,
    ) -> ShortGradient:
        """The gradient of the solve."""
        parts = _native_parts()
        if arguments.adjoint == "forward":
            return parts.ShortSensitivities(problem, path, stats, inputs)
        return parts.NativeShortGradient(problem, path, stats, inputs)


class JuliaWay:
    """The short way of Julia with native functions."""

    name = "julia"
    hooks = "native"

    def adjoint(self, arguments: Arguments) -> str:
        """The name of the adjoint; '' if it needs the long way."""
        if str(arguments.adjoint).lower() in ("auto", "nativegauss"):
            return "NativeGauss"
        return ""

    def method(self, name: Any) -> Any:
        """SciML's method of this name."""
        return JuliaBackend.method(name)

    def refuses(self, method: Any, dtype: torch.dtype) -> bool:
        """Whether a method needs the long way, which knows its options and checks what it takes."""
        return (
            method.algorithm is not None
            or method.jacobian != "dense"
            or method.option is not None
            or method.name == "ImplicitMidpoint"
        )

    def integrate(
        self,
        bound: Any,
        method: Any,
        start: Tensor,
        times: list[float],
        options: Options,
        atol: np.ndarray,
        record: bool,
    ) -> Any:
        """The ShortTrajectory of the solve, or None if it does not succeed."""
        return _julia_parts().integrate(bound, method, start, times, options, atol, record)

    def counts(self, path: Any) -> dict[str, int]:
        """The counts of the solve."""
        outcome = path.outcome
        return {
            "nfe": outcome.nfe + 1,  # the slope at the start
            "njac": outcome.njac,
            "nlu": outcome.factorisations,
            "nsolve": outcome.solves,
            "accepted": outcome.accepted,
            "rejected": outcome.rejected,
            "newton_failures": outcome.failures,
            "switches": outcome.switches,
        }

    def gradient(
        self,
        arguments: Arguments,
        problem: ODEProblem,
        path: Any,
        stats: Stats,
        inputs: list[Tensor],
        method: Any,
    ) -> ShortGradient:
        """The gradient of the solve."""
        parts = _julia_parts()
        return parts.JuliaShortGradient(problem, path, stats, inputs, method, arguments.rtol)


@functools.cache
def _parts() -> SimpleNamespace:
    """What translated code brings. A solve that needs none does not load it."""
    from .backends.native.fields import BoundField
    from .translate import TranslationRefused, translated_before

    return SimpleNamespace(
        BoundField=BoundField,
        TranslationRefused=TranslationRefused,
        translated_before=translated_before,
    )


@functools.cache
def _native_parts() -> SimpleNamespace:
    """What the native engine brings."""
    from .adjoints.native.forward.short import ShortSensitivities
    from .adjoints.native.short import NativeShortGradient
    from .backends.native.engine import NativeSegment
    from .backends.native.solve import integrate
    from .backends.native.terminal_event import integrate_to_event, terminal_event

    return SimpleNamespace(
        NativeShortGradient=NativeShortGradient,
        ShortSensitivities=ShortSensitivities,
        NativeSegment=NativeSegment,
        integrate=integrate,
        integrate_to_event=integrate_to_event,
        terminal_event=terminal_event,
    )


@functools.cache
def _julia_parts() -> SimpleNamespace:
    """What Julia brings."""
    from .adjoints.julia_short import JuliaShortGradient
    from .backends.julia.short import integrate

    return SimpleNamespace(JuliaShortGradient=JuliaShortGradient, integrate=integrate)


def settings_of(
    arguments: Arguments,
    layout: Layout,
    start: Tensor,
    kept: dict[Any, Any],
    way: NativeWay | JuliaWay,
) -> tuple[Any, Options, Any]:
    """(method, options, atol) of a solve. kept: where the settings of earlier solves of this f
    are."""
    atol = _numbers(arguments.atol)
    key: Any = None
    if atol is not None and isinstance(arguments.method, str):
        key = ("settings", way.name, atol, *SETTINGS(arguments))
        found = kept.get(key)
        if found is not None:
            return found
    method = way.method(arguments.method)
    options = arguments.options()
    settings = (method, options, options.flat_atol(layout, start).numpy())
    # Such tolerances fit every state. Others are compared with it.
    large = options.rtol >= 4 * torch.finfo(layout.dtype).eps
    if key is not None and atol is not None and large and min(atol) > 0:
        _keep(kept, key, settings)
    return settings


def _numbers(atol: Any) -> tuple[float, ...] | None:
    """The numbers of atol, if it is a number or a small tensor."""
    if isinstance(atol, float):
        return (atol,)
    if isinstance(atol, Tensor) and atol.numel() <= FEW and atol.dtype in REAL:
        return tuple(atol.reshape(-1).tolist())
    return None


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep the value for later solves of this f."""
    while len(kept) >= MOST:
        kept.pop(next(iter(kept)), None)
    kept[key] = value


def _times(problem: ODEProblem, kept: dict[Any, Any]) -> list[float]:
    """The times. kept: where those of the last solve of this f are, which need no check."""
    given = problem.tspan
    values: Any = None
    if type(given) is list or type(given) is tuple:
        values = list(given)
        if not all(type(time) is float for time in values):
            values = None
    elif isinstance(given, Tensor) and given.dim() == 1 and given.is_floating_point():
        values = given.detach().tolist()
    if values is None or values != kept.get("times"):
        values = problem.times(None).to(torch.float64).tolist()
        _keep(kept, "times", values)
    return values


def _inputs(problem, targets, params):
    """The tensors that get gradients, beside y0; None if no gradient can be asked for. params: the
    tensors that the user names, or None."""
    if not torch.is_grad_enabled():
        return None
    wanted = targets if params is None else params
    inputs = list({id(x): x for x in wanted if x.requires_grad}.values())
    if params is None and isinstance(problem.f, torch.nn.Module):
        # The gradient in a parameter that f does not use is zero, as in the torch engine.
        known = {id(x) for x in inputs}
        inputs += [p for p in problem.f.parameters() if p.requires_grad and id(p) not in known]
    if inputs or problem.y0.requires_grad:
        return inputs
    return None


def _plain(arguments: Arguments, problem: ODEProblem) -> bool:
    """Whether the solve asks for the outputs of a flat state by a named method, and no more."""
    if arguments.method == "auto":
        return False
    if not isinstance(arguments.adjoint, str):
        return False
    others = OTHERS(arguments)
    defaults = DEFAULTS.values()
    # Nearly always these are the same objects.
    if not all(map(is_, others, defaults)) and not all(map(_default, others, defaults)):
        return False
    params = arguments.params
    if params is not None and not all(type(x) in LEAVES and x.is_leaf for x in params):
        return False
    y0 = problem.y0
    times = problem.tspan
    if isinstance(times, Tensor) and times.requires_grad and torch.is_grad_enabled():
        return False
    return (
        type(y0) is Tensor
        and y0.dim() == 1
        and y0.device.type == "cpu"
        and y0.dtype in REAL
        and problem.jac is None
        and problem.mass is None
        and all(isinstance(x, (Tensor, int, float)) for x in problem.args)
    )


def _default(value: Any, default: Any) -> bool:
    """Whether an argument has its default value."""
    if value is default:
        return True
    return isinstance(value, (tuple, list)) and not value and default == ()
