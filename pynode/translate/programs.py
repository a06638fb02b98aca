"""Which form a native function gets, scalars or loops, and its text in LLVM's language."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .expressions import Expressions
from .graph import Graph
from .instructions import number
from .llvm import Module, scalar_function
from .loop_kept import GatherProgram, KeptProgram, StageProgram
from .loops import LoopProgram, Seeds, Sets, work_of
from .machine import vector_register
from .python_source import python_function
from .refusal import TranslationRefused
from .sparsity import coloured, dependence
from .unrolled import TooLarge, basis_rows, dependents, evaluated, scalar_limit, suits_loops


@dataclass(frozen=True)
class Layout:
    """What a function reads and writes.

    results: what it writes to out, one after the other. twice: whether this needs second
    derivatives. vectors: what v holds; all but the last have n numbers. added: the results that are
    added to what stands in out. sets: how many sets of the vectors v holds; the results are the
    sums over them.
    """

    results: tuple[str, ...]
    twice: bool = False
    vectors: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    sets: int = 1


_LAYOUTS = {
    "f": Layout(("f",)),
    "vjp": Layout(("vjp",), vectors=("w",)),
    "vjp_p": Layout(("vjp_p",), vectors=("w",)),
    "vjp_time": Layout(("vjp_time",), vectors=("w",)),
    "pullback": Layout(("vjp", "vjp_p", "vjp_time"), vectors=("w",)),
    "jvp": Layout(("jvp",), True, ("u",)),
    "jvp_p": Layout(("jvp_p",), True, ("q",)),
    "second": Layout(("second_y", "second_p", "second_t"), True, ("w", "u", "s")),
    "jac": Layout(("vjp",)),
    "jac_time": Layout(("vjp", "vjp_time")),
    "jac_step": Layout(("vjp", "vjp_time", "f")),
    # The Jacobian; and afterwards, with the same work, the cotangents at the same point.
    "jac_kept": Layout(("vjp",)),
    "add_kept": Layout(("vjp_p",), vectors=("w",), added=("vjp_p",)),
    # The cotangents of the state at a stage; and those of the targets from all works of the stages.
    # Functions without a result if this does not pay.
    "pull_stage": Layout(("vjp", "vjp_time"), vectors=("w",)),
    "add_stages": Layout(("vjp_p",), added=("vjp_p",)),
}
# The same, but the cotangents of the targets are added to what stands in out.
for _name in ("vjp_p", "pullback", "second"):
    _LAYOUTS[f"add_{_name}"] = dataclasses.replace(_LAYOUTS[_name], added=("vjp_p", "second_p"))


_SEVERAL = ("add_second", "add_stages")


def layout(name: str) -> Layout:
    """What the function of this name reads and writes. "add_second*3": the sum over three sets of
    vectors, one after the other in v."""
    base, star, sets = name.partition("*")
    found = _LAYOUTS.get(base)
    if found is None or (star and not (base in _SEVERAL and sets.isdecimal())):
        raise ValueError(f"There is no native function {name!r}. There are {', '.join(_LAYOUTS)}.")
    return dataclasses.replace(found, sets=int(sets or 1))


# Expressions above which LLVM's slower passes no longer pay.
_QUICK = 600
# Numbers in the targets below which it does not pay to add their cotangents for several stages.
_FEWEST = 500
# Expressions of several sets of vectors at most that one function computes together.
_TOGETHER = 1500
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
        if name.endswith("_kept"):
            return self._kept(name)
        if "_stage" in name:
            return self._stages(name)
        base, _, sets = name.partition("*")
        scalars = self.scalars(base)
        if sets and scalars is not None:
            if len(scalars[0].nodes) * int(sets) > _TOGETHER:
                return self._repeated(name, *scalars)
            scalars = self.scalars(name)
        module = Module(self._real, scalars is None, vector_register())
        if scalars is not None:
            pool, outs = scalars
            work = scalar_function(module, "entry", pool, outs, self.added(name))
            return Text(module.text(), len(outs), work, _level(pool))
        program = self._loops(module, name)
        program.write("entry")
        return Text(module.text(), program.size, program.work, 2)

    def _kept(self, name: str) -> Text:
        """One of the two functions of loop_kept.py, or one of two that share nothing."""
        others = {"jac_kept": "jac", "add_kept": "add_vjp_p"}
        if any(self.scalars(other) is not None for other in others.values()):
            return self.text(others[name])
        seeds = self._loop_seeds()
        if not np.array_equal(seeds.matrix, np.eye(self._n)):
            return self.text(others[name])
        module = Module(self._real, True, vector_register())
        program = KeptProgram(module, self._graph(False), seeds)
        second = name == "add_kept"
        program.write_part("entry", second)
        return Text(module.text(), program.sizes[second], program.work, 2)

    def _stages(self, name: str) -> Text:
        """One of the two functions for stages (loop_kept.py)."""
        module = Module(self._real, True, vector_register())
        first = None
        if self.scalars("add_pullback") is None:
            first = StageProgram(module, self._graph(False))
        if first is None or not first.possible or first.total < _FEWEST:
            module.add("entry", module.body())
            return Text(module.text(), 0, 0, 2)
        first.write_first("entry")
        if name == "pull_stage":
            return Text(module.text(), first.size, first.work, 2)
        module = Module(self._real, True, vector_register())
        program = GatherProgram(module, first, layout(name).sets)
        program.write("entry")
        return Text(module.text(), program.size, program.work, 2)

    def _repeated(self, name: str, pool: Expressions, outs: list[int]) -> Text:
        """A function of several sets of vectors that calls a function of one set for each. pool,
        outs: the expressions of this one."""
        plan = layout(name)
        module = Module(self._real)
        added = self.added(name)
        work = scalar_function(module, "one", pool, outs, range(len(outs)))
        body = module.body()
        for place in range(len(outs)):
            if place not in added:
                body.store(number(0.0, self._real), "%out", place)
        for k in range(plan.sets):
            vectors = body.address("%v", k * self._length(plan))
            body.put(
                f"call void @one(double %t, ptr %y, ptr {vectors}, ptr %inputs, ptr %out, ptr"
                " %work)"
            )
        module.add("entry", body)
        return Text(module.text(), len(outs), work, _level(pool))

    def scalars(self, name: str, always: bool = False) -> tuple[Expressions, list[int]] | None:
        """The expressions of a function; None if loops are the better form. always: unless they
        are too many."""
        if not always and self._suits_loops():
            return None
        if name.startswith("jac"):
            return self._jacobian(layout(name).results)
        plan = layout(name)
        graph = self._graph(plan.twice)
        statements = graph.live(list(plan.results))
        work = sum(work_of(s) for s in statements)
        limit = scalar_limit(len(statements), plan.sets * work)
        pool = Expressions()
        try:
            found = [
                evaluated(graph, plan.results, self._starts(plan, k), limit, pool)[1]
                for k in range(plan.sets)
            ]
        except TooLarge:
            return None
        return pool, [functools.reduce(pool.add, parts) for parts in zip(*found)]

    def _suits_loops(self) -> bool:
        """Whether loops are the better form of all functions."""
        return suits_loops(self._graph(False).live(["f"]))

    def python(self, name: str, targets: int) -> str:
        """The function of this name as Python source, always of scalars."""
        scalars = self.scalars(name, always=True)
        if scalars is None:
            raise TranslationRefused(
                f"The function {name} of this field is too large for Python source of scalars."
            )
        return python_function(name, *scalars, targets, self.added(name))

    def _loops(self, module: Module, name: str) -> LoopProgram:
        if name == "jac":
            return LoopProgram(module, self._graph(False), ("vjp",), {}, self._loop_seeds())
        if name.startswith("jac"):
            names = ("vjp", "jvp_time", *layout(name).results[2:])
            return LoopProgram(module, self._graph(True), names, {}, self._loop_seeds())
        plan = layout(name)
        graph = self._graph(plan.twice)
        sets = Sets(plan.sets, self._length(plan))
        starts = self._starts(plan, 0)
        return LoopProgram(module, graph, plan.results, starts, sets=sets, added=plan.added)

    def added(self, name: str) -> range:
        """The places in out of the results that a function adds to what stands there."""
        plan = layout(name)
        start = 0
        for result in plan.results if plan.added else ():
            size = sum(view.size for view in self._graph(plan.twice).results[result])
            if result in plan.added:
                return range(start, start + size)
            start += size
        return range(0)

    def _starts(self, plan: Layout, which: int) -> dict[str, int]:
        """Where the vectors of a set begin in v."""
        first = which * self._length(plan)
        return {vector: first + self._n * place for place, vector in enumerate(plan.vectors)}

    def _length(self, plan: Layout) -> int:
        """The numbers of a set of vectors, of which the last can be s, one number."""
        return self._n * len(plan.vectors) - (self._n - 1) * ("s" in plan.vectors)

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

    def _jacobian(self, results: Sequence[str]) -> tuple[Expressions, list[int]] | None:
        basis = self._basis()
        if basis is None:
            return None
        pool, entries, slopes = basis
        found = {(row, column): x for row, column, x in entries}
        places = zip(*(x.tolist() for x in self.pattern()))
        outs = [found.get(place, pool.zero) for place in places]
        limit = len(pool.nodes) + _LARGEST_SLOPE
        if "vjp_time" in results and slopes is not None:
            outs = outs + slopes
        elif "vjp_time" in results:
            outs = outs + self._time_slopes(pool, limit)
        if "f" in results:
            outs = outs + evaluated(self._graph(False), ("f",), {}, limit, pool)[1]
        return pool, outs

    def _time_slopes(self, pool: Expressions, limit: int) -> list[int]:
        """df/dt: the products of its unit vectors with it, which need no second derivatives, unless
        these are too much work."""
        graph = self._graph(False)
        work = self._n * sum(work_of(s) for s in graph.live(["vjp_time"]))
        if work > _MOST_WORK:
            return evaluated(self._graph(True), ("jvp_time",), {}, limit, pool)[1]
        _, found = basis_rows(graph, ("vjp_time",), np.eye(self._n), limit, pool)
        return [row["vjp_time"][0] for row in found]

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
        basis = None if self._suits_loops() else self._basis()
        if basis is None:
            _, rows, columns, _ = self._coloured()
            return rows, columns
        table = np.array([entry[:2] for entry in basis[1]], dtype=np.int64).reshape(-1, 2)
        return table[:, 0].copy(), table[:, 1].copy()


def _level(pool: Expressions) -> int:
    """LLVM's level for scalar code."""
    return 1 if len(pool.nodes) > _QUICK else 2
