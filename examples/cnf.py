"""Learn a density in the plane, two moons, by the likelihood of a continuous normalizing flow.

    python examples/cnf.py [STEPS]

The flow carries a standard normal density into that of the data (Chen et al., NeurIPS 2018, eq. 8),
with the exact trace: in two dimensions it costs two vector-Jacobian products. CNF(...,
trace="hutchinson") needs one in any dimension (FFJORD). Takes about a minute; the picture is
out/cnf/moons.png.
"""

import math
import sys

import torch
from picture import save
from torch import nn
from torch.distributions import MultivariateNormal

from pynode.nn import CNF

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
torch.manual_seed(0)
steps = int(sys.argv[1]) if sys.argv[1:] else 400


def moons(n):
    """n points on two half circles that reach into one another, with noise: (n, 2)."""
    angle = math.pi * torch.rand(n)
    x = torch.stack((angle.cos() - 0.5, angle.sin() - 0.25), 1)
    x[: n // 2] *= -1
    return 1.5 * (x + 0.08 * torch.randn(n, 2))


class Field(nn.Module):
    """A network of the point and the time."""

    def __init__(self, width=48):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)
        )

    def forward(self, t, z):
        return self.net(torch.cat((z, t.to(z).expand(*z.shape[:-1], 1)), -1))


model = CNF(Field(), 2, method="tsit5", rtol=1e-3, atol=1e-3)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
for step in range(steps):
    optimizer.zero_grad()
    loss = -model.log_prob(moons(256)).mean()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 50 == 0:
        print(f"step {step:>4}  {loss.item():.3f} nats, {model.stats.nfe} evaluations", flush=True)

side = torch.linspace(-3, 3, 121)
grid, data = torch.cartesian_prod(side, side), moons(2000)
model.options.update(rtol=1e-5, atol=1e-6)
with torch.no_grad():
    density = model.log_prob(grid).exp().reshape(121, 121)
    likelihood, drawn = model.log_prob(data).mean(), model.sample(2000)
mass = float(density.sum()) * float(side[1] - side[0]) ** 2
gaussian = -MultivariateNormal(data.mean(0), data.T.cov()).log_prob(data).mean()
print(
    f"negative log-likelihood of 2,000 unseen points: {-likelihood:.3f} nats, where the Gaussian of"
    f" their mean and covariance has {gaussian:.3f}; the density integrates to {mass:.4f}"
)


def draw(pyplot):
    """Data, samples and density."""
    figure, panels = pyplot.subplots(1, 3, figsize=(14, 4.6), layout="constrained")
    for axes, (title, cloud) in zip(panels, (("data", data), ("samples of the flow", drawn))):
        axes.scatter(*cloud.T.tolist(), s=3, alpha=0.6)
        axes.set(title=title)
    image = panels[2].pcolormesh(side.numpy(), side.numpy(), density.T.numpy(), rasterized=True)
    panels[2].set(title="density of the flow")
    figure.colorbar(image, ax=panels[2])
    for axes in panels:
        axes.set(aspect="equal", xlim=(-3, 3), ylim=(-3, 3), xlabel="$x_1$", ylabel="$x_2$")
    return figure


save(draw, "cnf/moons.png")
