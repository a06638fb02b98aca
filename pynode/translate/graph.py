"""What a recording holds: buffers of numbers, strided views of them, and statements that write
views.

A buffer stands for a storage of torch. Views of torch share a storage, and here they share a
buffer, so no view operation needs a rule of its own, and writes in place have their meaning.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

REAL = "real"
BOOL = "bool"
INT = "int"


class Buffer:
    """Numbers that stand one after the other.

    size: their number. kind: REAL, BOOL or INT. role: None for an intermediate, otherwise the
    name of the input: "t", "y", "v" or "input". index: the place of an input among the targets,
    or its first number in v.
    """

    __slots__ = ("index", "kind", "role", "size")

    def __init__(self, size: int, kind: str, role: str | None = None, index: int = 0) -> None:
        self.size = size
        self.kind = kind
        self.role = role
        self.index = index


@dataclass(frozen=True)
class View:
    """An array over a buffer: element (i, j, ...) is number offset + i strides[0] + ... of it.

    positions: for a view without strides, the place of each element, in the view's shape.
    """

    buffer: Buffer
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    positions: Any = None

    @property
    def size(self) -> int:
        """The number of its elements."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    def places(self) -> np.ndarray:
        """The place of each element in the buffer, in the view's shape."""
        if self.positions is not None:
            return self.positions
        places = np.full(self.shape, self.offset, dtype=np.int64)
        for axis, stride in enumerate(self.strides):
            steps = np.arange(self.shape[axis], dtype=np.int64) * stride
            places += steps.reshape((-1,) + (1,) * (len(self.shape) - axis - 1))
        return places

    @functools.cached_property
    def flat_places(self) -> list[int]:
        """The places of the elements in row-major order."""
        return self.places().reshape(-1).tolist()

    def expand(self, shape: tuple[int, ...]) -> View:
        """The same elements broadcast to a shape."""
        if shape == self.shape:
            return self
        if self.positions is not None:
            return View(self.buffer, 0, shape, (), np.broadcast_to(self.positions, shape))
        lead = len(shape) - len(self.shape)
        strides = [0] * lead
        for extent, stride in zip(self.shape, self.strides):
            strides.append(0 if extent == 1 else stride)
        return View(self.buffer, self.offset, tuple(shape), tuple(strides))

    def permute(self, order: tuple[int, ...]) -> View:
        """The axes in another order."""
        shape = tuple(self.shape[axis] for axis in order)
        if self.positions is not None:
            return View(self.buffer, 0, shape, (), self.positions.transpose(order))
        return View(self.buffer, self.offset, shape, tuple(self.strides[axis] for axis in order))

    def narrow(self, axis: int, start: int, length: int, step: int = 1) -> View:
        """The elements start, start + step, ... of one axis."""
        shape = self.shape[:axis] + (length,) + self.shape[axis + 1 :]
        if self.positions is not None:
            end = start + step * length
            index = (slice(None),) * axis + (slice(start, end, step),)
            return View(self.buffer, 0, shape, (), self.positions[index])
        strides = self.strides[:axis] + (self.strides[axis] * step,) + self.strides[axis + 1 :]
        return View(self.buffer, self.offset + start * self.strides[axis], shape, strides)

    def drop(self, axis: int) -> View:
        """Without an axis of one element."""
        if self.positions is not None:
            shape = self.shape[:axis] + self.shape[axis + 1 :]
            return View(self.buffer, 0, shape, (), self.positions.reshape(shape))
        return View(
            self.buffer,
            self.offset,
            self.shape[:axis] + self.shape[axis + 1 :],
            self.strides[:axis] + self.strides[axis + 1 :],
        )

    def insert(self, axis: int, extent: int = 1) -> View:
        """With a further axis along which the elements repeat."""
        shape = self.shape[:axis] + (extent,) + self.shape[axis:]
        if self.positions is not None:
            wide = np.expand_dims(self.positions, axis)
            return View(self.buffer, 0, shape, (), np.broadcast_to(wide, shape))
        return View(
            self.buffer, self.offset, shape, self.strides[:axis] + (0,) + self.strides[axis:]
        )


def at_places(buffer: Buffer, places: np.ndarray) -> View:
    """The view of these places; with strides if the places have them."""
    shape = places.shape
    if places.size == 0:
        return View(buffer, 0, shape, (0,) * len(shape))
    offset = int(places.reshape(-1)[0])
    strides = []
    for axis, extent in enumerate(shape):
        second = (0,) * axis + (1,) + (0,) * (len(shape) - axis - 1)
        strides.append(int(places[second]) - offset if extent > 1 else 0)
    view = View(buffer, offset, shape, tuple(strides))
    if np.array_equal(view.places(), places):
        return view
    return View(buffer, 0, shape, (), np.ascontiguousarray(places))


def contiguous(buffer: Buffer, shape: tuple[int, ...], offset: int = 0) -> View:
    """A row-major view of a buffer."""
    strides = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return View(buffer, offset, tuple(shape), tuple(reversed(strides)))


@dataclass(frozen=True, eq=False)
class Constant:
    """out = data, an array known when f is recorded."""

    out: View
    data: np.ndarray

    @property
    def reads(self) -> tuple[View, ...]:
        """The views that it reads."""
        return ()

    def signature(self) -> tuple[Any, ...]:
        """What two recordings must have in common."""
        return ("constant", self.data.shape, str(self.data.dtype), self.data.tobytes())


@dataclass(frozen=True, eq=False)
class Map:
    """out = function(inputs), element by element.

    inputs: views of out's shape, or numbers. function: the name of a scalar function
    (scalar_functions.py). parameters: its fixed numbers.
    """

    out: View
    function: str
    inputs: tuple[Any, ...]
    parameters: tuple[Any, ...] = ()

    @property
    def reads(self) -> tuple[View, ...]:
        """The views that it reads."""
        return tuple(x for x in self.inputs if isinstance(x, View))

    def signature(self) -> tuple[Any, ...]:
        """What two recordings must have in common."""
        numbers = tuple(None if isinstance(x, View) else x for x in self.inputs)
        return ("map", self.function, numbers, self.parameters)


@dataclass(frozen=True, eq=False)
class Contract:
    """out += scale sum(left * right) over the last axes.

    left, right: views whose first axes are those of out and whose last axes are summed.
    """

    out: View
    left: View
    right: View
    scale: float = 1.0

    @property
    def reads(self) -> tuple[View, ...]:
        """The views that it reads."""
        return (self.out, self.left, self.right)

    def signature(self) -> tuple[Any, ...]:
        """What two recordings must have in common."""
        return ("contract", self.scale)


@dataclass(frozen=True, eq=False)
class Reduce:
    """out = the sum, product, maximum or minimum of source over its last axes."""

    out: View
    source: View
    function: str

    @property
    def reads(self) -> tuple[View, ...]:
        """The views that it reads."""
        return (self.source,)

    def signature(self) -> tuple[Any, ...]:
        """What two recordings must have in common."""
        return ("reduce", self.function)


@dataclass(frozen=True, eq=False)
class Scan:
    """out = the sums or products of source up to each element of the last axis."""

    out: View
    source: View
    function: str

    @property
    def reads(self) -> tuple[View, ...]:
        """The views that it reads."""
        return (self.source,)

    def signature(self) -> tuple[Any, ...]:
        """What two recordings must have in common."""
        return ("scan", self.function)


@dataclass(frozen=True, eq=False)
class ScatterAdd:
    """out += source, element after element: places of out can occur several times."""

    out: View
    source: View

    @property
    def reads(self) -> tuple[View, ...]:
        """The views that it reads."""
        return (self.out, self.source)

    def signature(self) -> tuple[Any, ...]:
        """What two recordings must have in common."""
        return ("scatter",)


@dataclass(frozen=True, eq=False)
class Search:
    """out = how many numbers of a sorted table, (K,), come before each of found.

    right: whether equal ones do. As in torch, NaN comes after all of them.
    """

    out: View
    found: View
    table: View
    right: bool

    @property
    def reads(self) -> tuple[View, ...]:
        """The views that it reads."""
        return (self.found, self.table)

    def signature(self) -> tuple[Any, ...]:
        """What two recordings must have in common."""
        return ("search", self.right)


@dataclass(frozen=True, eq=False)
class Pick:
    """out = the numbers at places that are known only when it runs: for each element the number of
    source's buffer that is ``step`` times the place behind that of source.

    source, places: views of out's shape. extent: places are 0 to extent - 1; anything else gives
    ``outside``.
    """

    out: View
    source: View
    places: View
    step: int
    extent: int
    outside: float

    @property
    def reads(self) -> tuple[View, ...]:
        """The views that it reads."""
        return (self.source, self.places)

    def signature(self) -> tuple[Any, ...]:
        """What two recordings must have in common."""
        return ("pick", self.step, self.extent, repr(self.outside))


@dataclass(frozen=True, eq=False)
class Put:
    """out += source, element after element, at places that are known only when it runs: ``step``
    times the place behind that of out. Places outside of 0 to extent - 1 add nothing."""

    out: View
    source: View
    places: View
    step: int
    extent: int

    @property
    def reads(self) -> tuple[View, ...]:
        """The views that it reads."""
        return (self.out, self.source, self.places)

    def signature(self) -> tuple[Any, ...]:
        """What two recordings must have in common."""
        return ("put", self.step, self.extent)


Statement = Constant | Map | Contract | Reduce | Scan | ScatterAdd | Search | Pick | Put


@dataclass
class Graph:
    """The statements of a recording, and the views of its inputs and results.

    results: for each name ("f", "vjp", ...) the list of its views; their elements, one view after
    the other, are what the native function writes.
    """

    statements: list[Statement] = field(default_factory=list)
    results: dict[str, list[View]] = field(default_factory=dict)

    def signature(self) -> str:
        """A hash of all that makes the graph: equal for two recordings of one deterministic f."""
        digest = hashlib.blake2b(digest_size=20)
        numbers: dict[Buffer, int] = {}

        def described(view: View) -> tuple[Any, ...]:
            buffer = view.buffer
            place = numbers.setdefault(buffer, len(numbers))
            table = None if view.positions is None else view.positions.tobytes()
            head = (place, buffer.size, buffer.kind, buffer.role, buffer.index)
            return (*head, view.offset, view.shape, view.strides, table)

        for statement in self.statements:
            views = [described(view) for view in (statement.out, *statement.reads)]
            digest.update(repr((statement.signature(), views)).encode())
        for name, found in sorted(self.results.items()):
            digest.update(repr((name, [described(view) for view in found])).encode())
        return digest.hexdigest()

    def live(self, names: list[str]) -> list[Statement]:
        """The statements that these results need, in order."""
        needed = {view.buffer for name in names for view in self.results[name]}
        kept: list[Statement] = []
        for statement in reversed(self.statements):
            if statement.out.buffer in needed:
                kept.append(statement)
                needed.update(view.buffer for view in statement.reads)
        return kept[::-1]
