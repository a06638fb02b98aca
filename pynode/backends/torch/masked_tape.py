"""The steps of masked passes, kept on the device for the gradient (batched_tape.py)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Taken(NamedTuple):
    """Accepted steps. The steps of one row are in the order of time. row, t, h, end: (S,) NumPy;
    start: (S, n)."""

    row: np.ndarray
    t: np.ndarray
    h: np.ndarray
    end: np.ndarray
    start: Tensor


class MaskedTape:
    """The attempted steps of one block of passes, and which of them were accepted: numbers (K, 3,
    m) float64, t, h and end; mask (K, m); starts (K, m, n). A captured graph writes into the same
    tensors again. kept: copies of the earlier blocks.
    """

    def __init__(self, passes: int, y: Tensor) -> None:
        rows = len(y)
        self.numbers = torch.zeros(passes, 3, rows, dtype=torch.float64, device=y.device)
        self.mask = torch.zeros(passes, rows, dtype=torch.bool, device=y.device)
        self.starts = torch.zeros(passes, *y.shape, dtype=y.dtype, device=y.device)
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def write(
        self, number: int, t: Tensor, h: Tensor, end: Tensor, accepted: Tensor, start: Tensor
    ) -> None:
        """Keep the attempts of the pass of this number in the block: (m,) each, start (m, n)."""
        torch.stack((t, h, end), out=self.numbers[number])
        self.mask[number].copy_(accepted)
        self.starts[number].copy_(start)

    def keep(self) -> None:
        """Keep the block, which the next one overwrites."""
        self.kept.append((self.numbers.clone(), self.mask.clone(), self.starts.clone()))

    def taken(self, row: Tensor) -> Taken:
        """The accepted steps of all blocks. row: (m,), the numbers of the rows. One synchronisation
        for their places, and then one copy to the host."""
        numbers, mask, starts = (torch.cat(parts) for parts in zip(*self.kept, strict=True))
        self.kept = []
        which = mask.view(-1).nonzero().squeeze(1)
        rows = row.to(numbers).expand(1, len(mask), -1)
        columns = torch.cat((numbers.transpose(0, 1), rows)).view(4, -1)
        t, h, end, owner = columns.index_select(1, which).cpu().numpy()
        start = starts.view(-1, starts.shape[2]).index_select(0, which)
        return Taken(owner.astype(np.int64), t, h, end, start)
