"""Functions that leave in memory what a second function needs for the cotangents of the targets.

The cotangents are linear in w. The Jacobian has them for each unit vector, up to the last products,
which only the targets need: the second function combines what the Jacobian has left. Those of
several stages of a step are added up at the end of the step: the gradient of a large matrix then
passes once through the processor, not once for each stage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from .graph import REAL, Buffer, Constant, Contract, Graph, Map, Statement, View, contiguous
from .llvm import Module
from .loops import LoopProgram, Seeds, Sets, with_views
from .sums import Adder
from .unrolled import dependents


class KeptProgram(LoopProgram):
    """Writes one of the two functions.

    seeds: of the Jacobian, a unit vector for each row. sizes: the numbers that the functions write.
    """

    def __init__(self, module: Module, graph: Graph, seeds: Seeds) -> None:
        super().__init__(module, graph, ("vjp",), {"w": 0}, seeds)
        own = set(map(id, graph.live(["vjp"])))
        rest = [s for s in graph.live(["vjp", "vjp_p"]) if id(s) not in own]
        entries = self.size
        self.size = 0
        self._first = list(self._statements)
        self._statements = rest
        self._uses.update(view.buffer for view in graph.results["vjp_p"])
        self._add_to_results(graph.results["vjp_p"])
        self._sets = Sets(len(seeds.matrix), 1)
        self._second = self._combined(rest)
        self._statements = [*self._first, *self._second]
        self._fixed = self._fixed_buffers()
        self.sizes = (entries, self.size)

    def _combined(self, statements: Sequence[Statement]) -> list[Statement]:
        """The statements with the arrays of all rows replaced by their sums times w, after those
        that make these sums."""
        w = Buffer(self._rows, REAL, "w")
        found: dict[Buffer, Buffer] = {}
        made: list[Statement] = []

        def put(view: Any) -> Any:
            if not isinstance(view, View):
                return view
            if view.buffer is self._seed:
                return dataclasses.replace(view, buffer=w)
            if view.buffer not in self._batched:
                return view
            known = found.get(view.buffer)
            if known is None:
                known = Buffer(view.buffer.size, view.buffer.kind)
                found[view.buffer] = known
                target = contiguous(known, (known.size,))
                rows = contiguous(view.buffer, (known.size,))
                factor = View(w, 0, target.shape, (0,))
                made.append(Constant(target, np.zeros(target.shape)))
                made.append(Contract(target, rows, factor))
                self._totals.add(known)
            return dataclasses.replace(view, buffer=known)

        changed = [with_views(statement, put) for statement in statements]
        return [*made, *changed]

    def write_part(self, name: str, second: bool) -> None:
        """Add one of the two functions. Both use the memory in the same way."""
        first = self.groups(self._first)
        last = self.groups(self._second)
        self.plan([*first, *last])
        self.write_groups(name, last if second else first)


class StageProgram(LoopProgram):
    """Writes the cotangents of state and time. It leaves in work what those of the targets need.

    total: the numbers of the targets. possible: whether work has all that they need. rest: the
    statements that add them up, from the sums over stages of what is ``kept`` in work.
    """

    def __init__(self, module: Module, graph: Graph) -> None:
        super().__init__(module, graph, ("vjp", "vjp_time"), {"w": 0})
        own = set(map(id, graph.live(["vjp", "vjp_time"])))
        results = ["vjp", "vjp_p", "vjp_time"]
        self.rest = [s for s in graph.live(results) if id(s) not in own]
        self._uses.update(view.buffer for view in graph.results["vjp_p"])
        adder = Adder(self.rest, self._uses, summed=True)
        self.total = 0
        for view in graph.results["vjp_p"]:
            out = Buffer(view.size, REAL, "out", self.total)
            adder.add(view, contiguous(out, view.shape))
            self.total += view.size
        self.kept: dict[Buffer, Buffer] = {}
        self.possible = True
        self._keep()
        self._fixed = self._fixed_buffers()

    def _keep(self) -> None:
        """Find what the rest reads of the first function: ``kept`` has for its buffer the one in
        work."""
        written = {statement.out.buffer for statement in self._statements}
        made = {statement.out.buffer for statement in self.rest}
        for statement in self.rest:
            for view in statement.reads:
                buffer = view.buffer
                if buffer in made or buffer in self._fixed or buffer in self.kept:
                    continue
                if buffer.role in ("y", "t", "w"):
                    copied = Buffer(buffer.size, REAL)
                    source = contiguous(buffer, (buffer.size,))
                    copy = Map(contiguous(copied, (buffer.size,)), "copy", (source,))
                    self._statements.append(copy)
                    self.kept[buffer] = copied
                elif buffer in written:
                    self.kept[buffer] = buffer
                elif buffer.role != "input":
                    self.possible = False

    def write_first(self, name: str) -> None:
        """Add the function."""
        groups = self.groups(self._statements)
        self.keep = self._kept(groups) | set(self.kept.values())
        # What is kept lives to the end.
        last: list[Statement] = []
        for buffer in self.kept.values():
            out = contiguous(Buffer(buffer.size, REAL, "out"), (buffer.size,))
            last.append(Map(out, "copy", (contiguous(buffer, (buffer.size,)),)))
        self._allocate([*groups, last], self.keep)
        self.write_groups(name, groups)

    def place(self, buffer: Buffer) -> int:
        """Where a buffer of ``kept`` is in work."""
        return self._places[self.kept[buffer]]

    def fixed(self) -> list[Statement]:
        """The constants of the code."""
        return list(self._fixed.values())


class GatherProgram(LoopProgram):
    """Writes the sum of the cotangents of the targets over several stages. v has what the
    StageProgram has left in work, one stage after the other."""

    def __init__(self, module: Module, stage: StageProgram, count: int) -> None:
        self._module = module
        self._starts = {"kept": 0}
        self._sets = Sets(count, max(1, stage.work))
        self._rows = count
        self._seed = None
        self.size = stage.total
        self.work = 0
        self._places = {}
        found: dict[Buffer, Buffer] = {}

        def put(view: Any) -> Any:
            if not isinstance(view, View) or view.buffer not in stage.kept:
                return view
            buffer = view.buffer
            if buffer not in found:
                found[buffer] = Buffer(buffer.size, buffer.kind, "kept", stage.place(buffer))
            return dataclasses.replace(view, buffer=found[buffer])

        changed = [with_views(statement, put) for statement in stage.rest]
        self._statements = [*stage.fixed(), *changed]
        outs = {s.out.buffer for s in changed if s.out.buffer.role == "out"}
        self._totals = outs
        self._batched = dependents(changed, "kept") - outs if count > 1 else set()
        self._fixed = self._fixed_buffers()
