"""The result of a native solve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.trajectory import Attempt
from .machine import call
from .run import HISTORY, NO_FAILURE, STATUSES, Run

if TYPE_CHECKING:
    from .blocks import Blocks
    from .prepared import Prepared
    from .run import Memory


class NativeTrajectory:
    """The result of a solve.

    t0: the start; h0: the first step; t, y: the last point, y (n,). end, end_state: of the last
    accepted step, which goes on beyond t if an event truncated it. times: of the outputs; outputs:
    (m, n) at the first m of them; slopes: dy/dt there, (m, n), or None. status: how it ended.
    attempts: the last attempted steps. accepted, rejected, nfe, njac, nlu, nsolve,
    newton_failures: counts as in core/stats.py. starts, sizes, states, stages, numbers: of the
    recorded steps, (k,), (k,), (k, n), (k, s, n) and (k, ...); None without a record. output_steps,
    thetas: of the outputs, (m,): the recorded step and the place in it, -1 at the start of the
    solve and at the end of a step. restarts: a RestartRecord, from which states, stages and numbers
    can be made again; then they are None. dense: whether the stages suffice for the polynomials.
    """

    # Of the recorded steps.
    starts: Any = None
    sizes: Any = None
    states: Any = None
    stages: Any = None
    numbers: Any = None
    output_steps: Any = None
    thetas: Any = None
    restarts: Any = None

    def __init__(self, plan: Prepared, numbers: np.ndarray, blocks: Blocks, i: int = 0) -> None:
        self.method = plan.method
        self.family = plan.family
        self.tables = plan.tables
        self.plan = plan
        self._blocks = blocks
        self._place = i
        run = Run._make(numbers[i].item())
        times = blocks.of("times", i)
        self.h0 = run.h0
        self.t0 = float(times[0])
        self.t = run.t
        self.end = run.last_end if run.accepted else run.t
        self.y = blocks.of("y", i)
        self.end_state = self.y
        self.times = times
        position = run.position
        self.outputs = blocks.of("outputs", i)[:position]
        self.slopes: Any = blocks.of("slopes", i)[:position] if run.slopes else None
        self.status = STATUSES[run.status]
        self.accepted = run.accepted
        self.rejected = run.rejected
        self.nfe = run.nfe
        self.njac = run.njac
        self.nlu = run.nlu
        self.nsolve = run.nsolve
        self.newton_failures = run.newton_failures
        self.dense = bool(run.dense)
        self._attempts = run.attempts
        self._before = self._attempts - self.accepted - self.rejected
        if run.record:
            count = self.accepted
            self.starts = blocks.of("tape_t", i)[:count]
            self.sizes = blocks.of("tape_h", i)[:count]
            self.states = blocks.of("tape_y", i)[:count]
            self.stages = blocks.of("tape_stages", i)[:count]
            self.numbers = blocks.of("tape_numbers", i)[:count]
            self.output_steps = blocks.of("output_steps", i)[:position]
            self.thetas = blocks.of("thetas", i)[:position]
            # A copy: the user may change the outputs.
            self.start = self.outputs[0].copy()

    def polynomials(self) -> np.ndarray:
        """(k, degree + 1, n) coefficients of the powers of theta on the recorded steps. Needs
        dense=True."""
        return self.family.polynomials(
            self.tables, self.sizes, self.states, self.stages, self.numbers
        )

    def begins_behind_jumps(self) -> np.ndarray:
        """(k,) int64: whether each recorded step begins behind a jump of f. Nothing of the step
        before counts then."""
        stops = self._blocks.of("stops", self._place)
        restarts = self._blocks.of("restarts", self._place)
        behind = restarts[restarts != stops]
        return np.isin(self.starts, behind).astype(np.int64)

    def changed(self) -> bool:
        """Whether a tensor that f uses has changed since the solve: f at the start is another."""
        blocks = self._blocks
        start = self.start
        slope = np.empty_like(start)
        inputs = blocks.of("inputs", self._place)
        work = np.empty(self.plan.work, start.dtype)
        call(self.plan.f.address, self.t0, start, start, inputs, slope, work)
        before = blocks.of("first_slope", self._place)
        return not np.array_equal(slope, before, equal_nan=True)

    @property
    def memory(self) -> Memory:
        """The arrays of the solve, as its loop has left them."""
        return self._blocks.memory(self._place)

    @property
    def attempts(self) -> list[Attempt]:
        """The last attempted steps, in order."""
        count = self._attempts
        order = [i % HISTORY for i in range(max(self._before, count - HISTORY), count)]
        result = []
        for t, h, ratio, failure in self._blocks.of("history", self._place)[order].tolist():
            reason = None
            if failure != NO_FAILURE:
                reason = STATUSES[int(failure)]
            result.append(Attempt(t, h, ratio, reason))
        return result
