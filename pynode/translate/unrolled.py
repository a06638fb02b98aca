"""A graph as scalar expressions: every number of every array is an expression of its own."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .expressions import Expressions, TablePick, TableSearch
from .graph import (
    BOOL,
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
from .instructions import LANES
from .scalar_functions import SCALAR

# The expressions of an input's numbers.
Load = Callable[[Expressions, Buffer], list[int]]


class TooLarge(Exception):
    """More expressions than one wants as scalars."""


# Numbers of a matrix whose product is faster in loops, if the layers beside it are wide enough.
_MATRIX = 48
_LAYERS = frozenset(
    "tanh sigmoid exp gelu gelu_tanh silu softplus elu erf mish log_sigmoid".split()
)
# Expressions of a function that is always written as scalars, and the most that ever are.
_SMALL = 1500
_LARGEST = 40_000
# The most of a function of which the zeros leave so small a part of the work.
_LARGEST_SPARSE = 150_000
_SPARSE = 0.08
# Places among which scalars choose one by one.
_MOST_CHOICES = 256


def scalar_limit(statements: int, work: int) -> int:
    """How many expressions there may be in scalar code, where loops would do this work.

    Scalar code pays for small functions, for sparse ones, whose zeros fold away, and for those
    that are written as scalars in torch.
    """
    usual = min(_LARGEST, max(int(0.4 * work), 8 * statements))
    sparse = min(_LARGEST_SPARSE, int(_SPARSE * work))
    return max(_SMALL, usual, sparse)


def suits_loops(statements: Sequence[Statement]) -> bool:
    """Whether loops are better from the start: for layers of a network, whose numbers LLVM carries
    out side by side. They have products with matrices, but not with tables, whose zeros scalars
    leave out, and functions like tanh of at least LANES numbers each."""
    constant = {s.out.buffer for s in statements if isinstance(s, Constant)}
    largest = 0
    for statement in statements:
        if isinstance(statement, Contract):
            if constant & {statement.left.buffer, statement.right.buffer}:
                if statement.left.size >= _MATRIX:
                    return False
            else:
                largest = max(largest, statement.left.size)
        elif isinstance(statement, Map) and statement.function in _LAYERS:
            if statement.out.size < LANES:
                return False
    return largest >= _MATRIX


class Evaluation:
    """The memory of a graph that is evaluated on expressions: for each buffer a list of them.

    load: makes the expressions of an input. limit: how many expressions there may be.
    """

    def __init__(self, pool: Expressions, load: Load, limit: int) -> None:
        self.pool = pool
        self.limit = limit
        self._load = load
        self.memory: dict[Buffer, list[int]] = {}
        self.arrays: dict[Buffer, np.ndarray] = {}  # of the memory, as far as it was needed

    def array(self, buffer: Buffer) -> list[int]:
        """The expressions of a buffer."""
        known = self.memory.get(buffer)
        if known is None:
            if buffer.role is None:
                known = [self.pool.zero] * buffer.size
            else:
                known = self._load(self.pool, buffer)
            self.memory[buffer] = known
        return known

    def read(self, view: View) -> list[int]:
        """The expressions of a view, in row-major order."""
        array = self.array(view.buffer)
        return [array[place] for place in view.flat_places]

    def factor(self, view: View) -> np.ndarray:
        """The same as an array, (size,) int64."""
        known = self.arrays.get(view.buffer)
        if known is None:
            known = np.array(self.array(view.buffer), dtype=np.int64)
            self.arrays[view.buffer] = known
        return known[view.places().reshape(-1)]

    def run(self, statements: Sequence[Statement]) -> None:
        """Evaluate the statements one after the other."""
        for statement in statements:
            array = self.array(statement.out.buffer)
            self.arrays.pop(statement.out.buffer, None)
            places = statement.out.flat_places
            if isinstance(statement, ScatterAdd):
                self._scatter(array, places, self.read(statement.source))
            elif isinstance(statement, Put):
                self._put(statement, array, places)
            else:
                for place, x in zip(places, self._values(statement)):
                    array[place] = x
            if len(self.pool.nodes) > self.limit:
                raise TooLarge

    def _values(self, statement: Statement) -> list[int]:
        if isinstance(statement, Constant):
            return self._constants(statement)
        if isinstance(statement, Map):
            return self._mapped(statement)
        if isinstance(statement, Contract):
            return self._contracted(statement)
        if isinstance(statement, Reduce):
            return self._reduced(statement)
        if isinstance(statement, Search):
            return self._searched(statement)
        if isinstance(statement, Pick):
            return self._picked(statement)
        assert isinstance(statement, Scan)
        return self._scanned(statement)

    def _constants(self, statement: Constant) -> list[int]:
        e = self.pool
        first = statement.data.reshape(-1)[:1]
        if statement.out.buffer.kind != BOOL and (statement.data == first).all():
            return [e.const(first[0])] * statement.data.size if first.size else []
        if statement.out.buffer.kind == BOOL:
            return [e.boolean(bool(x)) for x in statement.data.reshape(-1).tolist()]
        return [e.const(x) for x in statement.data.reshape(-1).tolist()]

    def _mapped(self, statement: Map) -> list[int]:
        e = self.pool
        function = SCALAR[statement.function]
        columns = []
        for x in statement.inputs:
            if isinstance(x, View):
                columns.append(self.read(x))
            else:
                columns.append([e.const(x)] * statement.out.size)
        extra = statement.parameters
        if statement.function == "copy":
            return columns[0]
        if statement.function == "add" and extra == (1.0,):
            # Mostly zeros in the backward passes of fields that are written element by element.
            zero = e.zero
            return [e.real(a) if b == zero else function(e, a, b) for a, b in zip(*columns)]
        return [function(e, *operands, *extra) for operands in zip(*columns)]

    def _contracted(self, statement: Contract) -> list[int]:
        e = self.pool
        width = _product(statement.left.shape[len(statement.out.shape) :])
        left = self.factor(statement.left)
        right = self.factor(statement.right)
        products = [e.zero] * statement.out.size
        kept = np.flatnonzero((left != e.zero) & (right != e.zero))
        for k, a, b in zip(kept.tolist(), left[kept].tolist(), right[kept].tolist()):
            row = k // width
            products[row] = e.add(products[row], e.mul(e.real(a), e.real(b)))
        scale = e.const(statement.scale)
        totals = self.read(statement.out)
        return [e.add(total, e.mul(scale, x)) for total, x in zip(totals, products)]

    def _reduced(self, statement: Reduce) -> list[int]:
        width = _product(statement.source.shape[len(statement.out.shape) :])
        if not width:
            neutral = self.pool.one if statement.function == "prod" else self.pool.zero
            return [neutral] * statement.out.size
        source = self.read(statement.source)
        combine = self._combine(statement.function)
        made = []
        for start in range(0, len(source), width):
            total = self.pool.real(source[start])
            for x in source[start + 1 : start + width]:
                total = combine(total, x)
            made.append(total)
        return made

    def _combine(self, function: str) -> Callable[[int, int], int]:
        e = self.pool
        names = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}
        scalar = SCALAR[names[function]]
        return lambda a, b: scalar(e, a, b)

    def _scanned(self, statement: Scan) -> list[int]:
        combine = self._combine(statement.function)
        source = self.read(statement.source)
        width = statement.source.shape[-1]
        made: list[int] = []
        for start in range(0, len(source), width or 1):
            total = self.pool.real(source[start])
            made.append(total)
            for x in source[start + 1 : start + width]:
                total = combine(total, x)
                made.append(total)
        return made

    def _scatter(self, array: list[int], places: list[int], source: list[int]) -> None:
        e = self.pool
        for place, x in zip(places, source):
            array[place] = e.add(array[place], e.real(x))

    def _searched(self, statement: Search) -> list[int]:
        """Places in a table: by a search if it stands in an input, otherwise counted."""
        e = self.pool
        table = statement.table
        found = [e.real(x) for x in self.read(statement.found)]
        if table.buffer.role == "input" and table.positions is None:
            step = table.strides[0]
            where = TableSearch(table.buffer.index, table.offset, step, table.size, statement.right)
            return [e.looked_up(where, x) for x in found]
        if table.size > _MOST_CHOICES:
            raise TooLarge
        name = "lt" if statement.right else "le"
        made = []
        for x in found:
            after = [e.invert(e.compare(name, x, e.real(b))) for b in self.read(table)]
            total = e.zero
            for y in after:
                total = e.add(total, e.real(y))
            made.append(total)
        return made

    def _picked(self, statement: Pick) -> list[int]:
        """Numbers at places: loaded if they stand in an input, otherwise chosen one by one."""
        e = self.pool
        buffer = statement.source.buffer
        places = [e.real(x) for x in self.read(statement.places)]
        starts = statement.source.flat_places
        step = statement.step
        extent = statement.extent
        if buffer.role == "input":
            outside = repr(statement.outside)
            return [
                e.looked_up(TablePick(buffer.index, start, step, extent, outside), x)
                for start, x in zip(starts, places)
            ]
        if extent > _MOST_CHOICES:
            raise TooLarge
        array = self.array(buffer)
        made = []
        for start, x in zip(starts, places):
            value = e.const(statement.outside)
            for k in range(extent):
                here = e.compare("eq", x, e.const(float(k)))
                value = e.select(here, e.real(array[start + step * k]), value)
            made.append(value)
        return made

    def _put(self, statement: Put, array: list[int], starts: list[int]) -> None:
        """Add to one of many places: scalars add to all of them."""
        e = self.pool
        if statement.extent > _MOST_CHOICES:
            raise TooLarge
        places = self.read(statement.places)
        source = self.read(statement.source)
        for start, place, x in zip(starts, places, source):
            if x == e.zero:
                continue
            for k in range(statement.extent):
                here = e.compare("eq", e.real(place), e.const(float(k)))
                at = start + statement.step * k
                array[at] = e.add(array[at], e.select(here, e.real(x), e.zero))


def _product(extents: tuple[int, ...]) -> int:
    total = 1
    for extent in extents:
        total *= extent
    return total


def loader(starts: Mapping[str, int]) -> Load:
    """Loads of the inputs. starts: where the vectors w, u, s and q begin in v."""

    def load(e: Expressions, buffer: Buffer) -> list[int]:
        if buffer.role == "t":
            return [e.load("t", 0)]
        if buffer.role == "y":
            return [e.load("y", i) for i in range(buffer.size)]
        if buffer.role == "input":
            return [e.load("inputs", (buffer.index, i)) for i in range(buffer.size)]
        role = buffer.role or ""
        if role not in starts:
            # torch's derivative of a product that is linear in w still reads w, in terms that do
            # not change it.
            return [e.one] * buffer.size
        start = starts[role] + buffer.index
        return [e.load("v", start + i) for i in range(buffer.size)]

    return load


def results(evaluation: Evaluation, views: Sequence[View]) -> list[int]:
    """The expressions of some results, one view after the other, in row-major order."""
    return [evaluation.pool.real(x) for view in views for x in evaluation.read(view)]


def evaluated(
    graph: Graph,
    names: Sequence[str],
    starts: Mapping[str, int],
    limit: int,
    pool: Expressions | None = None,
) -> tuple[Expressions, list[int]]:
    """The expressions of these results. pool: where they are made; None for a new one."""
    pool = pool or Expressions()
    evaluation = Evaluation(pool, loader(starts), limit)
    evaluation.run(graph.live(list(names)))
    return pool, [x for name in names for x in results(evaluation, graph.results[name])]


def basis_rows(
    graph: Graph,
    names: Sequence[str],
    seeds: np.ndarray,
    limit: int,
    pool: Expressions | None = None,
) -> tuple[Expressions, list[dict[str, list[int]]]]:
    """The results for w = each row of seeds, zeros and ones, (rows, n): expressions by name.

    What does not depend on w is evaluated once. pool: where they are made; None for a new one.
    """
    pool = pool or Expressions()
    statements = graph.live(list(names))
    dependent = dependents(statements, "w")
    base = Evaluation(pool, loader({}), limit)
    base.run([s for s in statements if s.out.buffer not in dependent])
    rest = [s for s in statements if s.out.buffer in dependent]
    for statement in rest:
        if isinstance(statement, Contract):
            for view in (statement.left, statement.right):
                if view.buffer not in dependent and view.buffer.role is None:
                    base.factor(view)
    reach = _Reach(rest, dependent, base, seeds.shape[1])
    rows = []
    for seed in seeds:
        row = _evaluation_of(base, seed)
        reach.run(row, seed)
        rows.append({name: results(row, graph.results[name]) for name in names})
    return pool, rows


def _evaluation_of(base: Evaluation, seed: np.ndarray) -> Evaluation:
    """The memory for one w, with what does not depend on it."""
    row = Evaluation(base.pool, _seed_loader(seed), base.limit)
    row.memory = {b: a for b, a in base.memory.items() if b.role is None}
    row.arrays = {b: a for b, a in base.arrays.items() if b.role is None}
    return row


class _Reach:
    """Runs the statements that depend on w, for one w with few numbers after another: only those to
    which something else than zero comes. A field of 500 species has thousands, of which one number
    of w reaches ten.

    statements: all that depend on w, in order. dependent: the buffers that do. n: numbers in w.
    """

    def __init__(
        self, statements: list[Statement], dependent: set[Buffer], base: Evaluation, n: int
    ) -> None:
        self._statements = statements
        self._of_w: list[list[int]] = [[] for _ in range(n)]
        self._readers: dict[Buffer, list[int]] = {}
        for i, statement in enumerate(statements):
            # A later statement can write over what an earlier one left.
            self._readers.setdefault(statement.out.buffer, []).append(i)
            for view in statement.reads:
                if view.buffer.role == "w":
                    for place in set(view.flat_places):
                        self._of_w[place].append(i)
                elif view.buffer in dependent:
                    self._readers.setdefault(view.buffer, []).append(i)
        # They are linear in w. What is not zero without w runs each time, to be sure.
        without = _evaluation_of(base, np.zeros(n))
        without.run(statements)
        zero = base.pool.zero
        self._always = [
            i
            for i, statement in enumerate(statements)
            if any(x != zero for x in without.array(statement.out.buffer))
        ]

    def run(self, row: Evaluation, seed: np.ndarray) -> None:
        """Evaluate what seed, (n,), reaches."""
        waiting = set(self._always)
        for place in np.flatnonzero(seed).tolist():
            waiting.update(self._of_w[place])
        queue = sorted(waiting)
        zero = row.pool.zero
        while queue:
            i = heapq.heappop(queue)
            statement = self._statements[i]
            row.run([statement])
            array = row.array(statement.out.buffer)
            if all(array[place] == zero for place in statement.out.flat_places):
                continue
            for reader in self._readers.get(statement.out.buffer, ()):
                if reader > i and reader not in waiting:
                    waiting.add(reader)
                    heapq.heappush(queue, reader)


def dependents(statements: Sequence[Statement], role: str) -> set[Buffer]:
    """The intermediates that an input of this role reaches."""
    reached: set[Buffer] = set()
    grown = True
    while grown:
        before = len(reached)
        for statement in statements:
            if any(v.buffer.role == role or v.buffer in reached for v in statement.reads):
                reached.add(statement.out.buffer)
        grown = len(reached) > before
    return reached


def _seed_loader(seed: np.ndarray) -> Load:
    others = loader({})

    def load(e: Expressions, buffer: Buffer) -> list[int]:
        if buffer.role != "w":
            return others(e, buffer)
        return [e.const(x) for x in seed.tolist()]

    return load
