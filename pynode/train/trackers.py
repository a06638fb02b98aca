"""Experiment trackers: each epoch's numbers for TensorBoard, MLflow, Weights & Biases, or any
callback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.memory import raise_if_exhausted
from .progress import SilentProgress

# What a tracker gets of an epoch.
METRICS = ("loss", "held_out", "lr", "accepted", "nfe", "backward_nfe", "seconds")


class Tracked(SilentProgress):
    """A display that also hands the numbers of each epoch to a callback.

    log: log(step, metrics) is called after each epoch with its number and its numbers by name.
    close: close() is called at the end of the run.
    """

    def __init__(
        self,
        display: SilentProgress,
        log: Callable[[int, dict[str, float]], None],
        close: Callable[[], None] | None = None,
    ) -> None:
        self._display = display
        self._log = log
        self._close = close

    def begin(self, options: dict[str, Any]) -> None:
        self._display.begin(options)

    def warm(self, done: int, of: int, loss: float) -> None:
        self._display.warm(done, of, loss)

    def epoch(self, record: dict[str, Any], epochs: int, best: float) -> None:
        self._display.epoch(record, epochs, best)
        metrics = {name: float(record[name]) for name in METRICS if record[name] is not None}
        self._log(record["epoch"], metrics | {"best": best})

    def say(self, text: str) -> None:
        self._display.say(text)

    def judged(self, sentence: str, interrupted: bool) -> None:
        self._display.judged(sentence, interrupted)

    def close(self) -> None:
        self._display.close()
        if self._close is not None:
            self._close()


class _Package(Tracked):
    """A display that also logs to a tracker, as one run there. If the tracker fails in the middle,
    a message says so and training goes on without it.

    out: the folder of the run. Raises ImportError if the package is missing, and OSError from
    ``begin`` if the tracker cannot start.
    """

    name: str

    def __init__(self, display: SilentProgress, out: Path) -> None:
        super().__init__(display, self._numbers, self._finished)
        self.out = out
        self.lost = False
        self.begun = False
        self.ending = FAILED
        self._import()

    def begin(self, options: dict[str, Any]) -> None:
        super().begin(options)
        try:
            self._begin(options)
        except Exception as error:  # each package has errors of its own
            raise_if_exhausted(error)
            raise OSError(f"--track {self.name} cannot start: {_first_line(error)}") from error
        self.begun = True

    def judged(self, sentence: str, interrupted: bool) -> None:
        super().judged(sentence, interrupted)
        self.ending = FINISHED
        if interrupted:
            self.ending = KILLED
        self._safely(self._note, sentence)

    def _numbers(self, step, metrics):
        self._safely(self._record, step, metrics)

    def _finished(self):
        if self.begun:
            self._safely(self._end)

    def _safely(self, action, *arguments):
        if self.lost:
            return
        try:
            action(*arguments)
        except Exception as error:  # each package has errors of its own
            raise_if_exhausted(error)
            self.lost = True
            self.say(f"--track {self.name} gets nothing more of this run: {_first_line(error)}")

    def _import(self):
        """Import the package."""
        raise NotImplementedError

    def _begin(self, options):
        """Begin a run with these options."""
        raise NotImplementedError

    def _record(self, step, metrics):
        """Log the numbers of an epoch."""
        raise NotImplementedError

    def _note(self, sentence):
        """Log the verdict."""
        raise NotImplementedError

    def _end(self):
        """End the run as ``ending`` says."""
        raise NotImplementedError


FINISHED = "FINISHED"
KILLED = "KILLED"
FAILED = "FAILED"


class _TensorBoard(_Package):
    """Each attempt has a folder of its own in out/tensorboard, which a resumed run continues."""

    name = "tensorboard"

    def _import(self):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing(self.name) from None
        self.make = SummaryWriter
        self.writer = None

    def _begin(self, options):
        warp = ""
        if options["warp"]:
            warp = "-warp"
        self.folder = f"{options['scaling']}{warp}-seed{options['seed']}"
        self.options = options

    def _record(self, step, metrics):
        if self.writer is None:
            # Epochs from this one on, of a run that is overwritten or resumed, no longer count.
            folder = self.out / "tensorboard" / self.folder
            self.writer = self.make(str(folder), purge_step=step)
            text = json.dumps(self.options, indent=1, default=str)
            self.writer.add_text("options", f"```\n{text}\n```", step)
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def _note(self, sentence):
        if self.writer is not None:
            self.writer.add_text("verdict", sentence)

    def _end(self):
        if self.writer is not None:
            self.writer.close()


class _MLflow(_Package):
    name = "mlflow"

    def _import(self):
        try:
            import mlflow
        except ImportError:
            raise _missing(self.name) from None
        self.mlflow = mlflow

    def _begin(self, options):
        # Nested: a program that has a run of its own keeps it.
        self.mlflow.start_run(run_name=self.out.name, nested=True)
        self.begun = True
        self.mlflow.log_params(options)

    def _record(self, step, metrics):
        self.mlflow.log_metrics(metrics, step=step)

    def _note(self, sentence):
        self.mlflow.set_tag("verdict", sentence)

    def _end(self):
        self.mlflow.end_run(self.ending)


class _WeightsAndBiases(_Package):
    name = "wandb"

    def _import(self):
        try:
            import wandb
        except ImportError:
            raise _missing(self.name) from None
        self.wandb = wandb

    def _begin(self, options):
        self.run = self.wandb.init(name=self.out.name, dir=str(self.out), config=options)

    def _record(self, step, metrics):
        self.run.log(metrics, step=step)

    def _note(self, sentence):
        self.run.summary["verdict"] = sentence

    def _end(self):
        self.run.finish(exit_code=int(self.ending != FINISHED))


TRACKERS = {kind.name: kind for kind in (_TensorBoard, _MLflow, _WeightsAndBiases)}


def tracked(name: str, display: SilentProgress, out: str | Path) -> Tracked:
    """A display that also logs to the tracker of this name, one of TRACKERS, as a run of its own:
    the options, the numbers of each epoch, and the verdict.

    out: the folder of the run. TensorBoard's files are in its folder tensorboard; MLflow and
    Weights & Biases go where their own settings say. Raises ImportError if it is not installed.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    return TRACKERS[name](display, Path(out))


def _missing(package) -> ImportError:
    return ImportError(f"--track {package} needs the package: pip install {package}")


def _first_line(error) -> str:
    lines = str(error).strip().splitlines()
    if lines:
        return lines[0]
    return type(error).__name__
