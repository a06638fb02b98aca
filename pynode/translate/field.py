"""NativeField: the native functions of one vector field."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .derivatives import Point, Recording, record_derivatives, record_value
from .expressions import Expressions
from .graph import Graph, Statement
from .llvm import Module, scalar_function
from .loops import LoopProgram, Seeds, work_of
from .machine import Loaded, compiled
from .refusal import TranslationRefused
from .sparsity import coloured, dependence
from .unrolled import TooLarge, basis_rows, dependents, evaluated, scalar_limit

# For each function the results that it writes, whether they need second derivatives, and the
# vectors that v holds.
_LAYOUT: dict[str, tuple[tuple[str, ...], bool, tuple[str, ...]]] = {
    "f": (("f",), False, ()),
    "vjp": (("vjp",), False, ("w",)),
    "vjp_p": (("vjp_p",), False, ("w",)),
    "vjp_time": (("vjp_time",), False, ("w",)),
    "pullback": (("vjp", "vjp_p", "vjp_time"), False, ("w",)),
    "jvp": (("jvp",), True, ("u",)),
    "jvp_p": (("jvp_p",), True, ("q",)),
    "second": (("second_y", "second_p", "second_t"), True, ("w", "u", "s")),
    "jac": ((), False, ()),
    "jac_time": ((), False, ()),
}


@dataclass(frozen=True)
class NativeFunction:
    """One native function: where it begins, and how many numbers it writes and works with."""

    address: int
    size: int
    work: int
    loaded: Any = None
    text: str = ""


class NativeField:
    """The native functions of f at one shape of its state."""

    def __init__(
        self, f: Callable[..., Any], y0: Tensor, t0: float, args: Sequence[Any] = ()
    ) -> None:
        self.n = y0.numel()
        self.dtype = y0.dtype
        self._f = f
        self._y0 = y0.detach().clone()
        self._t0 = float(t0)
        self._args = tuple(args)
        self._lock = threading.RLock()
        self._functions: dict[str, NativeFunction] = {}
        self._graphs: dict[bool, Graph] = {}
        self._rows: Any = None
        value = record_value(f, self._point(), self._args)
        self.targets = [x for x in value.captured if x.dtype.is_floating_point]
        self.differentiable = list(range(len(self.targets)))

    def _point(self) -> Point:
        return Point(torch.tensor(self._t0, dtype=self.dtype), self._y0, {})

    def _graph(self, twice: bool) -> Graph:
        graph = self._graphs.get(twice)
        if graph is None:
            recording = record_derivatives(self._f, self._point(), self._args, self.targets, twice)
            self._check_captured(recording)
            graph = recording.graph
            self._graphs[twice] = graph
        return graph

    def _check_captured(self, recording: Recording) -> None:
        """Number the inputs as the targets are numbered."""
        places = {id(x): i for i, x in enumerate(self.targets)}
        order = {}
        for index, x in enumerate(recording.captured):
            if x.dtype.is_floating_point:
                if id(x) not in places:
                    raise TranslationRefused(
                        "f uses other tensors in its second call than in its first. Use the same "
                        "parameters and buffers in every call."
                    )
                order[index] = places[id(x)]
        seen = set()
        for statement in recording.graph.statements:
            for view in statement.reads:
                if view.buffer.role == "input" and id(view.buffer) not in seen:
                    seen.add(id(view.buffer))
                    view.buffer.index = order[view.buffer.index]

    def pointers(self) -> tuple[np.ndarray, list[Tensor]]:
        """The addresses of the targets' numbers, and what keeps them alive."""
        held = list(self.targets)
        return np.array([x.data_ptr() for x in held], dtype=np.int64), held

    def function(self, name: str) -> NativeFunction:
        """The native function, compiled when it is first asked for."""
        known = self._functions.get(name)
        if known is None:
            with self._lock:
                known = self._functions.get(name) or self._compile(name)
                self._functions[name] = known
        return known

    def _compile(self, name: str) -> NativeFunction:
        if name not in _LAYOUT:
            raise ValueError(f"native function {name!r} does not exist; one of {list(_LAYOUT)}")
        module = Module("double" if self.dtype == torch.float64 else "float")
        unrolled = self._unrolled(name)
        if unrolled is not None:
            pool, outs = unrolled
            work = scalar_function(module, "entry", pool, outs)
            size = len(outs)
            level = 1 if len(pool.nodes) > 600 else 2
        else:
            program = self._looped(module, name)
            program.write("entry")
            work = program.work
            size = program.size
            level = 2
        text = module.text()
        loaded = Loaded(compiled(text, level))
        return NativeFunction(loaded.address("entry"), size, work, loaded, text)

    def _looped(self, module: Module, name: str) -> LoopProgram:
        if name == "jac":
            return LoopProgram(module, self._graph(False), ("vjp",), {}, self._seeds())
        if name == "jac_time":
            names = ("vjp", "jvp_time")
            return LoopProgram(module, self._graph(True), names, {}, self._seeds())
        names, twice, vectors = _LAYOUT[name]
        return LoopProgram(module, self._graph(twice), names, self._starts(vectors))

    def _seeds(self) -> Seeds:
        """The unit vectors; rows that share no column are one."""
        rows, columns = self.pattern()
        colours = coloured(rows, columns, self.n)
        matrix = np.zeros((max(colours.max(initial=-1) + 1, 1), self.n))
        matrix[colours, np.arange(self.n)] = 1.0
        return Seeds(matrix, np.stack([colours[rows], columns], axis=1))

    def _work(self, statements: Sequence[Statement]) -> int:
        return sum(work_of(s) for s in statements)

    def _unrolled(self, name: str) -> tuple[Expressions, list[int]] | None:
        """The expressions of a function, if scalar code is the better form for it."""
        try:
            if name.startswith("jac"):
                return self._jacobian(name == "jac_time")
            names, twice, vectors = _LAYOUT[name]
            graph = self._graph(twice)
            statements = graph.live(list(names))
            work = self._work(statements)
            limit = scalar_limit(len(statements), work)
            pool, outs = evaluated(graph, names, self._starts(vectors), limit)
        except TooLarge:
            return None
        return pool, outs

    def _starts(self, vectors: Sequence[str]) -> dict[str, int]:
        starts = {}
        place = 0
        for vector in vectors:
            starts[vector] = place
            place += self.n
        return starts

    def _jacobian(self, with_time: bool) -> tuple[Expressions, list[int]] | None:
        basis = self._basis()
        if basis is None:
            return None
        pool, rows = basis
        outs = [x for row in rows for x in row["vjp"] if x != pool.zero]
        if with_time:
            outs += [row["vjp_time"][0] for row in rows]
        return pool, outs

    def _basis(self) -> Any:
        """The expressions of the Jacobian's rows; None if loops are the better form."""
        if self._rows is None:
            graph = self._graph(False)
            names = ("vjp", "vjp_time")
            statements = graph.live(list(names))
            dependent = dependents(statements, "w")
            work = sum(
                work_of(s) * (self.n if s.out.buffer in dependent else 1) for s in statements
            )
            try:
                limit = scalar_limit(len(statements), work)
                found = basis_rows(graph, names, self.n, limit)
                self._rows = (found,)
            except TooLarge:
                self._rows = (None,)
        return self._rows[0]

    def pattern(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the structural nonzeros of df/dy, in row-major order."""
        basis = self._basis()
        if basis is None:
            graph = self._graph(False)
            return dependence(graph.live(["f"]), graph.results["f"], self.n)
        pool, rows = basis
        pairs = [
            (i, j) for i, row in enumerate(rows) for j, x in enumerate(row["vjp"]) if x != pool.zero
        ]
        table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return table[:, 0].copy(), table[:, 1].copy()


def translate(
    f: Callable[..., Any], y0: Tensor, t0: float, args: Sequence[Any] = ()
) -> NativeField:
    """The native functions of f(t, y, *args) for states like y0, (n,).

    Raise TranslationRefused, with a sentence, if f cannot become native code.
    """
    return NativeField(f, y0, t0, args)
