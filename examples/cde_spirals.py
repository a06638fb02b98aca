"""A neural controlled differential equation tells spirals that turn left from spirals that turn
right, from incomplete data.

    python examples/cde_spirals.py [STEPS]

Every series has 10 to 20 observations at times of its own; half of the values are missing, and what
is left is noisy. A cubic Hermite path with backward differences (Morrill et al. 2022) drives the
hidden state, and a linear readout of it says left or right: at the end for training, and all along
the way in the picture, out/cde_spirals/spirals.png. Takes a minute.
"""

import math
import sys

import torch
from picture import BLUE, ORANGE, below, save
from torch import nn

from pynode.nn import CubicHermitePath, NeuralCDE

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
torch.manual_seed(0)
steps = int(sys.argv[1]) if sys.argv[1:] else 100
hidden, channels = 8, 3  # of the path: the time and two coordinates


def spirals(n, most=20):
    """times (n, most), NaN after the end of a series; values (n, most, 2), NaN where missing; left
    (n,), 1 or 0; values as they would be without noise and gaps."""
    times = torch.rand(n, most).add(0.1).cumsum(1)
    times = 4 * times / times[:, -1:]
    times[torch.arange(most) >= torch.randint(10, most + 1, (n, 1))] = math.nan
    left = (torch.rand(n) < 0.5).float()
    rate = (2 * left - 1) * (0.3 + 0.6 * torch.rand(n))
    angle = 2 * math.pi * torch.rand(n, 1) + rate.unsqueeze(1) * times
    radius = 1 + (torch.rand(n, 1) - 0.5) * times / 4  # outwards or inwards, which says nothing
    truth = torch.stack((radius * angle.cos(), radius * angle.sin()), 2)
    values = truth + 0.3 * torch.randn_like(truth)
    missing = torch.rand_like(values) < 0.5
    missing[:, :2] = False
    values[missing] = math.nan
    return times, values, left, truth


class Classifier(nn.Module):
    """The logit of left, (n,), at the end of the path, or (T, n) at all its observations."""

    def __init__(self):
        super().__init__()
        field = nn.Sequential(
            nn.Linear(hidden, 32),
            nn.Tanh(),
            nn.Linear(32, hidden * channels),
            nn.Tanh(),
            nn.Unflatten(-1, (hidden, channels)),
        )
        self.cde = NeuralCDE(
            field, nn.Linear(channels, hidden), method="tsit5", rtol=1e-2, atol=1e-3
        )
        self.readout = nn.Linear(hidden, 1)

    def forward(self, path, t=None):
        return self.readout(self.cde(path, t)).squeeze(-1)


model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
losses = []
for step in range(steps):
    times, values, left, _ = spirals(128)
    optimizer.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(
        model(CubicHermitePath(times, values)), left
    )
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    if step % 20 == 0:
        print(
            f"step {step:>4}  cross-entropy {loss.item():.3f}, {model.cde.stats.nfe} evaluations",
            flush=True,
        )

times, values, left, truth = spirals(2000)
path = CubicHermitePath(times, values)
with torch.no_grad():
    accuracy = ((model(path) > 0) == (left > 0.5)).float().mean()
    along = model(path, path.observed).sigmoid()
seen = (~values[..., 0].isnan() & ~times.isnan()).sum(1).float().mean()
print(
    f"{accuracy:.1%} of 2,000 unseen spirals told right, from {seen:.1f} noisy values of either"
    " coordinate on average"
)


def draw(pyplot):
    """Some series and what the model says on the way."""
    figure, axes = pyplot.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
    names = {1: ("left", BLUE, "o"), 0: ("right", ORANGE, "^")}
    s = torch.linspace(0, float(path.span[1]), 400)
    curves = path(s)[..., 1:]
    for label, (name, colour, symbol) in names.items():
        longest = int(torch.where(left == label, (~times.isnan()).sum(1), 0).argmax())
        axes[0].plot(*curves[:, longest].T, color=colour, label=name)
        axes[0].plot(*truth[longest].T, "--", color=colour, lw=1, label=f"{name}, without noise")
        axes[0].plot(*values[longest].T, symbol, color=colour, ms=5)
        axes[0].plot(*truth[longest, 0], "ks", ms=6)
        for number, i in enumerate((left == label).nonzero().flatten()[:25].tolist()):
            known = ~times[i].isnan()
            axes[1].plot(
                times[i][known],
                along[known, i],
                color=colour,
                lw=0.8,
                label=name if number == 0 else None,
            )
    axes[0].set(
        title="two paths through what was seen (dots: both coordinates)",
        xlabel="$x_1$",
        ylabel="$x_2$",
    )
    axes[1].set(
        title="what the model says on the way",
        xlabel="t",
        ylabel="probability of left",
        ylim=(-0.03, 1.03),
    )
    axes[2].plot(losses)
    axes[2].set(title="training", xlabel="step", ylabel="cross-entropy", ylim=(0, None))
    for panel in axes[:2]:
        below(panel)
    return figure


save(draw, "cde_spirals/spirals.png")
