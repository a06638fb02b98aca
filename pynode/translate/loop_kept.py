"""Two functions that share their memory: the Jacobian, and the cotangents of the targets at the
same point.

The cotangents are linear in w. The Jacobian has them for each unit vector, up to the last products,
which only the targets need. So the second function combines what the first one has left, and
evaluates nothing of f again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from .graph import REAL, Buffer, Constant, Contract, Graph, Statement, View, contiguous
from .llvm import Module
from .loops import LoopProgram, Seeds, Sets, with_views


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
