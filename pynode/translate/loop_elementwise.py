"""Loops that carry out several statements element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .expressions import BOOL, Expressions
from .graph import Buffer, Constant, Map, Statement, View
from .instructions import number
from .llvm import emit, reachable
from .nests import Access, Nest, joined, plain, strided
from .scalar_functions import SCALAR

if TYPE_CHECKING:
    from .loops import LoopProgram


def uniform(constant: Constant) -> float | None:
    flat = constant.data.reshape(-1)
    if flat.size and (flat == flat[0]).all():
        return float(flat[0])
    return None


def fusable(statement: Statement) -> bool:
    if isinstance(statement, Map):
        return True
    return isinstance(statement, Constant) and uniform(statement) is not None


class Group:
    """Statements, element by element over one shape, whose order within an element is enough."""

    def __init__(self, program: LoopProgram) -> None:
        self.statements: list[Statement] = []
        self._program = program
        self._shape: Any = None
        self._reads: dict[Buffer, set[Any]] = {}
        self._writes: dict[Buffer, set[Any]] = {}

    def _key(self, statement: Statement) -> Any:
        shape = tuple(n for n in statement.out.shape if n != 1)
        return (self._program.is_batched(statement), shape)

    def _walk(self, view: View) -> Any:
        if view.positions is not None:
            return view.positions.tobytes()
        strides = tuple(s for n, s in zip(view.shape, view.strides) if n != 1)
        return (view.offset, strides)

    def takes(self, statement: Statement) -> bool:
        """Whether the statement may run element by element with the others."""
        if not fusable(statement):
            return False
        if not self.statements:
            return True
        if self._key(statement) != self._shape:
            return False
        scalar = not self._shape[1]
        for view in statement.reads:
            if self._conflict(self._writes, view, scalar):
                return False
        out = statement.out
        return not (
            self._conflict(self._writes, out, scalar) or self._conflict(self._reads, out, scalar)
        )

    def _conflict(self, known: dict[Buffer, set[Any]], view: View, scalar: bool) -> bool:
        walks = known.get(view.buffer)
        if not walks or scalar:
            return False
        return walks != {self._walk(view)}

    def add(self, statement: Statement) -> None:
        """Take the statement."""
        self._shape = self._key(statement)
        self.statements.append(statement)
        for view in statement.reads:
            self._reads.setdefault(view.buffer, set()).add(self._walk(view))
        self._writes.setdefault(statement.out.buffer, set()).add(self._walk(statement.out))


class Elementwise:
    """Writes one nest of loops for a group."""

    def __init__(self, program: LoopProgram, nest: Nest) -> None:
        self._program = program
        self._nest = nest
        self._pool = Expressions()
        self._accesses: list[Access] = []
        self._kinds: list[str] = []
        self._slots: dict[Any, int] = {}
        self._current: dict[int, int] = {}
        self._stored: dict[int, int] = {}

    def write(self, group: list[Statement], batched: bool | None = None) -> None:
        """The loops of these statements."""
        program = self._program
        if batched is None:
            batched = program.is_batched(group[0])
        shape = group[0].out.shape
        shape = tuple(n for n in shape if n != 1)
        if 0 in shape:
            return
        for statement in group:
            self._evaluate(statement, batched)
        extents = program.extents(shape, batched)
        accesses = self._accesses
        if any(a.table is not None for a in accesses):
            size = int(np.prod(shape, dtype=np.int64))
            accesses = [self._flattened(a, shape, batched) for a in accesses]
            extents = program.extents((size,), batched)
        else:
            extents, accesses = self._ordered(extents, accesses, batched)
        sizes, walks, _ = joined(extents, accesses)
        self._loops(sizes, walks)

    def _ordered(
        self, extents: list[int], accesses: list[Access], batched: bool
    ) -> tuple[list[int], list[Access]]:
        """The loops in the order in which the first written array stands in memory."""
        strides = accesses[min(self._stored)].strides
        lead = 1 if batched else 0
        inner = sorted(range(lead, len(extents)), key=lambda d: -abs(strides[d]))
        order = [*range(lead), *inner]
        moved = [Access(a.buffer, a.offset, tuple(a.strides[d] for d in order)) for a in accesses]
        return [extents[d] for d in order], moved

    def _flattened(self, access: Access, shape: tuple[int, ...], batched: bool) -> Access:
        if access.table is not None:
            return access if access.table.size == 0 else strided(access)
        lead = access.strides[:1] if batched else ()
        rest = access.strides[len(lead) :]
        view = View(access.buffer, access.offset, shape, rest)
        return strided(Access(access.buffer, 0, lead, view.places().reshape(-1)))

    def _slot(self, view: View, batched: bool) -> int:
        """The number of a walk in this nest."""
        access = self._program.access(_squeezed(view), batched)
        key = (view.buffer, access.key)
        slot = self._slots.get(key)
        if slot is None:
            slot = len(self._accesses)
            self._slots[key] = slot
            self._accesses.append(access)
            self._kinds.append(view.buffer.kind)
        return slot

    def _operand(self, x: Any, batched: bool) -> int:
        if not isinstance(x, View):
            return self._pool.const(x)
        known = self._program.literal(x)
        if known is not None:
            if x.buffer.kind == BOOL:
                return self._pool.boolean(bool(known))
            return self._pool.const(known)
        if x.buffer.role == "t":
            return self._pool.load("t", 0)
        slot = self._slot(x, batched)
        current = self._current.get(slot)
        if current is None:
            kind = BOOL if x.buffer.kind == BOOL else "real"
            current = self._pool.load("slot", slot, kind)
            self._current[slot] = current
        return current

    def _evaluate(self, statement: Statement, batched: bool) -> None:
        if isinstance(statement, Constant):
            value = uniform(statement)
            if statement.out.buffer.kind == BOOL:
                result = self._pool.boolean(bool(value))
            else:
                result = self._pool.const(value or 0.0)
        elif isinstance(statement, Map):
            operands = [self._operand(x, batched) for x in statement.inputs]
            result = SCALAR[statement.function](self._pool, *operands, *statement.parameters)
        else:
            raise AssertionError(statement)
        slot = self._slot(statement.out, batched)
        self._current[slot] = result
        self._stored[slot] = result

    def _stores(self) -> dict[int, int]:
        keep = self._program.keep
        return {
            slot: x
            for slot, x in self._stored.items()
            if self._accesses[slot].buffer.role == "out" or self._accesses[slot].buffer in keep
        }

    def _loops(self, sizes: list[int], walks: list[Access]) -> None:
        nest = self._nest
        body = nest.body
        pool = self._pool
        stores = {slot: pool.real(x) for slot, x in self._stores().items()}
        if not stores:
            return
        nodes = reachable(pool, stores.values())
        loaded = {
            pool.nodes[x][2]
            for x in nodes
            if pool.nodes[x][:2][0] == "load" and pool.nodes[x][1] == "slot"
        }
        bases = {slot: nest.base(walks[slot]) for slot in sorted(loaded | set(stores))}
        time = body.time() if any(pool.nodes[x][:2] == ("load", "t") for x in nodes) else ""

        def inside(counters: list[str]) -> None:
            def load(x: int) -> str:
                node = pool.nodes[x]
                if node[1] == "t":
                    return time
                slot = node[2]
                value = body.load(bases[slot], nest.place(walks[slot], counters))
                if pool.kinds[x] == BOOL:
                    return body.operation("ne", [value, number(0.0, body.real)])
                return value

            # All loads come before the stores: a group reads what stood there before it.
            first = {x: load(x) for x in nodes if pool.nodes[x][0] == "load"}
            values = emit(body, pool, nodes, first.get)
            for slot, x in stores.items():
                value = values.get(x)
                if value is None:
                    known = pool.value(x)
                    value = first[x] if known is None else body.constant(known, pool.kinds[x])
                body.store(value, bases[slot], nest.place(walks[slot], counters))

        def walk(depth: int, counters: list[str]) -> None:
            if depth == len(sizes):
                inside(counters)
                return
            nest.loop(sizes[depth], plain(lambda i: walk(depth + 1, [*counters, i])))

        walk(0, [])


def _squeezed(view: View) -> View:
    if view.positions is not None and view.size == 1:
        return View(view.buffer, int(view.positions.reshape(-1)[0]), (), ())
    if 1 not in view.shape:
        return view
    shape = tuple(n for n in view.shape if n != 1)
    if view.positions is not None:
        return View(view.buffer, 0, shape, (), view.positions.reshape(shape))
    strides = tuple(s for n, s in zip(view.shape, view.strides) if n != 1)
    return View(view.buffer, view.offset, shape, strides)
