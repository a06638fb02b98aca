"""Which form a native function gets, scalars or loops, and its text in LLVM's language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .expressions import Expressions
from .graph import Graph
from .llvm import Module, scalar_function
from .loops import LoopProgram, Seeds, work_of
from .sparsity import coloured, dependence
from .unrolled import TooLarge, basis_rows, dependents, evaluated, scalar_limit

# For each function the results that it writes, whether they need second derivatives, and the
# vectors that v holds.
LAYOUT: dict[str, tuple[tuple[str, ...], bool, tuple[str, ...]]] = {
    "f": (("f",), False, ()),
    "vjp": (("vjp",), False, ("w",)),
    "vjp_p": (("vjp_p",), False, ("w",)),
    "vjp_time": (("vjp_time",), False, ("w",)),
    "pullback": (("vjp", "vjp_p", "vjp_time"), False, ("w",)),
    "jvp": (("jvp",), True, ("u",)),
    "jvp_p": (("jvp_p",), True, ("q",)),
    "second": (("second_y", "second_p", "second_t"), True, ("w", "u", "s")),
    "jac": (("vjp",), False, ()),
    "jac_time": (("vjp", "vjp_time"), False, ()),
}
# Expressions above which LLVM's slower passes no longer pay.
_QUICK = 600


@dataclass(frozen=True)
class Text:
    """A function "entry" in LLVM's language, the sizes of its out and work, and LLVM's level."""

    text: str
    size: int
    work: int
    level: int


class Programs:
    """Writes the functions of one field.

    n: the size of the state. real: LLVM's floating type. graph: gives the recording, without or
    with second derivatives.
    """

    def __init__(self, n: int, real: str, graph: Callable[[bool], Graph]) -> None:
        self._n = n
        self._real = real
        self._graph = graph
        self._rows: Any = None

    def text(self, name: str) -> Text:
        """The function of this name."""
        module = Module(self._real)
        scalars = self.scalars(name)
        if scalars is not None:
            pool, outs = scalars
            work = scalar_function(module, "entry", pool, outs)
            level = 1 if len(pool.nodes) > _QUICK else 2
            return Text(module.text(), len(outs), work, level)
        program = self._loops(module, name)
        program.write("entry")
        return Text(module.text(), program.size, program.work, 2)

    def scalars(self, name: str) -> tuple[Expressions, list[int]] | None:
        """The expressions of a function; None if loops are the better form."""
        if name.startswith("jac"):
            return self._jacobian(name == "jac_time")
        names, twice, vectors = LAYOUT[name]
        graph = self._graph(twice)
        statements = graph.live(list(names))
        limit = scalar_limit(len(statements), sum(work_of(s) for s in statements))
        try:
            return evaluated(graph, names, self._starts(vectors), limit)
        except TooLarge:
            return None

    def _loops(self, module: Module, name: str) -> LoopProgram:
        if name == "jac":
            return LoopProgram(module, self._graph(False), ("vjp",), {}, self._seeds())
        if name == "jac_time":
            names = ("vjp", "jvp_time")
            return LoopProgram(module, self._graph(True), names, {}, self._seeds())
        results, twice, vectors = LAYOUT[name]
        return LoopProgram(module, self._graph(twice), results, self._starts(vectors))

    def _starts(self, vectors: Sequence[str]) -> dict[str, int]:
        """Where the vectors begin in v; all but the last have n numbers."""
        return {vector: self._n * place for place, vector in enumerate(vectors)}

    def _seeds(self) -> Seeds:
        """The unit vectors; rows that share no column are one."""
        rows, columns = self.pattern()
        colours = coloured(rows, columns, self._n)
        matrix = np.zeros((int(colours.max(initial=0)) + 1, self._n))
        matrix[colours, np.arange(self._n)] = 1.0
        return Seeds(matrix, np.stack([colours[rows], columns], axis=1))

    def _jacobian(self, with_time: bool) -> tuple[Expressions, list[int]] | None:
        basis = self._basis()
        if basis is None:
            return None
        pool, rows = basis
        outs = [x for row in rows for x in row["vjp"] if x != pool.zero]
        if with_time:
            outs += [row["vjp_time"][0] for row in rows]
        return pool, outs

    def _basis(self) -> tuple[Expressions, list[dict[str, list[int]]]] | None:
        """The expressions of the Jacobian's rows; None if loops are the better form."""
        if self._rows is None:
            graph = self._graph(False)
            names = ("vjp", "vjp_time")
            statements = graph.live(list(names))
            dependent = dependents(statements, "w")
            work = sum(
                work_of(s) * (self._n if s.out.buffer in dependent else 1) for s in statements
            )
            limit = scalar_limit(len(statements), work)
            try:
                self._rows = (basis_rows(graph, names, self._n, limit),)
            except TooLarge:
                self._rows = (None,)
        return self._rows[0]

    def pattern(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the structural nonzeros of df/dy, in row-major order."""
        basis = self._basis()
        if basis is None:
            graph = self._graph(False)
            return dependence(graph.live(["f"]), graph.results["f"], self._n)
        pool, rows = basis
        pairs = [
            (i, j) for i, row in enumerate(rows) for j, x in enumerate(row["vjp"]) if x != pool.zero
        ]
        table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return table[:, 0].copy(), table[:, 1].copy()
