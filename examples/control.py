"""A pendulum is learned from its reaction to held torques, and then swung up by torques that are
found on what was learned.

    python examples/control.py [STEPS]

First the identification: a network in the place of the unknown acceleration without torque is
trained on trajectories under random held inputs (zero-order hold, as a digital controller gives
them). Then the control: gradients of the solution with respect to the values of the input find a
sequence of torques, each weaker than 0.6 of gravity's greatest, that brings the learned pendulum
from hanging to upright, at rest. Last the test: the same torques on the true pendulum. Takes a
minute; the picture is out/control/swing_up.png.
"""

import math
import sys

import torch
from picture import BLUE, ORANGE, below, save
from torch import nn

from pynode.nn import ControlledODE, ZeroOrderHold

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
torch.manual_seed(0)
steps = int(sys.argv[1]) if sys.argv[1:] else 160
strongest = 0.6  # torque; that of gravity is sin(angle)


class Pendulum(nn.Module):
    """d/dt (angle, speed) = (speed, acceleration + u); unknown: what acceleration angle and speed
    cause without the input."""

    def __init__(self, acceleration):
        super().__init__()
        self.acceleration = acceleration

    def forward(self, y, u):
        angle, speed = y[..., :1], y[..., 1:]
        return torch.cat(
            (speed, self.acceleration(torch.cat((angle.sin(), angle.cos(), speed), -1)) + u), -1
        )


class Truth(nn.Module):
    """Gravity and a little friction, of (sine, cosine, speed)."""

    def forward(self, features):
        return -features[..., :1] - 0.1 * features[..., 2:]


options = {"method": "tsit5", "rtol": 1e-4, "atol": 1e-5}
true = ControlledODE(Pendulum(Truth()), **options)
network = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
learned = ControlledODE(Pendulum(network), **options)

# Identification: 64 short trajectories, from states all around, under four torques each.
short, switches = torch.linspace(0, 2, 9), torch.arange(4) * 0.5
starts = (2 * torch.rand(64, 2) - 1) * torch.tensor([math.pi, 2.5])
inputs = ZeroOrderHold(switches, 2 * torch.rand(64, 4, 1) - 1)
with torch.no_grad():
    seen = true(starts, inputs, short)
    seen = seen + 0.01 * torch.randn_like(seen)
optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
for step in range(steps):
    optimizer.zero_grad()
    loss = (learned(starts, inputs, short) - seen).square().mean()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 50 == 0:
        print(f"identification, step {step:>4}  mean squared error {loss.item():.6f}", flush=True)

# Control: 20 torques, with the upright position at rest as the goal.
times, hanging, goal = torch.linspace(0, 10, 101), torch.zeros(2), torch.tensor([math.pi, 0.0])
held = torch.arange(20) * 0.5
free = nn.Parameter(0.3 * torch.sin(held).unsqueeze(1))  # about the pendulum's own frequency
optimizer = torch.optim.LBFGS([free], max_iter=steps // 2, line_search_fn="strong_wolfe")
misses = []


def miss():
    """The squared distance from the goal, and its gradient."""
    optimizer.zero_grad()
    loss = (
        (learned(hanging, ZeroOrderHold(held, strongest * free.tanh()), times[[0, -1]])[-1] - goal)
        .square()
        .sum()
    )
    loss.backward()
    misses.append(loss.item())
    return loss


optimizer.step(miss)
print(
    f"control: squared distance from upright {misses[0]:.3f}, after {len(misses)} solves"
    f" {misses[-1]:.6f}"
)

torque = (strongest * free.tanh()).detach()
with torch.no_grad():
    planned, swung = (
        model(hanging, ZeroOrderHold(held, torque), times) for model in (learned, true)
    )
print(
    "the torques found on the learned pendulum bring the true one to"
    f" {float(swung[-1, 0]) * 180 / math.pi:.1f} degrees of 180, at a speed of"
    f" {float(swung[-1, 1]):.3f}"
)


def draw(pyplot):
    """Angle and torque over time, and the plane of angle and speed."""
    figure, axes = pyplot.subplot_mosaic(
        [["angle", "plane"], ["torque", "plane"]], figsize=(13, 5.5), layout="constrained"
    )
    runs = (
        ("planned on the learned pendulum", planned, BLUE, "--"),
        ("the true pendulum", swung, ORANGE, "-"),
    )
    for name, y, colour, line in runs:
        axes["angle"].plot(times, y[:, 0], line, color=colour, label=name)
        axes["plane"].plot(y[:, 0], y[:, 1], line, color=colour, label=name)
    axes["angle"].axhline(math.pi, color="0.6", lw=0.8)
    axes["angle"].set(
        title="angle: from hanging (0) to upright ($\\pi$)", xlabel="t", ylabel="angle"
    )
    below(axes["angle"])
    axes["torque"].stairs(torque[:, 0].numpy(), [*held.tolist(), 10.0], baseline=None, color="k")
    axes["torque"].set(
        title="torque, held for 0.5 each", xlabel="t", ylabel="u", ylim=(-0.65, 0.65)
    )
    axes["plane"].plot(0, 0, "ks", math.pi, 0, "k*", ms=10)
    axes["plane"].set(
        title="angle and speed: from rest (square) to the goal (star)",
        xlabel="angle",
        ylabel="speed",
    )
    return figure


save(draw, "control/swing_up.png")
