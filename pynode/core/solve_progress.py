"""The display of a running solve: the time reached, steps, step size, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch

from .formatting import duration
from .stats import Stats

# Seconds between two updates of a bar, and between two lines where nothing can move.
OF_BAR = 0.1
OF_LINES = 10.0


class Display(Protocol):
    """interval: seconds between two calls of ``show``."""

    interval: float

    def show(self, done: float, text: str) -> None:
        """done: the part of the solve that is ready, from 0 to 1."""

    def close(self) -> None: ...


class SolveProgress:
    """Shows how far a solve is. ``callback`` is a callback of ``solve``.

    t: (T,) output times, or (T, B). The part that is ready is counted in outputs: in a solve over
    ten decades the time itself says little.
    """

    def __init__(self, t: Any, display: Display | None = None) -> None:
        times = np.atleast_1d(torch.as_tensor(t).detach().cpu().numpy()).astype(float)
        if times.ndim == 2:
            # The rows together show one bar, for the row that is last.
            self.times = times
        else:
            self.times = times[:, None]
        self.direction = np.sign(self.times[-1, 0] - self.times[0, 0])
        self.display = display or best_display()
        self.last = time.monotonic()
        self.before = float(self.times[0, 0])

    def __enter__(self) -> SolveProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.display.close()

    def beside(self, callback: Callable | None) -> Callable:
        """A callback that shows the progress and calls the user's."""

        def both(t: Any, y: Any, stats: Stats) -> Any:
            self.after_step(t, stats)
            if callback is not None:
                return callback(t, y, stats)
            return None

        return both

    def after_step(self, t: Any, stats: Stats) -> None:
        """t: the time reached, a number or (B,)."""
        now = time.monotonic()
        reached = torch.as_tensor(t).detach().cpu().numpy().reshape(-1).astype(float)
        slowest = int(np.argmin(self.direction * reached))
        size = abs(float(reached[slowest]) - self.before)
        self.before = float(reached[slowest])
        if now - self.last < self.display.interval:
            return
        self.last = now
        done = self._done(reached)
        self.display.show(done, self._text(reached, slowest, size, stats))

    def _done(self, reached):
        """The part of the outputs that the slowest row has passed."""
        parts = []
        for k, value in enumerate(reached):
            grid = self.direction * self.times[:, min(k, self.times.shape[1] - 1)]
            parts.append(np.interp(self.direction * value, grid, np.linspace(0, 1, len(grid))))
        return float(min(parts))

    def _text(self, reached, slowest, size, stats):
        end = self.times[-1, min(slowest, self.times.shape[1] - 1)]
        text = f"t = {reached[slowest]:.4g} of {end:.4g}, {stats.accepted} steps"
        if size > 0 and len(reached) == 1:
            text += f", step {size:.2g}"
        return text


class Bar:
    """A bar of rich, in a terminal or a notebook."""

    interval = OF_BAR

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self.bar = Progress(
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.bar.start()
        self.task = self.bar.add_task("starts", total=1.0)

    def show(self, done: float, text: str) -> None:
        """Move the bar."""
        self.bar.update(self.task, completed=done, description=text)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.stop()


class Lines:
    """A line to stderr now and then, where there is no terminal."""

    interval = OF_LINES

    def __init__(self) -> None:
        self.start = time.monotonic()

    def show(self, done: float, text: str) -> None:
        """Write a line."""
        spent = time.monotonic() - self.start
        if done > 0:
            left = duration(spent * (1 - done) / done)
        else:
            left = "an unknown time"
        print(f"{done:4.0%}  {text}, {left} left", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing stays open."""


def best_display() -> Display:
    """A bar in a terminal and in a notebook, otherwise lines."""
    if sys.stderr.isatty() or in_notebook():
        return Bar()
    return Lines()


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    shell: Sequence[Any] = ()
    module = sys.modules.get("IPython")
    if module is not None:
        shell = (module.get_ipython(),)
    return any(type(found).__name__ == "ZMQInteractiveShell" for found in shell)
