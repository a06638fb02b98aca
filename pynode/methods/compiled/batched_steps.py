"""Whole steps of the rows of a batch as one compiled function. It runs a few fused loops over the
batch instead of 150 operations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...algebra.linear import UNROLLED, gauss_jordan
from ...core.batched_field import clock
from ..rosenbrock import RosenbrockMethod
from .steps import NullStats, linearised, modes, prepared
from .torch_compile import Compiled, agree, formula, outside, without_zeros

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ...core.batched_field import RowField
    from ...core.layout import Layout
    from ...core.norm import RowTolerance
    from ...core.stats import Stats


# Batches are padded to a few fixed sizes, because dynamic sizes break forward AD in torch 2.13: it
# differentiates a stack with the number of rows of the first call. The first size is a power of two
# and each next one an eighth of it, down to SMALLEST: fewer rows do not make a call cheaper.
SHRINK = 8
SMALLEST = 64


class CompiledRows:
    """Steps of one method on the rows of a field; backend: of torch.compile."""

    def __init__(self, method: Any, field: RowField, backend: str) -> None:
        self.method = method
        self.stats = field.stats
        self.implicit = isinstance(method, RosenbrockMethod)
        self.fsal = not self.implicit and method.tableau.fsal
        self.graphed = (
            backend == "inductor"
            and field.device.type == "cuda"
            and not (self.implicit and field.size > UNROLLED)
        )
        self.backend = backend
        self.functions: dict[int, Compiled] = {}
        self.sizes = [1 << (field.batch - 1).bit_length()]
        while self.sizes[-1] // SHRINK >= SMALLEST:
            self.sizes.append(self.sizes[-1] // SHRINK)

    def _compile(self, field: RowField, tol: RowTolerance, size: int) -> Compiled:
        method = self.method
        by_row = tuple(field.by_row)

        def make(forward: bool) -> tuple[Callable, Callable]:
            attempt = _attempt(prepared(method), field, self.implicit, forward)

            def function(t, h, y, first, rtol, atol, f, args):
                y1, error, ks = attempt(t, h, y, first, f, args)
                ratio = torch.zeros_like(t)
                if error is not None:
                    scaled = error / (atol + rtol.to(y.dtype) * torch.maximum(y.abs(), y1.abs()))
                    ratio = (scaled.square().sum(1) / scaled.shape[1]).to(t.dtype).sqrt()
                return y1, ratio, torch.stack(ks)

            return function, attempt

        key = (
            "rows",
            size,
            formula(method),
            type(field.f),
            field.dtype,
            field.layout.key,
            by_row,
            tol.atol.dim(),
        )
        variants = [partial(make, forward) for forward in modes(method)]
        device = field.device
        return Compiled(
            field.f, key, variants, _compare, self.backend, device, self.graphed, rows=size
        )

    def step(
        self, field: RowField, t: Tensor, h: Tensor, y: Tensor, first: Any, tol: RowTolerance
    ) -> tuple[Tensor, np.ndarray | None, Tensor]:
        """(y1 (m, n), ratio of the error (m,) NumPy, stages (s, m, n)) of a step of every row from
        t by h, (m,) float64.

        first: f(t, y), (m, n), for FSAL methods: the last stage of a step is the first of the next.
        The ratio is None for steps of one size. One copy to the host.
        """
        count = len(y)
        size = next(s for s in reversed(self.sizes) if s >= count)
        if size not in self.functions:
            self.functions[size] = self._compile(field, tol, size)
        count_attempts(self.stats, self.method, count)
        with outside():
            filled = torch.arange(size, device=y.device).clamp_max(count - 1)

            def fill(x: Any, own: bool = True) -> Any:
                if own:
                    return x.detach().index_select(0, filled)
                return x

            if self.fsal:
                first = fill(first)
            else:
                first = None
            args = tuple(
                fill(a, by_row) for a, by_row in zip(field.args, field.by_row, strict=True)
            )
            rtol = torch.full_like(t[0], tol.rtol)
            atol = fill(tol.atol, tol.atol.dim() == 2)
            y1, ratio, ks = self.functions[size](
                fill(t), fill(h), fill(y), first, rtol, atol, field.f, args
            )
        return (
            y1[:count],
            ratio[:count].cpu().numpy() if self.method.adaptive else None,
            ks[:, :count],
        )


def count_attempts(stats: Stats, method: Any, count: int) -> None:
    """Add the work of so many attempted steps of single rows, each with a Jacobian of its own if
    the method has one."""
    stages = method.tableau.stages
    if isinstance(method, RosenbrockMethod):
        stats.nfe += count * stages
        stats.nsolve += count * stages
        stats.njac += count
        stats.nlu += count
    else:
        stats.nfe += count * (stages - method.tableau.fsal)


class _PlainRows:
    """The part of a vector field that ``attempt`` uses, for rows: f(t (m,), y (m, n))."""

    mass = None

    def __init__(self, f: Callable, layout: Layout, rank: int, args: tuple) -> None:
        self.f = f
        self.layout = layout
        self.rank = rank
        self.args = args
        self.stats = NullStats()

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        return self.layout.ravel_rows(
            self.f(clock(t, y, self.rank), self.layout.unravel(y), *self.args), len(y)
        )


class Inverses:
    """Products with the inverses of matrices (m, n, n)."""

    def __init__(self, matrix: Tensor) -> None:
        self.small = matrix.shape[-1] <= UNROLLED
        if self.small:
            self.inverse = gauss_jordan(matrix)
        else:
            self.inverse = torch.linalg.inv_ex(matrix)[0]

    def solve(self, b: Tensor, factor: Tensor) -> Tensor:
        b = b * factor.to(b.dtype).unsqueeze(1)
        # The compiler fuses a sum, and no setting of the user rounds it (core/products.py).
        if self.small or not b.is_cpu:
            return (self.inverse * b.unsqueeze(1)).sum(2)
        return torch.bmm(self.inverse, b.unsqueeze(2)).squeeze(2)


def _attempt(method: Any, field: RowField, implicit: bool, forward: bool) -> Callable:
    # The functions below must not keep the field alive, because it holds the batch.
    layout = field.layout
    rank = field.rank

    def explicit(t, h, y, first, f, args):
        return method.attempt(_PlainRows(f, layout, rank, args), t, y, h, first)

    def rosenbrock(t, h, y, first, f, args):
        plain = _PlainRows(f, layout, rank, args)
        jac, slope = linearised(plain, t, y, forward)
        eye = torch.eye(layout.size, dtype=y.dtype, device=y.device)
        matrix = eye - (h * method.numbers[0]).to(y.dtype).view(-1, 1, 1) * jac
        return method.attempt(plain, t, y, h, slope, Inverses(matrix))

    if implicit:
        return rosenbrock
    return explicit


def _compare(
    function: Callable,
    attempt: Callable,
    t: Tensor,
    h: Tensor,
    y: Tensor,
    first: Any,
    rtol: Tensor,
    atol: Tensor,
    f: Callable,
    args: tuple,
) -> None:
    """Raises ValueError if a compiled step differs from the step."""
    y = without_zeros(y)
    if first is not None:
        first = attempt(t, torch.zeros_like(h), y, None, f, args)[2][0]
    y1, error, ks = attempt(t, h, y, first, f, args)
    compiled_y1, ratio, compiled_ks = function(t, h, y, first, rtol, atol, f, args)
    agree(compiled_y1, y1, y)
    agree(compiled_ks, torch.stack(ks), y)
    if error is not None:
        scale = atol + rtol.to(y.dtype) * torch.maximum(y.abs(), y1.abs())
        size = (error / scale).square().mean(1, keepdim=True).sqrt()
        agree(ratio.unsqueeze(1).to(size), size, y / scale, 1e-3)
