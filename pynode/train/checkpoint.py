"""The history of a run, and the checkpoint from which it can continue."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from os import PathLike
from typing import Any

from ..core.files import save_text
from ..data import Dataset
from .model import ModelError, load_plain
from .options import Options

WORK = ("accepted", "rejected", "nfe", "backward_nfe", "njac", "nlu")
OPTIONS = tuple(field.name for field in fields(Options))
HISTORY = ("epoch", "phase", "loss", "held_out", "lr", *WORK, "failures", "seconds")
# A resumed run must have these options of the earlier one, so that the loss means the same and the
# weights fit.
SHARED = (
    "hidden",
    "activation",
    "time_input",
    "scaling",
    "loss",
    "weights",
    "relative",
    "validation",
    "hold_out",
    "augment",
    "learn_starts",
    "conserve",
    "positive",
    "known",
    "warp",
)
# Options that checkpoints of earlier versions do not have.
LATER = {name: value for name, value in Options().as_dict().items() if name in SHARED[8:]}


def save_history(path: str | PathLike[str], history: list[dict[str, Any]]) -> None:
    """Write one line for each epoch with the columns HISTORY, atomically. Raises OSError if the
    disk refuses."""
    table = io.StringIO()
    writer = csv.DictWriter(table, HISTORY, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    save_text(path, table.getvalue())


def checkpoint(path: str | PathLike[str], options: Options, data: Dataset) -> dict[str, Any]:
    """The plain data in the checkpoint file. Raises ModelError unless it belongs to these data and
    fits these options."""
    plain = load_plain(path, "checkpoint")
    mine = options.as_dict()
    try:
        theirs = {**LATER, **plain["options"]}
        for name in SHARED:
            if theirs[name] != mine[name]:
                raise ModelError(
                    f"{path} was trained with {name} {theirs[name]}, not {mine[name]}:"
                    " resume with the same, or start anew in another directory."
                )
        if plain["data"] != data.fingerprint:
            raise ModelError(
                f"{path} was trained on other data: resume with those, or start anew elsewhere."
            )
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{path} is not a whole checkpoint ({error}): start anew in another directory."
        ) from None
    return plain


def saved_options(path: str | PathLike[str]) -> dict[str, Any]:
    """The options in a checkpoint file, by name, for a run that resumes it. Raises ModelError if
    it is not one."""
    try:
        saved = load_plain(path, "checkpoint")["options"]
        return {name: saved[name] for name in OPTIONS if name in saved}
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{path} is not a whole checkpoint ({error}): start anew in another directory."
        ) from None
