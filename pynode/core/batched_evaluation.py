"""Whether f can be evaluated, and differentiated, at many points in one call: decided once, on one
point, beforehand."""

from __future__ import annotations

import types
import weakref

import torch

# What was found out of functions and modules that last longer than a solve.
_KNOWN: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def decided(field, question, find):
    """The answer to a question about the f of a field: that of an earlier solve, or find()."""
    answers = _answers_of(field.f)
    key = question, *_state_of(field)
    if key not in answers:
        answers[key] = find()
    return answers[key]


def _answers_of(f):
    """Where the answers about f are kept; an empty dict where f is made anew for every solve."""
    while (lasting := getattr(f, "pynode_lasting", None)) is not None:
        f = lasting
    if isinstance(f, types.MethodType):
        owner = f.__self__
    else:
        owner = f
    if not isinstance(owner, (torch.nn.Module, types.FunctionType)):
        return {}
    return _KNOWN.setdefault(owner, {}).setdefault(getattr(f, "__name__", ""), {})


def _state_of(field):
    """What may change the answer."""
    modules = field.held.modules
    hooks = sum(len(m._backward_hooks) + len(m._backward_pre_hooks) for m in modules)
    training = sum(m.training for m in modules)
    shapes = tuple(x.shape for x in field.held.arguments)
    return field.layout.key, field.dtype, field.device, shapes, len(modules), hooks, training


def allows_vmap(field, t, y) -> bool:
    """Whether f under vmap has the values and derivatives that it has alone: tried on the first of
    points t (m,), y (m, n).

    Under vmap hooks inside f do not run, and checkpoints, autograd.Functions without a rule and
    branches on values fail.
    """
    return decided(field, "vmap", lambda: _try_vmap(field, t[:1].detach(), y[:1].detach()))


def _try_vmap(field, t, y):
    with torch.enable_grad():
        point = y.clone().requires_grad_()
        inputs = [point, *field.parameters]
        alone = field.at(t[0], point[0]).unsqueeze(0)
        wanted = _pulled(alone, inputs)
        try:
            mapped = torch.func.vmap(field.at)(t, point)
            found = _pulled(mapped, inputs)
        # F alone has just run, so this is vmap's: whatever its kind, the answer is no.
        except Exception:
            return False
    pairs = zip((alone, *wanted), (mapped, *found), strict=True)
    return all(agree(a, b) for a, b in pairs)


def _pulled(out, inputs):
    """The cotangents of the inputs for one of out, None where out does not depend on an input."""
    if not out.requires_grad:
        return [None] * len(inputs)
    weights = torch.linspace(0.5, 1.5, out.numel(), dtype=out.dtype, device=out.device).view_as(out)
    return torch.autograd.grad(out, inputs, weights, allow_unused=True, retain_graph=True)


def agree(a, b) -> bool:
    """Whether two results are equal up to rounding; one that is missing counts as zero."""
    if a is None and b is None:
        return True
    a, b = (torch.zeros_like(y) if x is None else x.detach() for x, y in ((a, b), (b, a)))
    tolerance = 16 * torch.finfo(a.dtype).eps ** 0.5
    if a.numel():
        size = float(a.nan_to_num(0.0, 0.0, 0.0).abs().max())
    else:
        size = 0.0
    return torch.allclose(a, b, tolerance, tolerance * size, equal_nan=True)


def pull_stack(field, question, outputs, inputs, stacks):
    """Gradients of the outputs in the inputs for every cotangent of a stack (k, ...), stacked: a
    list beside the inputs.

    outputs: list of tensors; stacks: beside them. In one batched pass where the derivatives of f
    allow it, else one by one. question: names the derivative, of which that is found out once.
    Graphs are retained; zeros where nothing depends.
    """

    def alone(i):
        cotangents = [stack[i] for stack in stacks]
        found = torch.autograd.grad(
            outputs, inputs, cotangents, retain_graph=True, allow_unused=True
        )
        return [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]

    def together(count):
        some = [stack[:count] for stack in stacks]
        found = torch.autograd.grad(
            outputs, inputs, some, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
        return [
            x.new_zeros(count, *x.shape) if g is None else g
            for g, x in zip(found, inputs, strict=True)
        ]

    def agrees():
        wanted = alone(0)
        try:
            found = together(1)
        except Exception:  # the pass alone has just run, so this is the batch's
            return False
        return all(agree(a, b[0]) for a, b in zip(wanted, found, strict=True))

    count = len(stacks[0])
    if count > 1 and decided(field, question, agrees):
        return together(count)
    return [torch.stack(rows) for rows in zip(*map(alone, range(count)), strict=True)]
