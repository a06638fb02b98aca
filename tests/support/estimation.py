"""Small estimation problems with closed forms."""

import torch

from pynode.data import Dataset, Trajectory

K1 = 0.7
K2 = 0.2


def chain(t, y, k1=1.0, k2=0.5):
    """A -> B -> nothing."""
    a, b = y
    return torch.stack((-k1 * a, k1 * a - k2 * b))


class Chain(torch.nn.Module):
    """The same as a module for one state."""

    columns = ("A", "B")

    def __init__(self):
        super().__init__()
        self.k = torch.nn.Parameter(torch.tensor([1.0, 0.5], dtype=torch.float64))

    def forward(self, t, y):
        return chain(t, y, self.k[0], self.k[1])


class ChainOfRows(Chain):
    """The same for rows of a batch alone."""

    def forward(self, t, y):
        a = y[:, 0]
        return torch.stack((-self.k[0] * a, self.k[0] * a - self.k[1] * y[:, 1]), 1)


def chain_states(t, k1=K1, k2=K2, start=1.0):
    """The exact states of the chain, (T, 2), from (start, 0)."""
    a = torch.exp(-k1 * t)
    b = k1 / (k2 - k1) * (torch.exp(-k1 * t) - torch.exp(-k2 * t))
    return start * torch.stack((a, b), 1)


def chain_data(times=None, sigma=0.0, seed=0, starts=(1.0,)):
    """Measurements of the chain; a run for each start. times: of each run."""
    generator = torch.Generator().manual_seed(seed)
    runs = []
    for i, start in enumerate(starts):
        t = torch.linspace(0, 8, 13, dtype=torch.float64)
        if times is not None:
            t = times[i]
        exact = chain_states(t, start=start)
        y = exact + sigma * torch.randn(exact.shape, generator=generator, dtype=torch.float64)
        y[0] = exact[0]
        runs.append(Trajectory(f"run{i}", t, y, torch.ones_like(y, dtype=torch.bool)))
    return Dataset(("A", "B"), "t", tuple(runs))


def growth(t, y, k=1.0):
    """dy/dt = k, so y = k t: the objective is a parabola in k."""
    return k + 0.0 * y


def growth_data(sigma, seed=0, k=1.0, count=20):
    """Measurements of y = k t at ``count`` times up to 1."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.linspace(0, 1, count + 1, dtype=torch.float64)
    y = k * t + sigma * torch.randn(t.shape, generator=generator, dtype=torch.float64)
    y[0] = 0.0
    y = y[:, None]
    return Dataset(("y",), "t", (Trajectory("", t, y, torch.ones_like(y, dtype=torch.bool)),))


def growth_optimum(data, sigma):
    """(k, its standard deviation) by linear least squares, for known noise."""
    run = data.trajectories[0]
    t = run.t[1:]
    return float((t * run.y[1:, 0]).sum() / (t * t).sum()), sigma / float((t * t).sum().sqrt())
