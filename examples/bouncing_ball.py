"""What a bouncing ball knows of gravity, air, floor and restitution: learned from noisy heights,
through the bounces.

    python examples/bouncing_ball.py [ITERATIONS]

A JumpODE (Chen, Amos & Nickel, ICLR 2021): the bounces are events whose times follow from the
unknowns, and the gradient passes through them. Takes some ten seconds; the picture is
out/bouncing_ball/heights.png.
"""

import sys

import torch
from picture import BLUE, PINK, RED, below, save
from torch import nn

from pynode.nn import JumpODE

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
torch.manual_seed(0)
iterations = int(sys.argv[1]) if sys.argv[1:] else 30
NOISE = 0.03
TRUTH = {"gravity (m/s^2)": 9.81, "drag (1/s)": 0.25, "floor (m)": 0.15, "restitution": 0.8}
GUESS = (7.0, 0.0, 0.0, 0.6)


def parameter(value):
    return nn.Parameter(torch.tensor(value, dtype=torch.float64))


class Flight(nn.Module):
    """y = (height, velocity): gravity, and drag in proportion to the velocity."""

    def __init__(self, gravity, drag):
        super().__init__()
        self.gravity, self.drag = parameter(gravity), parameter(drag)

    def forward(self, y):
        return torch.stack((y[1], -self.gravity - self.drag * y[1]))


class Floor(nn.Module):
    """Crosses zero where the ball touches the floor."""

    def __init__(self, level):
        super().__init__()
        self.level = parameter(level)

    def forward(self, y):
        return y[0] - self.level


class Bounce(nn.Module):
    """A share of the velocity is kept, turned round."""

    def __init__(self, kept):
        super().__init__()
        self.kept = parameter(kept)

    def forward(self, y):
        return torch.stack((y[0], -self.kept * y[1]))


def ball(gravity, drag, level, kept):
    options = {"method": "tsit5", "rtol": 1e-6, "atol": 1e-8, "last_only": False}
    return JumpODE(Flight(gravity, drag), Floor(level), Bounce(kept), direction=-1, **options)


def unknowns(model):
    return [
        float(x.detach())
        for x in (model.field.gravity, model.field.drag, model.event.level, model.jump.kept)
    ]


start, times = torch.tensor([2.0, 1.0], dtype=torch.float64), torch.linspace(0, 3, 61)
truth, model = ball(*TRUTH.values()), ball(*GUESS)
fine = torch.linspace(0, 3, 601)
with torch.no_grad():
    heights = truth(start, times)[:, 0] + NOISE * torch.randn(len(times), dtype=torch.float64)
    before = model(start, fine)[:, 0]
# First the time before the second bounce, then more: far ahead of a wrong bounce the loss has many
# valleys.
for count in (20, 35, 61):
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=iterations, line_search_fn="strong_wolfe"
    )

    def closure(count=count, optimizer=optimizer):
        optimizer.zero_grad()
        loss = (model(start, times[:count])[:, 0] - heights[:count]).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    error, bounces = closure().item() ** 0.5, len(model.events)
    print(
        f"to t = {float(times[count - 1]):.2f} s: error {error:.4f} m, noise {NOISE} m, {bounces}"
        " bounces",
        flush=True,
    )
with torch.no_grad():
    after, exact = model(start, fine)[:, 0], truth(start, fine)[:, 0]
found = unknowns(model)
print(
    "learned: "
    + ", ".join(
        f"{name} {value:.3f} (true {true:g}, started at {guess:g})"
        for (name, true), value, guess in zip(TRUTH.items(), found, GUESS, strict=True)
    )
    + "; largest error"
    f" {100 * max(abs(v / t - 1) for v, t in zip(found, TRUTH.values(), strict=True)):.1f} %"
)


def draw(pyplot):
    """Heights, the trajectory before and after, and the learned bounces."""
    figure, axes = pyplot.subplots(figsize=(9, 4.4), layout="constrained")
    axes.plot(fine.tolist(), exact.tolist(), color="0.7", lw=5, label="true")
    axes.plot(fine.tolist(), before.tolist(), "--", color=RED, lw=1.2, label="before learning")
    axes.plot(fine.tolist(), after.tolist(), color=BLUE, lw=1.5, label="learned")
    axes.plot(times.tolist(), heights.tolist(), "o", color="black", ms=3.5, label="observed")
    for k, record in enumerate(model.events):
        axes.axvline(
            float(record.t.detach()),
            color=BLUE,
            lw=0.6,
            ls=":",
            label=None if k else "learned bounces",
        )
    axes.axhline(found[2], color=PINK, lw=1, label="learned floor")
    axes.set(
        xlabel="time (s)", ylabel="height (m)", title="A bouncing ball, learned through its bounces"
    )
    below(axes, 6)
    return figure


save(draw, "bouncing_ball/heights.png")
