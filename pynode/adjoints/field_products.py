"""The vector field at many recorded points at once.

At the time of the gradient the whole trajectory is known. A few vectorised calls make the Jacobians
and vector-Jacobian products of all steps, instead of one call for each step. This is why a gradient
costs less than its forward solve.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from ..core.batched_evaluation import agree, pull_stack
from ..core.cotangents import add_grads, zero_grads
from ..core.double_backward import pull, with_double_backward
from ..core.memory import raise_if_exhausted, total_memory

if TYPE_CHECKING:
    from ..core.vector_field import VectorField
    from .discrete.batched_points import RowPoints

AnyField: TypeAlias = "VectorField | RowPoints"

# Rows of one vectorised call on the CPU: many enough to hide its overhead, few enough for caches.
ROWS = 1 << 14
# Numbers in the Jacobians of one call on the CPU.
_NUMBERS = 1 << 23
# An accelerator needs more rows to be busy. A row may use so many bytes for the graph of f, and all
# rows of a call so small a part of the memory.
_BYTES_OF_ROW = 1 << 14
_PART = 16
# From this number of rows on, one evaluation with n batched backward passes costs half of n copies
# of both.
WIDE = 1 << 11
# Numbers in one batch of products with changes of the parameters.
PUSHED = 1 << 16


def rows_at_once(device: torch.device) -> int:
    """The number of rows of one vectorised call on a device: a power of two times ROWS."""
    if device.type == "cpu":
        return ROWS
    times = total_memory(device) // (_PART * _BYTES_OF_ROW * ROWS)
    return ROWS << max(0, times.bit_length() - 1)


def chunk_size(n: int, device: torch.device) -> int:
    """The number of points whose Jacobians, (n, n) each, fit in memory together."""
    rows = rows_at_once(device)
    return max(1, min(rows // max(n, 1), _NUMBERS * (rows // ROWS) // (n * n)))


def pull_back(
    field: AnyField,
    out: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    cotangents: Tensor | Sequence[Tensor],
    **options: bool,
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Return (cotangents of the inputs, cotangents of the parameters), two lists. None for a tensor
    that out does not depend on.

    out: a tensor of f, or a list of tensors, with the graph. cotangents: of out. Raise LostLeaves
    if the graph uses unknown tensors. The graph stays, because it may end in the user's graph if a
    parameter is computed from other tensors.
    """
    if isinstance(out, torch.Tensor):
        out = (out,)
        cotangents = (cotangents,)  # type: ignore[assignment]
    for one in out:
        field.leaves.check(one, inputs)
    pairs = [
        (one, cotangent)
        for one, cotangent in zip(out, cotangents, strict=True)
        if one.requires_grad
    ]
    targets = [*inputs, *field.parameters]
    if not pairs or not targets:
        return [None] * len(inputs), [None] * len(field.parameters)
    outs, cotangents = zip(*pairs, strict=True)
    grads = torch.autograd.grad(
        outs, targets, cotangents, allow_unused=True, retain_graph=True, **options
    )
    return list(grads[: len(inputs)]), list(grads[len(inputs) :])


def jacobians(field: AnyField, t: Tensor, y: Tensor) -> Tensor:
    """df/dy at m points: t (m,), y (m, n) -> (m, n, n)."""
    m, n = y.shape
    field.stats.backward_njac += m
    if field.user_jac is not None:
        return _given_jacobians(field, t, y)
    unit = torch.eye(n, dtype=y.dtype, device=y.device).unsqueeze(1).expand(n, m, n)
    # Copies of the points need one pass, if f evaluates them in one call that is not too large.
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
    """The user's Jacobians, (m, n, n): in one call if the function allows vmap, otherwise one by
    one."""
    n = y.shape[1]

    def one(time, state):
        return field.user_jac(time, field.layout.unravel(state), *field.args).reshape(n, n)

    y = y.detach()
    first = one(t[0], y[0]).detach().clone()  # jac may write into the same memory again
    try:
        jacobians = torch.func.vmap(one)(t, y).detach()
    # jac alone has just run, so vmap caused the error. Any error means no.
    except Exception as error:
        raise_if_exhausted(error)
        jacobians = None
    if jacobians is None or not agree(first, jacobians[0]):
        jacobians = torch.stack(
            [first, *(one(*point).detach().clone() for point in zip(t[1:], y[1:]))]
        )
    return jacobians.to(y)


def pull_parameters(field: AnyField, t: Tensor, y: Tensor, cotangents: Tensor) -> list[Tensor]:
    """Sum over m points of (df/dp)^T cotangent: a list for field.parameters, with zeros for a
    parameter that f does not use.

    The points are whole repetitions of field.rows_per_point points, which belong together.
    """
    total = zero_grads(field.parameters)
    if not field.parameters:
        return total
    rows = rows_at_once(y.device)
    size = max(field.rows_per_point, rows - rows % field.rows_per_point)
    for i in range(0, len(y), size):
        with torch.enable_grad():
            out = field.batch_eval(t[i : i + size], y[i : i + size].detach())
        field.stats.backward_nfe += len(out)
        field.stats.backward_nvjp += len(out)
        grads = pull_back(
            field, out, (), cotangents[i : i + size], create_graph=cotangents.requires_grad
        )[1]
        total = add_grads(total, grads)
    return total


@with_double_backward
def push_parameters(
    field: AnyField, t: Tensor, y: Tensor, directions: Sequence[Sequence[Tensor]]
) -> Tensor:
    """df/dp v at m points for k changes v of the parameters: (k, m, n). Each v is a list for
    field.parameters.

    Differentiates the product w . f in the parameters along v, then in w. The graph of one batched
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
        used_grads = [g for g in pulled if g is not None]
        changes = [torch.stack([v[i] for v in directions]) for i in used]
        size = max(1, PUSHED // w.numel())
        rows = []
        for i in range(0, len(directions), size):
            some = [change[i : i + size] for change in changes]
            rows.append(pull_stack(field, "tangent", used_grads, [w], some)[0])
    return torch.cat(rows)


def magnitudes(parameters: Iterable[Tensor]) -> list[Tensor]:
    """A change of order one of each parameter: the size of each entry. For a zero entry, the size
    of its tensor, or 1."""
    sizes = []
    for p in parameters:
        size = p.detach().abs()
        other = size.square().mean().sqrt()
        sizes.append(
            torch.where(size > 0, size, torch.where(other > 0, other, torch.ones_like(other)))
        )
    return sizes


@with_double_backward
def second_order(
    field: AnyField, t: Tensor, y: Tensor, tangents: Tensor, slopes: Tensor, cotangents: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Derivatives of sum_i cotangent_i . (J tangent_i + df/dt slope_i) at m points, with J and
    df/dt at (t, y).

    t (m,), y (m, n); tangents, cotangents: (s, m, n); slopes: (s, m). Return (grad_y (m, n), grads
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
        # Check f itself, because the cotangents can have leaves of their own.
        field.leaves.check(out, (rows, time))
        inputs = [rows, *field.parameters]
        graph = cotangents.requires_grad
        grad_y, *param_grads = torch.autograd.grad(
            total, inputs, allow_unused=True, retain_graph=True, create_graph=graph
        )
    if grad_y is None:
        grad_y = torch.zeros_like(y)
    else:
        grad_y = grad_y.view(copies, m, n).sum(0)
    return grad_y, add_grads(zero_grads(field.parameters), param_grads)


def _along(field, out, rows, time, cotangents, tangents, slopes):
    """cotangents . (J tangents + df/dt slopes), 0-d, with its graph. 0.0 if f depends on
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
    """The gradient of total, 0-d or a plain number, in the points. Its graph stays."""
    if not (isinstance(total, torch.Tensor) and total.requires_grad):
        return torch.zeros_like(points)
    (grad,) = torch.autograd.grad(total, points, allow_unused=True, retain_graph=True)
    if grad is None:
        return torch.zeros_like(points)
    return grad
