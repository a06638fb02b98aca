"""Which components of f depend on which of y, and rows of the Jacobian that share no column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .graph import (
    Buffer,
    Constant,
    Contract,
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

# Truth values at most in one array of dependences. Above this the Jacobian counts as dense.
_LARGEST = 50_000_000


class _TooLarge(Exception):
    """The dependences do not fit in memory."""


class _Dependence:
    """For each buffer, (size, n): whether a number of it depends on a component of y; and which
    numbers are known to be 0."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._memory: dict[Buffer, np.ndarray] = {}
        self._zero: dict[Buffer, np.ndarray] = {}

    def array(self, buffer: Buffer) -> np.ndarray:
        """The dependences of a buffer's numbers."""
        known = self._memory.get(buffer)
        if known is None:
            if buffer.size * self._n > _LARGEST:
                raise _TooLarge
            if buffer.role == "y":
                known = np.eye(self._n, dtype=bool)
            else:
                known = np.zeros((buffer.size, self._n), dtype=bool)
            self._memory[buffer] = known
        return known

    def zero(self, buffer: Buffer) -> np.ndarray:
        """Which numbers of a buffer are 0 in every case."""
        return self._zero.setdefault(buffer, np.zeros(buffer.size, dtype=bool))

    def read(self, view: View) -> np.ndarray:
        """The dependences of a view's numbers, in its shape and (n,)."""
        if view.size * self._n > _LARGEST:
            raise _TooLarge
        return self.array(view.buffer)[view.places()]

    def run(self, statement: Statement) -> None:
        """Carry the dependences through one statement."""
        places = statement.out.places()
        array = self.array(statement.out.buffer)
        zero = self.zero(statement.out.buffer)
        if isinstance(statement, Constant):
            array[places] = False
            zero[places] = statement.data == 0
            return
        if isinstance(statement, Map):
            array[places], zero[places] = self._mapped(statement)
            return
        if isinstance(statement, Contract):
            array[places] |= self._contracted(statement)
            zero[places] = False
            return
        if isinstance(statement, Search):
            # A place has no derivative.
            array[places] = False
            zero[places] = False
            return
        source = self.read(statement.source)
        zero[places] = False
        if isinstance(statement, Pick):
            everywhere = self.array(statement.source.buffer)
            for k in range(statement.extent if everywhere.any() else 0):
                source = source | everywhere[statement.source.places() + k * statement.step]
            array[places] = source
            return
        if isinstance(statement, Put):
            for k in range(statement.extent):
                at = places.reshape(-1) + k * statement.step
                zero[at] = False
                np.logical_or.at(array, at, source.reshape(-1, self._n))
            return
        if isinstance(statement, Reduce):
            rank = len(statement.out.shape)
            axes = tuple(range(rank, source.ndim - 1))
            array[places] = source.any(axis=axes) if axes else source
        elif isinstance(statement, Scan):
            array[places] = np.logical_or.accumulate(source, axis=-2)
        elif isinstance(statement, ScatterAdd):
            np.logical_or.at(array, places.reshape(-1), source.reshape(-1, self._n))

    def _mapped(self, statement: Map) -> tuple[np.ndarray, np.ndarray]:
        shape = statement.out.shape
        found = np.zeros((*shape, self._n), dtype=bool)
        zero = np.zeros(shape, dtype=bool)
        for x in statement.inputs:
            if isinstance(x, View):
                found |= self.read(x)
                if statement.function == "mul":
                    zero |= self.zero(x.buffer)[x.places()]
                if statement.function in ("copy", "to_real"):
                    zero = self.zero(x.buffer)[x.places()]
        found[zero] = False
        return found, zero

    def _contracted(self, statement: Contract) -> np.ndarray:
        rank = len(statement.out.shape)
        left = self.read(statement.left)
        right = self.read(statement.right)
        zero = self.zero(statement.left.buffer)[statement.left.places()]
        zero = zero | self.zero(statement.right.buffer)[statement.right.places()]
        both = (left | right) & ~zero[..., None]
        axes = tuple(range(rank, both.ndim - 1))
        return both.any(axis=axes) if axes else both


def dependence(
    statements: Sequence[Statement], views: Sequence[View], n: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows and columns where df/dy may differ from 0, in row-major order."""
    state = _Dependence(n)
    try:
        for statement in statements:
            state.run(statement)
        full = np.concatenate([state.read(view).reshape(-1, n) for view in views])
    except _TooLarge:
        full = np.ones((n, n), dtype=bool)
    rows, columns = np.nonzero(full)
    return rows.astype(np.int64), columns.astype(np.int64)


def coloured(rows: np.ndarray, columns: np.ndarray, n: int) -> np.ndarray:
    """A number for each row, (n,); rows with the same number share no column.

    The greedy algorithm of Curtis, Powell and Reid (1974), the longest rows first.
    """
    order = np.argsort(-np.bincount(rows, minlength=n), kind="stable")
    starts = np.searchsorted(rows, np.arange(n + 1))
    colours = np.zeros(n, dtype=np.int64)
    used: list[np.ndarray] = []
    for row in order.tolist():
        mine = columns[starts[row] : starts[row + 1]]
        fitting = (c for c, taken in enumerate(used) if not taken[mine].any())
        colour = next(fitting, len(used))
        if colour == len(used):
            used.append(np.zeros(n, dtype=bool))
        used[colour][mine] = True
        colours[row] = colour
    return colours
