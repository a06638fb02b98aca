"""The vector field at many recorded points at once.

When the gradient is taken the whole trajectory is known, so the Jacobians and vector-Jacobian
products of all steps are made in a few vectorised calls instead of one call a step. This is why a
gradient costs less than its forward solve.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from ..core.batched_evaluation import agree, pull_stack
from ..core.cotangents import add_grads, zero_grads
from ..core.double_backward import pull, with_double_backward

if TYPE_CHECKING:
    from ..core.vector_field import VectorField
    from .discrete.batched_points import RowPoints

AnyField: TypeAlias = "VectorField | RowPoints"

# Rows of one vectorised call: large enough to hide its overhead, small enough for caches and
# memory.
ROWS = 1 << 14
# From so many rows one evaluation and n batched backward passes through it cost half of n copies of
# both.
WIDE = 1 << 11
# Numbers of the products with changes of the parameters that are made together.
PUSHED = 1 << 16


def chunk_size(n: int) -> int:
    """Points whose Jacobians, (n, n) each, are made and held together."""
    return max(1, min(ROWS // max(n, 1), (1 << 23) // (n * n)))


def pull_back(
    field: AnyField,
    out: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    cotangents: Tensor | Sequence[Tensor],
    **options: bool,
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """(cotangents of the inputs, those of the parameters) for those of out: two lists, None where
    out does not depend on one.

    out: a tensor of f, or a list of tensors, with the graph. LostLeaves where it uses tensors that
    nobody has found so far. The graph is retained: it may end in one of the user's, where a
    parameter is itself computed.
    """
    if isinstance(out, torch.Tensor):
        outs = (out,)
        cotangents = (cotangents,)
    else:
        outs = out
    for one in outs:
        field.leaves.check(one, inputs)
    pairs = [
        (one, cotangent)
        for one, cotangent in zip(outs, cotangents, strict=True)
        if one.requires_grad
    ]
    wanted = [*inputs, *field.parameters]
    if not pairs or not wanted:
        return [None] * len(inputs), [None] * len(field.parameters)
    outs, cotangents = zip(*pairs, strict=True)
    found = torch.autograd.grad(
        outs, wanted, cotangents, allow_unused=True, retain_graph=True, **options
    )
    return list(found[: len(inputs)]), list(found[len(inputs) :])


def jacobians(field: AnyField, t: Tensor, y: Tensor) -> Tensor:
    """df/dy at m points: t (m,), y (m, n) -> (m, n, n)."""
    m, n = y.shape
    field.stats.backward_njac += m
    if field.user_jac is not None:
        return _given_jacobians(field, t, y)
    unit = torch.eye(n, dtype=y.dtype, device=y.device).unsqueeze(1).expand(n, m, n)
    # Copies of the points take one pass, where that is a single evaluation and not too large.
    if m * n < WIDE and field.allows_batch_eval(t, y):
        copies = n
    else:
        copies = 1
    with torch.enable_grad():
        points = y.detach().repeat(copies, 1).requires_grad_()
        out = field.batch_eval(t.repeat(copies), points)
        field.leaves.check(out, (points,))
        if not out.requires_grad:
            return y.new_zeros(m, n, n)
        if copies == n:
            (grad,) = torch.autograd.grad(out, points, unit.reshape(n * m, n), allow_unused=True)
            if grad is None:
                grad = torch.zeros_like(points)
            return grad.view(n, m, n).transpose(0, 1)
        return pull_stack(field, "jacobian", [out], [points], [unit])[0].transpose(0, 1)


def _given_jacobians(field, t, y):
    """Those of the user's function, (m, n, n): in one call where it allows vmap, else one by
    one."""
    n = y.shape[1]

    def one(time, state):
        return field.user_jac(time, field.layout.unravel(state), *field.args).reshape(n, n)

    y = y.detach()
    first = one(t[0], y[0]).detach().clone()  # what jac returns may be memory that it fills again
    try:
        found = torch.func.vmap(one)(t, y).detach()
    # Jac alone has just run, so this is vmap's: whatever its kind, the answer is no.
    except Exception:
        found = None
    if found is None or not agree(first, found[0]):
        found = torch.stack([first, *(one(*point).detach().clone() for point in zip(t[1:], y[1:]))])
    return found.to(y)


def pull_parameters(field: AnyField, t: Tensor, y: Tensor, cotangents: Tensor) -> list[Tensor]:
    """Sum over m points of (df/dp)^T cotangent: a list beside field.parameters, zeros where f does
    not use one.

    The points are whole repetitions of field.period points, which belong together.
    """
    total = zero_grads(field.parameters)
    if not field.parameters:
        return total
    size = max(field.rows_per_point, ROWS - ROWS % field.rows_per_point)
    for i in range(0, len(y), size):
        with torch.enable_grad():
            out = field.batch_eval(t[i : i + size], y[i : i + size].detach())
        field.stats.backward_nfe += len(out)
        field.stats.backward_nvjp += len(out)
        found = pull_back(
            field, out, (), cotangents[i : i + size], create_graph=cotangents.requires_grad
        )[1]
        total = add_grads(total, found)
    return total


@with_double_backward
def push_parameters(
    field: AnyField, t: Tensor, y: Tensor, directions: Sequence[Sequence[Tensor]]
) -> Tensor:
    """df/dp v at m points for k changes v of the parameters, each a list beside field.parameters:
    (k, m, n).

    The product w . f differentiated in the parameters along v, then in w: the graph of one batched
    evaluation serves all v.
    """
    nothing = y.new_zeros(len(directions), *y.shape)
    with torch.enable_grad():
        out = field.batch_eval(t, y.detach())
        field.stats.backward_nfe += len(out)
        field.stats.backward_njvp += len(out) * len(directions)
        if not out.requires_grad:
            return nothing
        w = torch.zeros_like(out, requires_grad=True)
        field.leaves.check(out, ())
        pulled = pull(out, field.parameters, w)
        used = [i for i, g in enumerate(pulled) if g is not None]
        if not used:
            return nothing
        pulled = [pulled[i] for i in used]
        changes = [torch.stack([v[i] for v in directions]) for i in used]
        size = max(1, PUSHED // w.numel())
        rows = []
        for i in range(0, len(directions), size):
            some = [change[i : i + size] for change in changes]
            rows.append(pull_stack(field, "tangent", pulled, [w], some)[0])
    return torch.cat(rows)


def magnitudes(parameters: Iterable[Tensor]) -> list[Tensor]:
    """What counts as a change of order one of each parameter: its size, or where it is zero that of
    its tensor, or 1."""
    found = []
    for p in parameters:
        size = p.detach().abs()
        other = size.square().mean().sqrt()
        found.append(
            torch.where(size > 0, size, torch.where(other > 0, other, torch.ones_like(other)))
        )
    return found


@with_double_backward
def second_order(
    field: AnyField, t: Tensor, y: Tensor, tangents: Tensor, slopes: Tensor, cotangents: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Derivatives of sum_i cotangent_i . (J tangent_i + df/dt slope_i) at m points, J and df/dt
    taken at (t, y).

    t (m,), y (m, n); tangents, cotangents: (s, m, n); slopes: (s, m). Returns (grad_y (m, n), grads
    of the parameters).
    """
    s, m, n = tangents.shape
    if field.allows_batch_eval(t, y):
        copies = s
    else:
        copies = 1
    with torch.enable_grad():
        time = t.detach().repeat(copies).requires_grad_()
        rows = y.detach().repeat(copies, 1).requires_grad_()
        out = field.batch_eval(time, rows)
        field.stats.backward_nfe += len(out)
        field.stats.backward_nvjp += m * s
        shape = s // copies, copies * m
        parts = zip(
            cotangents.reshape(*shape, n),
            tangents.reshape(*shape, n),
            slopes.reshape(shape),
            strict=True,
        )
        total = sum(_along(field, out, rows, time, *part) for part in parts)
        if not (isinstance(total, torch.Tensor) and total.requires_grad):
            return torch.zeros_like(y), zero_grads(field.parameters)
        # Of f itself: beside its leaves the cotangents may have some.
        field.leaves.check(out, (rows, time))
        inputs = [rows, *field.parameters]
        graph = cotangents.requires_grad
        grad_y, *found = torch.autograd.grad(
            total, inputs, allow_unused=True, retain_graph=True, create_graph=graph
        )
    if grad_y is None:
        grad_y = torch.zeros_like(y)
    else:
        grad_y = grad_y.view(copies, m, n).sum(0)
    return grad_y, add_grads(zero_grads(field.parameters), found)


def _along(field, out, rows, time, cotangents, tangents, slopes):
    """cotangents . (J tangents + df/dt slopes), 0-d, with its graph; 0.0 where f depends on
    neither."""
    if not out.requires_grad:
        return 0.0
    by_y, by_t = pull(out, (rows, time), cotangents)
    total = 0.0
    if by_y is not None:
        total = total + (by_y * tangents).sum()
    if by_t is not None:
        total = total + (by_t * slopes).sum()
    return total


@with_double_backward
def jacobian_slopes(
    field: AnyField, t: Tensor, y: Tensor, tangents: Tensor, slopes: Tensor
) -> Tensor:
    """Directional derivatives of the Jacobian: d/de J(t + e slope, y + e tangent) at m points, (m,
    n, n).

    t (m,), y (m, n), tangents (m, n), slopes (m,).
    """
    m, n = y.shape
    if field.allows_batch_eval(t, y):
        copies = n
    else:
        copies = 1
    units = (
        torch.eye(n, dtype=y.dtype, device=y.device)
        .repeat_interleave(m, dim=0)
        .view(n // copies, copies * m, n)
    )
    with torch.enable_grad():
        time = t.detach().repeat(copies).requires_grad_()
        points = y.detach().repeat(copies, 1).requires_grad_()
        out = field.batch_eval(time, points)
        field.stats.backward_njac += m
        rows = []
        for unit in units:
            total = _along(
                field, out, points, time, unit, tangents.repeat(copies, 1), slopes.repeat(copies)
            )
            rows.append(_gradient(total, points))
    return torch.cat(rows).view(n, m, n).transpose(0, 1)


def _gradient(total, points):
    """The gradient of total, 0-d or a plain number, in the points; its graph is retained."""
    if not (isinstance(total, torch.Tensor) and total.requires_grad):
        return torch.zeros_like(points)
    (grad,) = torch.autograd.grad(total, points, allow_unused=True, retain_graph=True)
    if grad is None:
        return torch.zeros_like(points)
    return grad
