"""The same map learned by two flows, one of them regularised: how many evaluations each of them takes.

    python examples/regularised.py [EPOCHS]

A swirl of the plane, learned by NeuralODEs whose field may change in time as it likes. Data fix where points end, not how they
get there: kinetic energy and Jacobian norm, integrated beside the state (RNODE: Finlay, Jacobsen, Nurbekyan & Oberman, ICML
2020), make it the easy way. An EvaluationMonitor counts. Takes about a minute; the picture is out/regularised/evaluations.png.
"""

import copy
import math
import sys
from pathlib import Path

import torch
from torch import nn

from pynode.nn import EvaluationMonitor, JacobianNorm, KineticEnergy, NeuralODE

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
out = Path(__file__).resolve().parent.parent / "out" / "regularised"
epochs = int(sys.argv[1]) if sys.argv[1:] else 15
EPOCH, WEIGHT = 10, 0.01


def swirl(x):
    """Points turned round the origin, those near to it most: (n, 2)."""
    angle = 2.5 * torch.exp(-x.square().sum(1) / 2)
    return torch.stack((x[:, 0] * angle.cos() - x[:, 1] * angle.sin(), x[:, 0] * angle.sin() + x[:, 1] * angle.cos()), 1)


class Field(nn.Module):
    """A network of the point and of sines and cosines of the time."""

    def __init__(self, width=48):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))
        self.register_buffer("rates", 2 * math.pi * torch.tensor([1.0, 2.0, 4.0]))

    def forward(self, t, y):
        turns = self.rates * t
        clock = torch.cat((turns.cos(), turns.sin()))
        return self.net(torch.cat((y, clock.expand(*y.shape[:-1], 6)), -1))


def train(regularisers):
    """The flow; the costs of its training by epoch; and at their ends the error of unseen points and its evaluations."""
    torch.manual_seed(0)
    model = NeuralODE(Field(), regularisers=regularisers, method="tsit5", rtol=1e-4, atol=1e-4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * EPOCH)
    monitor, reached, unseen = EvaluationMonitor(model), [], torch.randn(1000, 2)
    for _ in range(epochs):
        for _ in range(EPOCH):
            optimizer.zero_grad()
            x = torch.randn(256, 2)
            loss = nn.functional.mse_loss(model(x), swirl(x))
            (loss + model.penalty).backward()  # the penalty is that of the call before
            optimizer.step()
            schedule.step()
        monitor.end_epoch()
        judged = copy.deepcopy(model).eval()  # without the penalty; and nobody listens to a copy
        with torch.no_grad():
            reached.append((nn.functional.mse_loss(judged(unseen), swirl(unseen)).item(), judged.stats.nfe))
    return model.eval(), monitor.costs, reached


runs = {"plain": train(()), "regularised": train([KineticEnergy(WEIGHT), JacobianNorm(WEIGHT)])}
print("a swirl of the plane: " + "; ".join(
    f"{name} flow, mean squared error {reached[-1][0]:.4f} in {reached[-1][1]} evaluations, "
    f"{sum(cost.nfe for cost in costs):,} evaluations in training" for name, (_, costs, reached) in runs.items()
))


def draw():
    """Evaluations and error by epoch, and the paths of both flows; returns the path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 4, figsize=(16, 4), layout="constrained")
    colours, x = {"plain": "tab:red", "regularised": "tab:blue"}, torch.randn(40, 2)
    for (name, (model, _, reached)), axes in zip(runs.items(), panels[2:]):
        error, nfe = zip(*reached)
        panels[0].plot(range(1, epochs + 1), nfe, color=colours[name], label=name)
        panels[1].semilogy(range(1, epochs + 1), error, color=colours[name], label=name)
        with torch.no_grad():
            paths = model(x, torch.linspace(0, 1, 100))
        axes.plot(*paths.unbind(-1), color=colours[name], lw=0.8)
        axes.plot(*paths[-1].T.tolist(), ".", color="black", ms=5)
        axes.set(title=f"paths of the {name} flow (dots: ends)", aspect="equal", xlim=(-2.6, 2.6), ylim=(-2.6, 2.6))
    panels[0].set(title="evaluations a solve", xlabel="epoch", ylim=(0, None))
    panels[1].set(title="mean squared error of unseen points", xlabel="epoch")
    for axes in panels[:2]:
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "evaluations.png"
    figure.savefig(path, dpi=110)
    return path


try:
    print(draw())
except ImportError:
    print("The picture was left out, because matplotlib is not installed: pip install 'pynode[plot]'")
