"""The steps of masked passes, kept on the device for the gradient (batched_tape.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.transfer import places


class Taken(NamedTuple):
    """Accepted steps. The steps of one row are in the order of time. row, t, h, end: (S,) NumPy;
    tape: what the gradient needs of them (methods/batched/base.PassResult)."""

    row: np.ndarray
    t: np.ndarray
    h: np.ndarray
    end: np.ndarray
    tape: tuple[Tensor, ...]


class MaskedTape:
    """The attempted steps of one block of passes, and which of them were accepted: numbers (K, 3 or
    4, m) float64, t, h, end and the order if there is one; mask (K, m); states (K, m, n). A
    captured graph writes into the same tensors again. kept: copies of the earlier blocks.
    """

    def __init__(self, passes: int, y: Tensor, numbers: int) -> None:
        rows = len(y)
        self.numbers = torch.zeros(passes, numbers, rows, dtype=torch.float64, device=y.device)
        self.mask = torch.zeros(passes, rows, dtype=torch.bool, device=y.device)
        self.states = torch.zeros(passes, *y.shape, dtype=y.dtype, device=y.device)
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def write(
        self, number: int, numbers: Sequence[Tensor], accepted: Tensor, states: Tensor
    ) -> None:
        """Keep the attempts of the pass of this number in the block: (m,) each, states (m, n)."""
        torch.stack([part.to(torch.float64) for part in numbers], out=self.numbers[number])
        self.mask[number].copy_(accepted)
        self.states[number].copy_(states)

    def keep(self) -> None:
        """Keep the block, which the next one overwrites."""
        self.kept.append((self.numbers.clone(), self.mask.clone(), self.states.clone()))

    def taken(self, row: Tensor) -> Taken:
        """The accepted steps of all blocks. row: (m,), the numbers of the rows. One synchronisation
        for their places, and then one copy to the host."""
        numbers, mask, states = (torch.cat(parts) for parts in zip(*self.kept, strict=True))
        self.kept = []
        which = mask.view(-1).nonzero().squeeze(1)
        rows = row.to(numbers).expand(1, len(mask), -1)
        columns = torch.cat((numbers.transpose(0, 1), rows)).flatten(1)
        kept = states.view(-1, states.shape[2]).index_select(0, which)
        return taken(columns.index_select(1, which), kept)


class AttendedTape:
    """The accepted steps of passes whose counts the host reads. kept: of each pass, the places of
    its rows (w,), the numbers of MaskedTape, (3 or 4, w), and states (w, n)."""

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []
        self._last: Any = None

    def write(
        self, number: int, numbers: Sequence[Tensor], accepted: Tensor, states: Tensor
    ) -> None:
        """The attempts of a pass, as MaskedTape.write."""
        self._last = (numbers, accepted, states)

    def count(self, like: Tensor) -> Tensor:
        """How many of the last attempts were accepted, 0-d; zeros of ``like`` without any."""
        if self._last is None:
            return like.new_zeros(())
        return self._last[1].sum()

    def keep(self, count: int) -> None:
        """Keep these accepted steps. count: as the host has read it."""
        numbers, accepted, states = self._last
        self._last = None
        which = places(accepted, count)
        columns = [part.index_select(0, which).to(torch.float64) for part in numbers]
        self.kept.append((which, torch.stack(columns), states.index_select(0, which)))

    def taken(self, row: Tensor) -> Taken | None:
        """All steps; row: (m,), the numbers of the rows. None if there are none."""
        if not self.kept:
            return None
        which, columns, states = zip(*self.kept, strict=True)
        self.kept = []
        rows = row.index_select(0, torch.cat(which)).to(torch.float64)
        return taken(torch.cat((torch.cat(columns, 1), rows.unsqueeze(0))), torch.cat(states))


def taken(columns: Tensor, states: Tensor) -> Taken:
    """Steps from their columns t, h, end, perhaps the order, and the row, (3 or 4 + 1, S) float64,
    and states (S, n)."""
    t, h, end, *orders, owner = columns.cpu().numpy()
    tape: tuple[Tensor, ...] = (states,)
    if orders:
        tape = (torch.from_numpy(orders[0].astype(np.int64)), states)
    return Taken(owner.astype(np.int64), t, h, end, tape)
