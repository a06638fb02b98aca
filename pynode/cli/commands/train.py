"""The options of ``pynode train``."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from ...core.given import Given
from ...core.option_kinds import Count
from ...train.option_groups import (
    EndOptions,
    KnownOptions,
    LossOptions,
    ModelOptions,
    SolveOptions,
    StartOptions,
    StepOptions,
)
from ..common import FLAT, Columns, Command, Earlier, Threads, group

EPILOGUE = """\
Files written to --out:

    model.pt       the best model: architecture and scaling as plain data, and the
                   weights (pynode.train.load_model reads it)
    checkpoint.pt  the data that --resume needs, with a checksum. Every write is
                   atomic, so an interruption loses only seconds. Ctrl-C, SIGTERM
                   and SIGHUP lose nothing: training saves the last whole epoch
    verdict.json   the verdict, for programs: its word is learned, partly or not
                   learned. It exists when the run is over, also under launchers
                   that change exit codes
    config.toml    the options of the run; pynode train --config reads them
    history.csv    loss, learning rate, steps, evaluations and time of each epoch
    epochs/        intermediate models, with --keep-every; pynode compare
                   OUT/epochs/*.pt --stiffness reads them
    ensemble/      the models of all seeds, with --ensemble
    field.py       the learned field as a PyTorch module without pynode, with
                   --export
    field.pt2      the same as a program of torch.export
    fit.png        observations and the learned solution
    loss.png       the loss of each epoch

Examples:

    pynode train examples/data/robertson.csv --out out/robertson
    pynode train runs.csv --time hours --group run --hidden 64,64 --out out/runs
    pynode train --config out/runs/config.toml --resume
"""


@dataclass(frozen=True, kw_only=True)
class Seeds(Given):
    """Several seeds."""

    seeds: Count = 1
    """Train with N seeds, from --seed on, and keep the best."""
    ensemble: bool = False
    """Keep the models of all --seeds in OUT/ensemble, and draw their spread as a band."""
    jobs: Count = 1
    """Train the further seeds in N processes at once, through joblib."""


@dataclass(frozen=True, kw_only=True)
class Records(Given):
    """What is written besides the model."""

    track: Literal["tensorboard", "mlflow", "wandb"] | None = None
    """Log every epoch to this experiment tracker."""
    export: bool = False
    """Write the learned field for programs without pynode, too: field.py and field.pt2."""


@dataclass(frozen=True)
class Train(Command):
    """Learn dynamics from a table.

    Train a neural ODE on observations of a physical system. Defaults look at the data; two lines
    say what they chose. A verdict at the end says whether the data were learned.

    DATA is a table: a file (CSV in any dialect, Parquet, Excel, NetCDF, HDF5), a folder whose files
    are trajectories, or - for the standard input. It has a column of times, and one column per
    state:

        time,A,B,C
        0,1.0,0.0,0.0          the first line of a trajectory is its start
        1e-5,0.9999996,,1e-11  an empty cell is a missing value

    Times may be irregular. A file can contain several trajectories, one below the other: --group
    names the column that distinguishes them. pynode data DATA says what pynode understands of a
    table.
    """

    work: ClassVar[str] = "train:run"
    data: Annotated[str, Parameter(metavar="DATA")]
    """Observations."""
    _: KW_ONLY
    out: Annotated[Path, Parameter(metavar="DIR")] = Path("out")
    """Folder for the files."""
    earlier: Annotated[Earlier, FLAT] = Earlier()
    columns: Annotated[Columns, group("Data", 1)] = Columns()
    keep_constant: bool = False
    """Accept a state that never changes."""
    model: Annotated[ModelOptions, group("Model", 2)] = ModelOptions()
    known: Annotated[KnownOptions, group("What is known", 3)] = KnownOptions()
    solves: Annotated[SolveOptions, group("Solver", 4)] = SolveOptions()
    loss: Annotated[LossOptions, group("Loss", 5)] = LossOptions()
    steps: Annotated[StepOptions, group("Training", 6)] = StepOptions()
    start: Annotated[StartOptions, group("Start", 7)] = StartOptions()
    seeds: Annotated[Seeds, group("Start", 7)] = Seeds()
    end: Annotated[EndOptions, group("End", 8)] = EndOptions()
    records: Annotated[Records, group("End", 8)] = Records()
    threads: Annotated[Threads, FLAT] = Threads()
    json: bool = False
    """Print losses, epochs, seconds, files and the verdict as one JSON object at the end."""

    @property
    def options(self) -> dict[str, Any]:
        """The options of the training that somebody gave."""
        groups = (
            self.model,
            self.known,
            self.solves,
            self.loss,
            self.steps,
            self.start,
            self.end,
        )
        return {name: value for each in groups for name, value in each.given.items()}


COMMAND = Train
