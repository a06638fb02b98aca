"""The state of a training run, and what of it is kept in files. An interruption loses nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from ..core.memory import raise_if_exhausted
from ..core.sealed_files import save_torch
from ..core.solution import Solution
from ..data import Dataset
from .checkpoint import HISTORY, WORK, checkpoint, save_history
from .engine import with_engine
from .held_out_starts import estimate_starts
from .hidden import with_hidden
from .holdout import held_out
from .known_laws import broken_sums, laws_of
from .laws import Known
from .least_squares import LevenbergMarquardt
from .model import FORMAT, ModelError, build, describe, save_model
from .objective import Objective
from .options import OPTIMIZERS, Options
from .phases import PARTIAL, Plan
from .progress import SilentProgress
from .ranks import Ranks
from .scaling import PhysicalField, ScaledField, Scaling
from .warp import Warp

# What an epoch of a phase does: it fills in the line of the history, and returns the loss and that
# of the held-out observations, both of the weights before the epoch.
Epoch = Callable[["Run", dict[str, Any]], tuple[float, float]]
# A known part f(t, y) of dy/dt.
KnownPart = Callable[[Any, torch.Tensor], torch.Tensor]
# The learned starts among the weights.
STARTS = "learned starts"


class Run:
    """The state of a run, which the stages change one after the other.

    epoch: the number of complete epochs. best, best_weights: the lowest loss and its weights.
    whole: the state after the last complete epoch, None before the start is known.
    data: as the user gave them. whole_data: in the coordinates of ``warp``, with hidden states.
    training: of these, the trajectories that are not held out.
    estimated: the starts of held-out trajectories, where training learns the others' starts.
    """

    def __init__(
        self,
        data: Dataset,
        options: Options,
        out: str | PathLike[str] | None,
        progress: SilentProgress,
        time_left: float = math.inf,
        known: KnownPart | None = None,
    ) -> None:
        self.data = data
        self.ranks = Ranks()
        self.held_out = held_out(data, options.hold_out)
        pairs = zip(data.trajectories, self.held_out, strict=True)
        # Neither coordinates nor first guesses of hidden states see what is held out.
        kept = replace(data, trajectories=tuple(run for run, out in pairs if not out))
        whole = data
        self.warp = None
        if options.warp:
            self.warp = Warp.of(kept)
        if self.warp is not None:
            kept = self.warp.warped(kept)
            whole = self.warp.warped(data)
        self.training = with_hidden(kept, options.augment, options.neighbours)
        self.whole_data = with_hidden(whole, options.augment, options.neighbours)
        self.known = self._known_part(known, options)
        self.progress = progress
        if out is None:
            self.out = None
        else:
            self.out = Path(out)
        if self.out and self.ranks.first:
            self.out.mkdir(parents=True, exist_ok=True)
        self.scaling = Scaling.of(self.training, options.scaling)
        if self.warp is not None:
            self.warp = self.warp.padded(options.augment)
            self.scaling = replace(self.scaling, warp=self.warp)
        plain = self.training
        if self.warp is not None:
            plain = self.warp.restored(plain)
        laws = laws_of(options, plain, options.augment, self.warp)
        for sentence in broken_sums(laws, plain):
            progress.say(sentence)
        self.architecture = {**options.architecture, **laws.as_dict()}
        if self.known is not None:
            self.architecture |= {"known": options.known, "observed": self.known.count}
        like = self.new_field(torch.Generator().manual_seed(0))
        start = self.scaling.scaled(self.training.trajectories[0].y[0])
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
        self.objective = Objective(self.training, self.scaling, options, self.ranks)
        self.baseline = self.objective.baseline()
        self.estimated: dict[str, list[float]] = {}
        self.generator = torch.Generator().manual_seed(options.seed)
        self.plan = Plan(options, time_left)
        self.epoch = 0
        self.failures = 0
        self.rate_factor = 1.0
        self.history: list[dict[str, Any]] = []
        self.best = math.inf
        self.best_weights: dict[str, Any] | None = None
        self.whole: dict[str, Any] | None = None
        self._began = time.monotonic()
        self._saved = self._began

    @property
    def elapsed(self) -> float:
        """Seconds of the run, earlier sessions included: those of the first process, which all
        must ask together."""
        return self.ranks.agreed(self._elapsed())

    def _elapsed(self):
        return time.monotonic() - self._began

    def _known_part(self, known, options) -> Known | None:
        if known is None:
            if options.known:
                raise ValueError(
                    f"the known part {options.known} is only a name: give the function itself as"
                    " known"
                )
            return None
        return Known(known, len(self.data.columns))

    def new_field(self, generator: torch.Generator | None = None) -> ScaledField:
        """A field with random weights."""
        return build(self.architecture, self.scaling, generator, self.known)

    def adopt(self, field: ScaledField) -> None:
        """Train this field."""
        self.field = field
        self.weights = [*field.parameters(), *self.objective.learned]
        options = self.options
        self.optimizer = OPTIMIZERS[options.optimizer](
            self.weights, lr=options.lr, weight_decay=options.weight_decay
        )
        total = None
        if self.ranks.size > 1:
            total = self.ranks.total
            self.ranks.align(self.weights)
        self.polisher = LevenbergMarquardt(self.weights, batched=True, total=total)
        self.good = self.now()

    def now(self) -> dict[str, torch.Tensor]:
        """Copies of the weights of the field, and of what else is learned."""
        weights = {name: value.clone() for name, value in self.field.net.state_dict().items()}
        if self.objective.starts is not None:
            weights[STARTS] = self.objective.starts.detach().clone()
        return weights

    def use(self, weights: dict[str, torch.Tensor]) -> None:
        """Go back to the weights that ``now`` returned."""
        self.field.net.load_state_dict(net_weights(weights))
        if self.objective.starts is not None:
            with torch.no_grad():
                self.objective.starts.copy_(weights[STARTS])

    # An epoch.

    def enter(self, phase: str) -> None:
        """Begin a phase with the best weights so far."""
        self.use(self.best_weights or self.now())
        self.good = self.now()
        if self.plan.phase in PARTIAL:
            # The loss of segments, or of the first times, says little about that of a whole solve.
            self.best = math.inf
        self.plan.enter(phase, self.epoch)

    def record(self) -> dict:
        """A line of the history for an epoch in which nothing was done yet."""
        return dict.fromkeys(HISTORY, 0) | {
            "epoch": self.epoch,
            "phase": self.plan.phase,
            "held_out": None,
            "seconds": self.elapsed,
        }

    def advance(self, phase: str, work: Epoch) -> None:
        """Do all epochs of a phase from the present one on, and keep the state after each."""
        total = self.options.segments + self.options.epochs + self.options.polish
        while self.plan.next(self.epoch, self.elapsed) == phase:
            if phase != self.plan.phase:
                self.enter(phase)
            self._one_epoch(work)
            self.whole = self.snapshot()
            self.progress.epoch(self.history[-1], total, self.best)
            if time.monotonic() - self._saved > self.options.checkpoint_every:
                self.save()

    def _one_epoch(self, work):
        """Use every trajectory once. The best weights are those of the lowest loss; with held-out
        observations, of their loss."""
        began = self.now()
        record = self.record() | {"epoch": self.epoch + 1}
        loss, held_out = work(self, record)
        self.ranks.add_counts(record, WORK)
        record["loss"] = loss
        record["seconds"] = self.elapsed
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
        self.keep_epoch()

    def count(self, solved: list[Solution], record: dict[str, Any]) -> None:
        """Add the work of these solves to a line of the history."""
        for solution in solved:
            for name in WORK:
                record[name] += getattr(solution.stats, name)

    # Keeping and resuming.

    def finish(self) -> None:
        """Write everything. The last weights become the model if they are the best: the last step
        has no loss yet."""
        # The checkpoint comes first: it must equal that of an uninterrupted run at this epoch.
        self.save()
        if self.plan.phase in PARTIAL:
            self.best = math.inf  # it was not the loss of whole solves
        last = self.objective.value(self.field)[1 if self.options.validation else 0]
        if last < self.best or self.best_weights is None:
            self.best = last
            self.best_weights = self.now()
            self.save_model()

    def snapshot(self) -> dict:
        """Everything that the next epoch depends on, as plain data and copies of tensors.

        What only ever gets replaced is not copied: the good and the best weights, and the records
        of past epochs, of which a long run has many.
        """
        return {
            **self._constant,
            "weights": self.now(),
            "good": self.good,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "elapsed": self._elapsed(),
            "plan": self.plan.state_dict(),
            "damping": self.polisher.damping,
            "rate_factor": self.rate_factor,
            "best": self.best,
            "best_weights": self.best_weights,
            "history": list(self.history),
        }

    def restore(self, plain: dict[str, Any]) -> None:
        """Go back to the state of ``snapshot``."""
        self.use(plain["weights"])
        self.optimizer.load_state_dict(plain["optimizer"])
        self.generator.set_state(plain["generator"])
        self.good = plain["good"]
        self.best = plain["best"]
        self.best_weights = plain["best_weights"]
        self.epoch = plain["epoch"]
        self.rate_factor = plain["rate_factor"]
        self.history = plain["history"]
        self.plan.load_state_dict(plain["plan"])
        if plain["options"]["time_limit"] == self.options.time_limit:
            self.plan.limit = plain["plan"].get("limit", self.plan.limit)
        self.polisher.damping = plain["damping"]
        self._began = time.monotonic() - plain["elapsed"]

    def load(self) -> None:
        """Restore the checkpoint, if it belongs to these data and this architecture."""
        if self.out is None:
            raise ValueError("a run is resumed from the checkpoint in its directory: name it")
        path = self.out / "checkpoint.pt"
        plain = checkpoint(path, self.options, self.data)
        try:
            self.adopt(self.new_field())
            self.restore(plain)
        except (KeyError, TypeError, RuntimeError) as error:
            raise_if_exhausted(error)
            raise ModelError(
                f"{path} is not a whole checkpoint ({error}): start anew in another directory."
            ) from None

    def physical(self) -> PhysicalField:
        """The field of the best weights, in the units of the data."""
        self.use(self.best_weights or self.now())
        starts = self._starts(self.now()) | self.estimated
        run = self.training.trajectories[0]
        y0 = starts.get(run.name) or self._in_units(run.y[0])
        data = self.training
        return PhysicalField(self.field, data.columns, y0, run.t, starts, data.time_unit)

    def _in_units(self, state) -> list[float]:
        """A state of the training data in the units of the user's."""
        if self.warp is not None:
            state = self.warp.inverse(state)
        return state.tolist()

    def _starts(self, weights) -> dict[str, list[float]]:
        """The learned starts in the units of the data, by the names of the trajectories."""
        if self.objective.starts is None:
            return {}
        found = {}
        runs = zip(self.training.trajectories, weights[STARTS], strict=True)
        for run, learned in runs:
            start = self.scaling.scaled(run.y[0])
            start = torch.cat((start[: len(start) - len(learned)], learned))
            found[run.name] = self._in_units(self.scaling.physical(start))
        return found

    def whole_objective(self) -> Objective:
        """The objective on all trajectories, with the present weights. For those that are held out,
        what training learns of starts is estimated from their first observations."""
        if not any(self.held_out):
            return self.objective
        objective = Objective(self.whole_data, self.scaling, self.options, self.ranks)
        learned = self.objective.starts
        if learned is not None and objective.starts is not None:
            kept = torch.tensor([not out for out in self.held_out])
            with torch.no_grad():
                objective.starts[kept] = learned
            estimate_starts(objective, self.field, self.held_out)
            self.estimated = {
                run.name: self._in_units(self.scaling.physical(objective.start(i)))
                for i, run in enumerate(self.whole_data.trajectories)
                if objective.told[i]
            }
        return objective

    def save(self) -> None:
        """Write all files, if the run has a directory."""
        if self.out is None or not self.ranks.first:
            return
        save_torch(self.out / "checkpoint.pt", self.snapshot())
        self.save_model()
        save_history(self.out / "history.csv", self.history)
        self._saved = time.monotonic()

    def save_model(self) -> None:
        """Write the best model, if the run has a directory."""
        if self.out is not None and self.ranks.first:
            self._write_model(self.out / "model.pt", self.best_weights or self.now())

    def keep_epoch(self) -> None:
        """Save the model after this epoch, if the options ask for it."""
        every = self.options.keep_every
        if self.out is not None and self.ranks.first and every and self.epoch % every == 0:
            (self.out / "epochs").mkdir(exist_ok=True)
            self._write_model(self.out / "epochs" / f"epoch{self.epoch:05d}.pt", self.now())

    def _write_model(self, path, weights):
        run = self.training.trajectories[0]
        starts = self._starts(weights) | self.estimated
        y0 = starts.get(run.name) or self._in_units(run.y[0])
        data = self.training
        description = describe(
            self.field, self.architecture, data.columns, y0, run.t, starts, data.time_unit
        )
        save_model(path, {**description, "state_dict": net_weights(weights)})


def net_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights that belong to the network."""
    return {name: value for name, value in weights.items() if name != STARTS}
