"""The training loop: solve, compare with the data, differentiate, step; and lose nothing when it is interrupted."""

from __future__ import annotations

import copy
import csv
import io
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from .data import Dataset
from .files import save_atomically, save_torch
from .model import FORMAT, ModelError, build, describe, load_plain, save_model
from .objective import Objective
from .options import Options
from .progress import Quiet
from .scaling import PhysicalField, Scaling
from .warmstart import warm_start

WORK = ("accepted", "rejected", "nfe", "backward_nfe", "njac", "nlu")
HISTORY = ("epoch", "loss", "lr", *WORK, "failures", "seconds")
# The learning rate ends at this fraction of its start; a start that cannot be used is drawn again so often.
LAST_RATE, STARTS = 0.01, 3


class TrainingError(RuntimeError):
    """Training that cannot go on. The message says why and what to do; the best weights so far were saved."""


@dataclass
class Fit:
    """What a training run left.

    field: the best one, in the units of the data. history: one dict an epoch with the keys in HISTORY, the baseline
    first.
    baseline: the loss of states that never move; first: that of the first solve; best: the lowest.
    interrupted: whether Ctrl-C ended the run.
    """

    field: PhysicalField
    history: list
    baseline: float
    first: float
    best: float
    interrupted: bool = False


def fit(data: Dataset, options: Options | None = None, out=None, resume=False, progress: Quiet | None = None) -> Fit:
    """Train a neural ODE on the data.

    out: a directory for checkpoint.pt, model.pt and history.csv, all written atomically, every ``checkpoint_every``
    seconds and at the end; None writes nothing. resume: go on from the checkpoint in out; with the same options and
    data, and no time limit, the result is to the bit that of a run that was never interrupted. Ctrl-C ends the run
    after saving the last whole epoch, and is told by ``interrupted``.

    Raises TrainingError where solves keep failing, ModelError for an unusable checkpoint, OSError for a full disk.
    """
    trainer = Trainer(data, options or Options(), out, progress or Quiet())
    try:
        return trainer.run(resume)
    finally:
        trainer.progress.close()


class Trainer:
    """The state of a run. ``epoch`` whole epochs are done; ``elapsed`` seconds were used, earlier sessions included."""

    def __init__(self, data, options, out, progress):
        self.data, self.options, self.progress = data, options, progress
        self.out = None if out is None else Path(out)
        if self.out:
            self.out.mkdir(parents=True, exist_ok=True)
        self.scaling = Scaling.of(data, options.scaling)
        self.objective = Objective(data, self.scaling, options)
        self.baseline = self.objective.baseline()
        self.generator = torch.Generator().manual_seed(options.seed)
        self.epoch, self.failures, self.rate_factor, self.history = 0, 0, 1.0, []
        self.best, self.best_weights = math.inf, None
        self._began = self._saved = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def run(self, resume: bool) -> Fit:
        """Train to the end of the epochs or of the time."""
        interrupted, whole = False, None
        try:
            if resume:
                self._load()
            else:
                self._adopt(self._start())
                self.history = [dict.fromkeys(HISTORY, 0) | {"loss": self.baseline, "seconds": self.elapsed}]
                self._save()
            whole = self._snapshot()
            while self.epoch < self.options.epochs and self.elapsed < self.options.time_limit:
                self._one_epoch()
                whole = self._snapshot()
                self.progress.epoch(self.history[-1], self.options.epochs, self.best)
                if time.monotonic() - self._saved > self.options.checkpoint_every:
                    self._save()
        except KeyboardInterrupt:
            if whole is None:
                raise
            interrupted = True
            self._restore(whole)
        except TrainingError:
            if self.history:
                self._save()
            raise
        self._finish()
        first = self.history[1]["loss"] if len(self.history) > 1 else self.best
        return Fit(self._physical(), self.history, self.baseline, first, self.best, interrupted)

    # The start.

    def _start(self):
        """A field that can be solved and is not much worse than states that never move; warm-started, if wanted."""
        options, best, found = self.options, math.inf, None
        for attempt in range(STARTS):
            count = options.candidates if options.warm_start else 1
            fields = [build(options.architecture, self.scaling, self.generator) for _ in range(count)]
            if options.warm_start:
                limit, report = options.time_limit / 4, self.progress.warm
                field = warm_start(fields, self.data, options.warm_start, seconds=limit, report=report)
            else:
                field = fields[0]
                field.close_gates()
            loss = self.objective.value(field)
            if loss < best:
                best, found = loss, field
            if best < 2 * self.baseline:
                return found
            self.progress.say(f"Start {attempt + 1} of at most {STARTS} has a loss of {loss:.2g}; drawing new weights.")
        if found is None:
            raise TrainingError(
                f"none of {STARTS} random starts could be solved over the time span of the data: raise --max-steps, "
                "use an implicit --method such as fbdf, or try another --seed."
            )
        return found

    def _adopt(self, field):
        self.field = field
        self.weights = list(field.parameters())
        decay = self.options.weight_decay
        self.optimizer = torch.optim.Adam(self.weights, lr=self.options.lr, weight_decay=decay)
        self.good = copy.deepcopy(field.net.state_dict())

    # An epoch.

    def _one_epoch(self):
        """Every trajectory once; the weights move after each batch. A failed solve is undone and tried at a lower
        rate."""
        began = copy.deepcopy(self.field.net.state_dict())
        count = len(self.objective)
        size = self.options.batch or count
        order = torch.randperm(count, generator=self.generator).tolist() if size < count else list(range(count))
        record = dict.fromkeys(HISTORY, 0) | {"epoch": self.epoch + 1, "lr": self._set_rate()}
        total, k = 0.0, 0
        while k < count:
            loss = self._batch(order[k : k + size], record)
            if loss is None:
                record["failures"] += 1
                record["lr"] = self._set_rate()
                continue
            total, k = total + loss, k + size
        record["loss"], record["seconds"] = total, self.elapsed
        if total < self.best:
            # With one batch an epoch this is the loss of these weights; with more, of weights on the way from them.
            self.best, self.best_weights = total, began
        self.epoch += 1
        self.history.append(record)

    def _batch(self, indices, record):
        """One step of Adam on some trajectories; their loss, or None where a solve or its gradient failed."""
        self.optimizer.zero_grad()
        total = 0.0
        for i in indices:
            part, solution = self.objective.part(self.field, i)
            if part is None:
                return self._step_back(solution.message)
            part.backward()
            total += float(part.detach())
            for name in WORK:
                record[name] += getattr(solution.stats, name)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.options.clip)
        if not (math.isfinite(total) and torch.isfinite(norm)):
            return self._step_back("The loss or its gradient is not finite.")
        self.good = copy.deepcopy(self.field.net.state_dict())
        self.optimizer.step()
        self.failures = 0
        return total

    def _step_back(self, problem):
        """Return to the last weights that could be solved, with half the learning rate."""
        self.failures += 1
        if self.failures >= self.options.max_failures:
            raise TrainingError(
                f"training stopped in epoch {self.epoch + 1} after {self.failures} failed solves in a row. The last: "
                f"{problem} The best weights so far are saved; try a lower --lr, a larger --rtol, or another --seed."
            )
        self.field.net.load_state_dict(self.good)
        self.rate_factor *= 0.5
        self.progress.say(f"Epoch {self.epoch + 1}: a solve failed; went a step back, at half the rate. {problem}")

    def _set_rate(self) -> float:
        """The learning rate now: a cosine of the epochs done, or of the time where that is nearer its end."""
        options = self.options
        done = min(1.0, max(self.epoch / max(options.epochs, 1), self.elapsed / options.time_limit))
        rate = options.lr * self.rate_factor * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done)))
        self.optimizer.param_groups[0]["lr"] = rate
        return rate

    # Keeping and resuming.

    def _finish(self):
        """Write everything, and the last weights as the model if they are the best: the last step is not judged yet."""
        # The checkpoint comes first: it holds what an uninterrupted run would hold at this epoch, and no more.
        self._save()
        last = self.objective.value(self.field)
        if last < self.best or self.best_weights is None:
            self.best, self.best_weights = last, copy.deepcopy(self.field.net.state_dict())
            self._save_model()

    def _snapshot(self) -> dict:
        """Everything that the next epoch depends on, as plain data and tensors of its own."""
        return copy.deepcopy({
            "format": FORMAT, "options": self.options.as_dict(), "data": self.data.fingerprint,
            "weights": self.field.net.state_dict(), "good": self.good, "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(), "epoch": self.epoch, "elapsed": self.elapsed,
            "rate_factor": self.rate_factor, "history": self.history, "best": self.best,
            "best_weights": self.best_weights,
        })

    def _restore(self, plain):
        self.field.net.load_state_dict(plain["weights"])
        self.optimizer.load_state_dict(plain["optimizer"])
        self.generator.set_state(plain["generator"])
        self.good, self.best, self.best_weights = plain["good"], plain["best"], plain["best_weights"]
        self.epoch, self.rate_factor, self.history = plain["epoch"], plain["rate_factor"], plain["history"]
        self._began = time.monotonic() - plain["elapsed"]

    def _load(self):
        """The state in the checkpoint, if it is of these data and this architecture."""
        path = self.out / "checkpoint.pt"
        plain = load_plain(path, "checkpoint")
        try:
            saved, mine = plain["options"], self.options.as_dict()
            for name in ("hidden", "activation", "time_input", "scaling", "loss"):
                if saved[name] != mine[name]:
                    raise ModelError(
                        f"{path} was trained with {name} {saved[name]}, not {mine[name]}: resume with the same, or "
                        "start anew in another directory."
                    )
            if plain["data"] != self.data.fingerprint:
                raise ModelError(f"{path} was trained on other data: resume with those, or start anew elsewhere.")
            self._adopt(build(self.options.architecture, self.scaling))
            self._restore(plain)
        except (KeyError, TypeError, RuntimeError) as error:
            raise ModelError(f"{path} is not a whole checkpoint ({error}): start anew in another directory.") from None

    def _physical(self):
        self.field.net.load_state_dict(self.best_weights)
        run = self.data.trajectories[0]
        return PhysicalField(self.field, self.data.columns, run.y[0], run.t)

    def _save(self):
        if self.out is None:
            return
        save_torch(self.out / "checkpoint.pt", self._snapshot())
        self._save_model()
        table = io.StringIO()
        writer = csv.DictWriter(table, HISTORY, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        save_atomically(self.out / "history.csv", table.getvalue().encode())
        self._saved = time.monotonic()

    def _save_model(self):
        if self.out is None:
            return
        run = self.data.trajectories[0]
        description = describe(self.field, self.options.architecture, self.data.columns, run.y[0], run.t)
        description["state_dict"] = self.best_weights or self.field.net.state_dict()
        save_model(self.out / "model.pt", description)
