"""The events of the rows of a batch among the outputs of their backward passes."""

from __future__ import annotations

import numpy as np

from ...backends.native.loop import AT_END
from ...backends.native.row_observer import FoundEvents

LATER = np.iinfo(np.int64).max  # in place of a step: of outputs that a row has not reached


class RowEvents:
    """The events of m rows, with the cotangents of their states, (h, n)."""

    def __init__(self, found: FoundEvents, grads: np.ndarray) -> None:
        self.found = found
        self.grads = grads

    def last(self, members: slice, states: np.ndarray) -> np.ndarray:
        """The states, (R, n), at the ends of the last steps of some rows. states: (m, n) at their
        ends, which lie inside these steps if events ended the rows."""
        found = self.found
        return np.where(found.cut[members, None], found.end_states[members], states[members])

    def joined(
        self,
        members: slice,
        reached: np.ndarray,
        steps: np.ndarray,
        thetas: np.ndarray,
        cotangents: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The outputs of some rows together with their events, in the order of the steps.

        steps, thetas: (R, T); cotangents: (R, T, n). The last one of a row is number reached, (R,).
        """
        found = self.found
        which = np.flatnonzero((found.row >= members.start) & (found.row < members.stop))
        if not len(which):
            return steps, thetas, cotangents
        which = which[np.argsort(found.row[which], kind="stable")]
        row = found.row[which] - members.start
        count = np.bincount(row, minlength=len(steps))
        total = steps.shape[1]
        steps = np.where(np.arange(total) <= reached[:, None], steps, LATER)
        width = int(count.max())
        steps = np.pad(steps, ((0, 0), (0, width)), constant_values=LATER)
        thetas = np.pad(thetas, ((0, 0), (0, width)), constant_values=AT_END)
        cotangents = np.pad(cotangents, ((0, 0), (0, width), (0, 0)))
        place = total + np.arange(len(row)) - (np.cumsum(count) - count)[row]
        steps[row, place] = found.step[which]
        thetas[row, place] = found.theta[which]
        cotangents[row, place] = self.grads[which]
        order = np.lexsort((np.where(thetas == AT_END, np.inf, thetas), steps), axis=1)
        return (
            np.take_along_axis(steps, order, 1),
            np.take_along_axis(thetas, order, 1),
            np.take_along_axis(cotangents, order[:, :, None], 1),
        )
