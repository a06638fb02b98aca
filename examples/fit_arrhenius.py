"""Eight Arrhenius parameters of four reactions, estimated from noisy runs at five temperatures.

    python examples/fit_arrhenius.py [STARTS]

A -> B, B <-> C and 2 B -> D, each with k(T) = k(500 K) exp(-Ea (1 / T - 1 / 500 K) / R). All runs
are one batch, and forward sensitivities give the Gauss-Newton matrix. Ten random starts take some
seconds. The tables and pictures are in out/fit_arrhenius. The same on the command line:

    pynode fit examples/fit_arrhenius.py:problem --starts 10
"""

import sys
from pathlib import Path

import torch

from pynode import solve
from pynode.data import Dataset, Trajectory
from pynode.fit import TableProblem, display, estimate, profile, save_pictures, save_results

GAS_CONSTANT = 8.314462618e-3  # kJ/(mol K)
LOG10_K = (0.0, 0.7, -0.3, 1.0)  # k at 500 K in 1/s, or 1/(s M) for 2 B -> D
EA = (60.0, 80.0, 45.0, 30.0)  # kJ/mol
NOISE = 0.02


class Mechanism(torch.nn.Module):
    """dy/dt of the concentrations A, B, C, D at the temperature T."""

    columns = ("A", "B", "C", "D")

    def __init__(self, log10_k=(0.0, 0.0, 0.0, 0.0), ea=(50.0, 50.0, 50.0, 50.0)):
        super().__init__()
        self.log10_k = torch.nn.Parameter(torch.tensor(log10_k, dtype=torch.float64))
        self.ea = torch.nn.Parameter(torch.tensor(ea, dtype=torch.float64))

    def forward(self, t, y, T):
        k = 10**self.log10_k * torch.exp(-self.ea / GAS_CONSTANT * (1 / T - 1 / 500))
        a, b, c, _ = y
        first = k[0] * a
        there = k[1] * b
        back = k[2] * c
        pair = k[3] * b * b
        return torch.stack((-first, first - there + back - 2 * pair, there - back, pair))


def measurements():
    """Noisy runs at five temperatures, from A = 1 on."""
    generator = torch.Generator().manual_seed(0)
    times = torch.cat((torch.zeros(1), torch.logspace(-2, 1.3, 20))).double()
    start = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    runs = []
    for T in torch.linspace(450, 550, 5, dtype=torch.float64):
        with torch.no_grad():
            y = solve(Mechanism(LOG10_K, EA), start, times, args=(T,), rtol=1e-9, atol=1e-12).y
        noise = torch.randn(y.shape, generator=generator, dtype=torch.float64)
        noise[0] = 0.0
        table = torch.cat((y + NOISE * noise, T.expand(len(times), 1)), 1)
        seen = torch.ones_like(table, dtype=torch.bool)
        runs.append(Trajectory(f"{float(T):.0f} K", times, table, seen))
    return Dataset(("A", "B", "C", "D", "T"), "time (s)", tuple(runs))


problem = TableProblem(
    Mechanism(),
    measurements(),
    conditions=["T"],
    bounds={"log10_k": (-3, 3), "ea": (0, 150)},
)


if __name__ == "__main__":
    torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
    starts = int(sys.argv[1]) if sys.argv[1:] else 10
    found = estimate(problem, starts, guess=False, progress=display())
    profile(found, ["ea[2]", "ea[3]"])
    print(found)
    true = [*LOG10_K, *EA]
    inside = sum(x.lower <= value <= x.upper for x, value in zip(found.intervals(), true))
    print(f"{inside} of the 8 intervals contain the true value.")
    out = Path(__file__).resolve().parent.parent / "out" / "fit_arrhenius"
    out.mkdir(parents=True, exist_ok=True)
    save_results(found, out)
    for path in save_pictures(found, out, time="time (s)"):
        print(path)
