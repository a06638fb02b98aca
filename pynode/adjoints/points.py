"""The vector field at many recorded points at once.

When the gradient is taken the whole trajectory is known, so the Jacobians and vector-Jacobian products of all steps are
made in a few vectorised calls instead of one call a step. This is why a gradient costs less than its forward solve.
"""

from __future__ import annotations

import torch

from ..twice import pull, twice

# Rows of one vectorised call: large enough to hide its overhead, small enough for caches and memory.
ROWS = 1 << 14
# From so many rows one evaluation and n batched backward passes through it cost half of n copies of both.
WIDE = 1 << 11
# Numbers of the products with changes of the parameters that are made together.
PUSHED = 1 << 16


def chunk_size(n: int) -> int:
    """Points whose Jacobians, (n, n) each, are made and held together."""
    return max(1, min(ROWS // max(n, 1), (1 << 23) // (n * n)))


def jacobians(field, t, y):
    """df/dy at m points: t (m,), y (m, n) -> (m, n, n)."""
    m, n = y.shape
    field.stats.backward_njac += m
    if field.user_jac is not None:
        flat = [field.user_jac(ti, field.layout.unravel(yi), *field.args) for ti, yi in zip(t, y)]
        return torch.stack([j.detach().reshape(n, n) for j in flat]).to(y)
    if m * n >= WIDE:
        try:
            return _pulled(field, t, y, True)
        except RuntimeError:  # an operation whose derivative cannot be batched
            pass
    return _pulled(field, t, y, False)


def _pulled(field, t, y, together):
    """The unit vectors pulled back through f at the points, together through one evaluation or each through a copy of it."""
    m, n = y.shape
    copies = 1 if together else n
    with torch.enable_grad():
        points = y.detach().repeat(copies, 1).requires_grad_()
        out = field.many(t.repeat(copies), points)
        if not out.requires_grad:
            return y.new_zeros(m, n, n)
        unit = torch.eye(n, dtype=y.dtype, device=y.device).unsqueeze(1).expand(n, m, n)
        unit = unit if together else unit.reshape(n * m, n)
        (grad,) = torch.autograd.grad(out, points, unit, allow_unused=True, is_grads_batched=together)
    return y.new_zeros(m, n, n) if grad is None else grad.view(n, m, n).transpose(0, 1)


# Every pass to the parameters retains its graph: it may end in one of the user's, where a parameter is itself computed.


def pull_parameters(field, t, y, cotangents):
    """Sum over m points of (df/dp)^T cotangent: a list beside field.parameters, zeros where f does not use one.

    The points are whole repetitions of field.period points, which belong together.
    """
    total = [torch.zeros_like(p) for p in field.parameters]
    if not field.parameters:
        return total
    size = max(field.period, ROWS - ROWS % field.period)
    for i in range(0, len(y), size):
        with torch.enable_grad():
            out = field.many(t[i : i + size], y[i : i + size].detach())
        field.stats.backward_nfe += len(out)
        field.stats.backward_nvjp += len(out)
        if out.requires_grad:
            grads = torch.autograd.grad(
                out, field.parameters, cotangents[i : i + size], allow_unused=True, retain_graph=True,
                create_graph=cotangents.requires_grad,
            )
            total = [s if g is None else s + g for s, g in zip(total, grads)]
    return total


@twice
def push_parameters(field, t, y, directions):
    """df/dp v at m points for k changes v of the parameters, each a list beside field.parameters: (k, m, n).

    The product w . df/dp v is differentiated in w: reverse mode twice, for all points together.
    """
    with torch.enable_grad():
        out = field.many(t, y.detach())
        field.stats.backward_nfe += len(out)
        field.stats.backward_njvp += len(out) * len(directions)
        if not out.requires_grad:
            return y.new_zeros(len(directions), *y.shape)
        w = torch.zeros_like(out, requires_grad=True)
        pulled = pull(out, field.parameters, w)
        used = [i for i, g in enumerate(pulled) if g is not None]
        if not used:
            return y.new_zeros(len(directions), *y.shape)
        pulled = [pulled[i] for i in used]
        changes = [[v[i] for i in used] for v in directions]
        size = max(1, PUSHED // w.numel())
        rows = []
        for i in range(0, len(changes), size):
            rows.append(_pushed(pulled, w, changes[i : i + size]))
    return torch.cat(rows)


def _pushed(pulled, w, changes):
    """The derivatives in w, (k, m, n), of the products of what was pulled back with k changes."""
    try:
        together = [torch.stack(parts) for parts in zip(*changes, strict=True)]
        return torch.autograd.grad(pulled, w, together, retain_graph=True, is_grads_batched=True)[0]
    except RuntimeError:  # an operation whose derivative cannot be batched
        return torch.stack([torch.autograd.grad(pulled, w, change, retain_graph=True)[0] for change in changes])


def magnitudes(parameters):
    """What counts as a change of order one of each parameter: its size, or where it is zero that of its tensor, or 1."""
    found = []
    for p in parameters:
        size = p.detach().abs()
        other = size.square().mean().sqrt()
        found.append(torch.where(size > 0, size, torch.where(other > 0, other, torch.ones_like(other))))
    return found


@twice
def second_order(field, t, y, tangents, slopes, cotangents):
    """Derivatives of sum_i cotangent_i . (J tangent_i + df/dt slope_i) at m points, J and df/dt taken at (t, y).

    t (m,), y (m, n); tangents, cotangents: (s, m, n); slopes: (s, m). Returns (grad_y (m, n), grads of the parameters).
    """
    s, m, n = tangents.shape
    with torch.enable_grad():
        time = t.detach().repeat(s).requires_grad_()
        rows = y.detach().repeat(s, 1).requires_grad_()
        out = field.many(time, rows)
        field.stats.backward_nfe += m * s
        field.stats.backward_nvjp += m * s
        nothing = torch.zeros_like(y), [torch.zeros_like(p) for p in field.parameters]
        if not out.requires_grad:
            return nothing
        pulled = pull(out, (rows, time), cotangents.reshape(m * s, n))
        total = 0.0
        if pulled[0] is not None:
            total = total + (pulled[0] * tangents.reshape(m * s, n)).sum()
        if pulled[1] is not None:
            total = total + (pulled[1] * slopes.reshape(m * s)).sum()
        if not (isinstance(total, torch.Tensor) and total.requires_grad):
            return nothing
        inputs = [rows, *field.parameters]
        again = {"create_graph": True} if cotangents.requires_grad else {"retain_graph": True}
        grads = torch.autograd.grad(total, inputs, allow_unused=True, **again)
    grad_y = torch.zeros_like(y) if grads[0] is None else grads[0].view(s, m, n).sum(0)
    return grad_y, [torch.zeros_like(p) if g is None else g for g, p in zip(grads[1:], field.parameters)]


@twice
def jacobian_slopes(field, t, y, tangents, slopes):
    """Directional derivatives of the Jacobian: d/de J(t + e slope, y + e tangent) at m points, (m, n, n).

    t (m,), y (m, n), tangents (m, n), slopes (m,).
    """
    m, n = y.shape
    unit = torch.eye(n, dtype=y.dtype, device=y.device).repeat_interleave(m, dim=0)
    with torch.enable_grad():
        time = t.detach().repeat(n).requires_grad_()
        copies = y.detach().repeat(n, 1).requires_grad_()
        out = field.many(time, copies)
        field.stats.backward_njac += m
        if not out.requires_grad:
            return y.new_zeros(m, n, n)
        pulled = pull(out, (copies, time), unit)
        total = 0.0
        if pulled[0] is not None:
            total = total + (pulled[0] * tangents.repeat(n, 1)).sum()
        if pulled[1] is not None:
            total = total + (pulled[1] * slopes.repeat(n)).sum()
        if not (isinstance(total, torch.Tensor) and total.requires_grad):
            return y.new_zeros(m, n, n)
        (grad,) = torch.autograd.grad(total, copies, allow_unused=True)
    return y.new_zeros(m, n, n) if grad is None else grad.view(n, m, n).transpose(0, 1)
