"""The two set-ups of Kim et al. 2021, reproduced: Robertson's reaction and the pollution problem.

S. Kim, W. Ji, S. Deng, Y. Ma, C. Rackauckas, Stiff neural ordinary differential equations, Chaos
31, 093122 (2021). Network, scaling, optimiser and observations are those of the paper and of the
authors' program (github.com/DENG-MIT/StiffNeuralODE):

  robertson  50 observations with equal ratios from 1e-5 to 1e5 s; 6 hidden layers of 5 neurons,
  GELU pollution  20 observations evenly over an hour, the start among them; 3 hidden layers of 10,
  GELU; every gradient of norm 100

and for both AdamW at a constant rate of 0.005 with a decay of 1e-6 an epoch, the mean absolute
error of the scaled states, outputs of y_scale / t_scale with t_scale the time span, all
observations in every epoch, 50,000 and 25,000 epochs. Here the inputs of the network are scaled,
too, which changes its first weights, not what it can learn; the solver is FBDF and the gradient the
discrete adjoint. Beside it, on the same network and observations, the kit of this package: a time
scale a state, a warm start on linearised trajectories, and epochs of Levenberg-Marquardt.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..problems import Problem, get
from .accuracy import FLOOR, Accuracy, accuracy
from .data import Dataset
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
    # The authors' decay is subtracted as it is, torch's is multiplied by the rate.
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
    """One of the paper's. times: of the observations, the start first; epochs: the authors'; paper,
    kit: the two trainings, with numbers of epochs for minutes."""

    problem: str
    times: torch.Tensor
    epochs: int
    paper: Options
    kit: Options

    def data(self) -> Dataset:
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
    """What came of a set-up. fits, accuracies, seconds: of the trainings 'paper' and 'kit' that
    were made; costs: of single solves of the true system and of what was learned."""

    setup: SetUp
    data: Dataset
    fits: dict[str, Fit]
    accuracies: dict[str, Accuracy]
    costs: list[Cost]

    def table(self) -> str:
        """The errors of each state in each training, and the costs, as lines of text."""
        lines = [
            f"{'':<10}{'epochs':>8}{'seconds':>9}{'loss':>11}"
            f"{'error / largest value':>24}{'error / value':>16}"
        ]
        for name, run in self.fits.items():
            found = self.accuracies[name]
            last = run.history[-1]
            lines.append(
                f"{name:<10}{last['epoch']:>8}{last['seconds']:>9.0f}{run.best:>11.2e}"
                f"{_percent(max(found.of_largest)):>24}{_percent(max(found.pointwise)):>16}"
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
                f"{'one solve of':<22}{'by':<20}{'evaluations':>12}{'reached':>14}"
                f"{'all of it would take':>36}",
            ]
            for cost in self.costs:
                if cost.reached < 1:
                    whole = f"{cost.whole:.2g} evaluations, {_time(cost.whole_seconds)}"
                else:
                    whole = ""
                done = f"{cost.evaluations:>12,}{100 * cost.reached:>12.2g} %"
                lines.append(f"{cost.system:<22}{cost.method:<20}{done}{whole:>36}".rstrip())
        return "\n".join(lines)

    __str__ = table


def reproduce(
    name: str,
    out=None,
    trainings=("paper", "kit"),
    max_nfe=20_000,
    progress=SilentProgress,
    say=None,
    **changes,
) -> Reproduction:
    """Train a set-up of the paper, 'robertson' or 'pollution', and say how far each state is from
    the truth.

    trainings: 'paper', 'kit' or both. out: a directory; each training writes to a directory of its
    name there. max_nfe: limit on the evaluations of each single solve whose cost is shown, 0 for no
    such solves. progress(): a display for a training; say(text): is told what begins. changes:
    Options to change in the trainings, such as epochs. ValueError for an unknown name;
    TrainingError and OSError as ``fit``.
    """
    if name not in SETUPS:
        raise ValueError(f"there is no set-up {name!r}: choose one of {', '.join(SETUPS)}")
    if not trainings:
        raise ValueError("there is no training: choose paper, kit or both")
    for training in trainings:
        if training not in ("paper", "kit"):
            raise ValueError(f"there is no training {training!r}: choose paper, kit or both")
    say = say or (lambda text: None)
    setup = SETUPS[name]
    data = setup.data()
    fits = {}
    accuracies = {}
    spent = []
    if not trainings:
        raise ValueError("there is no training: choose paper, kit or both")
    for training in trainings:
        options = replace(getattr(setup, training), **changes)
        say(
            f"{name}, {training}: {options.epochs} epochs of {options.optimizer}, {options.polish}"
            " of Levenberg-Marquardt."
        )
        began = time.perf_counter()
        fits[training] = fit(data, options, out and Path(out) / training, progress=progress())
        if fits[training].interrupted:
            raise KeyboardInterrupt  # what it had is saved
        accuracies[training] = accuracy(fits[training].field, data)
        say(f"{name}, {training}: {time.perf_counter() - began:.0f} s.")
    if max_nfe:
        say(f"Single solves, at most {max_nfe:,} evaluations each.")
        truth = _over(get(name), data)
        for problem in (
            truth,
            *(run.field.as_problem(f"{kind}'s field") for kind, run in fits.items()),
        ):
            spent += costs(problem, max_nfe)
    return Reproduction(setup, data, fits, accuracies, spent)


def _over(problem: Problem, data: Dataset) -> Problem:
    t = data.trajectories[0].t
    return replace(problem, name="the true system", tspan=(float(t[0]), float(t[-1])))


def _percent(x: float) -> str:
    if x < 10:
        return f"{100 * x:.2g} %"
    return "> 1000 %"


def _time(seconds: float) -> str:
    for unit, size in (("years", 365 * 86400), ("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"
