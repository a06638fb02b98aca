"""Scalar expressions and loops in LLVM's language."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .elementary import definition
from .expressions import BOOL, Expressions
from .instructions import LANES, OWN, Body, number, search_definition, vector_type

SIGNATURE = (
    "double %t, ptr noalias readonly %y, ptr noalias readonly %v, ptr noalias readonly %inputs,"
    " ptr noalias %out, ptr noalias %work"
)
_PASSED = "double %t, ptr %y, ptr %v, ptr %inputs, ptr %out, ptr %work"
_INTRINSIC_TYPES = {"f64": "double", "f32": "float", f"v{LANES}f64": vector_type("double", LANES)}
# Operands of functions that have more than one.
_OPERANDS = {"pow": 2, "fmod": 2, "atan2": 2, "hypot": 2, "copysign": 2, "fmuladd": 3}
# Calls of one function that are carried out together: fewer are faster one by one.
_TOGETHER = 3
# Functions with so many calls of elementary.py take it in: LLVM's time grows with each.
_INLINED = 32
# Expressions of one LLVM function at most: the time of the compiler grows faster than the size.
PIECE = 1200


def emit(
    body: Body, pool: Expressions, nodes: Iterable[int], load: Callable[[int], str | None]
) -> dict[int, str]:
    """Write the instructions of some expressions, operands first. load: gives the value of an
    expression that isn't computed here, or None."""
    values: dict[int, str] = {}

    def value(x: int) -> str:
        known = values.get(x)
        if known is None:
            number_ = pool.value(x)
            if number_ is not None:
                known = body.constant(number_, pool.kinds[x])
            else:
                known = load(x) or ""
            values[x] = known
        return known

    for group in _scheduled(pool, nodes, body.looped):
        node = pool.nodes[group[0]]
        operands = [value(operand) for operand in node[1:]]
        if len(group) > 1:
            arguments = [value(pool.nodes[x][1]) for x in group]
            values.update(zip(group, body.calls(node[0], arguments)))
        elif node[0] == "select":
            kind = pool.kinds[group[0]]
            values[group[0]] = body.select(operands[0], operands[1], operands[2], kind)
        else:
            values[group[0]] = body.operation(node[0], operands)
    return values


def _scheduled(pool: Expressions, nodes: Iterable[int], looped: bool) -> list[list[int]]:
    """The expressions one by one, operands first, but calls of one function of elementary.py that
    do not need one another together."""
    made = [x for x in nodes if pool.nodes[x][0] not in ("const", "load")]
    if looped or not any(pool.nodes[x][0] in OWN for x in made):
        return [[x] for x in made]
    # How many such calls stand before an expression, one needing the other.
    depth: dict[int, int] = {}
    stages: dict[int, tuple[list[int], dict[str, list[int]]]] = {}
    for x in made:
        name = pool.nodes[x][0]
        level = max((depth.get(operand, 0) for operand in pool.nodes[x][1:]), default=0)
        others, calls = stages.setdefault(level, ([], {}))
        if name in OWN:
            calls.setdefault(name, []).append(x)
            depth[x] = level + 1
        else:
            others.append(x)
            depth[x] = level
    groups = []
    for level in sorted(stages):
        others, calls = stages[level]
        groups += [[x] for x in others]
        for found in calls.values():
            for start in range(0, len(found), LANES):
                together = found[start : start + LANES]
                groups += [together] if len(together) >= _TOGETHER else [[x] for x in together]
    return groups


def reachable(pool: Expressions, roots: Iterable[int]) -> list[int]:
    """The expressions that the roots need, operands first."""
    needed = set()
    stack = list(roots)
    while stack:
        x = stack.pop()
        if x in needed:
            continue
        needed.add(x)
        node = pool.nodes[x]
        if node[0] not in ("const", "load"):
            stack.extend(node[1:])
    return sorted(needed)


class Module:
    """The text of an LLVM module.

    looped: whether its functions consist of loops. register: the bytes of a vector register.
    """

    def __init__(self, real: str, looped: bool = False, register: int = 16) -> None:
        self.real = real
        self.looped = looped
        self.register = register
        self.used: set[str] = set()
        self.functions: list[str] = []
        self.globals: list[str] = []
        self._tables: dict[tuple[bytes, str], str] = {}

    @property
    def lanes(self) -> int:
        """Real numbers in a vector register."""
        return self.register // (8 if self.real == "double" else 4)

    def body(self) -> Body:
        """The body of a further function."""
        return Body(self.real, self.used, self.looped)

    def add(self, name: str, body: Body, internal: bool = False) -> None:
        """Finish a function."""
        linkage = "internal " if internal else ""
        # Pieces are compiled one by one; inlining would join them again.
        attributes = " noinline nounwind" if internal else " nounwind"
        head = f"define {linkage}void @{name}({SIGNATURE}){attributes} {{"
        self.functions.append(
            "\n".join([head, "entry:", *body.prelude, *body.lines, "  ret void", "}"])
        )

    def table(self, content: bytes, type_: str, items: Iterable[str]) -> str:
        """The name of a constant array; equal ones are one. type_: "[3 x i32]" and the like."""
        name = self._tables.get((content, type_))
        if name is None:
            name = f"@table{len(self._tables)}"
            self._tables[(content, type_)] = name
            text = ", ".join(items)
            self.globals.append(f"{name} = internal constant {type_} [{text}], align 64")
        return name

    def text(self) -> str:
        """The whole module."""
        lines = list(self.globals)
        inline = sum(text.count("@own.") for text in self.functions) <= _INLINED
        searches = {name for name in self.used if name.startswith("search.")}
        lines += [search_definition(name) for name in sorted(searches)]
        own = {name for name in self.used if name.startswith("own.")}
        declared = self.used - own - searches
        for name in sorted(own):
            text, needed = definition(name.removeprefix("own."), inline)
            lines.append(text)
            declared |= needed
        for name in sorted(declared):
            lines.append(self._declaration(name))
        lines.extend(self.functions)
        lines.append("attributes #0 = { nounwind willreturn memory(none) }")
        return "\n".join(lines) + "\n"

    def _declaration(self, name: str) -> str:
        if name.startswith("llvm."):
            _, short, kind = name.split(".")
            type_ = _INTRINSIC_TYPES[kind]
            return f"declare {type_} @{name}({', '.join([type_] * _OPERANDS.get(short, 1))}) #0"
        operands = ", ".join(["double"] * _OPERANDS.get(name, 1))
        return f"declare double @{name}({operands}) #0"


def scalar_function(
    module: Module, name: str, pool: Expressions, outs: Sequence[int], added: range = range(0)
) -> int:
    """A function that writes these expressions to out. Return how many numbers of work it uses.

    added: the places in out to which expressions are added.

    Large functions are divided into pieces, which pass numbers on in work.
    """
    live = [x for x in reachable(pool, outs) if pool.nodes[x][0] not in ("const", "load")]
    pieces = [live[i : i + PIECE] for i in range(0, len(live), PIECE)] or [[]]
    if len(pieces) == 1:
        body = module.body()
        _Piece(body, pool, {}, {}, 0, added).write(pieces[0], list(enumerate(outs)), [])
        module.add(name, body)
        return 0
    home = {x: i for i, piece in enumerate(pieces) for x in piece}
    slots = _slots(pool, pieces, home)
    last = len(pieces) - 1
    writes: list[list[tuple[int, int]]] = [[] for _ in pieces]
    for place, x in enumerate(outs):
        writes[home.get(x, last)].append((place, x))
    main = module.body()
    for i, piece in enumerate(pieces):
        body = module.body()
        passed = [x for x in piece if x in slots]
        _Piece(body, pool, home, slots, i, added).write(piece, writes[i], passed)
        module.add(f"{name}.{i}", body, internal=True)
        main.put(f"call void @{name}.{i}({_PASSED})")
    module.add(name, main)
    return len(slots)


def _slots(pool: Expressions, pieces: list[list[int]], home: dict[int, int]) -> dict[int, int]:
    """The places in work of the expressions that a later piece reads."""
    slots: dict[int, int] = {}
    for i, piece in enumerate(pieces):
        for x in piece:
            for operand in pool.nodes[x][1:]:
                if home.get(operand, i) != i and operand not in slots:
                    slots[operand] = len(slots)
    return slots


class _Piece:
    """The writer of one piece of a scalar function."""

    def __init__(
        self,
        body: Body,
        pool: Expressions,
        home: dict[int, int],
        slots: dict[int, int],
        index: int,
        added: range,
    ) -> None:
        self._body = body
        self._pool = pool
        self._home = home
        self._slots = slots
        self._index = index
        self._added = added

    def write(self, nodes: list[int], outs: list[tuple[int, int]], passed: list[int]) -> None:
        """Compute the nodes, write the results, and pass numbers on."""
        body = self._body
        values = emit(body, self._pool, nodes, self._load)
        for place, x in outs:
            if place in self._added and x == self._pool.zero:
                continue
            value = values.get(x)
            if value is None:
                constant = self._pool.value(x)
                if constant is not None:
                    value = body.constant(constant, self._pool.kinds[x])
                else:
                    value = self._load(x)
                    values[x] = value
            if place in self._added:
                value = body.operation("add", [body.load("%out", place), value])
            body.store(value, "%out", place)
        for x in passed:
            value = values[x]
            if self._pool.kinds[x] == BOOL:
                value = body.operation("real", [value])
            body.store(value, "%work", self._slots[x])

    def _load(self, x: int) -> str:
        body = self._body
        node = self._pool.nodes[x]
        if node[0] != "load":
            value = body.load("%work", self._slots[x])
            if self._pool.kinds[x] == BOOL:
                return body.operation("ne", [value, number(0.0, body.real)])
            return value
        array = node[1]
        if array == "t":
            return body.time()
        if array == "inputs":
            index, place = node[2]
            return body.load(body.pointer(index), place)
        return body.load(f"%{array}", node[2])
