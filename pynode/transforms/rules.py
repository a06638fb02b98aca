"""The rules by which torch.func transforms a solve: its outputs, their cotangents and tangents, and
the cotangents of the cotangents.

A Plan (plan.py) builds the solve from plain tensors. The rules pass only tensors to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..core.batched_cotangents import by_row
from ..core.cotangents import none_to_zeros

THIRD = (
    "torch.func differentiates a solve at most twice: for more use torch.autograd.grad(...,"
    " create_graph=True), with adjoint='direct' and an explicit or Rosenbrock method ('tsit5',"
    " 'rodas5p')"
)


def _for_each(solve_one, grads):
    """solve_one(g) for g (T, n); the stacked results for every g of (B, T, n)."""
    if grads.dim() == 2:
        return solve_one(grads)
    return tuple(torch.stack(rows) for rows in zip(*[solve_one(g) for g in grads], strict=True))


class _Rule(torch.autograd.Function):
    """A function of a Plan and tensors. vmap calls it row by row."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.plan, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @classmethod
    def by_row(
        cls, info: Any, in_dims: Sequence[int | None], plan: Any, *tensors: torch.Tensor
    ) -> tuple[Any, Any]:
        results = []
        for i in range(info.batch_size):
            row = [
                x if d is None else x.select(d, i)
                for x, d in zip(tensors, in_dims[1:], strict=True)
            ]
            out = cls.apply(plan, *row)
            results.append(out if isinstance(out, tuple) else (out,))
        outputs = tuple(torch.stack(rows) for rows in zip(*results, strict=True))
        if isinstance(out, tuple):
            return outputs, (0,) * len(outputs)
        return outputs[0], 0


class SolveFn(_Rule):
    """The outputs (T, n)."""

    @staticmethod
    def forward(plan: Any, *tensors: torch.Tensor) -> Any:
        with torch.no_grad():
            return plan.solve(tensors)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], plan: Any, *tensors: torch.Tensor
    ) -> tuple[Any, Any]:
        return SolveFn.by_row(info, in_dims, plan, *tensors)

    @staticmethod
    def backward(ctx: Any, grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, *by_row(lambda g: VJPFn.apply(ctx.plan, g, *ctx.saved_tensors), grads)

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: torch.Tensor | None) -> Any:
        full = none_to_zeros(tangents, ctx.saved_tensors)
        return by_row(lambda *row: JVPFn.apply(ctx.plan, *row, *ctx.saved_tensors), *full)


class VJPFn(_Rule):
    """Cotangents of all tensors from those of the outputs, (T, n) or (B, T, n)."""

    @staticmethod
    def forward(plan: Any, grads: torch.Tensor, *tensors: torch.Tensor) -> Any:
        with torch.enable_grad():
            leaves, targets = plan.make_leaves(tensors)
            ys = plan.solve(leaves)

            def pull(g: torch.Tensor) -> tuple:
                cotangents = ()
                if ys.requires_grad:
                    cotangents = torch.autograd.grad(
                        ys, targets, g, retain_graph=True, allow_unused=True
                    )
                return plan.scatter_grads(cotangents or [None] * len(targets), tensors)

            return _for_each(pull, grads)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        plan: Any,
        grads: torch.Tensor,
        *tensors: torch.Tensor,
    ) -> tuple[Any, Any]:
        batch = in_dims[1]
        if all(d is None for d in in_dims[2:]) and grads.dim() == 3 and batch is not None:
            # One solve is enough for the cotangents of a whole Jacobian.
            return VJPFn.apply(plan, grads.movedim(batch, 0), *tensors), (0,) * len(tensors)
        return VJPFn.by_row(info, in_dims, plan, grads, *tensors)

    @staticmethod
    def backward(ctx: Any, *vectors: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        grads, *tensors = ctx.saved_tensors
        if grads.dim() == 2:
            return None, *VJPofVJP.apply(ctx.plan, grads, *vectors, *tensors)
        rows = [
            VJPofVJP.apply(ctx.plan, *row, *tensors) for row in zip(grads, *vectors, strict=True)
        ]
        first, *others = zip(*rows, strict=True)
        return None, torch.stack(first), *(sum(parts) for parts in others)

    @staticmethod
    def jvp(ctx: Any, _: Any, moved: torch.Tensor | None, *tangents: torch.Tensor | None) -> Any:
        """The cotangents are linear in grads. Their derivative in the tensors is symmetric."""
        grads, *tensors = ctx.saved_tensors
        full = none_to_zeros(tangents, tensors)
        if grads.dim() == 2:
            derivatives = VJPofVJP.apply(ctx.plan, grads, *full, *tensors)[1:]
        else:
            rows = [VJPofVJP.apply(ctx.plan, g, *full, *tensors)[1:] for g in grads]
            derivatives = tuple(torch.stack(row) for row in zip(*rows, strict=True))
        if moved is None:
            return derivatives
        return tuple(
            a + b for a, b in zip(derivatives, VJPFn.apply(ctx.plan, moved, *tensors), strict=True)
        )


def _transposed(ys, targets):
    """vectors -> derivative of ys, (T, n), along vectors of the targets. The pullback is linear in
    the cotangents: its transpose is the forward derivative."""
    zeros = torch.zeros_like(ys, requires_grad=True)
    pulled: tuple = ()
    if ys.requires_grad:
        pulled = torch.autograd.grad(ys, targets, zeros, create_graph=True, allow_unused=True)

    def push(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
        total = sum((v * g).sum() for v, g in zip(vectors, pulled) if g is not None)
        if isinstance(total, torch.Tensor) and total.requires_grad:
            return torch.autograd.grad(total, zeros, retain_graph=True)[0]
        return torch.zeros_like(ys)

    return push


def _products(ys, targets):
    """The same by the whole Jacobian, which forward sensitivities make in one pass."""
    rows: list[tuple] = []
    if ys.requires_grad:
        units = torch.eye(ys.numel(), dtype=ys.dtype).view(-1, *ys.shape)
        rows = [
            torch.autograd.grad(ys, targets, unit, retain_graph=True, allow_unused=True)
            for unit in units
        ]

    def push(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
        sums = [
            sum(((v * g).sum() for v, g in zip(vectors, row) if g is not None), ys.new_zeros(()))
            for row in rows
        ]
        if not sums:
            return torch.zeros_like(ys)
        return torch.stack(sums).view(ys.shape)

    return push


class JVPFn(_Rule):
    """The derivative of the outputs, (T, n), along tangents of all tensors: that of the steps
    themselves, with adjoint='direct', or by native code with adjoint='forward'.

    Tangents with a leading dimension B give (B, T, n).
    """

    @staticmethod
    def forward(plan: Any, *both: torch.Tensor) -> Any:
        tangents = both[: len(both) // 2]
        tensors = both[len(both) // 2 :]
        if plan.timed and plan.needs_grad[1]:
            raise ValueError(
                "times have no derivatives in forward mode: use torch.func.jacrev or vjp, or a list"
                " of times"
            )
        with torch.enable_grad():
            leaves, targets = plan.make_leaves(tensors)
            if plan.native:
                derivative = _products(plan.solve(leaves, adjoint="forward"), targets)
            else:
                derivative = _transposed(plan.solve(leaves, adjoint="direct"), targets)

            def push(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
                return derivative([v for v, w in zip(vectors, plan.needs_grad, strict=True) if w])

            if tangents[0].dim() == 2:
                return torch.stack([push(row) for row in zip(*tangents)])
            return push(tangents)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], plan: Any, *both: torch.Tensor
    ) -> tuple[Any, Any]:
        half = len(both) // 2
        plain = all(d is None for d in in_dims[1 + half :])
        if plain and both[0].dim() == 1 + (in_dims[1] is not None):
            # One solve is enough for the tangents of a whole Jacobian.
            tangents = [
                v.expand(info.batch_size, *v.shape) if d is None else v.movedim(d, 0)
                for v, d in zip(both[:half], in_dims[1:], strict=False)
            ]
            return JVPFn.apply(plan, *tangents, *both[half:]), 0
        return JVPFn.by_row(info, in_dims, plan, *both)

    @staticmethod
    def backward(ctx: Any, grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        half = len(ctx.saved_tensors) // 2
        tangents = ctx.saved_tensors[:half]
        tensors = ctx.saved_tensors[half:]
        pulled = VJPFn.apply(ctx.plan, grads, *tensors)
        rows = [(grads, *tangents)]
        if grads.dim() == 3:
            rows = list(zip(grads, *tangents, strict=True))
        pulled_rows = [VJPofVJP.apply(ctx.plan, *row, *tensors)[1:] for row in rows]
        return None, *pulled, *(sum(parts) for parts in zip(*pulled_rows, strict=True))

    @staticmethod
    def jvp(ctx: Any, *tangents: torch.Tensor | None) -> Any:
        raise NotImplementedError(
            "forward mode twice through a solve: use torch.func.hessian, or jacfwd of jacrev, or"
            " jacrev of jacfwd"
        )


class VJPofVJP(_Rule):
    """Cotangents of grads (T, n) and of all tensors for <vectors, pullback(grads)>, with one vector
    for each tensor."""

    @staticmethod
    def forward(plan: Any, grads: torch.Tensor, *both: torch.Tensor) -> Any:
        vectors = both[: len(both) // 2]
        tensors = both[len(both) // 2 :]
        with torch.enable_grad():
            leaves, targets = plan.make_leaves(tensors)
            grads = grads.detach().clone().requires_grad_()
            pulled = torch.autograd.grad(
                plan.solve(leaves), targets, grads, create_graph=True, allow_unused=True
            )
            chosen = [v for v, w in zip(vectors, plan.needs_grad, strict=True) if w]
            total = sum((v * g).sum() for v, g in zip(chosen, pulled, strict=True) if g is not None)
            first, *cotangents = torch.autograd.grad(total, [grads, *targets], allow_unused=True)
        if first is None:
            first = torch.zeros_like(grads)
        return first, *plan.scatter_grads(cotangents, tensors)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], plan: Any, *tensors: torch.Tensor
    ) -> tuple[Any, Any]:
        return VJPofVJP.by_row(info, in_dims, plan, *tensors)

    @staticmethod
    def backward(ctx: Any, *vectors: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        raise NotImplementedError(THIRD)

    @staticmethod
    def jvp(ctx: Any, *tangents: torch.Tensor | None) -> Any:
        raise NotImplementedError(THIRD)
