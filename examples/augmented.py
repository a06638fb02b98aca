"""What a NeuralODE cannot represent and an AugmentedODE can: a disc and the ring around it, told
apart.

    python examples/augmented.py [STEPS]

g(x) = -1 for |x| <= 0.5 and 1 for 1 <= |x| <= 1.5 (Dupont, Doucet & Teh, NeurIPS 2019, sec. 3.2).
Solutions never cross, so that in the plane the disc stays inside the ring, and no linear readout
separates them: the largest error is 1 or more, whatever the network, though it may hide in narrow
cracks of the ring. With one more dimension the disc leaves the plane. Takes half a minute; the
picture is out/augmented/features.png.
"""

import math
import sys

import torch
from picture import BLUE, ORANGE, save
from torch import nn

from pynode.nn import AugmentedODE, NeuralODE

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
torch.manual_seed(0)
steps = int(sys.argv[1]) if sys.argv[1:] else 150


def points(n):
    """n points, a third of them in the disc, evenly in area: x (n, 2), g(x) (n, 1)."""
    inside = torch.arange(n) < n // 3
    low, high = torch.where(inside, 0.0, 1.0), torch.where(inside, 0.25, 2.25)
    radius = (low + (high - low) * torch.rand(n)).sqrt()
    angle = 2 * math.pi * torch.rand(n)
    x = torch.stack((radius * angle.cos(), radius * angle.sin()), 1)
    return x, torch.where(inside, -1.0, 1.0).unsqueeze(1)


def network(n):
    return nn.Sequential(
        nn.Linear(n, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, n)
    )


def train(flow, n):
    """flow and a linear readout of its n states, and the loss at each step."""
    model = nn.Sequential(flow, nn.Linear(n, 1))
    x, target = points(300)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


options = {"method": "tsit5", "rtol": 1e-3, "atol": 1e-4}
runs = {
    "NeuralODE": train(NeuralODE(network(2), **options), 2),
    "AugmentedODE": train(AugmentedODE(network(3), 1, **options), 3),
}
# Where a NeuralODE keeps its error small on all points but a few, the error is in gaps between
# these: look everywhere.
x, target = points(3000)
turn = torch.linspace(0, 2 * math.pi, 2001)
circle = torch.stack((turn.cos(), turn.sin()), 1)
everywhere = torch.cat([radius * circle for radius in (0.25, 0.5, 1.0, 1.25, 1.5)])
truth = torch.where(everywhere.norm(dim=1, keepdim=True) < 0.75, -1.0, 1.0)
found = {}
with torch.no_grad():
    for name, (model, _) in runs.items():
        error = float(nn.functional.mse_loss(model(x), target))
        found[name] = error, float((model(everywhere) - truth).abs().max()), model[0].stats.nfe
print(
    "g(x) learned with the mean squared error on 3,000 unseen points, and the largest error on disc"
    " and ring: "
    + "; ".join(
        f"{name} {mean:.4f}, {largest:.2f} ({nfe} evaluations a solve)"
        for name, (mean, largest, nfe) in found.items()
    )
)


def draw(pyplot):
    """The learned functions, the states at the end, and the losses."""
    figure = pyplot.figure(figsize=(14, 7.5), layout="constrained")
    side = torch.linspace(-1.6, 1.6, 120)
    grid = torch.cartesian_prod(side, side)
    shown = x[::6]
    colours = [BLUE if g < 0 else ORANGE for g in target[::6, 0].tolist()]
    for row, (name, (model, losses)) in enumerate(runs.items()):
        with torch.no_grad():
            features, values = model[0](shown), model(grid).reshape(120, 120)
        axes = figure.add_subplot(2, 3, 3 * row + 1)
        image = axes.pcolormesh(
            side.numpy(),
            side.numpy(),
            values.T.numpy(),
            cmap="coolwarm",
            vmin=-1,
            vmax=1,
            rasterized=True,
        )
        for radius in (0.5, 1.0, 1.5):
            axes.add_patch(pyplot.Circle((0, 0), radius, fill=False, lw=0.8))
        axes.set(title=f"{name}: learned g(x), largest error {found[name][1]:.2g}", aspect="equal")
        axes.set(xlabel="$x_1$", ylabel="$x_2$")
        figure.colorbar(image, ax=axes, shrink=0.8)
        axes = figure.add_subplot(
            2, 3, 3 * row + 2, projection="3d" if features.shape[1] == 3 else None
        )
        axes.scatter(*features.T.tolist(), c=colours, s=5)
        axes.set(title=f"{name}: states at the end (blue: disc, orange: ring)")
        axes = figure.add_subplot(2, 3, 3 * row + 3)
        axes.semilogy(losses)
        axes.set(title=f"{name}: loss", xlabel="step", ylim=(1e-4, 2))
    return figure


save(draw, "augmented/features.png")
