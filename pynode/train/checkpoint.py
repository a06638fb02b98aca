"""What a run leaves beside its model: the history, and the checkpoint from which it goes on."""

from __future__ import annotations

import csv
import io

from ..core.files import save_text
from .model import ModelError, load_plain

WORK = ("accepted", "rejected", "nfe", "backward_nfe", "njac", "nlu")
HISTORY = ("epoch", "phase", "loss", "held_out", "lr", *WORK, "failures", "seconds")
# Options that a resumed run must share with the one that it goes on from: its loss means the same,
# and its weights fit.
SHARED = (
    "hidden",
    "activation",
    "time_input",
    "scaling",
    "loss",
    "weights",
    "relative",
    "validation",
)


def save_history(path, history: list) -> None:
    """Write one line an epoch with the columns HISTORY, atomically. OSError where the disk
    refuses."""
    table = io.StringIO()
    writer = csv.DictWriter(table, HISTORY, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    save_text(path, table.getvalue())


def checkpoint(path, options, data) -> dict:
    """The plain data in the checkpoint file. ModelError unless it is of these data and fits these
    options."""
    plain = load_plain(path, "checkpoint")
    mine = options.as_dict()
    try:
        for name in SHARED:
            if plain["options"][name] != mine[name]:
                raise ModelError(
                    f"{path} was trained with {name} {plain['options'][name]}, not {mine[name]}:"
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
