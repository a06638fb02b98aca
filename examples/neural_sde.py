"""A neural stochastic differential equation, learned from means and variances alone, that predicts
what it was not shown.

    python examples/neural_sde.py [STEPS]

The data come from dy = (y - y^3) dt + (0.4 + 0.2 cos y) dW, a particle between two wells: from nine
starts, the mean and the variance over time of many paths, up to t = 1. Two networks, drift and
diffusion, are trained until their paths have the same moments. From y = 0 the learned equation is
then solved to t = 10, where paths have gathered in both wells, which no mean and variance says.
Takes a minute; the picture is out/neural_sde/double_well.png.
"""

import sys

import torch
from picture import BLUE, below, save
from torch import nn

from pynode.nn import NeuralSDE

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
torch.manual_seed(0)
steps = int(sys.argv[1]) if sys.argv[1:] else 500


class Function(nn.Module):
    """A function of the state as a module."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, y):
        return self.f(y)


def network():
    return nn.Sequential(
        nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
    )


def moments(model, n):
    """(mean, variance) over n paths from every start, (T, starts) each."""
    y = model(starts.repeat(n, 1), times).view(len(times), n, len(starts))
    return y.mean(1), y.var(1)


times = torch.linspace(0, 1, 11)
starts = torch.linspace(-2, 2, 9).unsqueeze(1)
true = NeuralSDE(
    Function(lambda y: y - y**3),
    Function(lambda y: 0.4 + 0.2 * y.cos()),
    dt=0.02,
    method="Milstein",
)
learned = NeuralSDE(network(), nn.Sequential(network(), nn.Softplus()), dt=0.05, method="EM")
with torch.no_grad():
    mean, variance = moments(true, 4000)

optimizer = torch.optim.Adam(learned.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
for step in range(steps):
    optimizer.zero_grad()
    m, v = moments(learned, 128)
    loss = (m - mean).square().mean() + (v[1:].sqrt() - variance[1:].sqrt()).square().mean()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 100 == 0:
        print(
            f"step {step:>4}  mean squared error of means and standard deviations"
            f" {loss.item():.5f}",
            flush=True,
        )

n, late = 4000, torch.linspace(0, 10, 41)
with torch.no_grad():
    ends = {
        name: model(torch.zeros(n, 1), late)[:, :, 0]
        for name, model in (("true", true), ("learned", learned))
    }
    fitted = moments(learned, 4000)
order = torch.linspace(0.02, 0.98, 49)
apart = (ends["true"][-1].quantile(order) - ends["learned"][-1].quantile(order)).abs().mean()
middle = {name: float((y[-1].abs() < 0.4).float().mean()) for name, y in ends.items()}
print(
    f"at t = 10 the learned paths lie {apart:.3f} from the true ones (mean distance of quantiles),"
    f" {middle['learned']:.1%} of them between the wells (true {middle['true']:.1%})"
)


def draw(pyplot):
    """Moments, paths, and where they are at the end of the picture."""
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7.5), layout="constrained")
    colours = pyplot.cm.viridis(torch.linspace(0, 0.9, len(starts)).numpy())
    panels = (
        (axes[0, 0], mean, fitted[0], "mean"),
        (axes[0, 1], variance.sqrt(), fitted[1].sqrt(), "standard deviation"),
    )
    for panel, data, model, title in panels:
        for i, colour in enumerate(colours):
            panel.plot(times, data[:, i], "o", color=colour, ms=4)
            panel.plot(times, model[:, i], color=colour)
        panel.set(
            title=f"{title}: data (dots), learned (lines)",
            xlabel="t",
            ylabel="by start, from -2 (dark) to 2 (light)",
        )
    axes[1, 0].plot(late, ends["learned"][:, :40], lw=0.7, color=BLUE, alpha=0.6)
    axes[1, 0].set(
        title="learned paths from 0, ten times as long as the data",
        xlabel="t",
        ylabel="y",
        ylim=(-2.2, 2.2),
    )
    bins = torch.linspace(-2.2, 2.2, 56).numpy()
    axes[1, 1].hist(ends["true"][-1].numpy(), bins, density=True, color="0.8", label="true")
    axes[1, 1].hist(
        ends["learned"][-1].numpy(),
        bins,
        density=True,
        histtype="step",
        lw=1.5,
        color=BLUE,
        label="learned",
    )
    axes[1, 1].set(title="density at t = 10", xlabel="y")
    below(axes[1, 1])
    return figure


save(draw, "neural_sde/double_well.png")
