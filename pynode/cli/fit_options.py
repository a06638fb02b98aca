"""The options of ``pynode fit``, and how their values read."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ..backends.registry import NAMES as BACKENDS
from ..core.parameter_info import SCALES, Prior
from ..fit.samples import SAMPLERS
from .data_options import add_columns
from .values import count, names, numbers, positive


def add_data(group: argparse._ArgumentGroup) -> None:
    """What the columns of the file mean."""
    add_columns(group)
    group.add_argument(
        "--condition",
        metavar="COLUMNS",
        type=names,
        default=(),
        help="columns that are constant in a run; the model gets their values",
    )
    group.add_argument(
        "--noise",
        metavar="X",
        type=_noise,
        default="estimate",
        help="standard deviation of the measurements: a number, 'estimate', or NAME=X,... for"
        " single columns (default: %(default)s)",
    )
    group.add_argument(
        "--relative",
        metavar="COLUMNS",
        type=names,
        default=(),
        help="columns whose errors are relative to the value",
    )


def add_parameters(group: argparse._ArgumentGroup) -> None:
    """What is known of the parameters."""
    group.add_argument(
        "--estimate",
        metavar="NAMES",
        type=names,
        help="parameters to estimate (default: all of a module or function; of a file, the ones"
        " that --bounds names)",
    )
    group.add_argument(
        "--bounds",
        metavar="NAME=LOW,HIGH",
        type=_named(numbers),
        action="append",
        default=[],
        help="bounds of a parameter; give the option once for each",
    )
    group.add_argument(
        "--start",
        metavar="NAME=X",
        type=_named(float),
        action="append",
        default=[],
        help="first value of a parameter (default: the value in the model)",
    )
    group.add_argument(
        "--scale",
        metavar="NAME=SCALE",
        type=_named(_scale),
        action="append",
        default=[],
        help=f"{', '.join(SCALES)} (default: log10 if the lower bound is positive)",
    )
    group.add_argument(
        "--prior",
        metavar="NAME=KIND,MEAN,WIDTH",
        type=_named(_prior),
        action="append",
        default=[],
        help="normal or laplace prior, in the scale of the parameter",
    )
    group.add_argument(
        "--initial",
        metavar="STATE=X",
        type=_named(_value_or_estimate),
        action="append",
        default=[],
        help="initial value of a state, or 'estimate' (default: the first line of each run)",
    )


def add_solver(group: argparse._ArgumentGroup) -> None:
    """The solves."""
    group.add_argument(
        "--method", default="auto", metavar="NAME", help="method, see pynode methods"
    )
    group.add_argument(
        "--rtol",
        type=positive,
        default=1e-6,
        metavar="X",
        help="relative tolerance (default: %(default)g)",
    )
    group.add_argument(
        "--max-steps",
        type=count(1),
        default=10_000,
        metavar="N",
        help="maximum number of steps of one run; more count as a failure (default: %(default)s)",
    )
    group.add_argument(
        "--backend",
        choices=[name for name in BACKENDS if name != "julia"],
        default="auto",
        help="engine of the solves; auto takes native code where it serves",
    )


def add_search(group: argparse._ArgumentGroup) -> None:
    """The search for the optimum."""
    group.add_argument(
        "--starts",
        type=count(1),
        default=20,
        metavar="N",
        help="starts of the search: the values in the model, and a Latin hypercube between the"
        " bounds (default: %(default)s)",
    )
    group.add_argument(
        "--optimiser",
        choices=("fides", "lbfgs", "lm"),
        default="fides",
        help="trust region with the Gauss-Newton matrix, L-BFGS-B, or Levenberg-Marquardt"
        " (default: %(default)s)",
    )
    group.add_argument(
        "--iterations",
        type=count(1),
        default=500,
        metavar="N",
        help="maximum number of iterations of one start (default: %(default)s)",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of all random numbers (default: %(default)s)",
    )
    group.add_argument(
        "--no-guess",
        action="store_true",
        help="begin with random starts alone, not with the values in the model",
    )
    group.add_argument(
        "--processes",
        type=_processes,
        default=1,
        metavar="N",
        help="number of processes that work side by side (default: %(default)s). 'mpi' takes the"
        " processes of 'mpiexec -n N python -m mpi4py.futures -m pynode fit ...'",
    )


def add_uncertainty(group: argparse._ArgumentGroup) -> None:
    """Intervals, bands and samples."""
    group.add_argument(
        "--level",
        type=float,
        default=0.95,
        metavar="X",
        help="level of intervals and bands (default: %(default)s)",
    )
    group.add_argument(
        "--profile",
        type=names,
        metavar="NAMES",
        help="parameters whose intervals are made by profile likelihood, or all (default: none;"
        " intervals come from the Fisher information)",
    )
    group.add_argument(
        "--samples", type=count(1), metavar="N", help="draw N samples of the parameters"
    )
    group.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default=SAMPLERS[0],
        help="adaptive Metropolis, or parallel tempering for several peaks (default: %(default)s)",
    )


def _named(kind: Callable[[str], Any]) -> Callable[[str], tuple[str, Any]]:
    """The type of 'NAME=VALUE', a pair."""

    def read(text: str) -> tuple[str, Any]:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise argparse.ArgumentTypeError(f"{text!r} does not read NAME=VALUE")
        try:
            return name.strip(), kind(value.strip())
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return read


def _scale(text: str) -> str:
    if text not in SCALES:
        raise ValueError(f"the scale is one of {', '.join(SCALES)}")
    return text


def _prior(text: str) -> Prior:
    parts = text.split(",")
    if len(parts) != 3:
        raise ValueError("a prior reads normal,MEAN,WIDTH or laplace,MEAN,WIDTH")
    return Prior(parts[0].strip(), float(parts[1]), float(parts[2]))  # type: ignore[arg-type]


def _value_or_estimate(text: str) -> float | str:
    if text == "estimate":
        return text
    return float(text)


def _noise(text: str) -> Any:
    """'0.1', 'estimate', or 'A=0.1,B=estimate'."""
    try:
        if "=" not in text:
            return _value_or_estimate(text)
        pairs = [_named(_value_or_estimate)(part) for part in names(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number, 'estimate' or NAME=X,..."
        ) from None
    return dict(pairs)


def _processes(text: str) -> int | str:
    if text == "mpi":
        return text
    return count(1)(text)
