"""The short way of a native solve that asks for outputs and their gradient, and nothing else.

In native code the steps of a small system take less time than what surrounds a solve: the search
for tensors that need gradients, events, segments and limits. Here nothing of it is needed: the
native code itself says which tensors f reads. Every other solve, and every solve that does not
succeed, takes the long way (solve.py), which gives the same numbers.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .adjoints.base import Integrate
from .backends.registry import native_engine
from .core.arguments import Arguments
from .core.solution import DenseSegment, Solution
from .core.stats import Stats
from .core.status import Status

if TYPE_CHECKING:
    from .core.problem import ODEProblem

# Arguments that the short way reads. All others must have their defaults.
READ = {"f", "y0", "t", "method", "rtol", "atol", "args", "backend", "throw", "adjoint"}
READ |= {"first_step", "min_step", "max_step", "max_steps", "max_nfe"}
DEFAULTS = {field.name: field.default for field in fields(Arguments) if field.name not in READ}
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
    from .backends.native.engine import NativeSegment
    from .backends.native.fields import BoundField
    from .backends.native.solve import integrate
    from .translate import TranslationRefused, translated_before

    layout = problem.layout()
    method = native_engine().method(arguments.method)
    options = arguments.options()
    times = problem.times(None)
    values = times.tolist()
    start = problem.y0.detach()  # type: ignore[union-attr]  # a tensor
    atol = options.flat_atol(layout, start)
    # The first solve of an f takes the long way: f may keep tensors of its first call, with their
    # graph.
    native = translated_before(problem.f, start, problem.args)
    if native is None:
        return None
    try:
        bound = BoundField(native)
    except TranslationRefused:
        return None
    inputs = _inputs(problem, bound.targets)
    solved = integrate(
        bound, method, start.numpy(), values, options, atol.numpy(), record=inputs is not None
    )
    if solved.status is not Status.SUCCESS:
        return None
    path = NativeSegment(bound, solved, start)
    stats = Stats(**{name: getattr(solved, name) for name in COUNTS})
    outputs = path.outputs()
    if inputs is not None:
        kind: Any
        if arguments.adjoint == "forward":
            from .adjoints.native.forward.short import ShortSensitivities as kind
        else:
            from .adjoints.native.short import ShortGradient as kind
        gradient = kind(problem, path, stats, inputs)
        outputs = Integrate.apply(path.outputs, gradient.rules, problem.y0, *inputs)
    return Solution(
        t=times.to(torch.float64),
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
    if not all(_default(getattr(arguments, name), value) for name, value in DEFAULTS.items()):
        return False
    y0 = problem.y0
    times = problem.tspan
    if isinstance(times, Tensor) and times.requires_grad and torch.is_grad_enabled():
        return False
    return (
        type(y0) is Tensor
        and y0.dim() == 1
        and y0.device.type == "cpu"
        and y0.dtype in (torch.float32, torch.float64)
        and problem.jac is None
        and problem.mass is None
        and all(isinstance(x, (Tensor, int, float)) for x in problem.args)
    )


def _default(value: Any, default: Any) -> bool:
    """Whether an argument has its default value."""
    if value is default:
        return True
    return isinstance(value, (tuple, list)) and not value and default == ()
