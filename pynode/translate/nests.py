"""Nests of loops in LLVM's language, and where arrays stand in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import Buffer
from .instructions import Body
from .llvm import Module


@dataclass(frozen=True)
class Access:
    """How a loop nest walks over a buffer: number offset + i strides[0] + j strides[1] + ...

    table: instead of strides, the place for each step of the last loop; the strides are then those
    of the loops before it.
    """

    buffer: Buffer
    offset: int
    strides: tuple[int, ...]
    table: Any = None

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal walks."""
        table = None if self.table is None else self.table.tobytes()
        return (self.offset, self.strides, table)


def joined(
    extents: Sequence[int], accesses: Sequence[Access], breaks: frozenset[int] = frozenset()
) -> tuple[list[int], list[Access], list[int]]:
    """The same walk with fewer loops: loops of one step are left out, and neighbours that every
    access walks through as one are joined. breaks: loops that must not join the one before.

    Also returns for each remaining loop the number of the first loop that it was.
    """
    kept = [d for d, extent in enumerate(extents) if extent != 1]
    last_table = any(a.table is not None for a in accesses)
    groups: list[list[int]] = []
    for d in kept:
        if groups and not (last_table and d == len(extents) - 1) and d not in breaks:
            before = groups[-1][-1]
            fits = all(
                a.strides[before] == a.strides[d] * extents[d]
                for a in accesses
                if d < len(a.strides)
            )
            if fits and not any(b in breaks for b in range(before + 1, d + 1)):
                groups[-1].append(d)
                continue
        groups.append([d])
    sizes = [int(np.prod([extents[d] for d in group], dtype=np.int64)) for group in groups]
    walked = []
    for a in accesses:
        strides = tuple(a.strides[group[-1]] for group in groups if group[-1] < len(a.strides))
        walked.append(Access(a.buffer, a.offset, strides, a.table))
    return sizes, walked, [group[0] for group in groups]


class Nest:
    """Writes the loops of one LLVM function.

    addresses: gives for a buffer the pointer's name and an offset in numbers.
    """

    def __init__(
        self, module: Module, body: Body, pointer: Callable[[Body, Buffer], tuple[str, int]]
    ) -> None:
        self.module = module
        self.body = body
        self._pointer = pointer
        self._block = "entry"
        self._labels = 0
        self._tables: dict[bytes, str] = {}

    def base(self, access: Access) -> str:
        """The address where the walk begins."""
        pointer, shift = self._pointer(self.body, access.buffer)
        return self.body.address(pointer, shift + access.offset)

    def loop(
        self,
        extent: int,
        inside: Callable[[str, list[str]], list[str]],
        start: Sequence[str] = (),
        first: int = 0,
        step: int = 1,
        types: Sequence[str] = (),
    ) -> list[str]:
        """for i in range(first, extent, step): inside(i, carried). Return what was carried.

        start: what is carried into the first step. types: of what is carried, real numbers if not
        given.
        """
        body = self.body
        types = types or [body.real] * len(start)
        if extent - first <= step:
            if extent <= first:
                return list(start)
            return inside(str(first), list(start))
        self._labels += 1
        head = f"loop{self._labels}"
        done = f"done{self._labels}"
        before = self._block
        body.put(f"br label %{head}")
        body.lines.append(f"{head}:")
        self._block = head
        counter = body.name("i")
        place = len(body.lines)
        body.put("")
        carried = [body.name("c") for _ in start]
        for _ in start:
            body.put("")
        after = inside(counter, carried)
        following = body.value(f"add nuw nsw i64 {counter}, {step}", "i")
        latch = self._block
        again = body.value(f"icmp slt i64 {following}, {extent}", "b")
        body.put(f"br i1 {again}, label %{head}, label %{done}")
        body.lines.append(f"{done}:")
        self._block = done
        body.lines[place] = (
            f"  {counter} = phi i64 [ {first}, %{before} ], [ {following}, %{latch} ]"
        )
        for k, (name, type_, old, new) in enumerate(zip(carried, types, start, after)):
            body.lines[place + 1 + k] = (
                f"  {name} = phi {type_} [ {old}, %{before} ], [ {new}, %{latch} ]"
            )
        return list(after)

    def place(self, access: Access, counters: Sequence[str]) -> str | int:
        """The number's place from the base, at these counters."""
        total: str | int = 0
        for counter, stride in zip(counters, access.strides):
            total = self.plus(total, self.times(counter, stride))
        if access.table is not None:
            total = self.plus(total, self._looked_up(access.table, counters[-1]))
        return total

    def times(self, counter: str | int, stride: int) -> str | int:
        """counter times stride."""
        if stride == 0:
            return 0
        if stride == 1:
            return counter
        if isinstance(counter, int) or counter.lstrip("-").isdigit():
            return int(counter) * stride
        return self.body.value(f"mul nsw i64 {counter}, {stride}", "m")

    def plus(self, a: str | int, b: str | int) -> str | int:
        """a + b."""
        if isinstance(a, str) and a.lstrip("-").isdigit():
            a = int(a)
        if isinstance(b, str) and b.lstrip("-").isdigit():
            b = int(b)
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0:
            return b
        if b == 0:
            return a
        return self.body.value(f"add nsw i64 {a}, {b}", "m")

    def _looked_up(self, table: np.ndarray, counter: str) -> str:
        name = self.table(table)
        address = self.body.value(f"getelementptr inbounds i32, ptr {name}, i64 {counter}", "a")
        short = self.body.value(f"load i32, ptr {address}, align 4", "m")
        return self.body.value(f"sext i32 {short} to i64", "m")

    def table(self, table: np.ndarray) -> str:
        """The name of a constant table of places."""
        flat = np.ascontiguousarray(table, dtype=np.int32).reshape(-1)
        return self.module.table(
            flat.tobytes(), f"[{flat.size} x i32]", (f"i32 {x}" for x in flat.tolist())
        )


def plain(work: Callable[[str], None]) -> Callable[[str, list[str]], list[str]]:
    """The inside of a loop that carries nothing."""

    def body(i: str, carried: list[str]) -> list[str]:
        work(i)
        return carried

    return body


def strided(access: Access) -> Access:
    """A walk by a table of places as one by strides, where it is."""
    table = np.asarray(access.table)
    if table.size < 2:
        offset = int(table[0]) if table.size else 0
        return Access(access.buffer, offset, (*access.strides, 0))
    steps = np.diff(table)
    if (steps == steps[0]).all():
        return Access(access.buffer, int(table[0]), (*access.strides, int(steps[0])))
    return access
