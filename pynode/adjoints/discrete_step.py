"""The discrete adjoint of any method: every accepted step is taken again with a graph, one by one, and pulled back.

For methods whose recursion has no parallel form here. What a step needs is y and those tensors of its state through
which derivatives flow (``Method.carried``); everything else in the state is numbers, and the same the second time.
"""

from __future__ import annotations

import torch

from ..dense import evaluate

_COUNTED = ("nfe", "njac", "nlu", "nsolve")


def pullback(field, trajectory, outputs):
    """(cotangent of y0 (n,), cotangents of the parameters)."""
    counts = field.stats.as_dict()
    ybar, carried = torch.zeros_like(trajectory.y0), {}
    grads = [torch.zeros_like(p) for p in field.parameters]
    for k in range(len(trajectory.steps) - 1, -1, -1):
        step = trajectory.steps[k]
        method, state, tol = step.before
        if outputs.ends[k] is not None:
            ybar = ybar + outputs.ends[k]
        y, leaves = _leaf(step.start), _leaves(method, state)
        with torch.enable_grad():
            again = method.step(field, step.t, y, step.h, state._replace(**leaves), tol)
            pairs = [(again.y, ybar)]
            pairs += [(getattr(again.state, name), cotangent) for name, cotangent in carried.items()]
            if outputs.inside[k] is not None:
                theta, cotangents = outputs.inside[k]
                pairs.append((evaluate(method.polynomial(field, again), theta), cotangents))
        ybar, carried, grads = _pull(pairs, y, leaves, field.parameters, grads)
    with torch.enable_grad():
        y0 = _leaf(trajectory.y0)
        if carried:
            method, _, tol = trajectory.steps[0].before
            first = method.init(field, trajectory.t0, y0, field(trajectory.t0, y0), trajectory.h0, tol)
            pairs = [(getattr(first, name), cotangent) for name, cotangent in carried.items()]
            found, _, grads = _pull(pairs, y0, {}, field.parameters, grads)
            ybar = ybar + found
    move_counts(field.stats, counts)
    return ybar, grads


def _leaf(tensor):
    return tensor.detach().clone().requires_grad_()


def _leaves(method, state):
    """Leaves of the tensors that a state carries; those that it has not are left out."""
    found = {name: getattr(state, name) for name in method.carried}
    return {name: _leaf(value) for name, value in found.items() if value is not None}


def _pull(pairs, y, leaves, parameters, grads):
    """(cotangent of y, cotangents of the leaves, grads with what the parameters get) for pairs (tensor, cotangent)."""
    pairs = [(tensor, cotangent) for tensor, cotangent in pairs if tensor is not None and tensor.requires_grad]
    if not pairs:
        return torch.zeros_like(y), {}, grads
    tensors, cotangents = zip(*pairs)
    found = torch.autograd.grad(tensors, [y, *leaves.values(), *parameters], cotangents, allow_unused=True)
    ybar = torch.zeros_like(y) if found[0] is None else found[0]
    count = len(leaves) + 1
    carried = {name: value for name, value in zip(leaves, found[1:count]) if value is not None}
    return ybar, carried, [g if x is None else g + x for g, x in zip(grads, found[count:])]


def move_counts(stats, before):
    """What the steps counted the second time is the gradient's work."""
    for name in _COUNTED:
        backward = f"backward_{name}"
        setattr(stats, backward, getattr(stats, backward) + getattr(stats, name) - before[name])
    for name, value in before.items():
        if not name.startswith("backward_"):
            setattr(stats, name, value)
