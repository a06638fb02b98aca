"""A pendulum learned from noisy trajectories through its energy, through its Lagrangian, and by a
network of the slopes.

    python examples/pendulum.py [STEPS]

Greydanus, Dzamba & Yosinski (NeurIPS 2019); Cranmer et al. (2020). All three fit the data. Over
thirty times as long, the field of a learned energy or Lagrangian keeps a quantity near the true
energy, whatever its errors; a network of the slopes gains or loses. Takes about a minute; the
picture is out/pendulum/energy.png.
"""

import sys

import torch
from picture import BLUE, GREEN, RED, below, save
from torch import nn

from pynode import solve
from pynode.nn import HamiltonianField, LagrangianField, NeuralODE

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
torch.manual_seed(0)
steps = int(sys.argv[1]) if sys.argv[1:] else 130
NOISE, LONG = 0.1, 90.0


def pendulum(t, y):
    """Unit mass, length and gravity, so that the momentum is the velocity: y = (angle,
    velocity)."""
    return torch.stack((y[..., 1], -torch.sin(y[..., 0])), -1)


def energy(y):
    return y[..., 1] ** 2 / 2 + 1 - torch.cos(y[..., 0])


class Energy(nn.Module):
    """H(q, p), a network."""

    def __init__(self, width=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )

    def forward(self, y):
        return self.net(y)


class Lagrangian(Energy):
    """L(q, v) = v^2 / 2 + a network: L is determined up to a factor, and so starts with a mass."""

    def forward(self, q, v):
        return self.net(torch.cat((q, v), -1)) + v.square() / 2


# Thirty swings of 3 units of time, observed with noise at sixteen times each.
times = torch.linspace(0, 3, 16)
starts = torch.stack((2.2 * (2 * torch.rand(30) - 1), 1.2 * (2 * torch.rand(30) - 1)), 1)
with torch.no_grad():
    data = solve(pendulum, starts, times, method="tsit5").y
data = data + NOISE * torch.randn_like(data)
plain = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))
fields = {
    "NeuralODE": plain,
    "Hamiltonian": HamiltonianField(Energy()),
    "Lagrangian": LagrangianField(Lagrangian()),
}
start, long = torch.tensor([1.5, 0.0], dtype=torch.float64), torch.linspace(0, LONG, 601)
with torch.no_grad():
    truth = solve(pendulum, start, long, method="vern7", rtol=1e-8).y
paths, drifts = {}, {}
for name, field in fields.items():
    model = NeuralODE(field, times, method="tsit5", rtol=1e-3, atol=1e-3, last_only=False)
    # The first observations are noisy, too: the starts are learned with the field.
    begin = nn.Parameter(data[0].clone())
    optimizer = torch.optim.Adam([begin, *model.parameters()], lr=2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(begin), data)
        loss.backward()
        optimizer.step()
        schedule.step()
    model.double()
    with torch.no_grad():
        model.options.update(rtol=1e-6, atol=1e-7)
        paths[name] = model(start, long)
    drifts[name] = float((energy(paths[name]) - energy(start)).abs().max() / energy(start))
    print(f"{name}: loss {loss.item():.4f}, noise alone {NOISE**2:.4f}", flush=True)
print(
    f"largest change of the true energy over {LONG:g} units of time, thirty times the data's span,"
    " relative to the start: "
    + ", ".join(f"{name} {100 * drift:.1f} %" for name, drift in drifts.items())
)


def draw(pyplot):
    """The long solutions, in the plane and in their energies."""
    figure, panels = pyplot.subplots(
        1, 4, figsize=(16, 4), layout="constrained", width_ratios=(1, 1, 1, 1.6)
    )
    colours = {"NeuralODE": RED, "Hamiltonian": BLUE, "Lagrangian": GREEN}
    for axes, (name, path) in zip(panels, paths.items()):
        axes.plot(*data.flatten(0, 1).T.tolist(), ".", ms=2, color="0.8")
        axes.plot(*truth.T.tolist(), color="black", lw=2.5, label="pendulum")
        axes.plot(*path.T.tolist(), color=colours[name], lw=0.8, label=name)
        axes.set(
            title=name,
            xlabel="angle",
            ylabel="velocity" if name == "NeuralODE" else "",
            xlim=(-3, 3),
            ylim=(-2.6, 2.6),
        )
        below(axes)
    panels[3].axhline(float(energy(start)), color="black", lw=2.5, label="pendulum")
    for name, path in paths.items():
        panels[3].plot(long.tolist(), energy(path).tolist(), color=colours[name], lw=1, label=name)
    panels[3].axvspan(0, float(times[-1]), color="0.85", label="span of the data")
    panels[3].set(title="true energy along the learned solutions", xlabel="t")
    below(panels[3], 3)
    return figure


save(draw, "pendulum/energy.png")
