"""Masked passes that the host attends: in each it reads a few sums, and keeps no numbers of the
rows (masked_loop.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.row_statuses import RUNNING
from ...core.transfer import places
from .masked_tape import AttendedTape

if TYPE_CHECKING:
    from .masked_pass import Passes, RowStates

# Rows that have ended are left out when they are an eighth of all.
SHARE = 8


class Attended:
    """Rows that take passes together. states: after the last pass. store(row, states, tape):
    called when rows leave, with a tape if steps are kept.

    One read in a pass, and a second one in a pass with outputs if a step can have more of them than
    ``masked_loop.SLOTS``.
    """

    def __init__(
        self, passes: Passes, states: RowStates, store: Callable[..., None], taped: bool
    ) -> None:
        self.passes = passes
        self.states = states
        self.dense = 0
        self._store = store
        self._taped = taped
        self._polynomial: Any = None
        self._tape_rows()

    def run(self) -> int | None:
        """All passes. The number of polynomials of single rows; None if a Jacobian was not
        finite."""
        while True:
            clock, plan = self.passes.planned(self.states)
            due = self.passes.tables.due(self.states, self.passes.constants)
            running, outputs, doubtful, kept, *counts = self._read(due, plan.counts)
            if doubtful:
                return None
            if kept:
                self.passes.tape.keep(kept)
            if outputs:
                self.dense += outputs
                self._write()
            rows = len(due)
            if SHARE * (rows - running) >= rows:
                self._close()
                if not running:
                    return self.dense
                if running < rows:
                    self._leave_out(running)
                    continue
            self.states, self._polynomial = self.passes.advance(self.states, clock, plan, 0, counts)

    def _read(self, due: Tensor, counts: Any) -> list[int]:
        """(numbers of the rows that run, of those with outputs in the last step, of those with a
        Jacobian that is not finite, of accepted steps to keep, counts of the plan)."""
        states = self.states
        kept = states.accepted.new_zeros(())
        if self._taped:
            kept = self.passes.tape.count(kept)
        running = states.status == RUNNING
        sums = (running.sum(), due.sum(), states.doubtful.sum(), kept, *counts)
        return torch.stack(sums).tolist()

    def _write(self) -> None:
        """Write all outputs in the last steps."""
        states = self.states
        if self._polynomial is not None:
            states = states._replace(inner=self._polynomial(states.inner))
        tables = self.passes.tables
        states = self.passes.write(states)
        # With fewer outputs than places there cannot be more of them.
        while tables.count > tables.most and bool(states.waiting.any()):
            states = self.passes.write(states)
        self.states = states._replace(waiting=torch.zeros_like(states.waiting))

    def _tape_rows(self) -> None:
        """Keep the steps of the rows from here on."""
        if self._taped:
            self.passes.tape = AttendedTape()

    def _close(self) -> None:
        """Store where all rows are, and their steps."""
        self._store(self.passes.constants.row, self.states, self.passes.tape)

    def _leave_out(self, running: int) -> None:
        """Leave out the rows that have ended. running: the number of the others."""
        rows = places(self.states.status == RUNNING, running)
        self.passes = self.passes.select(rows)
        self.states = self.states.select(rows)
        self._polynomial = None
        self._tape_rows()
