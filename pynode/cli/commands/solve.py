"""The options of ``pynode solve``."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from cyclopts import Parameter

from ...core.option_kinds import Backend, Count, Integer, Numbers, Positive, Text
from ..common import Command
from ..target_help import ONE

EPILOGUE = """\
Examples:

    pynode solve robertson
    pynode solve out/robertson/model.pt --method rodas5p --out states.csv
    pynode solve my_fields.py:Pendulum --y0 1,0 --t 0,20 --points 200
"""


@dataclass(frozen=True)
class Solve(Command):
    """Solve a problem, and write CSV or a plot.

    Solve a problem, a trained model or your own vector field. Write the states as CSV to the
    standard output or to --out. If the solve fails, pynode still writes the states before the
    failure. pynode runs the code of MODULE:OBJECT or FILE.py:OBJECT.
    """

    work: ClassVar[str] = "solve:run"
    target: Annotated[str, Parameter(metavar="TARGET", help=ONE)]
    _: KW_ONLY
    y0: Numbers | None = None
    """Initial state. Without it: the state of the target."""
    t: Annotated[Numbers | None, Parameter(metavar="T,...")] = None
    """Start and end, or all times. Without it: the times of the target."""
    points: Integer | None = None
    """Number of evenly spaced times. Without it: the times of the target, or 101."""
    method: Text = "auto"
    """Method of the solve, see pynode methods."""
    rtol: Positive | None = None
    """Relative tolerance. Without it: the tolerance of the target."""
    atol: Positive | None = None
    """Absolute tolerance. Without it: the tolerance of the target."""
    backend: Backend = "auto"
    """Engine, see docs/native.md and docs/julia.md."""
    max_steps: Count = 100_000
    """Maximum number of steps."""
    out: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """Write the CSV to this file."""
    plot: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """Draw the states over time to this file (png, pdf, svg)."""
    json: bool = False
    """Print times, states and counts as one JSON object instead of the CSV."""


COMMAND = Solve
