"""What Python asks between the steps of the rows of a batch: events, a domain, a callback, and a
limit of evaluations that all rows share.

The loops of rows stop at a question (loop.py), and the questions of all rows are answered together,
in a few calls for many rows. With a callback or a shared limit the rows go in passes, as in the
torch engine: each tries one step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...core.status import Status
from ..torch.batched_event_detection import GivenRows, GivenSteps
from .engine import COUNTS
from .event_conditions import native_conditions
from .loop import AT_END
from .run import ALLOWED, DOMAIN, EVERY_STEP, POSSIBLE_EVENTS, RUNNING, STATUSES

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.stop_conditions import RowLimits
    from ..torch.batched_event_detection import BatchEventDetector
    from .batch import RowFields
    from .blocks import Blocks
    from .conditions import Watched
    from .prepared import Prepared


class FoundEvents:
    """Where the events of m rows lie in their recorded steps.

    row, step, theta: (h,) of the hits of the detector, in its order: the row, the recorded step,
    and the place in it as a fraction, AT_END at its end. end_theta: (m,) the same fraction for the
    ends of the rows in their last steps. cut: (m,) mask of the rows that events ended; end_states:
    (m, n), for these, the states at the ends of their last steps.
    """

    def __init__(self, states: np.ndarray) -> None:
        self.row = np.empty(0, np.int64)
        self.step = np.empty(0, np.int64)
        self.theta = np.empty(0)
        self.end_theta = np.full(len(states), AT_END)
        self.end_states = np.empty_like(states)
        self.cut = np.zeros(len(states), dtype=bool)

    def add(self, row: np.ndarray, step: np.ndarray, theta: np.ndarray) -> None:
        """Add hits."""
        self.row = np.concatenate((self.row, row))
        self.step = np.concatenate((self.step, step))
        self.theta = np.concatenate((self.theta, theta))


class RowObserver:
    """Sees the steps of the rows of a batch.

    field: of the whole batch; fields: its native functions. events: looks for events, or None.
    limits: RowLimits, or None. most: evaluations of f of all rows together, or None. index: (m,)
    the numbers of the rows; t0 (m,), starts (m, n): where they start.

    found: where events lie. lockstep: whether the rows go in passes. work: numbers of work that
    conditions need.
    """

    def __init__(
        self,
        field: RowField,
        fields: RowFields,
        events: BatchEventDetector | None,
        limits: RowLimits | None,
        most: int | None,
        index: Tensor,
        t0: Tensor,
        starts: Tensor,
    ) -> None:
        self.field = field
        self.events = events
        self.limits = limits
        self.most = most
        self.index = index
        self.work = 0
        self.lockstep = most is not None or (limits is not None and limits.callback is not None)
        self._accepted = 0
        self._active = np.arange(len(index))
        self._watched: Watched | None = None
        self.found = FoundEvents(starts.detach().numpy())
        if events is None:
            return
        events.begin(field.select(index), t0, starts)
        # Steps that the detector has seen.
        self._seen = np.zeros(len(index), dtype=np.int64)
        conditions = native_conditions(
            events.events,
            events.sizes,
            field.layout,
            fields.one_row,
            float(t0[0]),
            starts[0],
            rows=True,
        )
        if conditions is not None:
            self._watched = conditions.watched(conditions.of_rows(fields.apart, index.numpy()))
            self._watched.note(events.signs)
            self.work = conditions.work

    def begin(self, plan: Prepared, numbers: np.ndarray, blocks: Blocks) -> None:
        """The rows are about to start. numbers: (m,) their records; blocks: their memory."""
        self.plan = plan
        self.numbers = numbers
        self.blocks = blocks
        if self.limits is not None and self.limits.domain is not None:
            numbers["limited"] = 1
            untried = np.flatnonzero(numbers["attempts"] == 0)
            self._refuse(untried, numbers["t"], blocks.each("y"), numbers["status"])
        if self.most is not None and self.field.stats.nfe >= self.most:
            numbers["status"] = STATUSES.index(Status.MAX_EVALUATIONS)
        if self.events is not None:
            numbers["watched"] = EVERY_STEP
        if self._watched is not None:
            numbers["watched"] = POSSIBLE_EVENTS
            self._watched.put(blocks)

    def _refuse(self, which, t, y, codes):
        """Set the code DOMAIN for those of the rows in which whose states the user's domain does
        not have. t: (m,); y: (m, n)."""
        if len(which):
            times = torch.from_numpy(t[which])
            with torch.no_grad():
                allowed = self.limits.in_domain(times, torch.from_numpy(y[which]))
            codes[which[~allowed.numpy()]] = DOMAIN

    def answer(self, which: np.ndarray) -> None:
        """Answer the questions of these rows, (w,)."""
        numbers = self.numbers
        limited = numbers["question"][which] == ALLOWED
        self._refuse(which[limited], numbers["t1"], self.blocks.each("y1"), numbers["verdict"])
        steps = which[~limited]
        if self.events is not None:
            # Apart, because a side that is not known needs more places in the step. What one row
            # finds then does not depend on the others.
            known = self.events.signs[steps].all(1)
            for group in (steps[known], steps[~known]):
                if len(group):
                    self._look(group, self.events)
        numbers["asking"][which] = 0

    def _look(self, rows, events):
        """Look for events in the accepted steps of these rows."""
        numbers = self.numbers
        blocks = self.blocks
        accepted = numbers["accepted"][rows]
        t = numbers["t"][rows]
        h = numbers["h"][rows]
        starts = blocks.each("y")[rows]
        missed = accepted != self._seen[rows]
        if missed.any():
            events.pass_over(rows[missed], t[missed], torch.from_numpy(starts[missed]))
        self._seen[rows] = accepted + 1
        plan = self.plan
        stages = blocks.each("stages")[rows]
        made = plan.family.polynomials(plan.tables, h, starts, stages, blocks.each("numbers")[rows])
        step = GivenSteps(np.ones(len(rows), dtype=bool), torch.from_numpy(made).transpose(0, 1))
        ends = torch.from_numpy(blocks.each("y1")[rows])
        before = (len(events.hits.parts), len(events.ends))
        arrived, cut = events.check_step(
            GivenRows(rows, t),
            step,
            h,
            numbers["t1"][rows],
            lambda which: ends[torch.from_numpy(which)],
        )
        for hit_rows, times, *_ in events.hits.parts[before[0] :]:
            self.found.add(hit_rows, numbers["accepted"][hit_rows], self._theta(hit_rows, times))
        cut_rows = rows[cut]
        self.found.end_theta[cut_rows] = self._theta(cut_rows, arrived[cut])
        self.found.end_states[cut_rows] = blocks.each("y1")[cut_rows]
        self.found.cut[cut_rows] = True
        numbers["verdict"][cut_rows] = [STATUSES.index(events.status[row]) for row in cut_rows]
        numbers["t1"][cut_rows] = arrived[cut]
        for end_rows, states in events.ends[before[1] :]:
            blocks.each("y1")[end_rows] = states.numpy()
        if self._watched is not None:
            self._watched.note(events.signs[rows], rows)

    def _theta(self, rows, times):
        """Times in the present steps of these rows as fractions; AT_END at their ends."""
        numbers = self.numbers
        theta = (times - numbers["t"][rows]) / numbers["h"][rows]
        return np.where(times == numbers["t1"][rows], AT_END, theta)

    def after_pass(self) -> None:
        """All rows have tried a step."""
        numbers = self.numbers
        status = numbers["status"]
        active = self._active
        if self.most is not None:
            total = self.field.stats.nfe + int(numbers["nfe"].sum())
            if total >= self.most:
                status[status == RUNNING] = STATUSES.index(Status.MAX_EVALUATIONS)
        accepted = int(numbers["accepted"].sum())
        if self.limits is not None and self.limits.callback is not None:
            if accepted > self._accepted:
                self._call_back(active)
        self._accepted = accepted
        self._active = np.flatnonzero(status == RUNNING)

    def _call_back(self, active):
        """Show the callback all rows, and end those of the active ones that it ends."""
        numbers = self.numbers
        status = numbers["status"]
        stats = self.field.stats
        sums = {name: getattr(stats, name) + int(numbers[name].sum()) for name in COUNTS}
        with torch.no_grad():
            stopped = self.limits.ended(
                self.index[torch.from_numpy(active)],
                torch.from_numpy(numbers["t"][active]),
                torch.from_numpy(self.blocks.each("y")[active]),
                replace(stats, **sums),
            )
        rows = active[stopped]
        running = status[rows] == RUNNING
        if self.events is not None:
            self.events.stop(rows[~running], Status.CALLBACK)
        # A row that has failed in this pass keeps its reason.
        codes = [RUNNING, *(i for i, other in enumerate(STATUSES) if other.success)]
        status[rows[np.isin(status[rows], codes)]] = STATUSES.index(Status.CALLBACK)
