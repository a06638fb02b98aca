"""Loops over products and sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .expressions import Expressions
from .graph import View
from .instructions import number
from .llvm import emit, reachable
from .loop_tiles import Tiles
from .nests import Access, Nest, joined, plain
from .scalar_functions import SCALAR

if TYPE_CHECKING:
    from .loops import LoopProgram

NEUTRAL = {"sum": 0.0, "prod": 1.0, "max": -np.inf, "min": np.inf}
COMBINE = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}
# Products that one pass over an array adds.
_UNROLL = 4


class Products:
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

    def write(
        self, out: View, factors: list[Any], batched: bool, summed_rows: bool = False
    ) -> None:
        """factors: pairs of a view and its walk, or of a view and a known number. summed_rows: the
        rows are a further summed axis, the last one."""
        program = self._program
        shape = factors[0][0].shape
        rank = len(out.shape)
        extents = program.extents(shape, batched)
        if summed_rows:
            extents += program.extents((), True)
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
        if self._function == "sum" and not self._numbers:
            tiles = Tiles(self._nest, sizes, walks, self._bases, self._scale)
            if tiles.write(outer, summed):
                return
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
        result = SCALAR[COMBINE[self._function]](pool, first, second)
        nodes = reachable(pool, [result])
        return emit(body, pool, nodes, {first: total, second: term}.get)[result]

    def _nested(self, dims: list[int], at: dict[int, str], inside: Any) -> None:
        if not dims:
            inside(at)
            return
        d = dims[0]
        self._nest.loop(
            self._sizes[d],
            plain(lambda i: self._nested(dims[1:], {**at, d: i}, inside)),
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

            start = number(NEUTRAL[self._function], body.real)
            total = nest.loop(self._sizes[inner], one, [start])[0]
            place = self._place(0, at)
            before = body.load(self._bases[0], place)
            body.store(self._combined(before, total, ""), self._bases[0], place)

        self._nested(outer + summed, {}, element)
