"""A graph as loops over arrays in memory."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import (
    REAL,
    Buffer,
    Constant,
    Contract,
    Graph,
    Map,
    Pick,
    Put,
    Reduce,
    Scan,
    ScatterAdd,
    Search,
    Statement,
    View,
)
from .instructions import Body, number
from .llvm import Module
from .loop_elementwise import Elementwise, Group, fusable, uniform
from .loop_lookups import Lookups
from .loop_products import COMBINE, NEUTRAL, Products
from .nests import Access, Nest, plain, strided
from .sums import Adder, total_of
from .unrolled import dependents

_PASSED = "double %t, ptr %y, ptr %v, ptr %inputs, ptr %out, ptr %work"
# Groups of statements in one LLVM function.
_PIECE = 24
_VECTORS = ("w", "u", "s", "q")


def work_of(statement: Statement) -> int:
    """How many scalar operations a statement stands for."""
    if isinstance(statement, Contract):
        return statement.left.size
    if isinstance(statement, (Reduce, Scan, ScatterAdd, Put)):
        return statement.source.size
    return 0 if isinstance(statement, Constant) else statement.out.size


@dataclass
class Seeds:
    """The vectors w of a Jacobian's rows, (rows, n), and which of the products are its nonzeros.

    places: for each nonzero its row among the seeds, and its column.
    """

    matrix: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Sets:
    """Several sets of vectors in v, over which the results are summed. length: of a set."""

    count: int
    length: int


class LoopProgram:
    """Writes the function that computes some results of a graph.

    starts: where the vectors begin in v. seeds: the rows of a Jacobian, or sets: of vectors. What
    depends on w, or on the vectors, is then computed for all rows or sets together, as arrays with
    one more axis. added: the results that are added to what stands in out.
    """

    def __init__(
        self,
        module: Module,
        graph: Graph,
        names: Sequence[str],
        starts: Mapping[str, int],
        seeds: Seeds | None = None,
        sets: Sets | None = None,
        added: Collection[str] = (),
    ) -> None:
        self._module = module
        self._starts = starts
        sets = sets or Sets(1, 0)
        self._rows = sets.count if seeds is None else len(seeds.matrix)
        self._sets = sets
        self._statements = list(graph.live(list(names)))
        self._batched: set[Buffer] = set()
        self._seed: Buffer | None = None
        self._totals: set[Buffer] = set()  # sums over the rows or the sets
        if seeds is not None:
            self._add_seeds(seeds)
        self.size = 0
        self._uses = Counter(view.buffer for name in names for view in graph.results[name])
        for name in names:
            if name in added:
                self._add_to_results(graph.results[name])
            elif sets.count > 1:
                self._add_sums(graph.results[name])
            else:
                self._add_results(graph.results[name], seeds if name == "vjp" else None)
        if sets.count > 1:
            reached = set().union(*(dependents(self._statements, x) for x in starts))
            self._batched = {buffer for buffer in reached if buffer.role is None}
        self._fixed = self._fixed_buffers()
        self._places: dict[Buffer, int] = {}
        self.work = 0

    # ---------------------------------------------------------------- the plan

    def _add_seeds(self, seeds: Seeds) -> None:
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

    def _add_to_results(self, views: Sequence[View]) -> None:
        adder = Adder(self._statements, self._uses, summed=self._sets.count > 1)
        for view in views:
            adder.add(view, self._next_result(view))

    def _next_result(self, view: View) -> View:
        """The place of a result in out."""
        out = Buffer(view.size, REAL, "out", self.size)
        self.size += view.size
        if self._sets.count > 1:
            self._totals.add(out)
        return View(out, 0, view.shape, _row_major(view.shape))

    def _add_sums(self, views: Sequence[View]) -> None:
        """Results that are sums over the sets."""
        for view in views:
            target = self._next_result(view)
            self._statements.append(Constant(target, np.zeros(target.shape)))
            self._statements += total_of(view, target, 1.0)

    def _written_directly(self, view: View, out: Buffer) -> bool:
        """Let statements write a result where it belongs, if it is a whole array of its own."""
        buffer = view.buffer
        if buffer.role is not None or buffer.kind != REAL or buffer in self._batched:
            return False
        if self._uses[buffer] > 1 or view.size != buffer.size or buffer.size < 64:
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
                statement = with_views(statement, put)
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
                if uniform(only) is not None or not _sparse(only):
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

    def groups(self, statements: Sequence[Statement]) -> list[list[Statement]]:
        """Statements that one nest of loops carries out together."""
        groups: list[list[Statement]] = []
        current = Group(self)
        for statement in statements:
            if statement.out.buffer in self._fixed:
                continue
            if current.takes(statement):
                current.add(statement)
                continue
            if current.statements:
                groups.append(current.statements)
            current = Group(self)
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
            fused = all(fusable(s) for s in group)
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
        """Add the function."""
        groups = self.groups(self._statements)
        self.plan(groups)
        self.write_groups(name, groups)

    def plan(self, groups: list[list[Statement]]) -> None:
        """Give the arrays their memory."""
        self.keep = self._kept(groups)
        self._allocate(groups, self.keep)

    def write_groups(self, name: str, groups: list[list[Statement]]) -> None:
        """Add a function of these groups, in pieces that pass everything on in memory."""
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
            lead = (self._stride(view.buffer),)
        if view.positions is not None:
            return Access(view.buffer, 0, lead, view.positions.reshape(-1))
        return Access(view.buffer, view.offset, lead + view.strides)

    def _stride(self, buffer: Buffer) -> int:
        """How far the numbers of one row are from those of the next."""
        if buffer in self._batched or buffer is self._seed:
            return buffer.size
        return self._sets.length if buffer.role in self._starts else 0

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
        return None if fixed is None else uniform(fixed)

    def _group(self, nest: Nest, group: list[Statement]) -> None:
        if all(fusable(s) for s in group):
            Elementwise(self, nest).write(group)
            return
        statement = group[0]
        batched = self.is_batched(statement)
        if isinstance(statement, Constant):
            self._table(nest, statement, batched)
        elif isinstance(statement, Contract):
            summed = statement.out.buffer in self._totals
            factors = [
                self._factor(nest, view, batched, summed)
                for view in (statement.left, statement.right)
            ]
            Products(self, nest, statement.scale).write(statement.out, factors, batched, summed)
        elif isinstance(statement, Reduce):
            self._reduce(nest, statement, batched)
        elif isinstance(statement, Scan):
            self._scan(nest, statement, batched)
        elif isinstance(statement, ScatterAdd):
            self._scatter(nest, statement, batched)
        elif isinstance(statement, (Search, Pick, Put)):
            Lookups(self, nest, batched).write(statement)

    def _factor(self, nest: Nest, view: View, batched: bool, summed: bool = False) -> Any:
        known = self.literal(view)
        if known is not None:
            return (view, known)
        walk = self.access(view, batched)
        if summed:
            strides = (*walk.strides, self._stride(view.buffer))
            walk = Access(walk.buffer, walk.offset, strides, walk.table)
        return (view, walk)

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
        zeros = strided(zeros)
        ones = strided(ones)
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
        Elementwise(self, nest).write([constant], batched)

    def _reduce(self, nest: Nest, statement: Reduce, batched: bool) -> None:
        self._fill(nest, statement.out, NEUTRAL[statement.function], batched)
        source = self._factor(nest, statement.source, batched)
        Products(self, nest, 1.0, statement.function).write(statement.out, [source], batched)

    def _scan(self, nest: Nest, statement: Scan, batched: bool) -> None:
        body = nest.body
        combine = COMBINE[statement.function]
        out = self.access(statement.out, batched)
        source = self.access(statement.source, batched)
        extents = self.extents(statement.source.shape, batched)
        known = self.literal(statement.source)
        base = nest.base(out)
        start = "" if known is not None else nest.base(source)
        real = self._module.real

        def walk(depth: int, counters: list[str]) -> None:
            if depth < len(extents) - 1:
                nest.loop(extents[depth], plain(lambda i: walk(depth + 1, [*counters, i])))
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

            nest.loop(extents[-1], step, [number(NEUTRAL[statement.function], real)])

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


def with_views(statement: Statement, put: Any) -> Statement:
    """The statement with other views."""
    changed = {}
    for entry in dataclasses.fields(statement):
        value = getattr(statement, entry.name)
        if entry.name == "inputs":
            value = tuple(put(x) for x in value)
        changed[entry.name] = put(value) if isinstance(value, View) else value
    return type(statement)(**changed)


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


def _flat(access: Access, view: View, batched: bool) -> Access:
    """The walk with one loop over all elements of the view."""
    lead = access.strides[:1] if batched else ()
    return strided(Access(access.buffer, 0, lead, view.places().reshape(-1)))
