"""Whether one call can evaluate and differentiate f at many points. The code tests this once,
beforehand, at one point."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from .cotangents import none_to_zeros
from .memory import raise_if_exhausted

if TYPE_CHECKING:
    from .batched_field import RowField
    from .vector_field import VectorField

Answer = TypeVar("Answer")

# The answers for functions and modules that live longer than a solve.
_ANSWERS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def cached_answer(
    field: VectorField | RowField, question: str, find: Callable[[], Answer]
) -> Answer:
    """The answer to a question about the f of a field: from an earlier solve, or from find()."""
    answers = _answers_of(field.f)
    key = question, *_state_of(field)
    if key not in answers:
        answers[key] = find()
    return answers[key]


def _answers_of(f):
    """The stored answers about f. An empty dict if every solve makes a new f."""
    while (lasting := getattr(f, "pynode_lasting", None)) is not None:
        f = lasting
    if isinstance(f, types.MethodType):
        owner = f.__self__
    else:
        owner = f
    if not isinstance(owner, (torch.nn.Module, types.FunctionType)):
        return {}
    return _ANSWERS.setdefault(owner, {}).setdefault(getattr(f, "__name__", ""), {})


def _state_of(field):
    """The properties of a field that can change an answer."""
    modules = field.module_state.modules
    hooks = sum(len(m._backward_hooks) + len(m._backward_pre_hooks) for m in modules)
    training = sum(m.training for m in modules)
    shapes = tuple(x.shape for x in field.module_state.arguments)
    return field.layout.key, field.dtype, field.device, shapes, len(modules), hooks, training


def allows_vmap(field: VectorField, t: Tensor, y: Tensor) -> bool:
    """Whether f has the same values and derivatives under vmap. Tests the first of the points t
    (m,), y (m, n).

    Under vmap the hooks inside f do not run. Checkpoints, autograd.Functions without a rule, and
    branches on values fail.
    """
    return cached_answer(field, "vmap", lambda: _try_vmap(field, t[:1].detach(), y[:1].detach()))


def _try_vmap(field, t, y):
    with torch.enable_grad():
        point = y.clone().requires_grad_()
        inputs = [point, *field.parameters]
        single = field.eval(t[0], point[0]).unsqueeze(0)
        expected = _pulled(single, inputs)
        try:
            mapped = torch.func.vmap(field.eval)(t, point)
            grads = _pulled(mapped, inputs)
        # f alone has just run, so vmap caused the error. Any error means no.
        except Exception as error:
            raise_if_exhausted(error)
            return False
    pairs = zip((single, *expected), (mapped, *grads), strict=True)
    return all(agree(a, b) for a, b in pairs)


def _pulled(out, inputs):
    """The cotangents of the inputs for fixed weights of out. None for an input that out does not
    depend on."""
    if not out.requires_grad:
        return [None] * len(inputs)
    weights = torch.linspace(0.5, 1.5, out.numel(), dtype=out.dtype, device=out.device).view_as(out)
    return torch.autograd.grad(out, inputs, weights, allow_unused=True, retain_graph=True)


def agree(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two results are equal up to rounding. A missing result counts as zero."""
    if a is None and b is None:
        return True
    if a is None:
        a = torch.zeros_like(b)  # type: ignore[arg-type]  # b is a tensor then
    if b is None:
        b = torch.zeros_like(a)
    a = a.detach()
    b = b.detach()
    tolerance = 16 * torch.finfo(a.dtype).eps ** 0.5
    if a.numel():
        size = float(a.nan_to_num(0.0, 0.0, 0.0).abs().max())
    else:
        size = 0.0
    return torch.allclose(a, b, tolerance, tolerance * size, equal_nan=True)


def pull_stack(
    field: Any,
    question: str,
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    stacks: Sequence[Tensor],
) -> list[Tensor]:
    """Gradients of the outputs in the inputs for every cotangent of a stack, (k, ...). Return one
    stacked gradient for each input.

    stacks: one for each output. If the derivatives of f allow it, one batched pass computes all;
    otherwise one pass computes each. question: the name of the derivative; the answer is cached
    under this name. The graphs stay. A gradient is zero if the outputs do not depend on the input.
    """

    def alone(i):
        cotangents = [stack[i] for stack in stacks]
        grads = torch.autograd.grad(
            outputs, inputs, cotangents, retain_graph=True, allow_unused=True
        )
        return none_to_zeros(grads, inputs)

    def together(count):
        some = [stack[:count] for stack in stacks]
        grads = torch.autograd.grad(
            outputs, inputs, some, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
        return [
            x.new_zeros(count, *x.shape) if g is None else g
            for g, x in zip(grads, inputs, strict=True)
        ]

    def agrees():
        expected = alone(0)
        try:
            grads = together(1)
        except Exception as error:  # the single pass has just run, so the batch caused the error
            raise_if_exhausted(error)
            return False
        return all(agree(a, b[0]) for a, b in zip(expected, grads, strict=True))

    count = len(stacks[0])
    if count > 1 and cached_answer(field, question, agrees):
        return together(count)
    return [torch.stack(rows) for rows in zip(*map(alone, range(count)), strict=True)]
