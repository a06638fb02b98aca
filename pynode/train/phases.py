"""The phases of a run: Adam on a growing horizon, with multiple shooting, on whole solves, and
Levenberg-Marquardt; and when each of them ends."""

from __future__ import annotations

import math
from typing import Any

from .options import Options
from .stopping import EarlyStopping
from .times import part_done

SEGMENTS = "segments"
HORIZON = "horizon"
SHOOTING = "shooting"
DESCENT = "descent"
POLISH = "polish"
PHASES = (SEGMENTS, HORIZON, SHOOTING, DESCENT, POLISH)
# The loss of these is not that of whole solves.
PARTIAL = (SEGMENTS, HORIZON, SHOOTING)
# The observations of a segment in the first epoch of SEGMENTS.
SHORTEST = 4
# Segments grow by this factor when a step leaves more than this part of the squares, or the errors
# are below this part of the ranges.
GROWTH = 1.4
GAIN = 0.95
FINE = 2e-3
# The learning rate ends at this fraction of its start.
LAST_RATE = 0.01


class Plan:
    """The phase of a run, and Adam's rate in it.

    limit: seconds after which the run ends. began: the epoch in which the phase began. ended:
    whether it ended early. size: the observations of a segment in SEGMENTS. before: the epochs of
    SEGMENTS, known when they are over.
    """

    def __init__(self, options: Options, limit: float = math.inf) -> None:
        self.options = options
        self.limit = min(limit, options.time_limit)
        if options.segments:
            self.phase = SEGMENTS
        elif options.horizon:
            self.phase = HORIZON
        elif options.shooting:
            self.phase = SHOOTING
        else:
            self.phase = DESCENT
        self.began = 0
        self.ended = False
        self.stopping = self._new_stopping()
        self.size = options.shooting or SHORTEST
        self.before = 0

    def _new_stopping(self) -> EarlyStopping | None:
        if self.options.patience:
            return EarlyStopping(self.options.patience)
        return None

    @property
    def _limit(self) -> float:
        """Seconds until Adam's epochs end."""
        if self.options.polish:
            return 0.5 * self.limit
        return self.limit

    def next(self, epoch: int, elapsed: float) -> str | None:
        """The phase of the next epoch: the present one, or the next one that has epochs; None at
        the end."""
        options = self.options
        for phase in PHASES[PHASES.index(self.phase) :]:
            present = phase == self.phase
            if present:
                began = self.began
            else:
                began = epoch
            if self.phase == SEGMENTS:
                before = epoch
            else:
                before = self.before
            half = before + options.epochs // 2
            last = {
                SEGMENTS: options.segments,
                HORIZON: half * bool(options.horizon),
                SHOOTING: half * bool(options.shooting),
                DESCENT: before + options.epochs,
                POLISH: began + options.polish,
            }[phase]
            if phase == POLISH:
                limit = self.limit
            else:
                limit = self._limit
            if epoch < last and elapsed < limit and not (present and self.ended):
                return phase
        return None

    def horizon(self, epoch: int) -> float:
        """The fraction of the times that an epoch uses: 1 but in the phase of a growing horizon."""
        if self.phase != HORIZON:
            return 1.0
        parts = self.options.horizon
        epoch = epoch - self.began
        return (1 + epoch * parts // max(self.options.epochs // 2, 1)) / (parts + 1)

    def segment(self, longest: int) -> int:
        """The number of observations in a segment; 0 for one solve. longest: the observations of
        the longest trajectory."""
        if self.phase == SHOOTING:
            return self.options.shooting
        if self.phase == SEGMENTS:
            return min(self.size, longest)
        return 0

    def grow(self, error: float, gain: float, longest: int) -> None:
        """After an epoch of SEGMENTS with this root mean square, whose step left the fraction
        ``gain`` of the squares: longer segments, if either says that these are done. The phase
        ends after the longest."""
        if error > FINE and gain < GAIN:
            return
        if self.size >= longest:
            self.ended = True
        self.size = math.ceil(GROWTH * self.size)

    def enter(self, phase: str, epoch: int) -> None:
        """Begin this phase at this epoch."""
        if self.phase == SEGMENTS:
            self.before = epoch
        self.phase = phase
        self.began = epoch
        self.ended = False
        self.stopping = self._new_stopping()

    def judge(self, loss: float) -> bool:
        """Whether this loss ends the phase, because there was no progress for ``patience``
        epochs. While segments or the horizon grow, losses do not compare."""
        if self.phase in (SEGMENTS, HORIZON):
            return False
        if self.stopping and self.stopping.update(loss):
            self.ended = True
        return self.ended

    def rate(self, epoch: int, elapsed: float) -> float:
        """The learning rate: a cosine of the epochs done, or of the elapsed time if that is closer
        to its end; or constant."""
        options = self.options
        if options.schedule == "constant":
            return options.lr
        epoch = epoch - self.before
        done = part_done(epoch, options.epochs, elapsed / self._limit)
        return options.lr * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done)))

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        stopping = self.stopping and self.stopping.state_dict()
        return {
            "phase": self.phase,
            "began": self.began,
            "ended": self.ended,
            "stopping": stopping,
            "size": self.size,
            "before": self.before,
            "limit": self.limit,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.phase = state["phase"]
        self.began = state["began"]
        self.ended = state["ended"]
        self.size = state.get("size", self.size)
        self.before = state.get("before", self.before)
        if self.stopping and state["stopping"]:
            self.stopping.load_state_dict(state["stopping"])
