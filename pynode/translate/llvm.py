"""Scalar expressions and loops in LLVM's language."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence

from .expressions import BOOL, Expressions

SIGNATURE = (
    "double %t, ptr noalias readonly %y, ptr noalias readonly %v, ptr noalias readonly %inputs,"
    " ptr noalias %out, ptr noalias %work"
)
_PASSED = "double %t, ptr %y, ptr %v, ptr %inputs, ptr %out, ptr %work"
_BINARY = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_COMPARE = {
    "eq": "fcmp oeq",
    "ne": "fcmp une",
    "lt": "fcmp olt",
    "le": "fcmp ole",
    "gt": "fcmp ogt",
    "ge": "fcmp oge",
    "une": "fcmp uno",
}
_LOGIC = {"and": "and", "or": "or"}
_INTRINSIC = {"sqrt": "sqrt", "abs": "fabs", "floor": "floor", "ceil": "ceil", "trunc": "trunc"}
_INTRINSIC["round"] = "rint"
_TWO = frozenset("pow fmod atan2 hypot".split())
# Expressions of one LLVM function at most: the time of the compiler grows faster than the size.
PIECE = 1200


def number(value: float, real: str) -> str:
    """A number in LLVM's exact notation."""
    if real == "float":
        value = struct.unpack("f", struct.pack("f", value))[0]
    return "0x" + struct.pack(">d", value).hex().upper()


class Body:
    """The instructions of one LLVM function.

    real: "double" or "float". used: the library functions called, shared by the module's functions.
    """

    def __init__(self, real: str, used: set[str]) -> None:
        self.real = real
        self.width = 8 if real == "double" else 4
        self.used = used
        self.lines: list[str] = []
        self._count = 0
        self._pointers: dict[int, str] = {}
        self.prelude: list[str] = []

    def name(self, hint: str = "x") -> str:
        """A new name."""
        self._count += 1
        return f"%{hint}{self._count}"

    def put(self, line: str) -> None:
        """Add an instruction."""
        self.lines.append("  " + line)

    def value(self, text: str, hint: str = "x") -> str:
        """Add an instruction with a result, and return the result's name."""
        name = self.name(hint)
        self.lines.append(f"  {name} = {text}")
        return name

    def load(self, pointer: str, place: int | str) -> str:
        """The number at a place of an array."""
        address = self.address(pointer, place)
        return self.value(f"load {self.real}, ptr {address}, align {self.width}")

    def store(self, value: str, pointer: str, place: int | str) -> None:
        """Write a number to a place of an array."""
        address = self.address(pointer, place)
        self.put(f"store {self.real} {value}, ptr {address}, align {self.width}")

    def address(self, pointer: str, place: int | str) -> str:
        """The address of a place of an array."""
        if place == 0:
            return pointer
        return self.value(f"getelementptr inbounds {self.real}, ptr {pointer}, i64 {place}", "a")

    def pointer(self, index: int) -> str:
        """The pointer of a target, loaded once at the beginning of the function."""
        known = self._pointers.get(index)
        if known is None:
            slot = self.name("a")
            known = self.name("p")
            self.prelude += [
                f"  {slot} = getelementptr inbounds ptr, ptr %inputs, i64 {index}",
                f"  {known} = load ptr, ptr {slot}, align 8",
            ]
            self._pointers[index] = known
        return known

    def time(self) -> str:
        """t in the type of the state."""
        if self.real == "double":
            return "%t"
        return self.value("fptrunc double %t to float")

    def call(self, name: str, operands: Sequence[str]) -> str:
        """A function of the mathematics library."""
        self.used.add(name)
        if self.real == "float":
            operands = [self.value(f"fpext float {x} to double") for x in operands]
        arguments = ", ".join(f"double {x}" for x in operands)
        result = self.value(f"call double @{name}({arguments})")
        if self.real == "float":
            return self.value(f"fptrunc double {result} to float")
        return result

    def operation(self, name: str, operands: Sequence[str]) -> str:
        """The instruction of an operation of expressions.py."""
        real = self.real
        if name in _BINARY:
            return self.value(f"{_BINARY[name]} {real} {operands[0]}, {operands[1]}")
        if name in _COMPARE:
            return self.value(f"{_COMPARE[name]} {real} {operands[0]}, {operands[1]}")
        if name in _LOGIC:
            return self.value(f"{_LOGIC[name]} i1 {operands[0]}, {operands[1]}")
        if name == "neg":
            return self.value(f"fneg {real} {operands[0]}")
        if name == "not":
            return self.value(f"xor i1 {operands[0]}, true")
        if name == "real":
            return self.value(f"uitofp i1 {operands[0]} to {real}")
        if name in _INTRINSIC:
            intrinsic = f"llvm.{_INTRINSIC[name]}.{'f64' if real == 'double' else 'f32'}"
            self.used.add(intrinsic)
            return self.value(f"call {real} @{intrinsic}({real} {operands[0]})")
        return self.call(name, operands)

    def select(self, condition: str, first: str, second: str, kind: str) -> str:
        """One of two values."""
        type_ = "i1" if kind == BOOL else self.real
        return self.value(f"select i1 {condition}, {type_} {first}, {type_} {second}")

    def constant(self, value: float | bool, kind: str) -> str:
        """A number or a truth value."""
        if kind == BOOL:
            return "true" if value else "false"
        return number(float(value), self.real)


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

    for x in nodes:
        node = pool.nodes[x]
        if node[0] in ("const", "load"):
            continue
        operands = [value(operand) for operand in node[1:]]
        if node[0] == "select":
            values[x] = body.select(operands[0], operands[1], operands[2], pool.kinds[x])
        else:
            values[x] = body.operation(node[0], operands)
    return values


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
    """The text of an LLVM module."""

    def __init__(self, real: str) -> None:
        self.real = real
        self.used: set[str] = set()
        self.functions: list[str] = []
        self.globals: list[str] = []
        self._tables: dict[tuple[bytes, str], str] = {}

    def body(self) -> Body:
        """The body of a further function."""
        return Body(self.real, self.used)

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
        for name in sorted(self.used):
            lines.append(self._declaration(name))
        lines.extend(self.functions)
        lines.append("attributes #0 = { nounwind willreturn memory(none) }")
        return "\n".join(lines) + "\n"

    def _declaration(self, name: str) -> str:
        if name.startswith("llvm."):
            return f"declare {self.real} @{name}({self.real}) #0"
        arguments = "double, double" if name in _TWO else "double"
        return f"declare double @{name}({arguments}) #0"


def scalar_function(module: Module, name: str, pool: Expressions, outs: Sequence[int]) -> int:
    """A function that writes these expressions to out. Return how many numbers of work it uses.

    Large functions are divided into pieces, which pass numbers on in work.
    """
    live = [x for x in reachable(pool, outs) if pool.nodes[x][0] not in ("const", "load")]
    pieces = [live[i : i + PIECE] for i in range(0, len(live), PIECE)] or [[]]
    if len(pieces) == 1:
        body = module.body()
        _Piece(body, pool, {}, {}, 0).write(pieces[0], list(enumerate(outs)), [])
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
        _Piece(body, pool, home, slots, i).write(piece, writes[i], passed)
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
    ) -> None:
        self._body = body
        self._pool = pool
        self._home = home
        self._slots = slots
        self._index = index

    def write(self, nodes: list[int], outs: list[tuple[int, int]], passed: list[int]) -> None:
        """Compute the nodes, write the results, and pass numbers on."""
        body = self._body
        values = emit(body, self._pool, nodes, self._load)
        for place, x in outs:
            value = values.get(x)
            if value is None:
                constant = self._pool.value(x)
                if constant is not None:
                    value = body.constant(constant, self._pool.kinds[x])
                else:
                    value = self._load(x)
                    values[x] = value
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
