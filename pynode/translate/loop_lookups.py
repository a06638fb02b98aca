"""Loops over tables: places in sorted tables, and numbers at places that are known only when the
code runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .graph import Pick, Put, Search, View
from .instructions import number
from .nests import Access as Walk
from .nests import Nest, plain, strided

if TYPE_CHECKING:
    from .loops import LoopProgram


class Lookups:
    """Writes one nest of loops, over the elements of a statement."""

    def __init__(self, program: LoopProgram, nest: Nest, batched: bool) -> None:
        self._program = program
        self._nest = nest
        self._batched = batched

    def write(self, statement: Search | Pick | Put) -> None:
        """The loops of this statement."""
        views = {"out": statement.out}
        if isinstance(statement, Search):
            views["found"] = statement.found
        else:
            views["source"] = statement.source
            views["places"] = statement.places
        self._views = views
        self._walks = {name: self._flat(view) for name, view in views.items()}
        self._bases: dict[str, str] = {}
        for name in views:
            in_memory = name == "source" and isinstance(statement, Pick)
            if in_memory or name == "out" or self._in_memory(views[name]):
                self._bases[name] = self._nest.base(self._walks[name])
        size = statement.out.size
        rows = self._program.extents((), self._batched)

        def one(counters: list[str]) -> None:
            if isinstance(statement, Search):
                self._search(statement, counters)
            elif isinstance(statement, Pick):
                self._pick(statement, counters)
            else:
                self._put(statement, counters)

        def row(r: str) -> None:
            self._nest.loop(size, plain(lambda i: one([r, i])))

        if rows:
            self._nest.loop(rows[0], plain(row))
        else:
            self._nest.loop(size, plain(lambda i: one([i])))

    def _flat(self, view: View) -> Walk:
        """The walk with one loop over all elements of the view, after that over the rows."""
        access = self._program.access(view, self._batched)
        lead = access.strides[:1] if self._batched else ()
        return strided(Walk(access.buffer, 0, lead, view.places().reshape(-1)))

    def _in_memory(self, view: View) -> bool:
        return view.buffer.role != "t" and self._program.literal(view) is None

    def _value(self, name: str, counters: list[str]) -> str:
        """The number of a view at these counters."""
        body = self._nest.body
        view = self._views[name]
        if view.buffer.role == "t":
            return body.time()
        known = self._program.literal(view)
        if known is not None:
            return number(known, body.real)
        return body.load(self._bases[name], self._nest.place(self._walks[name], counters))

    def _store(self, value: str, counters: list[str]) -> None:
        place = self._nest.place(self._walks["out"], counters)
        self._nest.body.store(value, self._bases["out"], place)

    def _search(self, statement: Search, counters: list[str]) -> None:
        body = self._nest.body
        table = statement.table
        walk = self._program.access(table, self._batched)
        rows = Walk(walk.buffer, walk.offset, walk.strides[:-1])
        start = body.address(self._nest.base(rows), self._nest.place(rows, counters))
        x = self._value("found", counters)
        self._store(body.search(start, table.strides[0], table.size, statement.right, x), counters)

    def _pick(self, statement: Pick, counters: list[str]) -> None:
        body = self._nest.body
        place, inside = body.within(self._value("places", counters), statement.extent)
        start = self._nest.place(self._walks["source"], counters)
        at = self._nest.plus(start, self._nest.times(place, statement.step))
        value = body.load(self._bases["source"], at)
        outside = number(statement.outside, body.real)
        real = body.real
        self._store(body.value(f"select i1 {inside}, {real} {value}, {real} {outside}"), counters)

    def _put(self, statement: Put, counters: list[str]) -> None:
        body = self._nest.body
        place, inside = body.within(self._value("places", counters), statement.extent)
        start = self._nest.place(self._walks["out"], counters)
        at = self._nest.plus(start, self._nest.times(place, statement.step))
        real = body.real
        zero = number(0.0, real)
        value = self._value("source", counters)
        value = body.value(f"select i1 {inside}, {real} {value}, {real} {zero}")
        total = body.operation("add", [body.load(self._bases["out"], at), value])
        body.store(total, self._bases["out"], at)
