"""The phases of a run: Adam with multiple shooting, Adam without it, Levenberg-Marquardt; and when
each of them ends."""

from __future__ import annotations

import math
from typing import Any

from .options import Options
from .stopping import EarlyStopping

SHOOTING = "shooting"
DESCENT = "descent"
POLISH = "polish"
PHASES = (SHOOTING, DESCENT, POLISH)
# The learning rate ends at this fraction of its start.
LAST_RATE = 0.01


class Plan:
    """The phase of a run, and Adam's rate in it. began: the epoch in which it began; ended: whether
    it ended early."""

    def __init__(self, options: Options) -> None:
        self.options = options
        if options.shooting:
            self.phase = SHOOTING
        else:
            self.phase = DESCENT
        self.began = 0
        self.ended = False
        self.stopping = self._new_stopping()

    def _new_stopping(self) -> EarlyStopping | None:
        if self.options.patience:
            return EarlyStopping(self.options.patience)
        return None

    @property
    def _limit(self) -> float:
        """Seconds until Adam's epochs end."""
        if self.options.polish:
            return 0.5 * self.options.time_limit
        return self.options.time_limit

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
            last = {
                SHOOTING: options.epochs // 2,
                DESCENT: options.epochs,
                POLISH: began + options.polish,
            }[phase]
            if phase == POLISH:
                limit = options.time_limit
            else:
                limit = self._limit
            if epoch < last and elapsed < limit and not (present and self.ended):
                return phase
        return None

    def enter(self, phase: str, epoch: int) -> None:
        """Begin this phase at this epoch."""
        self.phase = phase
        self.began = epoch
        self.ended = False
        self.stopping = self._new_stopping()

    def judge(self, loss: float) -> bool:
        """Whether this loss ends the phase, because there was no progress for ``patience``
        epochs."""
        if self.stopping and self.stopping.update(loss):
            self.ended = True
        return self.ended

    def rate(self, epoch: int, elapsed: float) -> float:
        """The learning rate: a cosine of the epochs done, or of the elapsed time if that is closer
        to its end; or constant."""
        options = self.options
        if options.schedule == "constant":
            return options.lr
        done = min(1.0, max(epoch / max(options.epochs, 1), elapsed / self._limit))
        return options.lr * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done)))

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        stopping = self.stopping and self.stopping.state_dict()
        return {"phase": self.phase, "began": self.began, "ended": self.ended, "stopping": stopping}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.phase = state["phase"]
        self.began = state["began"]
        self.ended = state["ended"]
        if self.stopping and state["stopping"]:
            self.stopping.load_state_dict(state["stopping"])
