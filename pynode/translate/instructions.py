"""Single instructions of LLVM's language."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from .expressions import BOOL, TablePick, TableSearch

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
# Functions of elementary.py, and of how many numbers at once.
OWN = frozenset("exp expm1 log log1p tanh erf".split())
LANES = 8


def number(value: float, real: str) -> str:
    """A number in LLVM's exact notation."""
    if real == "float":
        value = struct.unpack("f", struct.pack("f", value))[0]
    return "0x" + struct.pack(">d", value).hex().upper()


def vector_type(kind: str, lanes: int) -> str:
    """The type of several numbers; lanes: how many, 1 for a number by itself."""
    return kind if lanes == 1 else f"<{lanes} x {kind}>"


class Body:
    """The instructions of one LLVM function.

    real: "double" or "float". used: the library functions called, shared by the module's functions.
    looped: whether the instructions stand in loops, which LLVM can carry out several times at once.
    """

    def __init__(self, real: str, used: set[str], looped: bool = False) -> None:
        self.real = real
        self.looped = looped
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
        """A function of the mathematics library, or one of elementary.py in a loop."""
        if self.looped and name in OWN:
            name = f"own.{name}"
        self.used.add(name)
        arguments = ", ".join(f"double {self._widened(x)}" for x in operands)
        return self._narrowed(self.value(f"call double @{name}({arguments})"))

    def _widened(self, x: str) -> str:
        """A number as a double."""
        return x if self.real == "double" else self.value(f"fpext float {x} to double")

    def _narrowed(self, x: str) -> str:
        """A double in the type of the state."""
        return x if self.real == "double" else self.value(f"fptrunc double {x} to float")

    def calls(self, name: str, operands: Sequence[str]) -> list[str]:
        """A function of elementary.py of up to LANES numbers at once."""
        name = f"own.{name}.{LANES}"
        self.used.add(name)
        type_ = vector_type("double", LANES)
        vector = "zeroinitializer"
        for k, x in enumerate(operands):
            wide = self._widened(x)
            vector = self.value(f"insertelement {type_} {vector}, double {wide}, i64 {k}")
        found = self.value(f"call {type_} @{name}({type_} {vector})")
        return [
            self._narrowed(self.value(f"extractelement {type_} {found}, i64 {k}"))
            for k in range(len(operands))
        ]

    def search(self, table: str, step: int, count: int, right: bool, x: str) -> str:
        """How many numbers of a sorted table come before x (graph.Search)."""
        name = f"search.{'right' if right else 'left'}.{self.real}"
        self.used.add(name)
        given = f"ptr {table}, i64 {step}, i64 {count}, {self.real} {x}"
        return self.value(f"call {self.real} @{name}({given})")

    def within(self, x: str, extent: int) -> tuple[str, str]:
        """(x as an index below the extent, whether it is one). The index is 0 if not."""
        real = self.real
        low = self.value(f"fcmp oge {real} {x}, {number(0.0, real)}")
        high = self.value(f"fcmp olt {real} {x}, {number(float(extent), real)}")
        inside = self.value(f"and i1 {low}, {high}")
        safe = self.value(f"select i1 {inside}, {real} {x}, {real} {number(0.0, real)}")
        return self.value(f"fptosi {real} {safe} to i64", "i"), inside

    def operation(self, name: Any, operands: Sequence[str]) -> str:
        """The instruction of an operation of expressions.py."""
        real = self.real
        if isinstance(name, TableSearch):
            table = self.address(self.pointer(name.index), name.offset)
            return self.search(table, name.step, name.count, name.right, operands[0])
        if isinstance(name, TablePick):
            place, inside = self.within(operands[0], name.extent)
            table = self.address(self.pointer(name.index), name.offset)
            value = self.load(table, self.value(f"mul nsw i64 {place}, {name.step}", "m"))
            outside = number(float(name.outside), real)
            return self.value(f"select i1 {inside}, {real} {value}, {real} {outside}")
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


def search_definition(name: str) -> str:
    """A function of ``Body.search``, by its name. It takes the same steps as torch, so that both
    agree even where a table is not sorted."""
    _, side, real = name.split(".")
    compare = {"right": "ogt", "left": "oge"}[side]
    width = 8 if real == "double" else 4
    return f"""define internal {real} @{name}(ptr %table, i64 %step, i64 %count, {real} %x) {{
entry:
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %loop, label %done
loop:
  %low = phi i64 [ 0, %entry ], [ %newlow, %loop ]
  %high = phi i64 [ %count, %entry ], [ %newhigh, %loop ]
  %width = sub nsw i64 %high, %low
  %half = ashr i64 %width, 1
  %mid = add nsw i64 %low, %half
  %place = mul nsw i64 %mid, %step
  %address = getelementptr inbounds {real}, ptr %table, i64 %place
  %value = load {real}, ptr %address, align {width}
  %beyond = fcmp {compare} {real} %value, %x
  %next = add nsw i64 %mid, 1
  %newlow = select i1 %beyond, i64 %low, i64 %next
  %newhigh = select i1 %beyond, i64 %mid, i64 %high
  %more = icmp slt i64 %newlow, %newhigh
  br i1 %more, label %loop, label %done
done:
  %found = phi i64 [ 0, %entry ], [ %newlow, %loop ]
  %result = sitofp i64 %found to {real}
  ret {real} %result
}}"""
