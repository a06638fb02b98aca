"""A continuous normalizing flow with and without regularisers: the same density, at what number of evaluations.

    python examples/regularised_cnf.py [EPOCHS]

Kinetic energy and Jacobian norm, integrated beside the density (RNODE: Finlay, Jacobsen, Nurbekyan & Oberman, ICML 2020), on
two moons; an EvaluationMonitor counts the evaluations of every epoch. Takes about a minute and a half; the picture is
out/regularised_cnf/evaluations.png.
"""

import copy
import math
import sys
from pathlib import Path

import torch
from torch import nn

from pynode.nn import CNF, EvaluationMonitor, JacobianNorm, KineticEnergy

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
out = Path(__file__).resolve().parent.parent / "out" / "regularised_cnf"
epochs = int(sys.argv[1]) if sys.argv[1:] else 15
EPOCH, WEIGHT = 10, 0.02


def moons(n):
    """n points on two half circles that reach into one another, with noise: (n, 2)."""
    angle = math.pi * torch.rand(n)
    x = torch.stack((angle.cos() - 0.5, angle.sin() - 0.25), 1)
    x[: n // 2] *= -1
    return 1.5 * (x + 0.08 * torch.randn(n, 2))


class Field(nn.Module):
    """A network of the point and the time."""

    def __init__(self, width=32):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))

    def forward(self, t, z):
        return self.net(torch.cat((z, t.to(z).expand(*z.shape[:-1], 1)), -1))


def train(regularisers):
    """The flow; the costs of its training by epoch; and at their ends the likelihood of unseen points and its evaluations."""
    torch.manual_seed(0)
    unseen, model = moons(1000), CNF(Field(), 2, regularisers=regularisers, method="tsit5", rtol=1e-4, atol=1e-4)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * EPOCH)
    monitor, reached = EvaluationMonitor(model), []
    for _ in range(epochs):
        for _ in range(EPOCH):
            optimizer.zero_grad()
            loss = -model.log_prob(moons(128)).mean()
            (loss + model.penalty).backward()  # the penalty is that of the log_prob before
            optimizer.step()
            schedule.step()
        monitor.end_epoch()
        judged = copy.deepcopy(model).eval()  # nobody listens to a copy
        with torch.no_grad():
            reached.append((-judged.log_prob(unseen).mean().item(), judged.stats.nfe))
    return model.eval(), monitor.costs, reached


runs = {
    "plain": train(()),
    "regularised": train([KineticEnergy(WEIGHT), JacobianNorm(WEIGHT, estimate="exact")]),
}
print("; ".join(
    f"{name}: negative log-likelihood {reached[-1][0]:.3f} nats of 1,000 unseen points in {reached[-1][1]} evaluations, "
    f"{sum(cost.nfe for cost in costs):,} evaluations in training"
    for name, (_, costs, reached) in runs.items()
))


def draw():
    """Evaluations and likelihood by epoch, and the paths of both flows; returns the path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 4, figsize=(16, 4), layout="constrained")
    colours, z = {"plain": "tab:red", "regularised": "tab:blue"}, torch.randn(60, 2)
    for (name, (model, _, reached)), axes in zip(runs.items(), panels[2:]):
        likelihood, nfe = zip(*reached)
        panels[0].plot(range(1, epochs + 1), nfe, color=colours[name], label=name)
        panels[1].plot(range(1, epochs + 1), likelihood, color=colours[name], label=name)
        with torch.no_grad():
            paths = model(z, torch.linspace(0, 1, 40))
        axes.plot(*paths.unbind(-1), color=colours[name], lw=0.6)
        axes.plot(*paths[-1].T.tolist(), ".", color="black", ms=4)
        axes.set(title=f"paths of the flow, {name}", aspect="equal", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
    panels[0].set(title="evaluations for the density of unseen points", xlabel="epoch", ylim=(0, None))
    panels[1].set(title="negative log-likelihood of unseen points (nats)", xlabel="epoch")
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
