"""The options of ``pynode fit``, and how their values read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter, Token

from ...core.given import Given
from ...core.option_kinds import (
    Count,
    Float,
    Integer,
    Names,
    OwnBackend,
    Positive,
    Text,
    read_count,
)
from .. import pairs
from ..common import COLUMNS, FLAT, Columns, Command, Earlier, Threads, group

EPILOGUE = """\
Files written to --out:

    results.json      optimum, intervals, sentences and all starts
    parameters.csv    values, intervals and bounds
    starts.csv        all starts, the best one first
    predictions.csv   measured and simulated values
    bands.csv         curves with their bands
    waterfall.png     the objectives of all starts
    fit.png           measurements, curves with bands, and residuals
    profiles.png      with --profile
    samples.csv       with --samples
    config.toml       the options of the run; pynode fit --config reads them
    run.json, starts/, profiles/   the data that --resume needs. Ctrl-C, SIGTERM
                      and SIGHUP lose only the starts that have not ended

Examples:

    pynode fit decay.py:Decay decay.csv --bounds k=1e-3,1e3 --starts 20
    pynode fit kinetics.py:field runs.csv --group run --condition T \\
        --bounds log_A=-5,15 --bounds Ea=0,200 --profile all --processes 2
    pynode fit model.xml data.csv --estimate k1,k2 --noise 0.05
    pynode fit problem.yaml --starts 100 --processes 8
"""


def _text(read: Callable[[str], Any]) -> Callable[[Any, Sequence[Token]], str]:
    """The converter of a text that reads as something."""

    def convert(_: Any, tokens: Sequence[Token]) -> str:
        read(tokens[0].value)
        return tokens[0].value

    return convert


def _pairs(kind: Callable[[str], Any], metavar: str) -> Parameter:
    """An option NAME=VALUE that may be given once for each name. It keeps the texts, which a file
    of options can hold."""

    def convert(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
        texts = tuple(token.value for token in tokens)
        pairs.read(kind, texts)
        return texts

    return Parameter(converter=convert, n_tokens=1, metavar=metavar, negative="")


def _processes(_: Any, tokens: Sequence[Token]) -> int | str:
    if tokens[0].value == "mpi":
        return "mpi"
    return read_count(1)(_, tokens)


Texts = tuple[str, ...]
Noise = Annotated[str, Parameter(converter=_text(pairs.noise), n_tokens=1, metavar="X")]
Processes = Annotated[Any, Parameter(converter=_processes, n_tokens=1, metavar="N")]
Bounds = Annotated[Texts, _pairs(pairs.bounds, "NAME=LOW,HIGH")]
Starts = Annotated[Texts, _pairs(float, "NAME=X")]
Scales = Annotated[Texts, _pairs(pairs.scale, "NAME=SCALE")]
Priors = Annotated[Texts, _pairs(pairs.prior, "NAME=KIND,MEAN,WIDTH")]
Initial = Annotated[Texts, _pairs(pairs.value_or_estimate, "STATE=X")]


@dataclass(frozen=True, kw_only=True)
class Measurements(Given):
    """What the columns of measurements mean, besides the ones of every table."""

    condition: Annotated[Names, COLUMNS] = ()
    """Columns that are constant in a run. The model gets their values."""
    noise: Noise = "estimate"
    """Standard deviation of the measurements: a number, estimate, or NAME=X,... for single
    columns."""
    relative: Annotated[Names, COLUMNS] = ()
    """Columns whose errors are relative to the value."""


@dataclass(frozen=True, kw_only=True)
class Parameters(Given):
    """What is known of the parameters."""

    estimate: Names | None = None
    """Parameters to estimate. Without it: all of a module or function; of a file, the ones that
    --bounds names."""
    bounds: Bounds = ()
    """Bounds of a parameter. Give the option once for each."""
    start: Starts = ()
    """First value of a parameter. Without it: the value in the model."""
    scale: Scales = ()
    """lin, log or log10. Without it: log10 if the lower bound is positive."""
    prior: Priors = ()
    """Normal or laplace prior, in the scale of the parameter."""
    initial: Initial = ()
    """Initial value of a state, or estimate. Without it: the first line of each run."""


@dataclass(frozen=True, kw_only=True)
class Solves(Given):
    """The solves."""

    method: Text = "auto"
    """Method, see pynode methods."""
    rtol: Positive = 1e-6
    """Relative tolerance."""
    max_steps: Count = 10_000
    """Maximum number of steps of one run. More count as a failure."""
    backend: OwnBackend = "auto"
    """Engine of the solves. auto takes native code where it serves."""


@dataclass(frozen=True, kw_only=True)
class Search(Given):
    """The search for the optimum."""

    starts: Count = 20
    """Starts of the search: the values in the model, and a Latin hypercube between the bounds."""
    optimiser: Literal["fides", "lbfgs", "lm"] = "fides"
    """Trust region with the Gauss-Newton matrix, L-BFGS-B, or Levenberg-Marquardt."""
    iterations: Count = 500
    """Maximum number of iterations of one start."""
    seed: Integer = 0
    """Seed of all random numbers."""
    no_guess: bool = False
    """Begin with random starts alone, not with the values in the model."""
    processes: Processes = 1
    """Number of processes that work side by side. mpi takes the processes of mpiexec -n N python -m
    mpi4py.futures -m pynode fit ..."""


@dataclass(frozen=True, kw_only=True)
class Uncertainty(Given):
    """Intervals, bands and samples."""

    level: Float = 0.95
    """Level of intervals and bands."""
    profile: Names | None = None
    """Parameters whose intervals are made by profile likelihood, or all. Without it: intervals come
    from the Fisher information."""
    samples: Count | None = None
    """Draw N samples of the parameters."""
    sampler: Literal["metropolis", "tempering"] = "metropolis"
    """Adaptive Metropolis, or parallel tempering for several peaks."""


@dataclass(frozen=True)
class Fit(Command):
    """Estimate parameters from measurements, with intervals.

    The result also says what the data do not determine. MODEL is one of these:

        FILE.py:NAME  a torch module with named parameters, a function
                      f(t, y, k1, k2, ...), or an estimation problem
                      (pynode.fit.TableProblem), which has its data
        FILE.xml      an SBML file
        FILE.ant      an Antimony file
        FILE.yaml     a PEtab problem, which has its data

    DATA is a table, as for pynode data: a file (CSV in any dialect, Parquet, Excel, NetCDF, HDF5),
    a folder whose files are runs, or - for the standard input. It has a column of times, and a
    column for each measured quantity:

        time,A,B
        0,1.0,0.0     the first line of a run is its start (not with SBML files)
        0.5,0.61,     an empty cell is a missing value

    A file can contain several runs, one below the other: --group names the column that
    distinguishes them, and --condition the columns that are constant in a run, such as a
    temperature. A function or module gets conditions as arguments after t and y.
    """

    work: ClassVar[str] = "fit:run"
    model: Annotated[str, Parameter(metavar="MODEL")]
    """A model, or a whole problem."""
    data: Annotated[str | None, Parameter(metavar="DATA")] = None
    """Measurements."""
    _: KW_ONLY
    out: Annotated[Path, Parameter(metavar="DIR")] = Path("out/fit")
    """Folder for the files."""
    earlier: Annotated[Earlier, FLAT] = Earlier()
    columns: Annotated[Columns, group("Data", 1)] = Columns()
    measurements: Annotated[Measurements, group("Data", 1)] = Measurements()
    parameters: Annotated[Parameters, group("Parameters of the model", 2)] = Parameters()
    solves: Annotated[Solves, group("Solver", 3)] = Solves()
    search: Annotated[Search, group("Search", 4)] = Search()
    uncertainty: Annotated[Uncertainty, group("Uncertainty", 5)] = Uncertainty()
    threads: Annotated[Threads, FLAT] = Threads()
    json: bool = False
    """Print the results as one JSON object at the end."""


COMMAND = Fit
