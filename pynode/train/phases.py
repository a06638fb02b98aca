"""What a run goes through: Adam with multiple shooting, Adam without, Levenberg-Marquardt; and when
each of them ends."""

from __future__ import annotations

import math

from .options import Options
from .stopping import EarlyStopping

SHOOTING = "shooting"
DESCENT = "descent"
POLISH = "polish"
PHASES = (SHOOTING, DESCENT, POLISH)
# The learning rate ends at this fraction of its start.
LAST_RATE = 0.01


class Plan:
    """The phase of a run, and the rate of Adam in it. began: the epoch that it began with; ended:
    whether it ended early."""

    def __init__(self, options: Options):
        self.options = options
        if options.shooting:
            self.phase = SHOOTING
        else:
            self.phase = DESCENT
        self.began = 0
        self.ended = False
        self._watch()

    def _watch(self):
        if self.options.patience:
            self.stopping = EarlyStopping(self.options.patience)
        else:
            self.stopping = None

    @property
    def _limit(self) -> float:
        """Seconds until Adam's epochs end."""
        return self.options.time_limit * (0.5 if self.options.polish else 1.0)

    def next(self, epoch: int, elapsed: float):
        """The phase of the next epoch: this one, or the next that has any; None at the end."""
        options = self.options
        for phase in PHASES[PHASES.index(self.phase) :]:
            here = phase == self.phase
            if here:
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
            if epoch < last and elapsed < limit and not (here and self.ended):
                return phase
        return None

    def enter(self, phase: str, epoch: int) -> None:
        self.phase = phase
        self.began = epoch
        self.ended = False
        self._watch()

    def judge(self, loss: float) -> bool:
        """Whether this loss ends the phase, because there was no progress for so long."""
        if self.stopping and self.stopping.update(loss):
            self.ended = True
        return self.ended

    def rate(self, epoch: int, elapsed: float) -> float:
        """The learning rate: a cosine of the epochs done, or of the time where that is nearer its
        end; or constant."""
        options = self.options
        if options.schedule == "constant":
            return options.lr
        done = min(1.0, max(epoch / max(options.epochs, 1), elapsed / self._limit))
        return options.lr * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done)))

    def state_dict(self) -> dict:
        stopping = self.stopping and self.stopping.state_dict()
        return {"phase": self.phase, "began": self.began, "ended": self.ended, "stopping": stopping}

    def load_state_dict(self, state: dict) -> None:
        self.phase = state["phase"]
        self.began = state["began"]
        self.ended = state["ended"]
        if self.stopping and state["stopping"]:
            self.stopping.load_state_dict(state["stopping"])
