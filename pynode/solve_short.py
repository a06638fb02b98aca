"""The short way of a native solve that asks for outputs and their gradient, and nothing else.

In native code the steps of a small system take less time than what surrounds a solve: the search
for tensors that need gradients, events, segments and limits. Here nothing of it is needed: the
native code itself says which tensors f reads. Every other solve, and every solve that does not
succeed, takes the long way (solve.py), which gives the same numbers.
"""

from __future__ import annotations

import functools
from dataclasses import fields
from operator import attrgetter, is_
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .adjoints.base import Integrate
from .backends.registry import native_engine
from .core.arguments import Arguments
from .core.options import FEW
from .core.solution import DenseSegment, Solution
from .core.stats import Stats
from .core.status import Status

if TYPE_CHECKING:
    import numpy as np

    from .core.layout import Layout
    from .core.options import Options
    from .core.problem import ODEProblem

# Arguments that the short way reads. All others must have their defaults.
READ = {"f", "y0", "t", "method", "rtol", "atol", "args", "backend", "throw", "adjoint"}
READ |= {"first_step", "min_step", "max_step", "max_steps", "max_nfe"}
DEFAULTS = {field.name: field.default for field in fields(Arguments) if field.name not in READ}
OTHERS = attrgetter(*DEFAULTS)
SETTINGS = attrgetter(
    "method", "rtol", "first_step", "min_step", "max_step", "max_steps", "max_nfe"
)
REAL = (torch.float32, torch.float64)
MOST = 64  # settings that are kept for one f
# By the value of ``adjoint`` the name of the adjoint.
ADJOINTS = {
    "auto": "DiscreteAdjoint",
    "discrete": "DiscreteAdjoint",
    "forward": "ForwardSensitivity",
}
COUNTS = ("nfe", "njac", "nlu", "nsolve", "accepted", "rejected", "newton_failures")


def short_solve(arguments: Arguments, problem: ODEProblem) -> Solution | None:
    """The Solution of the problem by native code, or None if it must take the long way."""
    if not _plain(arguments, problem):
        return None
    parts = _native_parts()
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
    method, options, atol = _settings(arguments, layout, start, native.kept)
    times = _times(problem, native.kept)
    inputs = _inputs(problem, bound.targets)
    solved = parts.integrate(
        bound, method, start.numpy(), times, options, atol, record=inputs is not None
    )
    if solved.status is not Status.SUCCESS:
        return None
    path = parts.NativeSegment(bound, solved, start)
    stats = Stats(**{name: getattr(solved, name) for name in COUNTS})
    outputs = path.outputs()
    if inputs is not None:
        kind = parts.ShortGradient
        if arguments.adjoint == "forward":
            kind = parts.ShortSensitivities
        gradient = kind(problem, path, stats, inputs)
        outputs = Integrate.apply(path.outputs, gradient.rules, problem.y0, *inputs)
    return Solution(
        t=torch.from_numpy(solved.times.copy()),
        y=outputs,
        status=solved.status,
        message=f"{solved.status.sentence}, t = {solved.t:.6g}.",
        stats=stats,
        method=method.name,
        layout=layout,
        segments=[DenseSegment(path, path.evaluate)],
        adjoint=ADJOINTS[str(arguments.adjoint)],
        backend="native",
    )


@functools.cache
def _native_parts() -> SimpleNamespace:
    """What the native engine brings. A solve by another engine does not load it."""
    from .adjoints.native.forward.short import ShortSensitivities
    from .adjoints.native.short import ShortGradient
    from .backends.native.engine import NativeSegment
    from .backends.native.fields import BoundField
    from .backends.native.solve import integrate
    from .translate import TranslationRefused, translated_before

    return SimpleNamespace(
        ShortGradient=ShortGradient,
        ShortSensitivities=ShortSensitivities,
        NativeSegment=NativeSegment,
        BoundField=BoundField,
        integrate=integrate,
        TranslationRefused=TranslationRefused,
        translated_before=translated_before,
    )


def _settings(
    arguments: Arguments, layout: Layout, start: Tensor, kept: dict[Any, Any]
) -> tuple[Any, Options, np.ndarray | float]:
    """(method, options, atol) of a solve. kept: where the settings of earlier solves of this f
    are."""
    atol = _numbers(arguments.atol)
    key: Any = None
    if atol is not None and isinstance(arguments.method, str):
        key = ("settings", atol, *SETTINGS(arguments))
        found = kept.get(key)
        if found is not None:
            return found
    method = native_engine().method(arguments.method)
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


def _inputs(problem, targets):
    """The tensors that get gradients, beside y0; None if no gradient can be asked for."""
    if not torch.is_grad_enabled():
        return None
    inputs = list({id(x): x for x in targets if x.requires_grad}.values())
    if isinstance(problem.f, torch.nn.Module):
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
    if not (isinstance(arguments.adjoint, str) and arguments.adjoint in ADJOINTS):
        return False
    others = OTHERS(arguments)
    defaults = DEFAULTS.values()
    # Nearly always these are the same objects.
    if not all(map(is_, others, defaults)) and not all(map(_default, others, defaults)):
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
