"""What came out of a run, as a file for programs: an exit code does not pass every launcher."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path

from ..core.files import save_text
from .verdict import Verdict

VERDICT = "verdict.json"


def save_verdict(out: str | PathLike[str], verdict: Verdict, interrupted: bool) -> None:
    """Write out/verdict.json atomically: word, sentence, advice and states of the verdict, and
    whether the run was interrupted before its end. Raises OSError if the disk refuses."""
    plain = verdict.as_dict() | {"interrupted": interrupted}
    save_text(Path(out) / VERDICT, json.dumps(plain, indent=1, allow_nan=False) + "\n")


def forget_verdict(out: str | PathLike[str]) -> None:
    """Remove the verdict of an earlier run. Nobody must take it for the verdict of a run that
    fails."""
    (Path(out) / VERDICT).unlink(missing_ok=True)
