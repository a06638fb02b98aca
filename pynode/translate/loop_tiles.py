"""Products of a matrix with vectors, in tiles whose sums stay in the processor's registers.

LLVM carries out the innermost loop for several numbers at once, but it does not change the order of
loops: a product with a matrix then loads and stores each sum again for every few summands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .instructions import Body, number, vector_type
from .nests import Access, Nest

# Registers for sums, of those of 64 bytes and of others: a processor has 32 or 16.
_SUMS = {64: 24, 32: 10, 16: 10}
# Vectors side by side in a tile, and rows at once.
_ACROSS = 8
_ROWS = 4
# Sums at once that keep the processor busy: each needs the one before it.
_BUSY = 8

At = dict[int, str]
Chunk = tuple[int, int]  # where a vector begins, and its length


class _Vectors:
    """Instructions on vectors of real numbers."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def type(self, lanes: int) -> str:
        """The type of a vector."""
        return vector_type(self._body.real, lanes)

    def load(self, base: str, place: int | str, lanes: int) -> str:
        """The vector at a place of an array."""
        address = self._body.address(base, place)
        return self._body.value(f"load {self.type(lanes)}, ptr {address}, align {self._body.width}")

    def store(self, value: str, base: str, place: int | str, lanes: int) -> None:
        """Write a vector to a place of an array."""
        address = self._body.address(base, place)
        self._body.put(f"store {self.type(lanes)} {value}, ptr {address}, align {self._body.width}")

    def repeated(self, x: str, lanes: int) -> str:
        """A number in all places of a vector."""
        if lanes == 1:
            return x
        type_ = self.type(lanes)
        first = self._body.value(f"insertelement {type_} poison, {self._body.real} {x}, i64 0")
        zeros = f"<{lanes} x i32> zeroinitializer"
        return self._body.value(f"shufflevector {type_} {first}, {type_} poison, {zeros}")

    def shuffled(self, a: str, b: str, lanes: int, places: Sequence[int]) -> str:
        """Numbers of two vectors, one after the other."""
        type_ = self.type(lanes)
        chosen = ", ".join(f"i32 {place}" for place in places)
        return self._body.value(
            f"shufflevector {type_} {a}, {type_} {b}, <{len(places)} x i32> <{chosen}>"
        )

    def widened(self, x: str, lanes: int, wide: int) -> str:
        """A vector with zeros after it."""
        if lanes == wide:
            return x
        if lanes == 1:
            type_ = self.type(wide)
            return self._body.value(
                f"insertelement {type_} zeroinitializer, {self._body.real} {x}, i64 0"
            )
        places = [k if k < lanes else lanes for k in range(wide)]
        return self.shuffled(x, "zeroinitializer", lanes, places)

    def added(self, a: str, b: str, lanes: int) -> str:
        """a + b."""
        return self._body.value(f"fadd contract {self.type(lanes)} {a}, {b}")

    def fused(self, a: str, b: str, c: str, lanes: int) -> str:
        """a b + c."""
        product = self._body.value(f"fmul contract {self.type(lanes)} {a}, {b}")
        return self.added(product, c, lanes)

    def total(self, x: str, lanes: int) -> str:
        """The sum of a vector's numbers."""
        while lanes > 1:
            half = lanes // 2
            low = self.shuffled(x, "poison", lanes, range(half))
            high = self.shuffled(x, "poison", lanes, range(half, lanes))
            if half == 1:
                low = self._body.value(f"extractelement {self.type(lanes)} {x}, i64 0")
                high = self._body.value(f"extractelement {self.type(lanes)} {x}, i64 1")
            x = self.added(low, high, half)
            lanes = half
        return x

    def totals(self, vectors: Sequence[str], lanes: int) -> str:
        """The sums of as many vectors as each has numbers, as one vector."""
        found = list(vectors)
        block = 1
        while len(found) > 1:
            starts = range(0, lanes, 2 * block)
            first = [s + k for s in starts for k in (*range(block), *range(lanes, lanes + block))]
            second = [place + block for place in first]
            found = [
                self.added(
                    self.shuffled(a, b, lanes, first), self.shuffled(a, b, lanes, second), lanes
                )
                for a, b in zip(found[::2], found[1::2])
            ]
            block *= 2
        return found[0]


def chunks(start: int, end: int, lanes: int) -> list[Chunk]:
    """Vectors that cover the numbers from start to end: the last ones are shorter."""
    found = []
    while start < end:
        while lanes > end - start:
            lanes //= 2
        found.append((start, lanes))
        start += lanes
    return found


def _even(size: int, most: int) -> int:
    """How many rows at once, at most these: better a few less than rows that remain."""
    for count in range(most, most // 2, -1):
        if size % count == 0:
            return count
    return most


class Tiles:
    """Writes out += scale sum_j a b, for arrays with strides.

    sizes: of the loops. walks, bases: of out, a and b. lanes: numbers in a register.
    """

    def __init__(
        self,
        nest: Nest,
        sizes: Sequence[int],
        walks: Sequence[Access],
        bases: Sequence[str],
        scale: float,
    ) -> None:
        self._nest = nest
        self._sizes = sizes
        self._walks = walks
        self._bases = bases
        self._scale = scale
        self._lanes = nest.module.lanes
        self._vectors = _Vectors(nest.body)

    def write(self, outer: list[int], summed: list[int]) -> bool:
        """Write the loops, if the product is one of a matrix with vectors. outer: the loops over
        out; summed: the others."""
        if len(self._walks) != 3 or any(walk.table is not None for walk in self._walks):
            return False
        if len(summed) != 1 or self._walks[0].buffer in (w.buffer for w in self._walks[1:]):
            return False
        return self._columns(outer, summed[0]) or self._dots(outer, summed[0])

    # ------------------------------------------------- sums beside one another in memory

    def _columns(self, outer: list[int], summed: int) -> bool:
        """out[r, i] += sum_j b[r, j] a[j, i], where i runs along memory."""
        for inner in reversed(outer):
            strides = [walk.strides[inner] for walk in self._walks]
            if self._sizes[inner] > 1 and strides in ([1, 1, 0], [1, 0, 1]):
                break
        else:
            return False
        matrix = strides.index(1, 1)
        rest = [d for d in outer if d != inner]
        shared = [d for d in rest if self._walks[matrix].strides[d] == 0]
        row = shared[-1] if shared else None
        others = [d for d in rest if d != row]
        width = min(self._sizes[inner], _ACROSS * self._lanes)
        across = len(chunks(0, width, self._lanes))
        most = max(1, min(_ROWS, _SUMS[self._nest.module.register] // across))
        if row is not None:
            most = _even(self._sizes[row], most)

        def tile(at: At, place: str | int, vectors: list[Chunk], rows: list[At]) -> None:
            along = [(self._nest.plus(place, start), lanes) for start, lanes in vectors]
            self._tile(matrix, inner, summed, along, [{**at, **r} for r in rows])

        def tiles(at: At, rows: list[At]) -> None:
            size = self._sizes[inner]
            whole = size // width * width
            full = chunks(0, width, self._lanes)
            self._loop(whole, width, lambda i: tile(at, i, full, rows))
            if whole < size:
                tile(at, whole, chunks(0, size - whole, self._lanes), rows)

        self._nested(others, {}, lambda at: self._blocks(row, most, lambda rows: tiles(at, rows)))
        return True

    def _tile(
        self,
        matrix: int,
        inner: int,
        summed: int,
        along: Sequence[tuple[str | int, int]],
        rows: list[At],
    ) -> None:
        vectors = self._vectors
        size = self._sizes[summed]
        out = [(self._place(0, {**r, inner: str(i)}), lanes) for r in rows for i, lanes in along]
        count = len(out)
        phases = 1
        while count * phases < _BUSY and 2 * phases <= size:
            phases *= 2

        def step(j: str | int, phase: int, sums: list[str]) -> list[str]:
            sums = list(sums)
            at = {summed: str(self._nest.plus(j, phase))}
            factors = [self._factor(3 - matrix, {**r, **at}) for r in rows]
            for k, (i, lanes) in enumerate(along):
                place = self._place(matrix, {**rows[0], **at, inner: str(i)})
                value = vectors.load(self._bases[matrix], place, lanes)
                for r, factor in enumerate(factors):
                    which = count * phase + r * len(along) + k
                    repeated = vectors.repeated(factor, lanes)
                    sums[which] = vectors.fused(value, repeated, sums[which], lanes)
            return sums

        def several(j: str, sums: list[str]) -> list[str]:
            for phase in range(phases):
                sums = step(j, phase, sums)
            return sums

        begun = [vectors.load(self._bases[0], place, lanes) for place, lanes in out]
        begun += [
            "zeroinitializer" if n > 1 else number(0.0, self._nest.body.real)
            for _ in range(1, phases)
            for _, n in out
        ]
        types = [vectors.type(lanes) for _, lanes in out] * phases
        whole = size // phases * phases
        sums = self._nest.loop(whole, several, begun, step=phases, types=types)
        for phase in range(size - whole):
            sums = step(whole, phase, sums)
        for which, (place, lanes) in enumerate(out):
            total = sums[which]
            for phase in range(1, phases):
                total = vectors.added(total, sums[count * phase + which], lanes)
            vectors.store(total, self._bases[0], place, lanes)

    def _factor(self, which: int, at: At) -> str:
        """The number of a walk, times the scale."""
        body = self._nest.body
        value = body.load(self._bases[which], self._place(which, at))
        if self._scale == 1.0:
            return value
        return body.value(f"fmul {body.real} {value}, {number(self._scale, body.real)}")

    # -------------------------------------------------------- sums along memory

    def _dots(self, outer: list[int], summed: int) -> bool:
        """out[i] += sum_j a[i, j] b[j], where j runs along memory."""
        if self._sizes[summed] < self._lanes or self._lanes < 2:
            return False
        if any(walk.strides[summed] != 1 for walk in self._walks[1:]):
            return False
        for row in reversed(outer):
            moves = [walk.strides[row] != 0 for walk in self._walks[1:]]
            if moves.count(True) == 1 and self._walks[0].strides[row] == 1:
                break
        else:
            return False
        matrix = 1 + moves.index(True)
        others = [d for d in outer if d != row]
        count = self._lanes

        def block(rows: list[At]) -> None:
            sums = self._products(matrix, summed, rows)
            self._add_dots(sums, rows)

        self._nested(
            others,
            {},
            lambda at: self._blocks(row, count, lambda rows: block([{**at, **r} for r in rows])),
        )
        return True

    def _products(self, matrix: int, summed: int, rows: list[At]) -> list[str]:
        """For each row a vector whose numbers add up to its product."""
        vectors = self._vectors
        lanes = self._lanes
        size = self._sizes[summed]
        whole = size // lanes * lanes

        def some(j: str | int, n: int, sums: list[str]) -> list[str]:
            at = {summed: str(j)}
            place = self._place(3 - matrix, {**rows[0], **at})
            factor = vectors.widened(vectors.load(self._bases[3 - matrix], place, n), n, lanes)
            found = []
            for r, total in zip(rows, sums):
                there = self._place(matrix, {**r, **at})
                value = vectors.widened(vectors.load(self._bases[matrix], there, n), n, lanes)
                found.append(vectors.fused(value, factor, total, lanes))
            return found

        begun = ["zeroinitializer"] * len(rows)
        types = [vectors.type(lanes)] * len(rows)
        sums = self._nest.loop(
            whole, lambda j, c: some(j, lanes, c), begun, step=lanes, types=types
        )
        for start, n in chunks(whole, size, lanes):
            sums = some(start, n, sums)
        return sums

    def _add_dots(self, sums: list[str], rows: list[At]) -> None:
        vectors = self._vectors
        body = self._nest.body
        scale = number(self._scale, body.real)
        if len(rows) == self._lanes:
            lanes = self._lanes
            total = vectors.totals(sums, lanes)
            if self._scale != 1.0:
                factors = vectors.repeated(scale, lanes)
                total = body.value(f"fmul {vectors.type(lanes)} {total}, {factors}")
            place = self._place(0, rows[0])
            before = vectors.load(self._bases[0], place, lanes)
            vectors.store(vectors.added(before, total, lanes), self._bases[0], place, lanes)
            return
        for r, x in zip(rows, sums):
            total = vectors.total(x, self._lanes)
            if self._scale != 1.0:
                total = body.value(f"fmul {body.real} {total}, {scale}")
            place = self._place(0, r)
            before = body.load(self._bases[0], place)
            body.store(vectors.added(before, total, 1), self._bases[0], place)

    # ------------------------------------------------------------------- loops

    def _place(self, which: int, at: At) -> str | int:
        counters = [at.get(d, "0") for d in range(len(self._sizes))]
        return self._nest.place(self._walks[which], counters)

    def _loop(self, end: int, step: int, inside: Callable[[str], None]) -> None:
        def once(i: str, carried: list[str]) -> list[str]:
            inside(i)
            return carried

        if end > step:
            self._nest.loop(end, once, step=step)
        elif end:
            inside("0")

    def _nested(self, dims: list[int], at: At, inside: Callable[[At], None]) -> None:
        if not dims:
            inside(at)
            return
        d = dims[0]
        self._loop(self._sizes[d], 1, lambda i: self._nested(dims[1:], {**at, d: i}, inside))

    def _blocks(self, row: int | None, most: int, inside: Callable[[list[At]], None]) -> None:
        """The rows of a loop, most of them at once."""
        if row is None:
            inside([{}])
            return
        size = self._sizes[row]
        whole = size // most * most

        def block(first: str | int, count: int) -> None:
            inside([{row: str(self._nest.plus(first, k))} for k in range(count)])

        self._loop(whole, most, lambda i: block(i, most))
        if whole < size:
            block(whole, size - whole)
