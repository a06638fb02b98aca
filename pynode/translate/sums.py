"""Results that are added to what stands in memory, in statements that write them there at once.

The gradient in a weight matrix is an outer product, or a sum of some. As an array of its own, it
would be written, read, added, and written again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from .graph import (
    REAL,
    Buffer,
    Constant,
    Contract,
    Map,
    Put,
    Reduce,
    ScatterAdd,
    Statement,
    View,
    at_places,
    contiguous,
)

# Sums of at most two arrays, and the sign of the second: its factor is their parameter.
_SUMS = {"add": 1.0, "sub": -1.0}
_COPIES = {"copy": 1.0, "to_real": 1.0, "neg": -1.0}


class Adder:
    """Changes statements so that they add results to memory.

    statements: the list that is changed. uses: how often each buffer is a result. summed: whether
    the results are sums over sets of vectors; only sums of products can then write to memory.
    """

    def __init__(
        self, statements: list[Statement], uses: Mapping[Buffer, int], summed: bool = False
    ) -> None:
        self._statements = statements
        self._uses = dict(uses)
        self._summed = summed

    def add(self, source: View, target: View) -> None:
        """target += source at the end, for a result. The views have the same shape, and no
        statement reads or writes the target otherwise."""
        self._uses[source.buffer] -= 1
        self._add(source, target, 1.0, len(self._statements))

    def _add(self, source: View, target: View, scale: float, place: int) -> None:
        """The same for scale times the source; place: where a statement of its own would stand."""
        if self._taken(source, target, scale):
            return
        total: list[Statement] = [Map(target, "add", (target, source), (scale,))]
        if self._summed:
            total = total_of(source, target, scale)
        self._statements[place:place] = total

    def _taken(self, source: View, target: View, scale: float) -> bool:
        """Let the statements that make the source write to the target; whether this is possible."""
        buffer = source.buffer
        moved = _moved(source, target)
        if moved is None or self._is_read(buffer):
            return False
        writers = [s for s in self._statements if s.out.buffer is buffer]
        if not writers:
            return False
        only = writers[0]
        if len(writers) == 1 and isinstance(only, Map):
            return self._mapped(only, target.buffer, moved, scale)
        if len(writers) == 1 and isinstance(only, Reduce) and only.function == "sum":
            return self._replaced({id(only): _as_products(only)}, target.buffer, moved, scale)
        if not isinstance(only, Constant) or only.out.size != buffer.size or only.data.any():
            return False
        if not all(isinstance(s, (Contract, ScatterAdd, Put)) for s in writers[1:]):
            return False
        changes: dict[int, list[Statement]] = {id(s): [s] for s in writers}
        changes[id(only)] = []
        return self._replaced(changes, target.buffer, moved, scale)

    def _is_read(self, buffer: Buffer) -> bool:
        """Whether anything else than statements that add to a buffer reads it."""
        return self._uses.get(buffer, 0) > 0 or any(
            statement.out.buffer is not buffer
            and any(view.buffer is buffer for view in statement.reads)
            for statement in self._statements
        )

    def _mapped(self, only: Map, out: Buffer, moved: np.ndarray, scale: float) -> bool:
        """The same for a sum, a difference, or a copy of arrays."""
        factors = _factors(only)
        target = at_places(out, moved[only.out.places()])
        if factors is None or target.positions is not None or only.out.size != len(moved):
            return False
        place = next(i for i, s in enumerate(self._statements) if s is only)
        del self._statements[place]
        for view, factor in factors:
            # Statements before this place can change in number, never those after it.
            after = len(self._statements) - place
            self._add(view, target, scale * factor, place)
            place = len(self._statements) - after
        return True

    def _replaced(
        self,
        changes: dict[int, list[Statement]],
        out: Buffer,
        moved: np.ndarray,
        scale: float,
    ) -> bool:
        """Put others in the place of these statements, by their ids. The last one of the others
        writes to out instead of to its buffer."""
        found: list[Statement] = []
        for statement in self._statements:
            others = changes.get(id(statement), [statement])
            found += others
            if id(statement) not in changes or not others:
                continue
            last = others[-1]
            target = at_places(out, moved[last.out.places()])
            if target.positions is not None:
                return False
            if isinstance(last, Put) and not np.array_equal(
                moved - moved[0], np.arange(len(moved))
            ):
                return False
            if isinstance(last, Contract):
                found[-1] = dataclasses.replace(last, out=target, scale=last.scale * scale)
            elif scale == 1.0 and not self._summed:
                found[-1] = dataclasses.replace(last, out=target)
            else:
                return False
        self._statements[:] = found
        return True


def _moved(source: View, target: View) -> np.ndarray | None:
    """For each place of the source's buffer the place in the target's; None if the source is not
    all of its buffer, each number once."""
    buffer = source.buffer
    if buffer.role is not None or buffer.kind != REAL or source.size != buffer.size:
        return None
    moved = np.full(buffer.size, -1, dtype=np.int64)
    moved[source.places().reshape(-1)] = target.places().reshape(-1)
    return None if (moved < 0).any() else moved


def _factors(statement: Map) -> list[tuple[View, float]] | None:
    """The views whose sum a statement is, with their factors; None if it is no such sum."""
    name = statement.function
    inputs = statement.inputs
    if name in _COPIES:
        found = [(inputs[0], _COPIES[name])]
    elif name in _SUMS:
        alpha = statement.parameters[0] if statement.parameters else 1.0
        found = [(inputs[0], 1.0), (inputs[1], _SUMS[name] * alpha)]
    else:
        return None
    views = [x for x, _ in found if isinstance(x, View) and x.buffer.kind == REAL]
    if len({view.buffer for view in views}) < len(found):
        return None
    return found


def _as_products(statement: Reduce) -> list[Statement]:
    """A sum over axes as a sum of products with one."""
    return total_of(statement.source, statement.out, 1.0)


def total_of(source: View, target: View, scale: float) -> list[Statement]:
    """target += scale times the sum of the source over its further axes."""
    found: list[Statement] = []
    if source.positions is not None:
        copied = contiguous(Buffer(source.size, REAL), source.shape)
        found.append(Map(copied, "copy", (source,)))
        source = copied
    one = View(Buffer(1, REAL), 0, (), ())
    ones = one.expand(source.shape)
    return [*found, Constant(one, np.ones(())), Contract(target, source, ones, scale)]
