"""The output times of the rows of a batch, and the states there, as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from ..torch.batched_loop import RowSpans


def times_of_row(spans: RowSpans, i: int) -> np.ndarray:
    """The output times of row i after the start and up to its end."""
    later = spans.times[spans.place[i] :, i]
    direction = np.sign(spans.end[i] - spans.start[i])
    return later[direction * (later - spans.end[i]) <= 0]


def shared_times(spans: RowSpans) -> np.ndarray | None:
    """The times that all rows share, (T,): their start and all outputs up to their end. None if
    rows differ."""
    times = spans.times
    if not np.all(spans.place == 1) or np.any(times != times[:, :1]):
        return None
    if np.any(spans.start != times[0]) or np.any(spans.end != times[-1]):
        return None
    return np.ascontiguousarray(times[:, 0])


def own_times(spans: RowSpans) -> tuple[list[list[float]], list[list[float]]]:
    """(the output times of each row after its start, the same with its start before and its end
    after them)."""
    wanted = [times_of_row(spans, i).tolist() for i in range(len(spans.start))]
    ends = zip(spans.start.tolist(), wanted, spans.end.tolist(), strict=True)
    return wanted, [_with_end([start, *own], end) for start, own, end in ends]


def _with_end(times: list[float], end: float) -> list[float]:
    """The times with the end after them."""
    if times[-1] != end:
        times.append(end)
    return times


def by_row(values: Tensor, numbers: np.ndarray, size: int, batch: int) -> np.ndarray:
    """(m, n) of values, 0-d, (n,) or (B, n), for the rows with these numbers."""
    return values.detach().double().expand(batch, size).numpy()[numbers]


def spread(rows: np.ndarray, reached: np.ndarray, spans: RowSpans, wanted: Any) -> np.ndarray:
    """(T, m, n) of rows (m, _, n), which begin with the start: each at its output times, NaN at
    those that it has not reached.

    reached: (m,) how many output times after the start each row has reached. wanted: the output
    times of all rows, (T,) from the start on, or a list of those after the start for each row.
    """
    total = len(spans.times)
    count = len(rows)
    if not isinstance(wanted, list) and total == rows.shape[1]:
        states = np.empty((total, count, rows.shape[2]), rows.dtype)
        states[:] = rows.transpose(1, 0, 2)
        for i in np.flatnonzero(reached < total - 1):
            states[1 + reached[i] :, i] = np.nan
        return states
    states = np.full((total, count, rows.shape[2]), np.nan, rows.dtype)
    for row, (first, many) in enumerate(zip(spans.place.tolist(), reached.tolist(), strict=True)):
        states[first : first + many, row] = rows[row, 1 : 1 + many]
    return states
