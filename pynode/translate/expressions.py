"""Scalar expressions: equal ones are one, and 0 and 1 fold away."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

REAL = "real"
BOOL = "bool"
_COMMUTATIVE = frozenset({"add", "mul", "and", "or", "eq", "ne"})
_COMPARE = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
_ARITHMETIC = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
}


@dataclass(frozen=True)
class TableSearch:
    """The operation of graph.Search on a table in an input: its numbers at offset, offset + step,
    ..."""

    index: int
    offset: int
    step: int
    count: int
    right: bool


@dataclass(frozen=True)
class TablePick:
    """The operation of graph.Pick on an input, from its number at offset."""

    index: int
    offset: int
    step: int
    extent: int
    outside: str


class Expressions:
    """A pool of scalar expressions, each a number (its place in the pool).

    An expression is a tuple: ("const", value, bits), ("load", array, place), or (operation,
    operand, ...). A mul by the number 0 gives 0 also where the other factor is infinite: so the
    zeros of unit vectors leave the sparse Jacobian.
    """

    def __init__(self) -> None:
        self.nodes: list[tuple] = []
        self.kinds: list[str] = []
        self._known: dict[tuple, int] = {}
        self.zero = self.const(0.0)
        self.one = self.const(1.0)
        self.false = self._make(("const", False, "b"), BOOL)
        self.true = self._make(("const", True, "b"), BOOL)

    def _make(self, node: tuple, kind: str) -> int:
        known = self._known.get(node)
        if known is not None:
            return known
        place = len(self.nodes)
        self.nodes.append(node)
        self.kinds.append(kind)
        self._known[node] = place
        return place

    def const(self, value: float) -> int:
        """A number. -0.0 and 0.0 are two."""
        value = float(value)
        if value != value:
            return self._make(("const", "nan", "nan"), REAL)
        return self._make(("const", value, math.copysign(1.0, value)), REAL)

    def boolean(self, value: bool) -> int:
        """A truth value."""
        return self.true if value else self.false

    def load(self, array: str, place: object, kind: str = REAL) -> int:
        """A number of an array: its name, and the place in it."""
        return self._make(("load", array, place), kind)

    def value(self, x: int) -> float | bool | None:
        """The number if the expression is one, else None."""
        node = self.nodes[x]
        if node[0] != "const":
            return None
        return math.nan if node[1] == "nan" else node[1]

    def real(self, x: int) -> int:
        """A truth value as 0 or 1; a number as it is."""
        if self.kinds[x] == REAL:
            return x
        value = self.value(x)
        if value is not None:
            return self.one if value else self.zero
        return self._make(("real", x), REAL)

    def truth(self, x: int) -> int:
        """Whether a number isn't 0; a truth value as it is."""
        if self.kinds[x] == BOOL:
            return x
        return self.compare("ne", x, self.zero)

    def binary(self, name: str, a: int, b: int, kind: str = REAL) -> int:
        """An operation of two operands without folding."""
        if name in _COMMUTATIVE and a > b:
            return self._make((name, b, a), kind)
        return self._make((name, a, b), kind)

    def _folded(self, name: str, a: int, b: int) -> int | None:
        first = self.value(a)
        second = self.value(b)
        if first is None or second is None:
            return None
        return self.const(_ARITHMETIC[name](first, second))

    def add(self, a: int, b: int) -> int:
        """a + b."""
        if a == self.zero:
            return b
        if b == self.zero:
            return a
        folded = self._folded("add", a, b)
        if folded is not None:
            return folded
        if self.nodes[b][0] == "neg":
            return self.sub(a, self.nodes[b][1])
        if self.nodes[a][0] == "neg":
            return self.sub(b, self.nodes[a][1])
        return self.binary("add", a, b)

    def sub(self, a: int, b: int) -> int:
        """a - b."""
        if b == self.zero:
            return a
        if a == self.zero:
            return self.neg(b)
        folded = self._folded("sub", a, b)
        if folded is not None:
            return folded
        if self.nodes[b][0] == "neg":
            return self.add(a, self.nodes[b][1])
        return self.binary("sub", a, b)

    def neg(self, a: int) -> int:
        """-a."""
        value = self.value(a)
        if value is not None:
            return self.zero if value == 0.0 else self.const(-value)
        if self.nodes[a][0] == "neg":
            return self.nodes[a][1]
        return self._make(("neg", a), REAL)

    def mul(self, a: int, b: int) -> int:
        """a b."""
        factor = self.value(a)
        second = self.value(b)
        if second is not None:
            if factor is not None:
                return self.const(factor * second)
            return self.mul(b, a)
        if factor == 0.0:
            return self.zero
        if factor == 1.0:
            return b
        if factor == -1.0:
            return self.neg(b)
        if self.nodes[b][0] == "neg":
            if factor is not None:
                return self.mul(self.const(-factor), self.nodes[b][1])
            return self.neg(self.mul(a, self.nodes[b][1]))
        if self.nodes[a][0] == "neg":
            return self.neg(self.mul(self.nodes[a][1], b))
        return self.binary("mul", a, b)

    def div(self, a: int, b: int) -> int:
        """a / b."""
        first = self.value(a)
        second = self.value(b)
        if first == 0.0 and second is None:
            return self.zero
        if second == 1.0:
            return a
        if second == -1.0:
            return self.neg(a)
        if first is not None and second is not None and second != 0.0:
            return self.const(first / second)
        return self.binary("div", a, b)

    def unary(self, name: str, a: int) -> int:
        """A function of the mathematics library, or one that LLVM has."""
        value = self.value(a)
        if value is not None:
            folded = _evaluated(name, value)
            if folded is not None:
                return self.const(folded)
        return self._make((name, a), REAL)

    def looked_up(self, table: TableSearch | TablePick, x: int) -> int:
        """The place of x in a table, or the number of a table at the place x."""
        return self._make((table, self.real(x)), REAL)

    def power(self, a: int, b: int) -> int:
        """a to the power b."""
        return self.binary("pow", a, b)

    def compare(self, name: str, a: int, b: int) -> int:
        """The truth of a < b and the like."""
        first = self.value(a)
        second = self.value(b)
        if first is not None and second is not None:
            return self.boolean(_COMPARE[name](first, second))
        return self.binary(name, a, b, BOOL)

    def both(self, a: int, b: int) -> int:
        """a and b."""
        if self.false in (a, b):
            return self.false
        if a == self.true:
            return b
        if b == self.true or a == b:
            return a
        return self.binary("and", a, b, BOOL)

    def either(self, a: int, b: int) -> int:
        """a or b."""
        if self.true in (a, b):
            return self.true
        if a == self.false:
            return b
        if b == self.false or a == b:
            return a
        return self.binary("or", a, b, BOOL)

    def invert(self, a: int) -> int:
        """not a."""
        value = self.value(a)
        if value is not None:
            return self.boolean(not value)
        return self._make(("not", a), BOOL)

    def select(self, condition: int, a: int, b: int) -> int:
        """a if the condition is true, else b."""
        value = self.value(condition)
        if value is not None:
            return a if value else b
        if a == b:
            return a
        if BOOL in (self.kinds[a], self.kinds[b]) and self.kinds[a] != self.kinds[b]:
            a = self.real(a)
            b = self.real(b)
        return self._make(("select", condition, a, b), self.kinds[a])


def _evaluated(name: str, value: float) -> float | None:
    """The value of a unary function of a number where Python's math has it exactly enough."""
    function = _FOLDED.get(name)
    if function is None:
        return None
    try:
        return function(value)
    except (ValueError, OverflowError):
        return None


_FOLDED: dict[str, Callable[[float], float]] = {
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "sin": math.sin,
    "cos": math.cos,
    "tanh": math.tanh,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "expm1": math.expm1,
    "log1p": math.log1p,
    "erf": math.erf,
}
