"""A graph as loops over arrays in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .expressions import BOOL, Expressions
from .graph import (
    REAL,
    Buffer,
    Constant,
    Contract,
    Graph,
    Map,
    Reduce,
    Scan,
    ScatterAdd,
    Statement,
    View,
)
from .llvm import Body, Module, emit, number, reachable
from .nests import Access, Nest, joined
from .scalar_functions import SCALAR

_PASSED = "double %t, ptr %y, ptr %v, ptr %inputs, ptr %out, ptr %work"
# Groups of statements in one LLVM function, and products that one pass over an array adds.
_PIECE = 24
_UNROLL = 4
_VECTORS = ("w", "u", "s", "q")
_NEUTRAL = {"sum": 0.0, "prod": 1.0, "max": -np.inf, "min": np.inf}
_COMBINE = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}


def work_of(statement: Statement) -> int:
    """How many scalar operations a statement stands for."""
    if isinstance(statement, Contract):
        return statement.left.size
    if isinstance(statement, (Reduce, Scan, ScatterAdd)):
        return statement.source.size
    return 0 if isinstance(statement, Constant) else statement.out.size


@dataclass
class Seeds:
    """The vectors w of a Jacobian's rows, (rows, n), and which of the products are its nonzeros.

    places: for each nonzero its row among the seeds, and its column.
    """

    matrix: np.ndarray
    places: np.ndarray


class LoopProgram:
    """Writes the function that computes some results of a graph.

    starts: where the vectors begin in v. seeds: the rows of a Jacobian: what depends on w is then
    computed for all rows together, as arrays with one more axis.
    """

    def __init__(
        self,
        module: Module,
        graph: Graph,
        names: Sequence[str],
        starts: Mapping[str, int],
        seeds: Seeds | None = None,
    ) -> None:
        self._module = module
        self._starts = starts
        self._rows = 1 if seeds is None else len(seeds.matrix)
        self._statements = list(graph.live(list(names)))
        self._batched: set[Buffer] = set()
        self._seed: Buffer | None = None
        if seeds is not None:
            self._add_seeds(seeds)
        self.size = 0
        seen: list[Buffer] = [v.buffer for name in names for v in graph.results[name]]
        self._single = {buffer for buffer in seen if seen.count(buffer) == 1}
        for name in names:
            self._add_results(graph.results[name], seeds if name == "vjp" else None)
        self._fixed = self._fixed_buffers()
        self._places: dict[Buffer, int] = {}
        self.work = 0

    # ---------------------------------------------------------------- the plan

    def _add_seeds(self, seeds: Seeds) -> None:
        from .unrolled import dependents

        self._batched = dependents(self._statements, "w")
        for statement in self._statements:
            for view in statement.reads:
                if view.buffer.role == "w":
                    self._seed = view.buffer
        if self._seed is None:
            return
        shape = (seeds.matrix.size,)
        whole = View(Buffer(seeds.matrix.size, REAL), 0, shape, (1,))
        self._whole_seed = whole.buffer
        self._statements.insert(0, Constant(whole, seeds.matrix.reshape(-1)))

    def _add_results(self, views: Sequence[View], seeds: Seeds | None) -> None:
        for view in views:
            if seeds is None:
                out = Buffer(view.size, REAL, "out", self.size)
                source = view
                count = view.size
                if self._written_directly(view, out):
                    self.size += count
                    continue
            else:
                rows, columns = seeds.places.T
                places = view.places().reshape(-1)[columns]
                if view.buffer in self._batched or view.buffer is self._seed:
                    places = places + rows * view.buffer.size
                count = len(places)
                out = Buffer(count, REAL, "out", self.size)
                source = _view_of(view.buffer, places)
            target = View(out, 0, source.shape, _row_major(source.shape))
            self._statements.append(Map(target, "to_real", (source,)))
            self.size += count

    def _written_directly(self, view: View, out: Buffer) -> bool:
        """Let statements write a result where it belongs, if it is a whole array of its own."""
        buffer = view.buffer
        if buffer.role is not None or buffer.kind != REAL or buffer in self._batched:
            return False
        if buffer not in self._single or view.size != buffer.size or buffer.size < 64:
            return False
        places = view.places().reshape(-1)
        moved = np.full(buffer.size, -1, dtype=np.int64)
        moved[places] = np.arange(view.size)
        if (moved < 0).any():
            return False

        def put(x: Any) -> Any:
            if isinstance(x, View) and x.buffer is buffer:
                return _view_of(out, moved[x.places()])
            return x

        replaced = []
        for statement in self._statements:
            if buffer in (statement.out.buffer, *(v.buffer for v in statement.reads)):
                statement = _with_views(statement, put)
                views = (statement.out, *statement.reads)
                if any(v.positions is not None and v.buffer is out for v in views):
                    return False
            replaced.append(statement)
        self._statements = replaced
        return True

    def _fixed_buffers(self) -> dict[Buffer, Constant]:
        """Buffers that one constant writes and nothing else: they need no memory of their own."""
        writers: dict[Buffer, list[Statement]] = {}
        for statement in self._statements:
            writers.setdefault(statement.out.buffer, []).append(statement)
        fixed = {}
        for buffer, found in writers.items():
            only = found[0]
            alone = len(found) == 1 and buffer.role is None and buffer not in self._batched
            if alone and isinstance(only, Constant):
                if _uniform(only) is not None or not _sparse(only):
                    fixed[buffer] = only
        return fixed

    def _allocate(self, groups: list[list[Statement]], kept: set[Buffer]) -> None:
        """Give every kept buffer a place in work, and use places again."""
        first: dict[Buffer, int] = {}
        last: dict[Buffer, int] = {}
        for i, group in enumerate(groups):
            for statement in group:
                for view in (statement.out, *statement.reads):
                    buffer = self._memory(view.buffer)
                    if buffer.role is None and buffer not in self._fixed:
                        first.setdefault(buffer, i)
                        last[buffer] = i
        taken: list[tuple[int, int, int]] = []
        for buffer in sorted(first, key=lambda b: first[b]):
            if buffer not in kept:
                continue
            length = buffer.size * (self._rows if buffer in self._batched else 1)
            length = (length + 7) // 8 * 8
            busy = sorted((a, b) for a, b, end in taken if end >= first[buffer])
            start = 0
            for a, b in busy:
                if start + length <= a:
                    break
                start = max(start, b)
            taken.append((start, start + length, last[buffer]))
            self._places[buffer] = start
            self.work = max(self.work, start + length)

    def _memory(self, buffer: Buffer) -> Buffer:
        """The buffer whose memory is meant: the seeds' for w."""
        if buffer is self._seed:
            return self._whole_seed
        return buffer

    # --------------------------------------------------------------- the groups

    def _groups(self) -> list[list[Statement]]:
        """Statements that one nest of loops carries out together."""
        groups: list[list[Statement]] = []
        current = _Group(self)
        for statement in self._statements:
            if statement.out.buffer in self._fixed:
                continue
            if current.takes(statement):
                current.add(statement)
                continue
            if current.statements:
                groups.append(current.statements)
            current = _Group(self)
            if current.takes(statement):
                current.add(statement)
            else:
                groups.append([statement])
        if current.statements:
            groups.append(current.statements)
        return groups

    def _kept(self, groups: list[list[Statement]]) -> set[Buffer]:
        """The buffers that stand in memory: those that another group reads or writes."""
        home: dict[Buffer, set[int]] = {}
        kept: set[Buffer] = set()
        for i, group in enumerate(groups):
            fused = all(_fusable(s) for s in group)
            for statement in group:
                touched = [statement.out.buffer, *(v.buffer for v in statement.reads)]
                for buffer in touched:
                    home.setdefault(buffer, set()).add(i)
                    if not fused:
                        kept.add(self._memory(buffer))
        kept.update(self._memory(b) for b, used in home.items() if len(used) > 1)
        return kept

    # ------------------------------------------------------------------ writing

    def write(self, name: str) -> None:
        """Add the function, in pieces that pass everything on in memory."""
        groups = self._groups()
        self.keep = self._kept(groups)
        self._allocate(groups, self.keep)
        pieces = [groups[i : i + _PIECE] for i in range(0, len(groups), _PIECE)] or [[]]
        main = self._module.body()
        for i, piece in enumerate(pieces):
            single = len(pieces) == 1
            body = main if single else self._module.body()
            nest = Nest(self._module, body, self._pointer)
            for group in piece:
                self._group(nest, group)
            if not single:
                self._module.add(f"{name}.{i}", body, internal=True)
                main.put(f"call void @{name}.{i}({_PASSED})")
        self._module.add(name, main)

    def _pointer(self, body: Body, buffer: Buffer) -> tuple[str, int]:
        buffer = self._memory(buffer)
        if buffer.role == "y":
            return "%y", 0
        if buffer.role == "out":
            return "%out", buffer.index
        if buffer.role == "input":
            return body.pointer(buffer.index), 0
        if buffer.role is not None:
            return "%v", self._starts[buffer.role] + buffer.index
        fixed = self._fixed.get(buffer)
        if fixed is not None:
            return self._global(fixed), 0
        return "%work", self._places[buffer]

    def _global(self, constant: Constant) -> str:
        data = np.zeros(constant.out.buffer.size)
        data[constant.out.places()] = constant.data
        real = self._module.real
        return self._module.table(
            data.tobytes() + real.encode(),
            f"[{data.size} x {real}]",
            (f"{real} {number(x, real)}" for x in data.tolist()),
        )

    def access(self, view: View, batched: bool) -> Access:
        """The walk over a view; batched: with a loop over the rows before the view's."""
        lead: tuple[int, ...] = ()
        if batched:
            inside = view.buffer in self._batched or view.buffer is self._seed
            lead = (view.buffer.size if inside else 0,)
        if view.positions is not None:
            return Access(view.buffer, 0, lead, view.positions.reshape(-1))
        return Access(view.buffer, view.offset, lead + view.strides)

    def extents(self, shape: tuple[int, ...], batched: bool) -> list[int]:
        """The lengths of the loops over a shape."""
        return [self._rows, *shape] if batched else list(shape)

    def is_batched(self, statement: Statement) -> bool:
        """Whether a statement is carried out for all rows."""
        return statement.out.buffer in self._batched

    def literal(self, view: View) -> float | None:
        """The number if all of a view are one known number."""
        role = view.buffer.role
        if role in _VECTORS and role not in self._starts and view.buffer is not self._seed:
            return 1.0  # as in unrolled.py
        fixed = self._fixed.get(view.buffer)
        return None if fixed is None else _uniform(fixed)

    def _group(self, nest: Nest, group: list[Statement]) -> None:
        if all(_fusable(s) for s in group):
            _Elementwise(self, nest).write(group)
            return
        statement = group[0]
        batched = self.is_batched(statement)
        if isinstance(statement, Constant):
            self._table(nest, statement, batched)
        elif isinstance(statement, Contract):
            left = self._factor(nest, statement.left, batched)
            right = self._factor(nest, statement.right, batched)
            _Products(self, nest, statement.scale).write(statement.out, [left, right], batched)
        elif isinstance(statement, Reduce):
            self._reduce(nest, statement, batched)
        elif isinstance(statement, Scan):
            self._scan(nest, statement, batched)
        elif isinstance(statement, ScatterAdd):
            self._scatter(nest, statement, batched)

    def _factor(self, nest: Nest, view: View, batched: bool) -> Any:
        known = self.literal(view)
        if known is not None:
            return (view, known)
        return (view, self.access(view, batched))

    def _table(self, nest: Nest, statement: Constant, batched: bool) -> None:
        """Numbers that differ: zeros, and the few others from a table."""
        body = nest.body
        view = statement.out
        flat = statement.data.reshape(-1).astype(float)
        places = view.places().reshape(-1)
        chosen = np.flatnonzero(flat)
        rows = self._rows if batched else 1
        stride = view.buffer.size if batched else 0
        zeros = Access(view.buffer, 0, (stride,), places)
        ones = Access(view.buffer, 0, (stride,), places[chosen])
        zeros = _strided(zeros)
        ones = _strided(ones)
        real = self._module.real
        numbers = self._module.table(
            flat[chosen].tobytes() + real.encode(),
            f"[{len(chosen)} x {real}]",
            (f"{real} {number(x, real)}" for x in flat[chosen].tolist()),
        )
        base = nest.base(zeros)

        def row(r: str, carried: list[str]) -> list[str]:
            def clear(i: str, _: list[str]) -> list[str]:
                body.store(number(0.0, real), base, nest.place(zeros, [r, i]))
                return []

            def put(i: str, _: list[str]) -> list[str]:
                value = body.load(numbers, i)
                body.store(value, nest.base(ones), nest.place(ones, [r, i]))
                return []

            if len(chosen) < len(flat):
                nest.loop(len(flat), clear)
            nest.loop(len(chosen), put)
            return carried

        nest.loop(rows, row)

    def _fill(self, nest: Nest, view: View, value: float, batched: bool) -> None:
        constant = Constant(view, np.full(view.shape, value))
        _Elementwise(self, nest).write([constant], batched)

    def _reduce(self, nest: Nest, statement: Reduce, batched: bool) -> None:
        self._fill(nest, statement.out, _NEUTRAL[statement.function], batched)
        source = self._factor(nest, statement.source, batched)
        _Products(self, nest, 1.0, statement.function).write(statement.out, [source], batched)

    def _scan(self, nest: Nest, statement: Scan, batched: bool) -> None:
        body = nest.body
        combine = _COMBINE[statement.function]
        out = self.access(statement.out, batched)
        source = self.access(statement.source, batched)
        extents = self.extents(statement.source.shape, batched)
        known = self.literal(statement.source)
        base = nest.base(out)
        start = "" if known is not None else nest.base(source)
        real = self._module.real

        def walk(depth: int, counters: list[str]) -> None:
            if depth < len(extents) - 1:
                nest.loop(extents[depth], _inside(lambda i: walk(depth + 1, [*counters, i])))
                return

            def step(i: str, carried: list[str]) -> list[str]:
                place = [*counters, i]
                if known is not None:
                    value = number(known, real)
                else:
                    value = body.load(start, nest.place(source, place))
                total = body.operation(combine, [carried[0], value])
                body.store(total, base, nest.place(out, place))
                return [total]

            nest.loop(extents[-1], step, [number(_NEUTRAL[statement.function], real)])

        walk(0, [])

    def _scatter(self, nest: Nest, statement: ScatterAdd, batched: bool) -> None:
        body = nest.body
        size = statement.source.size
        out = _flat(self.access(statement.out, batched), statement.out, batched)
        source = _flat(self.access(statement.source, batched), statement.source, batched)
        known = self.literal(statement.source)
        base = nest.base(out)
        start = "" if known is not None else nest.base(source)
        real = self._module.real

        def row(r: str, carried: list[str]) -> list[str]:
            def one(i: str, _: list[str]) -> list[str]:
                at = [r, i] if batched else [i]
                place = nest.place(out, at)
                if known is not None:
                    value = number(known, real)
                else:
                    value = body.load(start, nest.place(source, at))
                total = body.operation("add", [body.load(base, place), value])
                body.store(total, base, place)
                return []

            nest.loop(size, one)
            return carried

        nest.loop(self._rows if batched else 1, row)


def _with_views(statement: Statement, put: Any) -> Statement:
    """The statement with other views."""
    changed = {}
    for entry in dataclasses.fields(statement):
        value = getattr(statement, entry.name)
        if entry.name == "inputs":
            value = tuple(put(x) for x in value)
        changed[entry.name] = put(value) if isinstance(value, View) else value
    return type(statement)(**changed)


def _inside(work: Callable[[str], None]) -> Callable[[str, list[str]], list[str]]:
    """The inside of a loop that carries nothing."""

    def inside(i: str, carried: list[str]) -> list[str]:
        work(i)
        return carried

    return inside


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def _view_of(buffer: Buffer, places: np.ndarray) -> View:
    from .graph import at_places

    return at_places(buffer, places)


def _sparse(constant: Constant) -> bool:
    """Whether the numbers are many, and most of them 0: then they are written when needed."""
    data = constant.data
    return data.size > 4096 and int(np.count_nonzero(data)) * 10 < data.size


def _uniform(constant: Constant) -> float | None:
    flat = constant.data.reshape(-1)
    if flat.size and (flat == flat[0]).all():
        return float(flat[0])
    return None


def _strided(access: Access) -> Access:
    """A walk by a table of places as one by strides, where it is."""
    table = np.asarray(access.table)
    if table.size < 2:
        offset = int(table[0]) if table.size else 0
        return Access(access.buffer, offset, (*access.strides, 0))
    steps = np.diff(table)
    if (steps == steps[0]).all():
        return Access(access.buffer, int(table[0]), (*access.strides, int(steps[0])))
    return access


def _flat(access: Access, view: View, batched: bool) -> Access:
    """The walk with one loop over all elements of the view."""
    lead = access.strides[:1] if batched else ()
    return _strided(Access(access.buffer, 0, lead, view.places().reshape(-1)))


def _fusable(statement: Statement) -> bool:
    if isinstance(statement, Map):
        return True
    return isinstance(statement, Constant) and _uniform(statement) is not None


class _Group:
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
        if not _fusable(statement):
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


class _Elementwise:
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
            return access if access.table.size == 0 else _strided(access)
        lead = access.strides[:1] if batched else ()
        rest = access.strides[len(lead) :]
        view = View(access.buffer, access.offset, shape, rest)
        return _strided(Access(access.buffer, 0, lead, view.places().reshape(-1)))

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
            value = _uniform(statement)
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
            nest.loop(sizes[depth], _inside(lambda i: walk(depth + 1, [*counters, i])))

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


class _Products:
    """Writes out = out combined with the products of one or two factors over further axes.

    The innermost loop runs along an axis of out if the arrays allow it: then every element is
    independent. Otherwise it runs along a summed axis, where the order of the summands is free.
    """

    def __init__(
        self, program: LoopProgram, nest: Nest, scale: float, function: str = "sum"
    ) -> None:
        self._program = program
        self._nest = nest
        self._scale = scale
        self._function = function

    def write(self, out: View, factors: list[Any], batched: bool) -> None:
        """factors: pairs of a view and its walk, or of a view and a known number."""
        program = self._program
        shape = factors[0][0].shape
        rank = len(out.shape)
        extents = program.extents(shape, batched)
        lead = 1 if batched else 0
        if 0 in extents:
            return
        target = program.access(out, batched)
        padding = (0,) * (len(extents) - rank - lead)
        walks = [Access(target.buffer, target.offset, target.strides + padding)]
        walks += [a for _, a in factors if isinstance(a, Access)]
        sizes, walks, origin = joined(extents, walks, frozenset([rank + lead]))
        outer = [d for d, first in enumerate(origin) if first < rank + lead]
        summed = [d for d in range(len(sizes)) if d not in outer]
        self._numbers = [a for _, a in factors if not isinstance(a, Access)]
        self._walks = walks
        self._sizes = sizes
        self._bases = [self._nest.base(w) for w in walks]
        self._order(outer, summed)

    def _order(self, outer: list[int], summed: list[int]) -> None:
        walks = self._walks

        def smooth(d: int, which: list[Access]) -> bool:
            return all(w.strides[d] in (0, 1) for w in which)

        along = [d for d in outer if walks[0].strides[d] == 1 and smooth(d, walks[1:])]
        across = [d for d in summed if smooth(d, walks[1:])]
        long = [d for d in along if self._sizes[d] >= 4]
        if long or not across or (along and self._sizes[across[-1]] < 4):
            inner = (long or along or outer or [-1])[-1]
            rest = [d for d in outer if d != inner]
            self._axpy(rest, summed, inner)
            return
        inner = across[-1]
        self._dot(outer, [d for d in summed if d != inner], inner)

    def _place(self, which: int, at: dict[int, str]) -> str | int:
        counters = [at.get(d, "0") for d in range(len(self._sizes))]
        return self._nest.place(self._walks[which], counters)

    def _factors(self, at: dict[int, str], inner: int | None, fixed: bool) -> list[str]:
        """The factors at these counters. fixed: those that do not change along the inner loop,
        with the known numbers; otherwise the others."""
        body = self._nest.body
        values = []
        if fixed:
            values = [number(x, body.real) for x in self._numbers if x != 1.0]
            if self._scale != 1.0:
                values.append(number(self._scale, body.real))
        for which in range(1, len(self._walks)):
            moves = inner is not None and self._walks[which].strides[inner] != 0
            if moves != fixed:
                values.append(body.load(self._bases[which], self._place(which, at)))
        return values

    def _product(self, values: list[str], flags: str) -> str:
        if not values:
            return number(1.0, self._nest.body.real)
        total = values[0]
        for value in values[1:]:
            total = self._nest.body.value(f"fmul {flags}{self._nest.body.real} {total}, {value}")
        return total

    def _combined(self, total: str, term: str, flags: str) -> str:
        body = self._nest.body
        if self._function == "sum":
            return body.value(f"fadd {flags}{body.real} {total}, {term}")
        if self._function == "prod":
            return body.value(f"fmul {body.real} {total}, {term}")
        pool = Expressions()
        first = pool.load("total", 0)
        second = pool.load("term", 0)
        result = SCALAR[_COMBINE[self._function]](pool, first, second)
        nodes = reachable(pool, [result])
        return emit(body, pool, nodes, {first: total, second: term}.get)[result]

    def _nested(self, dims: list[int], at: dict[int, str], inside: Any) -> None:
        if not dims:
            inside(at)
            return
        d = dims[0]
        self._nest.loop(
            self._sizes[d],
            _inside(lambda i: self._nested(dims[1:], {**at, d: i}, inside)),
        )

    def _axpy(self, outer: list[int], summed: list[int], inner: int) -> None:
        """The elements of out side by side; a few summands in each pass."""
        nest = self._nest

        def passes(at: dict[int, str]) -> None:
            if not summed:
                self._along(inner, at, [at])
                return
            d = summed[-1]
            many = self._sizes[d] // _UNROLL * _UNROLL

            def several(i: str, c: list[str]) -> list[str]:
                counters = [str(nest.plus(i, k)) for k in range(_UNROLL)]
                self._along(inner, at, [{**at, d: k} for k in counters])
                return []

            def single(i: str, c: list[str]) -> list[str]:
                self._along(inner, at, [{**at, d: i}])
                return []

            if many:
                nest.loop(many, several, step=_UNROLL)
            nest.loop(self._sizes[d], single, first=many)

        self._nested(outer + summed[:-1], {}, passes)

    def _along(self, inner: int, at: dict[int, str], terms: list[dict[int, str]]) -> None:
        nest = self._nest
        body = nest.body
        flags = "contract "
        # Loaded before the loop: LLVM cannot know that the loop does not write them.
        along = inner if inner >= 0 else None
        invariant = [self._factors(term, along, fixed=True) for term in terms]

        def one(i: str, c: list[str]) -> list[str]:
            place = self._place(0, {**at, inner: i})
            total = body.load(self._bases[0], place)
            for term, known in zip(terms, invariant):
                moving = self._factors({**term, inner: i}, along, fixed=False)
                product = self._product(known + moving, flags)
                total = self._combined(total, product, flags)
            body.store(total, self._bases[0], place)
            return []

        nest.loop(self._sizes[inner] if inner >= 0 else 1, one)

    def _dot(self, outer: list[int], summed: list[int], inner: int) -> None:
        """One element of out after the other; the partial sums are free in their order."""
        nest = self._nest
        body = nest.body
        flags = "reassoc contract "

        def element(at: dict[int, str]) -> None:
            known = self._factors(at, inner, fixed=True)

            def one(i: str, carried: list[str]) -> list[str]:
                moving = self._factors({**at, inner: i}, inner, fixed=False)
                return [self._combined(carried[0], self._product(known + moving, flags), flags)]

            start = number(_NEUTRAL[self._function], body.real)
            total = nest.loop(self._sizes[inner], one, [start])[0]
            place = self._place(0, at)
            before = body.load(self._bases[0], place)
            body.store(self._combined(before, total, ""), self._bases[0], place)

        self._nested(outer + summed, {}, element)
