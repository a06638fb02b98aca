"""The loss of linearised trajectories and its gradient (linearised.py) in native code.

One step after the other, forward with the factors of I - h J, and back with their transposes. Each
step takes one evaluation of f, its Jacobian, one product of a cotangent and one second derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..backends.native.blocks import Blueprint, Own
from ..backends.native.compiler import entry
from ..backends.native.machine import call, row
from ..backends.native.matrices import factorise, fill, solve, solve_transposed
from ..backends.native.run import record_type
from ..translate import NativeField, translate
from .linearised import Steps


class Run(NamedTuple):
    """The numbers that Python and compiled code share: functions of the field by address, and the
    loss, which is infinite if a matrix is singular."""

    f: int
    jac: int
    add_vjp_p: int
    add_second: int
    loss: float = 0.0


RECORD = record_type(Run)


class Tables(NamedTuple):
    """The arrays of all calls, whose addresses do not change. K: steps; n: components; P: numbers
    in all targets."""

    t: Any  # (K,): the steps (linearised.Steps)
    h: Any  # (K,)
    start: Any  # (K, n)
    end: Any  # (K, n)
    first: Any  # (K,) int64
    weight: Any  # (K, n), with the sum 1
    deviations: Any  # (K, n): d
    matrices: Any  # (K, n, n): the factors of I - h J
    pivots: Any  # (K, n) int64
    jac: Any  # (nnz,)
    rows: Any  # (nnz,) int64
    columns: Any  # (nnz,) int64
    slope: Any  # (n,): f
    adjoint: Any  # (n,): lambda
    vectors: Any  # (2 n + 1,): those of second: cotangent, direction of the state, and of the time
    inputs: Any  # int64 addresses of the targets
    work: Any  # of the field's functions


class Memory(NamedTuple):
    """What a call adds to."""

    pulled: Any  # (n + P + 1,): what add_second writes; it adds to the P numbers, the gradient


def linearise(family: Any, run: Any, tables: Any, memory: Any) -> None:
    """run.loss, and the gradient in memory.pulled, which must be zero before. family: is not
    used."""
    if forward(run, tables):
        back(run, tables, memory)
    else:
        run.loss = np.inf


def forward(run: Any, tables: Any) -> bool:
    """The deviations, the factors and the loss. Returns whether all matrices are regular."""
    n = len(tables.slope)
    loss = 0.0
    regular = True
    for k in range(len(tables.t)):
        end = row(tables.end, k)
        matrix = row(tables.matrices, k)
        pivots = row(tables.pivots, k)
        d = row(tables.deviations, k)
        call(run.f, tables.t[k], end, end, tables.inputs, tables.slope, tables.work)
        call(run.jac, tables.t[k], end, end, tables.inputs, tables.jac, tables.work)
        fill(matrix, tables.h[k], tables.jac, tables.rows, tables.columns)
        regular &= factorise(matrix, pivots)
        for i in range(n):
            d[i] = tables.start[k, i] + tables.h[k] * tables.slope[i] - end[i]
            if tables.first[k] == 0:
                d[i] += tables.deviations[k - 1, i]
        if regular:
            solve(matrix, pivots, d, 1.0)
        for i in range(n):
            size = abs(d[i])
            loss += tables.weight[k, i] * size / (1.0 + size)
    run.loss = loss
    return regular


def back(run: Any, tables: Any, memory: Any) -> None:
    """The gradient, from the last step to the first."""
    n = len(tables.slope)
    adjoint = tables.adjoint
    vectors = tables.vectors
    gradient = memory.pulled[n:]
    for i in range(n):
        adjoint[i] = 0.0
    vectors[2 * n] = 0.0
    for k in range(len(tables.t) - 1, -1, -1):
        end = row(tables.end, k)
        d = row(tables.deviations, k)
        for i in range(n):
            size = 1.0 + abs(d[i])
            cotangent = tables.weight[k, i] / (size * size)
            if d[i] > 0.0:
                adjoint[i] += cotangent
            elif d[i] < 0.0:
                adjoint[i] -= cotangent
        solve_transposed(row(tables.matrices, k), row(tables.pivots, k), adjoint)
        for i in range(n):
            vectors[i] = tables.h[k] * adjoint[i]
            vectors[n + i] = d[i]
        call(run.add_vjp_p, tables.t[k], end, vectors, tables.inputs, gradient, tables.work)
        call(run.add_second, tables.t[k], end, vectors, tables.inputs, memory.pulled, tables.work)
        if tables.first[k] != 0:
            for i in range(n):
                adjoint[i] = 0.0


class NativeLinearised:
    """The loss of a field and its gradient, as linearised.Linearised. It keeps the addresses of the
    weights, which must change in place only. Raise TranslationRefused if the field cannot become
    native code."""

    def __init__(
        self, field: torch.nn.Module, weights: Sequence[torch.Tensor], steps: Steps
    ) -> None:
        native = translate(field, steps.end[0], float(steps.t[0]))
        names = ("f", "jac", "add_vjp_p", "add_second")
        functions = {name: native.function(name) for name in names}
        addresses, self._held = native.pointers()
        work = max(function.work for function in functions.values())
        self._native = native
        self._run = np.array(
            [tuple(Run(**{name: function.address for name, function in functions.items()}))],
            dtype=RECORD,
        )
        self._tables = _tables(steps, native, addresses, work)
        size = sum(x.numel() for x in native.targets)
        blueprint = Blueprint(Memory, {"pulled": Own((native.n + size + 1,), np.float64)})
        self._blocks = blueprint.blocks()
        self._pulled = self._blocks.of("pulled")
        self._gradient = self._pulled[native.n : native.n + size]
        self._order = _places(native.targets, weights)
        self._entry = entry(linearise, linearise, RECORD, self._tables, blueprint)

    def __call__(self) -> tuple[float, torch.Tensor]:
        """(loss, its gradient with respect to all weights as one vector). Both can overflow."""
        self._pulled[:] = 0.0
        self._entry(self._run, self._tables, self._blocks.slots)
        # One more number, zero, for weights that the field does not use.
        gradient = np.append(self._gradient, 0.0)[self._order]
        return float(self._run[0]["loss"]), torch.from_numpy(gradient)


def _tables(steps: Steps, native: NativeField, inputs: np.ndarray, work: int) -> Tables:
    count, n = steps.end.shape
    rows, columns = native.pattern()
    arrays = {
        name: np.ascontiguousarray(getattr(steps, name).numpy(), np.float64)
        for name in ("t", "h", "start", "end")
    }
    return Tables(
        **arrays,
        first=steps.first.numpy().astype(np.int64),
        weight=(steps.weight / steps.weight.sum()).numpy().copy(),
        deviations=np.zeros((count, n)),
        matrices=np.zeros((count, n, n)),
        pivots=np.zeros((count, n), np.int64),
        jac=np.zeros(len(rows)),
        rows=rows,
        columns=columns,
        slope=np.zeros(n),
        adjoint=np.zeros(n),
        vectors=np.zeros(2 * n + 1),
        inputs=inputs,
        work=np.zeros(max(1, work)),
    )


def _places(targets: list[torch.Tensor], weights: Sequence[torch.Tensor]) -> np.ndarray:
    """For each number of the weights its place in the gradient with respect to the targets; -1 for
    weights that are no targets."""
    starts = np.cumsum([0, *(x.numel() for x in targets)])
    begin = {id(x): start for x, start in zip(targets, starts[:-1], strict=True)}
    parts = []
    for weight in weights:
        start = begin.get(id(weight))
        if start is None:
            parts.append(np.full(weight.numel(), -1))
        else:
            parts.append(start + np.arange(weight.numel()))
    return np.concatenate(parts).astype(np.int64)
