"""The options of ``pynode diagnose``."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from cyclopts import Parameter

from ...core.option_kinds import OwnBackend, Positive
from ..common import FLAT, Command, Threads
from ..target_help import ONE

EPILOGUE = """\
Files written to --out, named after the target:

    diagnosis-NAME.json   all findings as data
    diagnosis-NAME.png    eigenvalues, steps and solution over time

Examples:

    pynode diagnose robertson
    pynode diagnose out/robertson/model.pt --rtol 1e-4 --json
    pynode diagnose robertson --backend native
"""


@dataclass(frozen=True)
class Diagnose(Command):
    """Find out what makes a problem hard, and how to solve it.

    The report shows:

    - the eigenvalues of the Jacobian along the solution, and the time scales
    - the causes that limit the steps
    - jumps of f
    - the sizes of the components against atol
    - the cost of explicit methods against implicit methods

    It recommends a method, after short trials of the candidates.
    """

    work: ClassVar[str] = "diagnose:run"
    target: Annotated[str, Parameter(metavar="TARGET", help=ONE)]
    _: KW_ONLY
    rtol: Positive | None = None
    """Relative tolerance. Without it: the tolerance of the problem."""
    atol: Positive | None = None
    """Absolute tolerance of all components. Without it: the tolerance of the problem."""
    backend: OwnBackend = "auto"
    """Engine of all solves, and of the methods that compete. auto is torch."""
    no_trials: bool = False
    """Recommend from estimates, without timed solves."""
    seconds: Annotated[Positive, Parameter(metavar="S")] = 60.0
    """Time limit of the reference solve, and of all trials together."""
    out: Annotated[Path | None, Parameter(metavar="DIR")] = None
    """Write the JSON file and the picture to this folder."""
    threads: Annotated[Threads, FLAT] = Threads()
    json: bool = False
    """Print the findings as one JSON object instead of the report."""


COMMAND = Diagnose
