"""The statuses of the rows of a batch, as numbers: a million members of an enum take seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from .status import Status

STATUSES = tuple(Status)
NUMBERS = {status: number for number, status in enumerate(STATUSES)}
# A row that still runs.
RUNNING = -1
_OBJECTS = np.array([*STATUSES, None], dtype=object)
_GOOD = np.array([*(status.success for status in STATUSES), False])


class RowStatuses(Sequence[Any]):
    """How each row ended: a sequence of Status, None for a row that still runs.

    numbers: (m,) int8, places in STATUSES, or RUNNING.
    """

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = np.asarray(numbers, dtype=np.int8)

    @staticmethod
    def running(count: int) -> RowStatuses:
        """The statuses of rows that all run."""
        return RowStatuses(np.full(count, RUNNING))

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, row: int) -> Any: ...
    @overload
    def __getitem__(self, row: slice) -> RowStatuses: ...
    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return RowStatuses(self.numbers[row])
        return _OBJECTS[self.numbers[row]]

    def __setitem__(self, rows: Any, status: Status) -> None:
        """Give a row, or the rows of an index or a mask, this status."""
        self.numbers[rows] = NUMBERS[status]

    def __iter__(self) -> Iterator[Any]:
        return iter(_OBJECTS[self.numbers].tolist())

    def __contains__(self, status: object) -> bool:
        return status in self.present()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RowStatuses):
            return bool(np.array_equal(self.numbers, other.numbers))
        if isinstance(other, Sequence) and not isinstance(other, str):
            return list(self) == list(other)
        return NotImplemented

    # It changes, as a list does.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> tuple:
        # By name, because the order may change from version to version.
        return restored, ([status.name for status in STATUSES], self.numbers)

    def are(self, status: Status) -> np.ndarray:
        """The mask of the rows with this status, (m,)."""
        return self.numbers == NUMBERS[status]

    def good(self) -> np.ndarray:
        """The mask of the rows that ended as intended, (m,)."""
        return _GOOD[self.numbers]

    def present(self) -> list[Any]:
        """The statuses that occur."""
        counts = np.bincount(self.numbers.astype(np.int64) - RUNNING)
        return [_OBJECTS[number + RUNNING] for number in np.flatnonzero(counts)]


def restored(names: Sequence[str], numbers: np.ndarray) -> RowStatuses:
    """The statuses of a pickle. names: STATUSES when it was written."""
    places = np.array([*(NUMBERS[Status[name]] for name in names), RUNNING])
    return RowStatuses(places[numbers])
