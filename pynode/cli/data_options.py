"""The options that say what the columns of a table mean, which several commands have."""

from __future__ import annotations

import argparse
from typing import Any

from .values import names


def add_columns(group: argparse._ArgumentGroup) -> None:
    """Add --time, --group, --drop, --input and --error."""
    group.add_argument(
        "--time",
        metavar="COLUMN",
        help="column of times (default: the one whose name says so, such as t, time or date)",
    )
    group.add_argument(
        "--group",
        metavar="COLUMN",
        help="column that distinguishes trajectories (default: one that plainly does)",
    )
    group.add_argument(
        "--drop",
        metavar="COLUMNS",
        type=names,
        default=(),
        help="columns to ignore, separated by commas",
    )
    group.add_argument(
        "--input",
        metavar="COLUMNS",
        type=names,
        default=(),
        help="columns that are exogenous inputs u(t), separated by commas",
    )
    group.add_argument(
        "--error",
        metavar="COLUMNS",
        type=names,
        default=(),
        help="columns with standard deviations; level_sd belongs to the state level by its name,"
        " level=COLUMN says so",
    )


def columns(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of ``pynode.data.read`` from these options."""
    return {
        "time": arguments.time,
        "group": arguments.group,
        "drop": arguments.drop,
        "inputs": arguments.input,
        "errors": arguments.error,
    }
