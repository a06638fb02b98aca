"""The result of a native solve."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ...core.trajectory import Attempt
from .machine import call
from .run import HISTORY, NO_FAILURE, STATUSES, Memory, Run


class NativeTrajectory:
    """The result of a solve.

    t0: the start; h0: the first step; t, y: the last point, y (n,). end, end_state: of the last
    accepted step, which goes on beyond t if an event truncated it. times: of the outputs; outputs:
    (m, n) at the first m of them; slopes: dy/dt there, (m, n), or None. status: how it ended.
    attempts: the last attempted steps. accepted, rejected, nfe, njac, nlu, nsolve,
    newton_failures: counts as in core/stats.py. starts, sizes, states, stages, numbers: of the
    recorded steps, (k,), (k,), (k, n), (k, s, n) and (k, ...); None without a record. restarts: a
    RestartRecord, from which states, stages and numbers can be made again; then they are None.
    dense: whether the stages suffice for the polynomials.
    """

    # Of the recorded steps.
    starts: Any = None
    sizes: Any = None
    states: Any = None
    stages: Any = None
    numbers: Any = None
    restarts: Any = None

    def __init__(
        self, method: Any, family: ModuleType, tables: Any, run: np.ndarray, memory: Memory
    ) -> None:
        self.method = method
        self.family = family
        self.tables = tables
        self.memory = memory
        self.run = run
        numbers = dict(zip(Run._fields, run[0].tolist(), strict=True))
        self.h0 = numbers["h0"]
        self.t0 = float(memory.times[0])
        self.t = numbers["t"]
        self.end = numbers["last_end"] if numbers["accepted"] else numbers["t"]
        self.y = memory.y
        self.end_state = self.y
        self.times = memory.times
        position = numbers["position"]
        self.outputs = memory.outputs[:position]
        self.slopes: Any = memory.slopes[:position] if numbers["slopes"] else None
        self.status = STATUSES[numbers["status"]]
        self.accepted = numbers["accepted"]
        self.rejected = numbers["rejected"]
        self.nfe = numbers["nfe"]
        self.njac = numbers["njac"]
        self.nlu = numbers["nlu"]
        self.nsolve = numbers["nsolve"]
        self.newton_failures = numbers["newton_failures"]
        self.dense = bool(numbers["dense"])
        self._attempts = numbers["attempts"]
        self._before = self._attempts - self.accepted - self.rejected
        if numbers["record"]:
            count = self.accepted
            self.starts = memory.tape_t[:count]
            self.sizes = memory.tape_h[:count]
            self.states = memory.tape_y[:count]
            self.stages = memory.tape_stages[:count]
            self.numbers = memory.tape_numbers[:count]
            # A copy: the user may change the outputs.
            self.start = memory.outputs[0].copy()
            self.f0 = self._slope()

    def polynomials(self) -> np.ndarray:
        """(k, degree + 1, n) coefficients of the powers of theta on the recorded steps. Needs
        dense=True."""
        return self.family.polynomials(
            self.tables, self.sizes, self.states, self.stages, self.numbers
        )

    def changed(self) -> bool:
        """Whether a tensor that f uses has changed since the solve: f at the start is another."""
        return not np.array_equal(self._slope(), self.f0, equal_nan=True)

    def _slope(self):
        """f at the start, (n,)."""
        memory = self.memory
        start = self.start
        slope = np.empty_like(start)
        address = int(self.run["f"][0])
        call(address, self.t0, start, start, memory.inputs, slope, memory.work)
        return slope

    @property
    def attempts(self) -> list[Attempt]:
        """The last attempted steps, in order."""
        count = self._attempts
        order = [i % HISTORY for i in range(max(self._before, count - HISTORY), count)]
        result = []
        for t, h, ratio, failure in self.memory.history[order].tolist():
            reason = None
            if failure != NO_FAILURE:
                reason = STATUSES[int(failure)]
            result.append(Attempt(t, h, ratio, reason))
        return result
