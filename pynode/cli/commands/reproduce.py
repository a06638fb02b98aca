"""The options of ``pynode reproduce``."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from cyclopts import Parameter

from ...core.option_kinds import Backend, Names, Whole
from ..common import FLAT, Command, Threads

EPILOGUE = """\
Files written to --out: result.txt with the tables, config.toml with the options, and one folder per
training with the files of pynode train.

Examples:

    pynode reproduce robertson
    pynode reproduce pollution --trainings paper --epochs 5000
"""


@dataclass(frozen=True)
class Reproduce(Command):
    """Train the set-ups of Kim et al. 2021.

    The paper is Stiff neural ordinary differential equations, Chaos 31, 093122. A tight solve of
    the true system makes the data. The training "paper" uses the network, the scaling and the
    optimiser of the paper, with FBDF. The training "kit" uses the same network and data with the
    training kit of this package. The result shows the error of every state in two measures, and the
    cost of one solve by an explicit method.
    """

    work: ClassVar[str] = "reproduce:run"
    setup: Annotated[Literal["robertson", "pollution"], Parameter(metavar="SETUP")]
    """Name of the set-up."""
    _: KW_ONLY
    trainings: Names = ("paper", "kit")
    """paper, kit or both, separated by a comma."""
    epochs: Whole | None = None
    """Epochs of Adam. Without it: a number that takes minutes."""
    polish: Whole | None = None
    """Epochs of Levenberg-Marquardt."""
    seed: Whole | None = None
    """Seed of the weights."""
    max_nfe: Whole = 20_000
    """Maximum number of evaluations of each single solve. 0 skips these solves."""
    backend: Backend | None = None
    """Engine of all solves. Without it: native code where it serves, else torch."""
    out: Annotated[Path | None, Parameter(metavar="DIR")] = None
    """Folder for the files. Without it: out/kim2021-NAME."""
    threads: Annotated[Threads, FLAT] = Threads()
    json: bool = False
    """Print losses, errors, costs and files as one JSON object at the end."""


COMMAND = Reproduce
