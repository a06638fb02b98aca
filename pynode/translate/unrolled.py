"""A graph as scalar expressions: every number of every array is an expression of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .expressions import Expressions
from .graph import (
    BOOL,
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
from .scalar_functions import SCALAR

Load = Callable[[Expressions, Buffer], np.ndarray]


class TooLarge(Exception):
    """More expressions than one wants as scalars."""


# Expressions of a function that is always written as scalars, and the most that ever are.
_SMALL = 1500
_LARGEST = 40_000


def scalar_limit(statements: int, work: int) -> int:
    """How many expressions there may be in scalar code, where loops would do this work.

    Scalar code pays for small functions, for sparse ones, whose zeros fold away, and for those
    that are written as scalars in torch.
    """
    return max(_SMALL, min(_LARGEST, max(int(0.4 * work), 8 * statements)))


class Evaluation:
    """The memory of a graph that is evaluated on expressions: for each buffer an array of them.

    load: makes the expressions of an input. limit: how many expressions there may be.
    """

    def __init__(self, pool: Expressions, load: Load, limit: int) -> None:
        self.pool = pool
        self.limit = limit
        self._load = load
        self.memory: dict[Buffer, np.ndarray] = {}

    def array(self, buffer: Buffer) -> np.ndarray:
        """The expressions of a buffer."""
        known = self.memory.get(buffer)
        if known is None:
            if buffer.role is None:
                known = np.full(buffer.size, self.pool.zero, dtype=np.int64)
            else:
                known = self._load(self.pool, buffer)
            self.memory[buffer] = known
        return known

    def read(self, view: View) -> np.ndarray:
        """The expressions of a view, in its shape."""
        return self.array(view.buffer)[view.places()]

    def run(self, statements: Sequence[Statement]) -> None:
        """Evaluate the statements one after the other."""
        for statement in statements:
            self._one(statement)
            if len(self.pool.nodes) > self.limit:
                raise TooLarge

    def _one(self, statement: Statement) -> None:
        array = self.array(statement.out.buffer)
        places = statement.out.places()
        if isinstance(statement, Constant):
            array[places] = self._constants(statement)
        elif isinstance(statement, Map):
            array[places] = self._mapped(statement)
        elif isinstance(statement, Contract):
            array[places] = self._contracted(statement, array[places])
        elif isinstance(statement, Reduce):
            array[places] = self._reduced(statement)
        elif isinstance(statement, Scan):
            array[places] = self._scanned(statement)
        elif isinstance(statement, ScatterAdd):
            self._scatter(array, places, self.read(statement.source))

    def _constants(self, statement: Constant) -> np.ndarray:
        e = self.pool
        if statement.out.buffer.kind == BOOL:
            made = [e.boolean(bool(x)) for x in statement.data.reshape(-1)]
        else:
            made = [e.const(x) for x in statement.data.reshape(-1)]
        return np.array(made, dtype=np.int64).reshape(statement.data.shape)

    def _mapped(self, statement: Map) -> np.ndarray:
        e = self.pool
        function = SCALAR[statement.function]
        columns = []
        for x in statement.inputs:
            if isinstance(x, View):
                columns.append(self.read(x).reshape(-1).tolist())
            else:
                columns.append([e.const(x)] * statement.out.size)
        extra = statement.parameters
        made = [function(e, *operands, *extra) for operands in zip(*columns)]
        return np.array(made, dtype=np.int64).reshape(statement.out.shape)

    def _contracted(self, statement: Contract, start: np.ndarray) -> np.ndarray:
        e = self.pool
        rank = start.ndim
        inner = statement.left.shape[rank:]
        width = int(np.prod(inner, dtype=np.int64))
        left = self.read(statement.left).reshape(-1, width).tolist()
        right = self.read(statement.right).reshape(-1, width).tolist()
        scale = e.const(statement.scale)
        made = []
        for total, first, second in zip(start.reshape(-1).tolist(), left, right):
            products = e.zero
            for a, b in zip(first, second):
                products = e.add(products, e.mul(e.real(a), e.real(b)))
            made.append(e.add(total, e.mul(scale, products)))
        return np.array(made, dtype=np.int64).reshape(start.shape)

    def _reduced(self, statement: Reduce) -> np.ndarray:
        rank = len(statement.out.shape)
        source = statement.source
        width = int(np.prod(source.shape[rank:], dtype=np.int64))
        rows = self.read(source).reshape(-1, width).tolist() if width else []
        if not width:
            neutral = self.pool.one if statement.function == "prod" else self.pool.zero
            return np.full(statement.out.shape, neutral, dtype=np.int64)
        made = [self._folded(statement.function, row) for row in rows]
        return np.array(made, dtype=np.int64).reshape(statement.out.shape)

    def _combine(self, function: str) -> Callable[[int, int], int]:
        e = self.pool
        names = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}
        scalar = SCALAR[names[function]]
        return lambda a, b: scalar(e, a, b)

    def _folded(self, function: str, row: list[int]) -> int:
        combine = self._combine(function)
        total = self.pool.real(row[0])
        for x in row[1:]:
            total = combine(total, x)
        return total

    def _scanned(self, statement: Scan) -> np.ndarray:
        combine = self._combine(statement.function)
        source = self.read(statement.source)
        rows = source.reshape(-1, source.shape[-1]).tolist()
        made = []
        for row in rows:
            total = self.pool.real(row[0])
            made.append(total)
            for x in row[1:]:
                total = combine(total, x)
                made.append(total)
        return np.array(made, dtype=np.int64).reshape(source.shape)

    def _scatter(self, array: np.ndarray, places: np.ndarray, source: np.ndarray) -> None:
        e = self.pool
        for place, x in zip(places.reshape(-1).tolist(), source.reshape(-1).tolist()):
            array[place] = e.add(int(array[place]), e.real(x))


def loader(starts: Mapping[str, int]) -> Load:
    """Loads of the inputs. starts: where the vectors w, u, s and q begin in v."""

    def load(e: Expressions, buffer: Buffer) -> np.ndarray:
        if buffer.role == "t":
            made = [e.load("t", 0)]
        elif buffer.role == "y":
            made = [e.load("y", i) for i in range(buffer.size)]
        elif buffer.role == "input":
            made = [e.load("inputs", (buffer.index, i)) for i in range(buffer.size)]
        else:
            start = starts[buffer.role or ""] + buffer.index
            made = [e.load("v", start + i) for i in range(buffer.size)]
        return np.array(made, dtype=np.int64)

    return load


def results(evaluation: Evaluation, views: Sequence[View]) -> list[int]:
    """The expressions of some results, one view after the other, in row-major order."""
    found: list[int] = []
    for view in views:
        row = evaluation.read(view).reshape(-1).tolist()
        found.extend(evaluation.pool.real(x) for x in row)
    return found


def evaluated(
    graph: Graph, names: Sequence[str], starts: Mapping[str, int], limit: int
) -> tuple[Expressions, list[int]]:
    """The expressions of these results."""
    pool = Expressions()
    evaluation = Evaluation(pool, loader(starts), limit)
    evaluation.run(graph.live(list(names)))
    return pool, [x for name in names for x in results(evaluation, graph.results[name])]


def basis_rows(
    graph: Graph, names: Sequence[str], size: int, limit: int
) -> tuple[Expressions, list[dict[str, list[int]]]]:
    """The results for w = each unit vector: for each row of the Jacobian its expressions by name.

    What does not depend on w is evaluated once.
    """
    pool = Expressions()
    statements = graph.live(list(names))
    dependent = dependents(statements, "w")
    base = Evaluation(pool, loader({}), limit)
    base.run([s for s in statements if s.out.buffer not in dependent])
    rest = [s for s in statements if s.out.buffer in dependent]
    rows = []
    for place in range(size):
        row = Evaluation(pool, _unit_loader(place), limit)
        row.memory = {b: a for b, a in base.memory.items() if b not in dependent}
        row.run(rest)
        rows.append({name: results(row, graph.results[name]) for name in names})
    return pool, rows


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


def _unit_loader(place: int) -> Load:
    others = loader({})

    def load(e: Expressions, buffer: Buffer) -> np.ndarray:
        if buffer.role != "w":
            return others(e, buffer)
        made = np.full(buffer.size, e.zero, dtype=np.int64)
        made[place] = e.one
        return made

    return load
