"""The native functions of a batch whose rows are solves of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor
from torch.utils import _pytree as pytree

from ...translate import NativeField, TranslationRefused, translated_before
from .fields import BoundField, FlatCall, translated
from .mass import NativeMass

if TYPE_CHECKING:
    from ...core.batched_field import RowField


class RowFields:
    """The native functions of a RowField for each of its rows.

    part: the first row, by default that of the field; bound: its native functions, if they are
    known. targets: the tensors that native code reads, whole. by_row: for each of them whether a
    row of the batch reads its own row of it. one_row: the args for the first row.
    """

    def __init__(
        self,
        field: RowField,
        t0: float,
        y0: Tensor,
        part: FirstRow | None = None,
        bound: BoundField | None = None,
    ) -> None:
        part = part or FirstRow(field)
        one = part.args
        self.bound = bound or translated(field.f, one, part.frame, t0, y0)
        self.bound.mass = NativeMass.of(field.mass)
        self.one_row = pytree.tree_unflatten(one, part.structure)
        # For the id of each leaf of these args that belongs to a row: how far the rows lie apart.
        self.apart = {
            id(x): leaf.stride(0) * leaf.element_size()
            for x, leaf, own in zip(one, part.leaves, part.owned, strict=True)
            if own
        }
        places = {id(x): i for i, x in enumerate(one)}
        self.targets: list[Tensor] = []
        self.by_row: list[bool] = []
        for target in self.bound.targets:
            place = places.get(id(target))
            if place is None:
                self.targets.append(target)
                self.by_row.append(False)
            else:
                self.targets.append(part.leaves[place])
                self.by_row.append(part.owned[place])
        sizes = [self.apart.get(id(target), 0) for target in self.bound.targets]
        self._shifts = np.array(sizes, dtype=np.int64)

    def addresses(self, rows: np.ndarray) -> np.ndarray:
        """(m, k) addresses of the targets for the rows with these numbers, (m,)."""
        return self.bound.pointers()[0] + rows[:, None] * self._shifts


class FirstRow:
    """The args of the first row of a batch as leaves, and how its native functions call f.

    leaves: of the args of all rows. owned: which of them have a row for each row of the batch.
    args: the leaves for the first row.
    """

    def __init__(self, field: RowField) -> None:
        self.leaves, self.structure = pytree.tree_flatten(field.args)
        self.owned = owned_leaves(field)
        self.args = [x[:1] if own else x for x, own in zip(self.leaves, self.owned, strict=True)]
        self.frame = FlatCall(field.layout, self.structure, field.nonnegative_mask, rows=True)
        # Where a NativeField keeps that its rows are independent.
        self.place = ("independent rows", tuple(self.owned))

    def translated_before(self, field: RowField, y0: Tensor) -> NativeField | None:
        """The native functions of the same f, if they exist."""
        return translated_before(field.f, y0.detach(), self.args, self.frame)


def known_rows(field: RowField, y0: Tensor) -> RowFields | None:
    """The RowFields of an f whose native functions exist and whose rows are known to be independent
    (``check_once``); None for others. y0: (n,) a state of one row."""
    part = FirstRow(field)
    native = part.translated_before(field, y0)
    if native is None or part.place not in native.kept:
        return None
    try:
        bound = BoundField(native)
    except TranslationRefused:
        return None
    return RowFields(field, 0.0, y0, part, bound)


def check_once(field: RowField, y0: Tensor, check: Callable[[], None]) -> None:
    """Call check(), which raises an error if rows of f influence each other, unless it has passed
    for the same f and its native functions. y0: (n,) a state of one row."""
    part = FirstRow(field)
    native = part.translated_before(field, y0)
    if native is not None and part.place in native.kept:
        return
    check()
    if native is not None:
        native.kept[part.place] = True


def owned_leaves(field: RowField) -> list[bool]:
    """For each leaf of the args whether it has a row for each row of the batch."""
    owned = []
    for argument, by_row in zip(field.args, field.by_row, strict=True):
        owned += [by_row] * len(pytree.tree_leaves(argument))
    return owned
