"""The training loop: solve, compare with the data, differentiate, step. An interruption loses
nothing."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from ..core.files import save_torch
from ..core.memory import raise_if_exhausted
from ..core.solution import Solution
from ..data import Dataset
from .checkpoint import HISTORY, WORK, checkpoint, save_history
from .engine import with_engine
from .gradients import normalise_gradients
from .initial_field import TrainingError, first_field
from .least_squares import LevenbergMarquardt
from .model import FORMAT, ModelError, build, describe, save_model
from .objective import Objective
from .options import OPTIMIZERS, Options
from .phases import POLISH, SHOOTING, Plan
from .progress import SilentProgress
from .scaling import PhysicalField, Scaling


@dataclass
class Fit:
    """The result of a training run.

    field: the best one, in the units of the data.
    history: one dict for each epoch with the keys in HISTORY, the baseline first.
    baseline: the loss of constant states. first: that of the first solve. best: the lowest; with
        ``validation`` that of the held-out observations.
    interrupted: whether Ctrl-C ended the run.
    backend: the engine of the solves.
    """

    field: PhysicalField
    history: list[dict[str, Any]]
    baseline: float
    first: float
    best: float
    interrupted: bool = False
    backend: str = "torch"


def fit(
    data: Dataset,
    options: Options | None = None,
    out: str | PathLike[str] | None = None,
    resume: bool = False,
    progress: SilentProgress | None = None,
) -> Fit:
    """Train a neural ODE on the data.

    out: a directory for checkpoint.pt, model.pt and history.csv. They are written atomically, every
        ``checkpoint_every`` seconds and at the end. None writes nothing.
    resume: continue from the checkpoint in out. With the same options and data, and no time limit,
        the result is equal in every bit to that of a run without interruption.
    progress: a display.

    Ctrl-C, or anything else that raises KeyboardInterrupt, saves the last complete epoch and ends
    the run; ``interrupted`` is then True. Raises TrainingError if solves keep failing, ModelError
    for an unusable checkpoint, OSError for a full disk.
    """
    if resume and out is None:
        raise ValueError("resume continues from the checkpoint in out: name its directory")
    trainer = Trainer(data, options or Options(), out, progress or SilentProgress())
    try:
        return trainer.run(resume)
    finally:
        trainer.progress.close()


class Trainer:
    """The state of a run. epoch: the number of complete epochs; elapsed: seconds, earlier sessions
    included."""

    def __init__(
        self,
        data: Dataset,
        options: Options,
        out: str | PathLike[str] | None,
        progress: SilentProgress,
    ) -> None:
        self.data = data
        self.progress = progress
        if out is None:
            self.out = None
        else:
            self.out = Path(out)
        if self.out:
            self.out.mkdir(parents=True, exist_ok=True)
        self.scaling = Scaling.of(data, options.scaling)
        like = build(options.architecture, self.scaling, torch.Generator().manual_seed(0))
        start = self.scaling.scaled(data.trajectories[0].y[0])
        options, engine = with_engine(options, like, start, self.scaling.inputs)
        if engine:
            progress.say(engine)
        self.options = options
        # What is equal in all checkpoints of the run.
        self._constant = {
            "format": FORMAT,
            "options": options.as_dict(),
            "data": data.fingerprint,
        }
        self.objective = Objective(data, self.scaling, options)
        self.baseline = self.objective.baseline()
        self.generator = torch.Generator().manual_seed(options.seed)
        self.plan = Plan(options)
        self.epoch = 0
        self.failures = 0
        self.rate_factor = 1.0
        self.history: list[dict[str, Any]] = []
        self.best = math.inf
        self.best_weights: dict[str, Any] | None = None
        self._began = self._saved = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of the run, earlier sessions included."""
        return time.monotonic() - self._began

    def run(self, resume: bool) -> Fit:
        """Train until the epochs or the time end."""
        interrupted = False
        whole = None
        try:
            if resume:
                self._load()
            else:
                self._adopt(
                    first_field(
                        self.data,
                        self.scaling,
                        self.objective,
                        self.options,
                        self.generator,
                        self.progress,
                    )
                )
                self.history = [self._record() | {"loss": self.baseline}]
            whole = self._snapshot()
            if not resume:
                self._save()
                self._keep_epoch()
            total = self.options.epochs + self.options.polish
            while phase := self.plan.next(self.epoch, self.elapsed):
                if phase != self.plan.phase:
                    self._enter(phase)
                self._one_epoch()
                whole = self._snapshot()
                self.progress.epoch(self.history[-1], total, self.best)
                if time.monotonic() - self._saved > self.options.checkpoint_every:
                    self._save()
            self._finish()
        except KeyboardInterrupt:
            if whole is None:
                raise
            interrupted = True
            self._restore(whole)
            self._finish()
        except TrainingError:
            if self.history:
                self._save()
            raise
        if len(self.history) > 1:
            first = self.history[1]["loss"]
        else:
            first = self.best
        return Fit(
            self._physical(),
            self.history,
            self.baseline,
            first,
            self.best,
            interrupted,
            self.options.engine,
        )

    def _adopt(self, field):
        self.field = field
        self.weights = list(field.parameters())
        options = self.options
        self.optimizer = OPTIMIZERS[options.optimizer](
            self.weights, lr=options.lr, weight_decay=options.weight_decay
        )
        self.polisher = LevenbergMarquardt(self.weights, batched=True)
        self.good = _weights(field)

    # An epoch.

    def _enter(self, phase):
        self.field.net.load_state_dict(self.best_weights or self.field.net.state_dict())
        self.good = _weights(self.field)
        if self.plan.phase == SHOOTING:
            # The loss of segments says little about the loss of a whole solve.
            self.best = math.inf
        self.plan.enter(phase, self.epoch)

    def _record(self) -> dict:
        """A line of the history for an epoch in which nothing was done yet."""
        return dict.fromkeys(HISTORY, 0) | {
            "epoch": self.epoch,
            "phase": self.plan.phase,
            "held_out": None,
            "seconds": self.elapsed,
        }

    def _one_epoch(self):
        """Use every trajectory once. The best weights are those of the lowest loss; with held-out
        observations, of their loss."""
        began = _weights(self.field)
        record = self._record() | {"epoch": self.epoch + 1}
        if self.plan.phase == POLISH:
            loss, held_out = self._polished(record)
        else:
            loss, held_out = self._descended(record)
        record["loss"], record["seconds"] = loss, self.elapsed
        judged = loss
        if self.options.validation:
            record["held_out"] = held_out
            judged = held_out
        if record["failures"]:
            began = self.good  # the loss belongs to these weights
        if judged < self.best:
            # With one batch an epoch this is the loss of these weights. With more batches, the
            # weights have moved during the epoch.
            self.best = judged
            self.best_weights = began
        if not self.plan.ended and self.plan.judge(judged):
            patience = self.options.patience
            phase = self.plan.phase
            self.progress.say(
                f"Epoch {self.epoch + 1}: no progress in {patience} epochs; the {phase} ends."
            )
        self.epoch += 1
        self.history.append(record)
        self._keep_epoch()

    def _polished(self, record):
        """One step of Levenberg-Marquardt. Returns the losses before it, as with Adam."""
        loss, held_out = self.objective.value(self.field)
        solved: list[Solution] = []
        # Forward sensitivities compute every derivative in one solve. With too many weights for
        # them, each error has its own pullback.
        columns = len(self.scaling.y_scale) + sum(p.numel() for p in self.weights)
        if columns <= self.options.forward_columns:
            adjoint = "forward"
        else:
            adjoint = "auto"

        def residuals() -> torch.Tensor | None:
            return self.objective.residuals(self.field, solved.append, adjoint=adjoint)

        if not self.polisher.step(residuals):
            self.progress.say(
                f"Epoch {self.epoch + 1}: no step lowers the squares any more; the polish ends."
            )
            self.plan.ended = True
        self._count(solved, record)
        record["lr"] = self.polisher.damping
        return loss, held_out

    def _descended(self, record):
        """One pass of Adam; the weights move after each batch. A failed solve is undone and
        repeated at a lower rate."""
        count = len(self.objective)
        size = self.options.batch or count
        order = list(range(count))
        if size < count:
            order = torch.randperm(count, generator=self.generator).tolist()
        if self.options.sample:
            self.objective.draw(self.generator)
        record["lr"] = self._set_rate()
        total = 0.0
        other = 0.0
        k = 0
        while k < count:
            losses = self._batch(order[k : k + size], record)
            if losses is None:
                record["failures"] += 1
                record["lr"] = self._set_rate()
                continue
            total = total + losses[0]
            other = other + losses[1]
            k = k + size
        return total, other

    def _batch(self, indices, record):
        """One step of Adam on some trajectories. Returns their losses, or None if a solve or its
        gradient failed."""
        self.optimizer.zero_grad()
        total = 0.0
        other = 0.0
        for i in indices:
            part, held_out, solved = self.objective.part(self.field, i, self.plan.phase == SHOOTING)
            if part is None:
                return self._step_back(solved[-1].message)
            part.backward()
            total = total + float(part.detach())
            other = other + held_out
            self._count(solved, record)
        if self.options.normalise:
            norm = normalise_gradients(self.weights, self.options.normalise)
        else:
            norm = torch.nn.utils.clip_grad_norm_(self.weights, self.options.clip)
        if not (math.isfinite(total) and torch.isfinite(norm)):
            return self._step_back("The loss or its gradient is not finite.")
        self.good = _weights(self.field)
        self.optimizer.step()
        self.failures = 0
        return total, other

    def _count(self, solved, record):
        for solution in solved:
            for name in WORK:
                record[name] += getattr(solution.stats, name)

    def _step_back(self, problem):
        """Return to the last weights that could be solved, with half the learning rate."""
        self.failures += 1
        if self.failures >= self.options.max_failures:
            raise TrainingError(
                f"training stopped in epoch {self.epoch + 1} after {self.failures} failed solves in"
                f" a row. The last: {problem} The best weights so far are saved; try a lower --lr,"
                " a larger --rtol, or another --seed."
            )
        self.field.net.load_state_dict(self.good)
        self.rate_factor *= 0.5
        self.progress.say(
            f"Epoch {self.epoch + 1}: a solve failed; went a step back, at half the rate. {problem}"
        )

    def _set_rate(self) -> float:
        rate = self.rate_factor * self.plan.rate(self.epoch, self.elapsed)
        self.optimizer.rate = rate
        return rate

    # Keeping and resuming.

    def _finish(self):
        """Write everything. The last weights become the model if they are the best: the last step
        has no loss yet."""
        # The checkpoint comes first: it must equal that of an uninterrupted run at this epoch.
        self._save()
        if self.plan.phase == SHOOTING:
            self.best = math.inf  # it was the loss of segments
        last = self.objective.value(self.field)[1 if self.options.validation else 0]
        if last < self.best or self.best_weights is None:
            self.best = last
            self.best_weights = _weights(self.field)
            self._save_model()

    def _snapshot(self) -> dict:
        """Everything that the next epoch depends on, as plain data and copies of tensors.

        What only ever gets replaced is not copied: the good and the best weights, and the records
        of past epochs, of which a long run has many.
        """
        return {
            **self._constant,
            "weights": _weights(self.field),
            "good": self.good,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "elapsed": self.elapsed,
            "plan": self.plan.state_dict(),
            "damping": self.polisher.damping,
            "rate_factor": self.rate_factor,
            "best": self.best,
            "best_weights": self.best_weights,
            "history": list(self.history),
        }

    def _restore(self, plain):
        self.field.net.load_state_dict(plain["weights"])
        self.optimizer.load_state_dict(plain["optimizer"])
        self.generator.set_state(plain["generator"])
        self.good = plain["good"]
        self.best = plain["best"]
        self.best_weights = plain["best_weights"]
        self.epoch = plain["epoch"]
        self.rate_factor = plain["rate_factor"]
        self.history = plain["history"]
        self.plan.load_state_dict(plain["plan"])
        self.polisher.damping = plain["damping"]
        self._began = time.monotonic() - plain["elapsed"]

    def _load(self):
        """Restore the checkpoint, if it belongs to these data and this architecture."""
        path = self.out / "checkpoint.pt"
        plain = checkpoint(path, self.options, self.data)
        try:
            self._adopt(build(self.options.architecture, self.scaling))
            self._restore(plain)
        except (KeyError, TypeError, RuntimeError) as error:
            raise_if_exhausted(error)
            raise ModelError(
                f"{path} is not a whole checkpoint ({error}): start anew in another directory."
            ) from None

    def _physical(self):
        self.field.net.load_state_dict(self.best_weights)
        run = self.data.trajectories[0]
        return PhysicalField(self.field, self.data.columns, run.y[0], run.t)

    def _save(self):
        if self.out is None:
            return
        save_torch(self.out / "checkpoint.pt", self._snapshot())
        self._save_model()
        save_history(self.out / "history.csv", self.history)
        self._saved = time.monotonic()

    def _save_model(self):
        if self.out is not None:
            self._write_model(
                self.out / "model.pt", self.best_weights or self.field.net.state_dict()
            )

    def _keep_epoch(self):
        """Save the model after this epoch, if the options ask for it."""
        every = self.options.keep_every
        if self.out is not None and every and self.epoch % every == 0:
            (self.out / "epochs").mkdir(exist_ok=True)
            self._write_model(
                self.out / "epochs" / f"epoch{self.epoch:05d}.pt", self.field.net.state_dict()
            )

    def _write_model(self, path, weights):
        run = self.data.trajectories[0]
        description = describe(
            self.field, self.options.architecture, self.data.columns, run.y[0], run.t
        )
        save_model(path, {**description, "state_dict": weights})


def _weights(field) -> dict[str, torch.Tensor]:
    """Copies of the weights of a field."""
    return {name: value.clone() for name, value in field.net.state_dict().items()}
