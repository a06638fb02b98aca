"""When to stop training: after a time without progress."""

from __future__ import annotations

import math


class EarlyStopping:
    """Stops after ``patience`` losses in a row, if none of them was lower than the best by the
    fraction ``least``.

    Give it the loss of held-out observations to stop before the noise is learned, or the training
    loss to stop on a plateau:

        stopping = EarlyStopping(patience=50)
        for epoch in range(1000):
            ...
            if stopping.update(loss):
                break
    """

    def __init__(self, patience: int, least: float = 1e-3) -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1, not {patience!r}")
        if not 0 <= least < 1:
            raise ValueError(f"least must be a fraction from 0 to less than 1, not {least!r}")
        self.patience = patience
        self.least = least
        self.best = math.inf
        self.waited = 0

    def update(self, loss: float) -> bool:
        """Whether to stop after this loss. NaN is no progress."""
        if loss < self.best * (1 - self.least):
            self.best = float(loss)
            self.waited = 0
        else:
            self.waited += 1
        return self.waited >= self.patience

    def state_dict(self) -> dict:
        """The state for a checkpoint."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict) -> None:
        """Restore the state of a checkpoint."""
        self.best = state["best"]
        self.waited = state["waited"]
