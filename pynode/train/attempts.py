"""Several runs on the same data, of which the best is kept: another choice where the first has not
learned, and other seeds."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from ..data import Dataset
from .judge import LEARNED, NOT_LEARNED, PARTLY
from .loop import Fit, fit
from .options import Options
from .progress import SilentProgress
from .start import TrainingError

WORDS = (LEARNED, PARTLY, NOT_LEARNED)
# A further attempt has this folder in that of the run, until it is over.
FOLDER = "attempt"


def fit_best(
    data: Dataset,
    choices: Sequence[Options],
    seeds: int = 1,
    out: str | PathLike[str] | None = None,
    progress: Callable[[], SilentProgress] = SilentProgress,
) -> Fit:
    """The best of several runs.

    choices: options that are tried one after the other until a run has learned.
    seeds: the number of seeds that are tried with the last of these, from its own on; all of them.
    out: as in ``fit``; in the end it has the files of the best run.
    progress: makes the display of a run.

    Ctrl-C ends all attempts; the best so far is then the result, and ``interrupted``. Raises what
    ``fit`` raises in the first run; later ones that fail are left out.
    """
    best = fit(data, choices[0], out, progress=progress())
    last = choices[0]
    for options in choices[1:]:
        if best.interrupted or best.verdict.word == LEARNED or not best.verdict.learnable:
            break
        last = options
        best = _better(best, data, options, out, progress)
    for k in range(1, seeds):
        if best.interrupted:
            break
        best = _better(best, data, replace(last, seed=last.seed + k), out, progress)
    return best


def _better(best, data, options, out, progress) -> Fit:
    """The better of a run and another with these options."""
    folder = None
    if out is not None:
        folder = Path(out) / FOLDER
    display = progress()
    display.say(
        f"The run so far: {best.verdict.sentence}. Trying scaling {options.scaling}, seed"
        f" {options.seed}."
    )
    try:
        other = fit(data, options, folder, progress=display)
        if _rank(other) < _rank(best):
            if folder is not None:
                for path in folder.iterdir():
                    if path.is_file():
                        os.replace(path, folder.parent / path.name)
            best = replace(other, interrupted=best.interrupted or other.interrupted)
        elif other.interrupted:
            best = replace(best, interrupted=True)
    except TrainingError as error:
        display.say(f"This attempt failed: {error}")
    except KeyboardInterrupt:
        best = replace(best, interrupted=True)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return best


def _rank(run) -> tuple[int, float]:
    """Smaller for a better run."""
    errors = [state.error for state in run.verdict.states]
    worst = max(errors)
    if not all(math.isfinite(error) for error in errors):
        worst = math.inf
    return WORDS.index(run.verdict.word), worst
