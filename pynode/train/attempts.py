"""Several runs on the same data: another choice where the first has not learned, and other seeds.
The best is kept, or all of them as an ensemble.

The folder of the run has the files of the best attempt so far. A further attempt has a folder of
its own in it until it is over, and attempts.json says what has been tried, so that a run can be
interrupted and resumed in any attempt.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path

from ..core.files import save_text
from ..data import Dataset
from .judge import LEARNED, NOT_LEARNED, PARTLY
from .loop import Fit, fit
from .model import ModelError, load_model
from .options import Options
from .progress import SilentProgress
from .ranks import Ranks
from .run import KnownPart
from .start import TrainingError
from .sweep import sweep

WORDS = (LEARNED, PARTLY, NOT_LEARNED)
FOLDER = "attempt"
RECORD = "attempts.json"
# A further choice begins only before so many seconds, and ends after so many, of all attempts
# together.
LATEST = 150.0
LAST = 270.0
# The models of an ensemble, one a seed.
ENSEMBLE = "ensemble"


@dataclass
class _Record:
    """What has been tried.

    choices: further options that are tried one after the other until a run has learned. seeds: how
    many seeds are tried in all. ensemble: whether all models are kept. tried: the attempts that are
    over, each with its seed, verdict and largest error. next_choice: the index of the next choice.
    more_seeds: how many further seeds are over. seconds: of all attempts that are over. limit: for
    all attempts together.
    """

    choices: list[dict]
    seeds: int
    ensemble: bool
    limit: float
    tried: list[dict]
    next_choice: int = 0
    more_seeds: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, out: Path) -> _Record | None:
        """The record of an earlier run in the folder, None if there is none."""
        try:
            text = (out / RECORD).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"{out / RECORD} is damaged ({error}): delete it to resume the best attempt only."
            ) from None


def fit_best(
    data: Dataset,
    choices: Sequence[Options],
    seeds: int = 1,
    out: str | PathLike[str] | None = None,
    progress: Callable[[], SilentProgress] = SilentProgress,
    resume: bool = False,
    ensemble: bool = False,
    known: KnownPart | None = None,
    jobs: int = 1,
) -> Fit:
    """The best of several runs.

    choices: options that are tried one after the other until a run has learned. ``time_limit`` of
        the first is for all attempts together.
    seeds: the number of seeds that are tried with the options of the best of these, from its own
        on; all of them.
    out: as in ``fit``; in the end it has the files of the best run.
    progress: makes the display of a run.
    resume: continue where an earlier call with this folder was interrupted, in whichever attempt.
        Choices after the first, seeds and ensemble are then those of the earlier call.
    ensemble: keep the models of all attempts, as ``members`` and in out/ensemble.
    known: as for ``fit``.
    jobs: the further seeds run in so many processes at the same time, through joblib, without a
        display. The result is the same.

    Ctrl-C ends all attempts; the best that is over is then the result, and ``interrupted``. Raises
    what ``fit`` raises in the first run; later ones that fail are left out.
    """
    return _Attempts(data, choices, seeds, out, progress, resume, ensemble, known, jobs).run()


class _Attempts:
    def __init__(self, data, choices, seeds, out, progress, resume, ensemble, known, jobs):
        self.jobs = jobs
        self.known = known
        self.data = data
        self.first = choices[0]
        self.progress = progress
        self.resume = resume
        self.out = None if out is None else Path(out)
        self.ranks = Ranks()
        self.members = []
        self.record = None
        if resume and self.out is not None:
            self.record = _Record.of(self.out)
        if self.record is None:
            self.record = _Record(
                [options.as_dict() for options in choices[1:]],
                seeds,
                ensemble,
                self.first.time_limit,
                [],
            )
            if self.out is not None and not resume and self.ranks.first:
                shutil.rmtree(self.out / FOLDER, ignore_errors=True)
                shutil.rmtree(self.out / ENSEMBLE, ignore_errors=True)
        elif not math.isinf(self.first.time_limit):
            self.record.limit = self.first.time_limit
        self.ranks.wait()  # the others have read the record before the first changes it

    def run(self) -> Fit:
        record = self.record
        best = self._first()
        while not best.interrupted:
            options = self._next(best)
            if options is None or self._time_left() <= 0:
                break
            if self.jobs > 1 and record.next_choice >= len(record.choices):
                best = self._best_of_seeds(best)
            else:
                best = self._better(best, options)
        if record.ensemble:
            best = replace(best, members=tuple(self._members(best)))
        return best

    def _first(self) -> Fit:
        """The run in the folder itself: the first attempt, or the best of those that are over."""
        over = bool(self.record.tried)
        self._save()
        time_left = math.inf if over else self._share()
        best = fit(
            self.data,
            self.first,
            self.out,
            resume=self.resume,
            progress=self.progress(),
            time_left=time_left,
            known=self.known,
        )
        if not over and not best.interrupted:
            self._note(best, self.out)
        return best

    def _save(self):
        """Write the record, unless one run is all there is."""
        record = self.record
        several = record.choices or record.seeds > 1 or record.ensemble
        if several and self.out is not None and self.ranks.first:
            self.out.mkdir(parents=True, exist_ok=True)
            save_text(self.out / RECORD, json.dumps(asdict(self.record), indent=1))

    def _time_left(self) -> float:
        """The seconds for all attempts that are to come."""
        return self.record.limit - self.record.seconds

    def _share(self) -> float:
        """The seconds for the next attempt: those left, divided by the attempts that are sure to
        come."""
        record = self.record
        to_come = record.seeds - record.more_seeds
        further = record.tried and record.next_choice < len(record.choices)
        if record.tried and not further:
            to_come -= 1
        share = self._time_left() / max(1, to_come)
        if further:
            share = min(share, LAST - record.seconds)
        return share

    def _next(self, best) -> Options | None:
        """The options of the next attempt, None if there is none."""
        record = self.record
        if (
            record.next_choice < len(record.choices)
            and best.verdict.word != LEARNED
            and best.verdict.learnable
            and record.seconds < LATEST
        ):
            return Options(**record.choices[record.next_choice])
        record.next_choice = len(record.choices)
        if record.more_seeds + 1 < record.seeds:
            return replace(best.options, seed=record.tried[0]["seed"] + record.more_seeds + 1)
        return None

    def _better(self, best, options) -> Fit:
        """The better of a run and another with these options."""
        folder = None
        if self.out is not None:
            folder = self.out / FOLDER
        display = self.progress()
        display.say(f"The run so far: {best.verdict.sentence}. Trying {_told(options)}.")
        began = time.monotonic()
        resume = self.resume and folder is not None and (folder / "checkpoint.pt").exists()
        other = None
        try:
            other = fit(self.data, options, folder, resume, display, self._share(), self.known)
        except TrainingError as error:
            display.say(f"This attempt failed: {error}")
        except KeyboardInterrupt:
            return replace(best, interrupted=True)
        if other is not None and other.interrupted:
            return replace(best, interrupted=True)
        if self.record.next_choice < len(self.record.choices):
            self.record.next_choice += 1
        else:
            self.record.more_seeds += 1
        if other is not None:
            better = _rank(other) < _rank(best)
            self._keep(folder, better)
            if better:
                best = other
            self._note(other, folder)
        else:
            self.record.seconds += self.ranks.agreed(time.monotonic() - began)
        if folder is not None and self.ranks.first:
            shutil.rmtree(folder, ignore_errors=True)
        self._save()
        return best

    def _best_of_seeds(self, best) -> Fit:
        """The better of a run and all further seeds, which run at the same time."""
        record = self.record
        seeds = range(record.more_seeds + 1, record.seeds)
        choices = [replace(best.options, seed=record.tried[0]["seed"] + k) for k in seeds]
        folders = [None if self.out is None else self.out / FOLDER / str(k) for k in seeds]
        try:
            runs = sweep(
                self.data,
                choices,
                folders,
                self.jobs,
                self.known,
                self.resume,
                self._time_left(),
            )
        except KeyboardInterrupt:
            return replace(best, interrupted=True)
        except TrainingError:
            # One seed failed, and nobody knows which: one after the other, it can be left out.
            self.jobs = 1
            return best
        if any(run.interrupted for run in runs):
            return replace(best, interrupted=True)
        for run, folder in zip(runs, folders, strict=True):
            record.more_seeds += 1
            better = _rank(run) < _rank(best)
            self._keep(folder, better)
            if better:
                best = run
            self._note(run, folder)
        if self.out is not None:
            shutil.rmtree(self.out / FOLDER, ignore_errors=True)
        self._save()
        return best

    def _keep(self, folder, better):
        """Keep the files of an attempt that are needed."""
        if folder is None or not self.ranks.first:
            return
        if self.record.ensemble:
            self._keep_member(folder)
        if better:
            for path in folder.iterdir():
                if path.is_file():
                    os.replace(path, self.out / path.name)

    def _keep_member(self, folder):
        if not self.ranks.first:
            return
        kept = self.out / ENSEMBLE
        kept.mkdir(exist_ok=True)
        shutil.copyfile(folder / "model.pt", kept / f"model{len(self.record.tried)}.pt")

    def _note(self, run, folder):
        """Note a run that is over."""
        record = self.record
        if record.ensemble:
            if self.out is None:
                self.members.append(run.field)
            elif not record.tried:
                self._keep_member(folder)
        record.tried.append(
            {"seed": run.options.seed, "verdict": run.verdict.word, "error": _rank(run)[1]}
        )
        record.seconds += run.history[-1]["seconds"]
        self._save()

    def _members(self, best):
        """The fields of the ensemble: of all attempts with the verdict of the best."""
        self.ranks.wait()
        for k, tried in enumerate(self.record.tried):
            if tried["verdict"] == best.verdict.word:
                if self.out is None:
                    yield self.members[k]
                else:
                    yield load_model(self.out / ENSEMBLE / f"model{k}.pt", self.known)


def _told(options) -> str:
    """What distinguishes a choice."""
    warped = ""
    if options.warp:
        warped = ", warped states"
    widths = ",".join(map(str, options.hidden))
    return (
        f"{options.method}, scaling {options.scaling}{warped}, hidden {widths}, seed {options.seed}"
    )


def _rank(run) -> tuple[int, float]:
    """Smaller for a better run."""
    errors = [state.error for state in run.verdict.states]
    worst = max(errors)
    if not all(math.isfinite(error) for error in errors):
        worst = math.inf
    return WORDS.index(run.verdict.word), worst
