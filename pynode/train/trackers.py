"""Experiment trackers: each epoch's numbers for TensorBoard, MLflow, Weights & Biases, or any
callback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .options import Options
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

    def warm(self, done: int, of: int, loss: float) -> None:
        self._display.warm(done, of, loss)

    def epoch(self, record: dict[str, Any], epochs: int, best: float) -> None:
        self._display.epoch(record, epochs, best)
        metrics = {name: float(record[name]) for name in METRICS if record[name] is not None}
        self._log(record["epoch"], metrics | {"best": best})

    def say(self, text: str) -> None:
        self._display.say(text)

    def close(self) -> None:
        self._display.close()
        if self._close is not None:
            self._close()


def _tensorboard(display, options, out):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise _missing("tensorboard") from None
    writer = SummaryWriter(str(Path(out) / "tensorboard"))

    def log(step, metrics):
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    return Tracked(display, log, writer.close)


def _mlflow(display, options, out):
    try:
        import mlflow
    except ImportError:
        raise _missing("mlflow") from None
    mlflow.start_run(run_name=Path(out).name)
    mlflow.log_params(options.as_dict())

    def log(step, metrics):
        mlflow.log_metrics(metrics, step=step)

    return Tracked(display, log, mlflow.end_run)


def _wandb(display, options, out):
    try:
        import wandb
    except ImportError:
        raise _missing("wandb") from None
    run = wandb.init(name=Path(out).name, dir=str(out), config=options.as_dict())

    def log(step, metrics):
        run.log(metrics, step=step)

    return Tracked(display, log, run.finish)


TRACKERS = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}


def tracked(name: str, display: SilentProgress, options: Options, out: str | Path) -> Tracked:
    """A display that also logs to the tracker of this name, one of TRACKERS, as a run of its own.

    out: the folder of the run. TensorBoard's files are in its folder tensorboard; MLflow and
    Weights & Biases go where their own settings say. Raises ImportError if it is not installed.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    return TRACKERS[name](display, options, out)


def _missing(package) -> ImportError:
    return ImportError(f"--track {package} needs the package: pip install {package}")
