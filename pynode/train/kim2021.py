"""Reproduces the two set-ups of Kim et al. 2021: Robertson's reaction and the pollution problem.

S. Kim, W. Ji, S. Deng, Y. Ma, C. Rackauckas, Stiff neural ordinary differential equations, Chaos
31, 093122 (2021). Network, scaling, optimiser and observations are those of the paper and of the
authors' program (github.com/DENG-MIT/StiffNeuralODE):

  robertson  50 observations with equal ratios from 1e-5 to 1e5 s; 6 hidden layers of 5 neurons,
             GELU
  pollution  20 observations evenly over an hour, with the start; 3 hidden layers of 10, GELU;
             every gradient of norm 100

Both use AdamW at a constant rate of 0.005 with a decay of 1e-6 an epoch, the mean absolute error of
the scaled states, outputs of y_scale / t_scale with t_scale the time span, all observations in
every epoch, and 50,000 and 25,000 epochs. Here the inputs of the network are also scaled, which
changes its first weights, but not what it can learn. The solver is FBDF, and the gradient the
discrete adjoint. The second training uses this package's kit on the same network and observations:
a time scale for each state, a warm start on linearised trajectories, and epochs of
Levenberg-Marquardt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from ..core.formatting import duration
from ..data import Dataset
from ..problems import Problem, get
from .accuracy import FLOOR, Accuracy, accuracy
from .engine import no_native_code
from .explicit_costs import Cost, costs
from .loop import Fit, fit
from .options import Options
from .progress import SilentProgress
from .synthetic import observe
from .times import log_times

PAPER = Options(
    activation="gelu",
    scaling="kim",
    loss="mae",
    method="fbdf",
    rtol=1e-6,
    optimizer="adamw",
    lr=5e-3,
    schedule="constant",
    # The authors subtract their decay itself, torch multiplies it by the rate.
    weight_decay=1e-6 / 5e-3,
    clip=float("inf"),
    warm_start=0,
)
KIT = Options(
    activation="gelu",
    scaling="decades",
    method="fbdf",
    rtol=1e-6,
    epochs=0,
    max_steps=1500,
    warm_start=500,
    candidates=2,
)


@dataclass(frozen=True)
class SetUp:
    """A set-up of the paper.

    times: of the observations, the start first.
    epochs: the authors' number.
    paper, kit: the two trainings, with numbers of epochs that take minutes.
    """

    problem: str
    times: torch.Tensor
    epochs: int
    paper: Options
    kit: Options

    def data(self) -> Dataset:
        """The observations, by a tight solve of the true system."""
        return observe(get(self.problem), self.times)


SETUPS = {
    "robertson": SetUp(
        "robertson",
        log_times(1e-5, 1e5, 50),
        50_000,
        replace(PAPER, hidden=(5,) * 6, epochs=500),
        replace(KIT, hidden=(5,) * 6, relative=0.05, warm_start=1000, candidates=3, polish=80),
    ),
    "pollution": SetUp(
        "pollution",
        torch.linspace(0, 60, 20, dtype=torch.float64),
        25_000,
        replace(PAPER, hidden=(10,) * 3, epochs=500, normalise=100.0),
        replace(KIT, hidden=(10,) * 3, polish=40),
    ),
}


@dataclass(frozen=True)
class Reproduction:
    """The results of a set-up.

    fits, accuracies: of the trainings 'paper' and 'kit' that were made.
    costs: of single solves of the true system and of the learned ones.
    """

    setup: SetUp
    data: Dataset
    fits: dict[str, Fit]
    accuracies: dict[str, Accuracy]
    costs: list[Cost]

    def table(self) -> str:
        """The errors of each state in each training, and the costs, as lines of text."""
        lines = [
            f"{'':<10}{'engine':<8}{'epochs':>8}{'seconds':>9}{'loss':>11}"
            f"{'error / largest value':>24}{'error / value':>16}"
        ]
        for name, run in self.fits.items():
            accuracy = self.accuracies[name]
            last = run.history[-1]
            lines.append(
                f"{name:<10}{run.backend:<8}{last['epoch']:>8}"
                f"{last['seconds']:>9.0f}{run.best:>11.2e}"
                f"{_percent(max(accuracy.of_largest)):>24}{_percent(max(accuracy.pointwise)):>16}"
            )
        lines.append("")
        lines.append(
            f"{'largest errors of each state':<30}" + "".join(f"{name:>24}" for name in self.fits)
        )
        for i, column in enumerate(self.data.columns):
            pairs = ((a.of_largest[i], a.pointwise[i]) for a in self.accuracies.values())
            lines.append(
                f"  {column:<28}" + "".join(f"{_percent(a):>12}{_percent(b):>12}" for a, b in pairs)
            )
        lines.append(
            "First of each pair: the largest error over the largest value; second: error over"
            f" value, at its largest where the value is above {FLOOR:g} of the largest. Largest: of"
            " the observations after the start."
        )
        if self.costs:
            lines += [
                "",
                f"{'one solve of':<22}{'by':<20}{'engine':<12}{'evaluations':>12}{'reached':>14}"
                f"{'all of it would take':>36}",
            ]
            for cost in self.costs:
                whole = ""
                if cost.reached < 1:
                    whole = f"{cost.whole:.2g} evaluations, {duration(cost.whole_seconds)}"
                done = f"{cost.evaluations:>12,}{100 * cost.reached:>12.2g} %"
                by = f"{cost.method:<20}{cost.engine:<12}"
                lines.append(f"{cost.system:<22}{by}{done}{whole:>36}".rstrip())
        return "\n".join(lines)

    __str__ = table


def reproduce(
    name: str,
    out: str | PathLike[str] | None = None,
    trainings: Sequence[str] = ("paper", "kit"),
    max_nfe: int = 20_000,
    progress: Callable[[], SilentProgress] = SilentProgress,
    log: Callable[[str], None] | None = None,
    **changes: Any,
) -> Reproduction:
    """Train a set-up of the paper, 'robertson' or 'pollution', and measure the error of each state.

    out: a directory. Each training writes to a subdirectory of its name.
    trainings: 'paper', 'kit' or both.
    max_nfe: limit on the evaluations of each single solve whose cost is shown, 0 for no such
        solves.
    progress: progress() is a display for a training.
    log: log(text) is called when something begins.
    changes: Options to change in the trainings, such as epochs. The single solves are native if
        the backend is, otherwise torch's. With 'auto', native code serves where it can.

    Raises ValueError for an unknown name, and TrainingError and OSError as ``fit`` does.
    """
    if name not in SETUPS:
        raise ValueError(f"there is no set-up {name!r}: choose one of {', '.join(SETUPS)}")
    if not trainings:
        raise ValueError("there is no training: choose paper, kit or both")
    for training in trainings:
        if training not in ("paper", "kit"):
            raise ValueError(f"there is no training {training!r}: choose paper, kit or both")
    log = log or (lambda text: None)
    setup = SETUPS[name]
    data = setup.data()
    fits: dict[str, Fit] = {}
    accuracies: dict[str, Accuracy] = {}
    spent: list[Cost] = []
    for training in trainings:
        options = replace(getattr(setup, training), **changes)
        log(
            f"{name}, {training}: {options.epochs} epochs of {options.optimizer}, {options.polish}"
            " of Levenberg-Marquardt."
        )
        began = time.perf_counter()
        fits[training] = fit(data, options, out and Path(out) / training, progress=progress())
        if fits[training].interrupted:
            raise KeyboardInterrupt  # everything is saved
        field = fits[training].field
        backend = _engine(field, data.trajectories[0].y[0], changes)
        accuracies[training] = accuracy(field, data, backend=backend)
        log(f"{name}, {training}: {time.perf_counter() - began:.0f} s.")
    if max_nfe:
        log(f"Single solves, at most {max_nfe:,} evaluations each.")
        learned = [run.field.as_problem(f"{kind}'s field") for kind, run in fits.items()]
        for problem in (_over(get(name), data), *learned):
            backend = _engine(problem.field, problem.y0, changes)
            spent += costs(problem, max_nfe, backend=backend)
    return Reproduction(setup, data, fits, accuracies, spent)


def _engine(field: Callable, y0: torch.Tensor, changes: dict[str, Any]) -> str:
    """The engine of further solves of a field: native code under the rule of ``fit``."""
    backend = changes.get("backend", "auto")
    if backend == "auto" and not no_native_code("fbdf", field, y0):
        return "native"
    if backend == "native":
        return backend
    return "torch"


def _over(problem: Problem, data: Dataset) -> Problem:
    t = data.trajectories[0].t
    return replace(problem, name="the true system", tspan=(float(t[0]), float(t[-1])))


def _percent(x: float) -> str:
    if x < 10:
        return f"{100 * x:.2g} %"
    return "> 1000 %"
