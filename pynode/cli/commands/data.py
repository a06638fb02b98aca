"""The options of ``pynode data``."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from cyclopts import Parameter

from ..common import Columns, Command, group

EPILOGUE = """\
Files written:

    out/data-NAME.png   the observations over time, or the file that --out names

Examples:

    pynode data examples/data/robertson.csv
    pynode data measurements.xlsx --time hours --group patient --drop remark
    pynode data tank.csv --input u_flow --error level_sd --json
"""


@dataclass(frozen=True)
class Data(Command):
    """Say what a table holds, and draw it.

    Say what pynode understands of a table, before training: time and its unit, trajectories,
    states, inputs, missing values, noise, spans and oscillation.

    DATA is a text (CSV in any dialect; also packed by gzip), a Parquet, Excel, NetCDF, HDF5 or
    NumPy file, a folder whose files are trajectories, or - for the standard input.
    """

    work: ClassVar[str] = "data:run"
    data: Annotated[str, Parameter(metavar="DATA")]
    """Observations."""
    _: KW_ONLY
    out: Annotated[Path | None, Parameter(metavar="FILE.png")] = None
    """Where to draw them. Without it: out/data-NAME.png."""
    columns: Annotated[Columns, group("Columns", 1)] = Columns()
    json: bool = False
    """Print what was understood as one JSON object."""


COMMAND = Data
