"""The accepted steps of a batch, kept for its gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from .batched_loop import RowClock


class RowSteps:
    """Steps in the order of the backward pass: first the last step of every row, then the one
    before, ...

    ``add`` fills it, and ``close`` puts it in order. It then has for S steps: row, t, h, end: (S,)
    NumPy; tape: list of tensors (S, ...) of their method; levels: list of (first, last), the steps
    that are equally far from the ends of their rows. In each level the rows have the same order,
    rows with more steps first; order: (B,), the rows in this order. start: (times (B,), states (B,
    n), sizes of the first attempted steps (B,)) at the starts of the rows; f0: f there, (B, n).
    """

    def __init__(self) -> None:
        self._parts: list[tuple] = []
        self.start: Any = None
        self.f0: Any = None

    def add(
        self,
        clock: RowClock,
        which: np.ndarray,
        h: np.ndarray,
        arrived: np.ndarray,
        tape: Callable[[np.ndarray], Sequence[Tensor]],
    ) -> None:
        """Keep the last steps of the rows in ``which`` (places in the clock)."""
        self.extend(clock.index[which], clock.t[which], h[which], arrived[which], tape(which))

    def extend(
        self,
        row: np.ndarray,
        t: np.ndarray,
        h: np.ndarray,
        end: np.ndarray,
        tape: Sequence[Tensor],
    ) -> None:
        """Keep steps of the rows ``row``, (s,), with their columns as in the class. The steps of a
        row come in their order."""
        self._parts.append((row, t, h, end, tape))

    def close(self, batch: int) -> None:
        """Put the steps of a batch with this number of rows in order."""
        columns = list(zip(*self._parts, strict=True)) or [
            (np.zeros(0, dtype=np.int64),),
            *[(np.zeros(0),)] * 3,
            (),
        ]
        self._parts = []
        row, t, h, end = (np.concatenate(column) for column in columns[:4])
        counts = np.bincount(row, minlength=batch)
        self.order = np.argsort(-counts, kind="stable")
        self._rank = np.argsort(self.order)
        self._first = np.cumsum(counts) - counts
        grouped = np.argsort(row, kind="stable")
        number = np.empty_like(row)
        number[grouped] = np.arange(len(row)) - self._first[row[grouped]]
        back = counts[row] - 1 - number
        ordered = np.lexsort((self._rank[row], back))
        if len(back):
            sizes = np.bincount(back)
        else:
            sizes = np.zeros(0, dtype=np.int64)
        bounds = np.cumsum(sizes)
        self.levels = list(zip((bounds - sizes).tolist(), bounds.tolist(), strict=True))
        self._place = np.argsort(ordered)[grouped]  # by row, then by number of the step
        self.row = row[ordered]
        self.t = t[ordered]
        self.h = h[ordered]
        self.end = end[ordered]
        places = torch.from_numpy(ordered)
        self.tape = [
            torch.cat(parts)[places.to(parts[0].device)] for parts in zip(*columns[4], strict=True)
        ]

    def sizes_before(self, count: int) -> np.ndarray:
        """(S, count): the sizes of the ``count`` steps before each step. Before the first step it
        is the first attempted size, then NaN."""
        sizes = np.full((len(self.row), count), np.nan)
        levels = [*self.levels, *[(0, 0)] * (count + 1)]
        for i, (first, _) in enumerate(self.levels):
            for j in range(count):
                (begin, end), (after, until) = levels[i + 1 + j], levels[i + j]
                known = end - begin
                all_rows = until - after
                sizes[first : first + known, j] = self.h[begin:end]
                # The other rows of the earlier level had their first step in it.
                sizes[first + known : first + all_rows, j] = self.start[2][
                    self.order[known:all_rows]
                ]
        return sizes

    def locate(self, times: np.ndarray, row: np.ndarray) -> np.ndarray:
        """The place of the step that contains each time (Q,) in the row (Q,) of equal position, or
        -1 if the row did not reach this time.

        If two steps meet there, it is the earlier one.
        """
        direction = np.sign(self.h[self._place])
        ends = self.end[self._place] * direction
        owners = self.row[self._place]
        sign = np.ones(len(self._rank))
        sign[owners] = direction
        # Steps and times in one sorted sequence, a time before the step that ends at it.
        rows = np.concatenate((owners, row))
        moments = np.concatenate((ends, times * sign[row]))
        ask = np.concatenate((np.zeros(len(ends), dtype=bool), np.ones(len(times), dtype=bool)))
        sequence = np.lexsort((~ask, moments, rows))
        passed = np.empty(len(rows), dtype=np.int64)
        passed[sequence] = np.cumsum(~ask[sequence])
        passed = passed[len(ends) :]
        inside = passed < len(ends)
        inside[inside] = owners[passed[inside]] == row[inside]
        if not len(ends):
            return np.full(len(row), -1)
        return np.where(inside, self._place[np.where(inside, passed, 0)], -1)
