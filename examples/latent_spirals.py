"""A latent ODE learns spirals of both directions from noisy points at irregular times, and goes on
where they end.

    python examples/latent_spirals.py [STEPS]

Every series has times of its own. The recognition network reads what was seen in the first half, t
< 3, and the model is trained by the evidence lower bound of all points (Chen et al., NeurIPS 2018,
sec. 5.1; Rubanova, Chen & Duvenaud, NeurIPS 2019, sec. 4). On unseen series it predicts the second
half, beside a recurrent network that is trained for just this, as many steps, gets the time to the
next point as an input, and reads its own predictions where nothing was seen. At times like those of
the training it is the better of the two; asked for many close times it goes astray, while the
latent ODE has one curve for all. Takes about a minute; the picture is
out/latent_spirals/spirals.png.
"""

import math
import sys

import torch
from picture import BLUE, GREEN, ORANGE, save
from torch import nn

from pynode.nn import LatentODE

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
torch.manual_seed(0)
steps = int(sys.argv[1]) if sys.argv[1:] else 600
HALF, END, NOISE = 3.0, 6.0, 0.08


def curve(start, t):
    """The spirals without noise, (n, m, 2), at t (n, m); start (n, 2): angle at t = 0, and 1 or -1
    for the direction."""
    radius, angle = 0.4 + 0.25 * t, start[:, :1] + 1.5 * start[:, 1:] * t
    return torch.stack((radius * angle.cos(), radius * angle.sin()), -1)


def spirals(n, m=24):
    """start (n, 2), times (n, m), the first before HALF, and noisy points (n, m, 2)."""
    start = torch.stack((2 * math.pi * torch.rand(n), torch.randint(2, (n,)) * 2.0 - 1), 1)
    t = torch.rand(n, m) * END
    t[:, 0] *= HALF / END
    t = t.sort(1).values
    return start, t, curve(start, t) + NOISE * torch.randn(n, m, 2)


class Recurrent(nn.Module):
    """The point after each point, from a GRU; what was not given is replaced by its own
    prediction."""

    def __init__(self, hidden=48):
        super().__init__()
        self.cell, self.read = (
            nn.GRUCell(3, hidden),
            nn.Sequential(nn.Linear(hidden, 48), nn.Tanh(), nn.Linear(48, 2)),
        )

    def forward(self, t, x, given):
        """x at t[:, 1:], (n, m - 1, 2)."""
        h, made = x.new_zeros(len(x), self.cell.hidden_size), [x[:, 0]]
        for i, gap in enumerate(t.diff(dim=1).unsqueeze(-1).unbind(1)):
            point = torch.where(given[:, i : i + 1], x[:, i], made[-1])
            h = self.cell(torch.cat((point, gap), 1), h)
            made.append(point + self.read(h))
        return torch.stack(made[1:], 1)


def train(model, loss_of):
    """Adam on batches of 50 of the same 1,000 series; the loss at each step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1e-2, total_steps=steps + 1, pct_start=0.1
    )
    losses = []
    for step in range(steps):
        batch = torch.randint(len(times), (50,))
        optimizer.zero_grad()
        loss = loss_of(step, times[batch], points[batch], times[batch] < HALF)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 0:
            print(f"{type(model).__name__:<9} step {step:>4}  loss {losses[-1]:.4g}", flush=True)
    return losses


_, times, points = spirals(1000)
field = nn.Sequential(nn.Linear(6, 48), nn.Tanh(), nn.Linear(48, 6))
decoder = nn.Sequential(nn.Linear(6, 48), nn.Tanh(), nn.Linear(48, 2))
model = LatentODE(field, decoder, 2, 6, noise=0.1, rtol=1e-3, atol=1e-3)
train(
    model,
    lambda step, t, x, given: (
        -model.elbo(x, t, given=given, kl_weight=min(1.0, 2 * step / steps)).mean()
    ),
)
recurrent = Recurrent()
train(recurrent, lambda step, t, x, given: nn.functional.mse_loss(recurrent(t, x, given), x[:, 1:]))


def ask(t, x, given):
    """What each model says about x at t, in the order of time, from the given points."""
    with torch.no_grad():
        last = x[torch.arange(len(x)), given.sum(1) - 1].unsqueeze(1)
        return {
            "latent ODE": model.predict(x, t, t, given),
            "recurrent network": torch.cat((x[:, :1], recurrent(t, x, given)), 1),
            "last point": last.expand_as(x),
        }


def distances(guesses, truth):
    return {name: (guess - truth).norm(dim=-1) for name, guess in guesses.items()}


def typical(distance):
    return float(distance.square().mean().sqrt())


start, t, x = spirals(300)
given, truth = t < HALF, curve(start, t)
guesses = ask(t, x, given)
far = distances(guesses, truth)
# Twelve points in the first half, and then times much closer together than those of the training.
even = torch.cat(
    (
        (torch.rand(300, 12) * HALF).sort(1).values,
        torch.linspace(HALF, END, 61)[1:].expand(300, 60),
    ),
    1,
)
close = distances(
    ask(even, curve(start, even) + NOISE * torch.randn(300, 72, 2), even < HALF), curve(start, even)
)
before, noise = typical(far["latent ODE"][given]), typical((x - truth).norm(dim=-1))
print(
    "distance from the true curve where nothing was seen, t > 3, root mean square over 300 unseen"
    " spirals: "
    + ", ".join(f"{name} {typical(distance[~given]):.3f}" for name, distance in far.items())
    + "; asked for 60 even times there: "
    + ", ".join(f"{name} {typical(distance[:, 12:]):.3f}" for name, distance in close.items())
    + f"; where points were seen: latent ODE {before:.3f}, the points themselves {noise:.3f}"
)


def draw(pyplot):
    """Six unseen series with what the models say, the error by time, and series drawn from the
    model."""
    figure, panels = pyplot.subplots(2, 4, figsize=(17.5, 7.6), layout="constrained")
    shown = [
        *(start[:, 1] > 0).nonzero()[:3, 0].tolist(),
        *(start[:, 1] < 0).nonzero()[:3, 0].tolist(),
    ]
    fine = torch.linspace(0, END, 181)
    seen_part = fine <= HALF
    with torch.no_grad():
        draws = model.predict(x[shown], t[shown], fine, given[shown], samples=10)
        drawn = model.sample(12, fine)
    exact = curve(start[shown], fine.expand(len(shown), -1))
    for axes, i, series, true in zip(panels[:, :3].flatten(), shown, draws.unbind(1), exact):
        axes.plot(*true.T.tolist(), color="k", lw=0.8, label="truth")
        for part, colour in (seen_part, BLUE), (~seen_part, ORANGE):
            for line in series:
                axes.plot(*line[part].T.tolist(), color=colour, lw=0.7, alpha=0.6)
            axes.plot(
                [],
                color=colour,
                label="latent ODE, t < 3" if colour == BLUE else "latent ODE, t > 3",
            )
        other = guesses["recurrent network"][i, ~given[i]]
        axes.plot(*other.T.tolist(), "x", color=GREEN, label="recurrent network, t > 3")
        axes.plot(*x[i, given[i]].T.tolist(), "o", color=BLUE, ms=4, label="given points")
        axes.set(aspect="equal", xlim=(-2.3, 2.3), ylim=(-2.3, 2.3))
    panels[0, 0].set(title="unseen spirals, ten draws each")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=5)
    edges = torch.linspace(0, END, 13)
    centres = (edges[1:] + edges[:-1]) / 2
    for k, name in enumerate(far):
        place = [(t >= low) & (t < high) for low, high in zip(edges, edges[1:])]
        panels[0, 3].semilogy(
            centres.tolist(),
            [typical(far[name][p]) for p in place],
            "o-",
            ms=3,
            color=f"C{k}",
            label=name,
        )
        if name != "last point":
            place = [(even > low) & (even <= high) for low, high in zip(edges[6:], edges[7:])]
            line = [typical(close[name][p]) for p in place]
            panels[0, 3].semilogy(
                centres[6:].tolist(), line, ":", color=f"C{k}", label=f"{name}, at 60 even times"
            )
    panels[0, 3].axvline(HALF, color="k", lw=0.6, ls=":")
    panels[0, 3].axhline(NOISE * 2**0.5, color="k", lw=0.6, ls="--", label="noise of the points")
    panels[0, 3].set(title="distance from the true curve", xlabel="t; seen until 3")
    panels[0, 3].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    for line in drawn:
        panels[1, 3].plot(*line.T.tolist(), lw=0.9)
    panels[1, 3].set(
        title="twelve series drawn from the model",
        aspect="equal",
        xlim=(-2.3, 2.3),
        ylim=(-2.3, 2.3),
    )
    return figure


save(draw, "latent_spirals/spirals.png")
