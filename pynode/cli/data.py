"""The command ``pynode data``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data import read
from ..data.picture import plot_data
from ..data.summary import summarise
from .command import finish, print_json
from .data_options import add_columns, columns
from .values import NO_PLOTS

DATA = """\
Say what pynode understands of a table, before training: time and its unit, trajectories, states,
inputs, missing values, noise, spans and oscillation. It also draws the table.

DATA is a text (CSV in any dialect; also packed by gzip), a Parquet, Excel, NetCDF, HDF5 or NumPy
file, a folder whose files are trajectories, or - for the standard input.
"""
FILES = """\
files written:
  out/data-NAME.png   the observations over time, or the file that --out names

examples:
  pynode data examples/data/robertson.csv
  pynode data measurements.xlsx --time hours --group patient --drop remark
  pynode data tank.csv --input u_flow --error level_sd --json
"""


def add_options(own: argparse.ArgumentParser) -> None:
    """Add the options of 'pynode data'."""
    own.description = DATA
    own.epilog = FILES
    own.add_argument("data", metavar="DATA", help="observations")
    own.add_argument(
        "--out", metavar="FILE.png", help="where to draw them (default: out/data-NAME.png)"
    )
    add_columns(own.add_argument_group("columns"))
    finish(own, _run, "print what was understood as one JSON object")


def _run(arguments) -> int:
    found = read(arguments.data, keep_constant=True, **columns(arguments))
    summary = summarise(found)
    name = "stdin"
    if arguments.data != "-":
        name = Path(arguments.data).name.partition(".")[0]
    path = Path(arguments.out or Path("out") / f"data-{name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    try:
        written.append(str(plot_data(path, found)))
    except ImportError:
        if not arguments.json:
            print(NO_PLOTS)
    if arguments.json:
        print_json({"data": arguments.data, **summary.as_dict(), "files": written})
        return 0
    print(f"{arguments.data}:")
    print(summary)
    if written:
        print("Written: " + ", ".join(written))
    return 0
