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
from .graph import Graph
from .llvm import Module, scalar_function
from .machine import Loaded, compiled
from .refusal import TranslationRefused
from .unrolled import basis_rows, evaluated

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
_LIMIT = 200_000


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
        pool, outs = self._expressions(name)
        module = Module("double" if self.dtype == torch.float64 else "float")
        work = scalar_function(module, "entry", pool, outs)
        text = module.text()
        loaded = Loaded(compiled(text))
        return NativeFunction(loaded.address("entry"), len(outs), work, loaded, text)

    def _starts(self, vectors: Sequence[str]) -> dict[str, int]:
        starts = {}
        place = 0
        for vector in vectors:
            starts[vector] = place
            place += self.n
        return starts

    def _expressions(self, name: str) -> tuple[Expressions, list[int]]:
        if name not in _LAYOUT:
            raise ValueError(f"native function {name!r} does not exist; one of {list(_LAYOUT)}")
        if name.startswith("jac"):
            return self._jacobian(name == "jac_time")
        names, twice, vectors = _LAYOUT[name]
        return evaluated(self._graph(twice), names, self._starts(vectors), _LIMIT)

    def _jacobian(self, with_time: bool) -> tuple[Expressions, list[int]]:
        pool, rows = self._basis()
        outs = [x for row in rows for x in row["vjp"] if x != pool.zero]
        if with_time:
            outs += [row["vjp_time"][0] for row in rows]
        return pool, outs

    def _basis(self) -> Any:
        if self._rows is None:
            self._rows = basis_rows(self._graph(False), ("vjp", "vjp_time"), self.n, _LIMIT)
        return self._rows

    def pattern(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the structural nonzeros of df/dy, in row-major order."""
        pool, rows = self._basis()
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
