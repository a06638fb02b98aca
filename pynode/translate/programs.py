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
from .python_source import python_function
from .refusal import TranslationRefused
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
# The same, but these results are added to what stands in out.
ADDED = ("vjp_p", "second_p")
LAYOUT.update({f"add_{name}": LAYOUT[name] for name in ("vjp_p", "pullback", "second")})
# Expressions above which LLVM's slower passes no longer pay.
_QUICK = 600
# Scalar operations above which a Jacobian isn't tried as scalars, and expressions of df/dt at most.
_MOST_WORK = 20_000_000
_LARGEST_SLOPE = 100_000


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
        self._seeds: Any = None

    def text(self, name: str) -> Text:
        """The function of this name."""
        scalars = self.scalars(name)
        module = Module(self._real, looped=scalars is None)
        if scalars is not None:
            pool, outs = scalars
            work = scalar_function(module, "entry", pool, outs, self.added(name))
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

    def python(self, name: str, targets: int) -> str:
        """The function of this name as Python source, always of scalars."""
        scalars = self.scalars(name)
        if scalars is None:
            raise TranslationRefused(
                f"The function {name} of this field is too large for Python source of scalars."
            )
        return python_function(name, *scalars, targets, self.added(name))

    def _loops(self, module: Module, name: str) -> LoopProgram:
        if name == "jac":
            return LoopProgram(module, self._graph(False), ("vjp",), {}, self._loop_seeds())
        if name == "jac_time":
            names = ("vjp", "jvp_time")
            return LoopProgram(module, self._graph(True), names, {}, self._loop_seeds())
        results, twice, vectors = LAYOUT[name]
        added = ADDED if name.startswith("add_") else ()
        return LoopProgram(module, self._graph(twice), results, self._starts(vectors), added=added)

    def added(self, name: str) -> range:
        """The places in out of the results that a function adds to what stands there."""
        if not name.startswith("add_"):
            return range(0)
        results, twice, _ = LAYOUT[name]
        start = 0
        for result in results:
            size = sum(view.size for view in self._graph(twice).results[result])
            if result in ADDED:
                return range(start, start + size)
            start += size
        raise AssertionError(name)

    def _starts(self, vectors: Sequence[str]) -> dict[str, int]:
        """Where the vectors begin in v; all but the last have n numbers."""
        return {vector: self._n * place for place, vector in enumerate(vectors)}

    def _coloured(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Unit vectors, those of rows that share no column as one, (rows, n); and for each entry
        of df/dy that may differ from 0 its row and its column; and for each row its vector."""
        if self._seeds is None:
            graph = self._graph(False)
            rows, columns = dependence(graph.live(["f"]), graph.results["f"], self._n)
            colours = coloured(rows, columns, self._n)
            seeds = np.zeros((int(colours.max(initial=0)) + 1, self._n))
            seeds[colours, np.arange(self._n)] = 1.0
            self._seeds = (seeds, rows, columns, colours)
        return self._seeds

    def _loop_seeds(self) -> Seeds:
        seeds, rows, columns, colours = self._coloured()
        return Seeds(seeds, np.stack([colours[rows], columns], axis=1))

    def _jacobian(self, with_time: bool) -> tuple[Expressions, list[int]] | None:
        basis = self._basis()
        if basis is None:
            return None
        pool, entries, slopes = basis
        outs = [x for _, _, x in entries]
        if with_time and slopes is not None:
            outs = outs + slopes
        elif with_time:
            limit = len(pool.nodes) + _LARGEST_SLOPE
            outs = outs + evaluated(self._graph(True), ("jvp_time",), {}, limit, pool)[1]
        return pool, outs

    def _basis(self) -> tuple[Expressions, list[tuple[int, int, int]], list[int] | None] | None:
        """The nonzeros of df/dy as (row, column, expression), and those of df/dt if every row has
        a unit vector of its own; None if loops are the better form."""
        if self._rows is None:
            try:
                self._rows = (self._evaluated_basis(),)
            except TooLarge:
                self._rows = (None,)
        return self._rows[0]

    def _evaluated_basis(self) -> Any:
        seeds, rows, columns, colours = self._coloured()
        own = len(seeds) == self._n
        names = ("vjp", "vjp_time") if own else ("vjp",)
        graph = self._graph(False)
        statements = graph.live(list(names))
        dependent = dependents(statements, "w")
        count = len(seeds)
        work = sum(work_of(s) * (count if s.out.buffer in dependent else 1) for s in statements)
        if work > _MOST_WORK:
            raise TooLarge
        pool, found = basis_rows(graph, names, seeds, scalar_limit(len(statements), work))
        entries = []
        for row, column in zip(rows.tolist(), columns.tolist()):
            x = found[colours[row]]["vjp"][column]
            if x != pool.zero:
                entries.append((row, column, x))
        slopes = [found[colour]["vjp_time"][0] for colour in colours] if own else None
        return pool, entries, slopes

    def pattern(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the structural nonzeros of df/dy, in row-major order."""
        basis = self._basis()
        if basis is None:
            _, rows, columns, _ = self._coloured()
            return rows, columns
        table = np.array([entry[:2] for entry in basis[1]], dtype=np.int64).reshape(-1, 2)
        return table[:, 0].copy(), table[:, 1].copy()
