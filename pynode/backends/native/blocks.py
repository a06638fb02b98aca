"""The arrays of one solve, or of many, in one block of memory.

A compiled loop reads where its arrays are from int64 numbers, SLOT for each array (machine.py). All
solves of a field by a method have arrays of the same shapes. A Blueprint says once where each of
them lies. A solve then allocates one block, and adds its address to the numbers of the Blueprint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .machine import SLOT, address

ALIGNMENT = 64  # bytes
# Arrays without which compiled code leaves out what uses them (mass.py): if they have no numbers,
# their lengths are known when the loops are compiled.
OPTIONAL = ("mass_starts", "lift")


class Own(NamedTuple):
    """An array that each solve has for itself. zero: whether it begins with zeros."""

    shape: tuple[int, ...]
    dtype: Any
    zero: bool = False


class Given(NamedTuple):
    """An array that comes from elsewhere: ``Blocks.give``."""

    ndim: int
    dtype: Any


class Part(NamedTuple):
    """A part of an Own: shape, from number ``first`` of its numbers on."""

    of: str
    first: int
    shape: tuple[int, ...]
    dtype: Any


class Blueprint:
    """Where the arrays of a NamedTuple lie in a block.

    kind: the NamedTuple. arrays: for each of its names an Own, a Part, a Given, or an array that
    all solves share. real: the dtype of the first array, as a letter. absent: the names of the
    OPTIONAL arrays that have no numbers.
    """

    def __init__(self, kind: Any, arrays: Mapping[str, Any]) -> None:
        self.kind = kind
        self.arrays = {name: arrays[name] for name in kind._fields}
        self.real = np.dtype(next(iter(self.arrays.values())).dtype).char
        self.absent = tuple(name for name in OPTIONAL if self._is_empty(name))
        self.places = {name: SLOT * i for i, name in enumerate(kind._fields)}
        self.template = np.ones(SLOT * len(kind._fields), np.int64)
        self.offsets: dict[str, int] = {}
        self.zeros = 0  # bytes at the beginning that are zero
        own = {name: item for name, item in self.arrays.items() if isinstance(item, Own)}
        size = 0
        # Arrays that begin with zeros come first.
        for name in sorted(own, key=lambda name: not own[name].zero):
            self.offsets[name] = size
            bytes_ = math.prod(own[name].shape) * np.dtype(own[name].dtype).itemsize
            size += -(-bytes_ // ALIGNMENT) * ALIGNMENT
            if own[name].zero:
                self.zeros = size
        self.size = size
        for name, item in self.arrays.items():
            if isinstance(item, Part):
                itemsize = np.dtype(item.dtype).itemsize
                self.offsets[name] = self.offsets[item.of] + item.first * itemsize
        for name, item in self.arrays.items():
            place = self.places[name]
            if isinstance(item, (Own, Part)):
                self._describe(place, self.offsets[name], item.shape)
            elif not isinstance(item, Given):
                self._describe(place, address(item), item.shape)
        self._places_of: dict[tuple[str, ...], np.ndarray] = {}
        self.own_places = np.array([self.places[name] for name in self.offsets])

    def _is_empty(self, name: str) -> bool:
        item = self.arrays.get(name)
        return item is not None and not isinstance(item, Given) and 0 in item.shape

    def _describe(self, place: int, where: int, shape: tuple[int, ...]) -> None:
        self.template[place] = where
        self.template[place + 1 : place + 1 + len(shape)] = shape

    @property
    def kinds(self) -> dict[str, tuple[Any, int]]:
        """The dtype and the number of dimensions of each array."""
        found = {}
        for name, item in self.arrays.items():
            if isinstance(item, (Own, Part)):
                found[name] = (np.dtype(item.dtype), len(item.shape))
            else:
                found[name] = (np.dtype(item.dtype), item.ndim)
        return found

    def places_of(self, names: tuple[str, ...]) -> np.ndarray:
        """The places of the numbers, of those that vary, of these arrays."""
        found = self._places_of.get(names)
        if found is None:
            kinds = self.kinds
            places: list[int] = []
            for name in names:
                first = self.places[name]
                places += range(first, first + 1 + kinds[name][1])
            found = np.array(places)
            self._places_of[names] = found
        return found

    def blocks(self, count: int = 1) -> Blocks:
        """The memory of so many solves."""
        return Blocks(self, count)


class Blocks:
    """The memory of some solves. slots: (count, SLOT k) int64, what compiled code reads."""

    def __init__(self, blueprint: Blueprint, count: int) -> None:
        self.blueprint = blueprint
        self.count = count
        self._block = np.empty((count, blueprint.size), np.uint8)
        self._block[:, : blueprint.zeros] = 0
        base = address(self._block)
        if count == 1:
            self.slots = blueprint.template.copy()
            self.slots[blueprint.own_places] += base
            self.slots = self.slots[None]
        else:
            self.slots = np.tile(blueprint.template, (count, 1))
            starts = base + blueprint.size * np.arange(count)
            self.slots[:, blueprint.own_places] += starts[:, None]
        self._given: dict[str, np.ndarray] = {}
        self._replaced: dict[tuple[str, int], np.ndarray] = {}

    def give(self, **arrays: np.ndarray) -> None:
        """Use these arrays, by name, which all solves share."""
        self._given.update(arrays)
        numbers: list[int] = []
        for array in arrays.values():
            numbers += (address(array), *array.shape)
        self.slots[:, self.blueprint.places_of(tuple(arrays))] = numbers

    def give_each(self, name: str, array: np.ndarray, lengths: np.ndarray | None = None) -> None:
        """Use row i of this array, (count, ...), in solve i; of it the first lengths[i] items."""
        self._given[name] = array
        place = self.blueprint.places[name]
        self.slots[:, place] = address(array) + array.strides[0] * np.arange(self.count)
        self.slots[:, place + 1 : place + array.ndim] = array.shape[1:]
        if lengths is not None:
            self.slots[:, place + 1] = lengths

    def lend(self, name: str, which: np.ndarray, array: np.ndarray) -> None:
        """Use this array for the solves of these places, int64, as long as the caller keeps it."""
        place = self.blueprint.places[name]
        self.slots[which, place] = address(array)
        self.slots[which, place + 1] = len(array)

    def point(self, name: str, slots: np.ndarray, place: int) -> None:
        """Use the arrays whose numbers are in slots, (count, ...), from this place on. The caller
        keeps them."""
        own = self.blueprint.places[name]
        self.slots[:, own : own + SLOT] = slots[:, place : place + SLOT]

    def twin(self) -> Blocks:
        """A copy with the same numbers in its own arrays, and with the same given ones."""
        twin = Blocks(self.blueprint, self.count)
        twin._block[:] = self._block
        for (name, i), array in self._replaced.items():
            twin.replace(name, i, array.copy())
        for name in self._given:
            place = self.blueprint.places[name]
            twin.slots[:, place : place + SLOT] = self.slots[:, place : place + SLOT]
        twin._given.update(self._given)
        return twin

    def limit(self, names: Sequence[str], count: int) -> None:
        """Let compiled code see the first ``count`` items of these arrays."""
        for name in names:
            self.slots[:, self.blueprint.places[name] + 1] = count

    def replace(self, name: str, i: int, array: np.ndarray) -> None:
        """Use another array in one solve."""
        self._replaced[name, i] = array
        place = self.blueprint.places[name]
        self.slots[i, place] = address(array)
        self.slots[i, place + 1 : place + 1 + array.ndim] = array.shape

    def of(self, name: str, i: int = 0) -> np.ndarray:
        """An array of one solve, a view."""
        item = self.blueprint.arrays[name]
        replaced = self._replaced.get((name, i))
        if replaced is not None:
            return replaced
        if name in self._given:
            given = self._given[name]
            if given.ndim == item.ndim:
                return given
            return given[i][: self.slots[i, self.blueprint.places[name] + 1]]
        if isinstance(item, np.ndarray):
            return item
        offset = self.blueprint.offsets[name] + i * self.blueprint.size
        return np.ndarray(item.shape, item.dtype, self._block, offset)

    def each(self, name: str) -> np.ndarray:
        """The arrays of all solves, (count, ...), a view. None of them is replaced."""
        item = self.blueprint.arrays[name]
        if isinstance(item, Given):
            return self._given[name]
        shape = (self.count, *item.shape)
        dtype = np.dtype(item.dtype)
        strides = [dtype.itemsize]
        for extent in reversed(item.shape[1:]):
            strides.insert(0, strides[0] * extent)
        offset = self.blueprint.offsets[name]
        return np.ndarray(
            shape, dtype, self._block, offset, (self.blueprint.size, *strides[: len(item.shape)])
        )

    def memory(self, i: int = 0) -> Any:
        """All arrays of one solve as the NamedTuple."""
        return self.blueprint.kind(*(self.of(name, i) for name in self.blueprint.arrays))
