"""Data and options of short training runs."""

import torch

from pynode.train import Dataset, Options, Trajectory

QUICK = Options(hidden=(8,), epochs=4, warm_start=20, candidates=2, rtol=1e-3)


def stiff_linear(starts=((1.0, 0.0),)):
    """y1' = -100 (y1 - y2), y2' = -y2 observed at 14 log-spaced times; one value is missing."""
    t = torch.cat((torch.zeros(1), torch.logspace(-3, 0.5, 14))).double()
    matrix = torch.tensor([[-100.0, 100.0], [0.0, -1.0]], dtype=torch.float64)
    flow = torch.linalg.matrix_exp(matrix * t[:, None, None])
    runs = []
    for k, start in enumerate(starts):
        seen = torch.ones(len(t), 2, dtype=torch.bool)
        seen[4, 0] = False
        start = torch.tensor(start, dtype=torch.float64) + torch.tensor([0.0, 1.0])
        runs.append(Trajectory(f"run {k}", t, (flow @ start) * seen, seen))
    return Dataset(("fast", "slow"), "t", tuple(runs))


def weights(run):
    return torch.cat([p.detach().reshape(-1) for p in run.field.parameters()])
