"""One grid of times for runs that were measured at different times."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def common_grid(times: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """(grid (T, B), places): a column of increasing times for each of B runs, all of the same
    length, and for each run the rows of its own times in the grid.

    times: (T_i,) increasing times of each run. Columns of shorter runs get further times in the
    middle of their longest intervals. A solver interpolates there, which costs no steps.
    """
    most = max(len(t) for t in times)
    columns = []
    places = []
    for t in times:
        full = _refined(t, most)
        columns.append(full)
        places.append(torch.searchsorted(full, t))
    return torch.stack(columns, 1), places


def _refined(t: Tensor, count: int) -> Tensor:
    """count times that contain those of t, (T,)."""
    while len(t) < count:
        gaps = t.diff()
        longest = gaps.topk(min(count - len(t), len(gaps))).indices
        middles = t[longest] + gaps[longest] / 2
        t = torch.cat((t, middles)).sort().values
    return t
