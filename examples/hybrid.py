"""A stiff mechanism that lacks a reaction: known chemistry plus a network that learns what is
missing.

    python examples/hybrid.py [ITERATIONS]

Robertson's reactions are known; that an enzyme turns C back into A, at the rate 0.05 C / (0.2 + C),
is not. The network sees the state and gives the rate of C -> A alone, so that the total is
conserved whatever it learns. Solved by FBDF, each start with its own steps. Takes about a minute;
the picture is out/hybrid/rate.png.
"""

import sys

import torch
from picture import BLUE, ORANGE, RED, below, save
from torch import nn

from pynode import solve
from pynode.nn import HybridField, RateConstants, ReactionNetwork

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
torch.manual_seed(0)
iterations = int(sys.argv[1]) if sys.argv[1:] else 60
NOISE, SCALE = 0.01, torch.tensor([1.0, 3e-5, 1.0], dtype=torch.float64)
known = ReactionNetwork.of(
    ["A -> B", "2 B -> B + C", "B + C -> A + C"], "ABC", RateConstants([0.04, 3e7, 1e4], known=True)
).requires_grad_(False)


def missing(y):
    """The rate of C -> A, (..., 1)."""
    return 0.05 * y[..., 2:] / (0.2 + y[..., 2:])


def truth(t, y):
    return known(t, y) + torch.cat((missing(y), 0 * y[..., 1:2], -missing(y)), -1)


def states(field, start, t):
    """(T, rows, 3)."""
    atol = torch.tensor([1e-7, 1e-10, 1e-7], dtype=torch.float64)
    return solve(field, start, t, method="fbdf", batched=True, rtol=1e-5, atol=atol).y


network = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1)).double()
field = HybridField(known, network, scale=SCALE, rate=0.05, into=[[1.0], [0.0], [-1.0]])
begin = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.0, 0.5]], dtype=torch.float64)
times = torch.cat((torch.zeros(1), torch.logspace(-3, 2.5, 30)))
unseen, later = (
    torch.tensor([[0.75, 0.0, 0.25]], dtype=torch.float64),
    torch.cat((torch.zeros(1), torch.logspace(-3, 3, 80))),
)
with torch.no_grad():
    data = states(truth, begin, times)
    data = data + NOISE * SCALE * torch.randn_like(data)
    exact, without = states(truth, unseen, later), states(known, unseen, later)
optimizer = torch.optim.LBFGS(
    field.parameters(), max_iter=iterations, line_search_fn="strong_wolfe"
)
losses = []


def closure():
    optimizer.zero_grad()
    loss = ((states(field, begin, times) - data) / SCALE).square().mean()
    loss.backward()
    losses.append(loss.item())
    return loss


optimizer.step(closure)
with torch.no_grad():
    found = states(field, unseen, later)
    # Not in the first moments, in which B settles: no data can tell a slow rate there.
    settled = exact[later > 0.01, 0]
    rate, expected = field.unknown(0.0, settled)[:, 0], missing(settled)[:, 0]
    error = (rate - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    ahead, behind = ((y - exact).abs().amax((0, 1)) / SCALE for y in (found, without))
print(
    f"residual {losses[0] ** 0.5:.3f} -> {min(losses) ** 0.5:.4f}, noise {NOISE}; from a start that"
    " it never saw, to t = 1000 where the data end at 316, the missing rate is learned to"
    f" {100 * float(error):.1f} %, the concentrations to {100 * float(ahead.max()):.1f} % of their"
    f" range; the known part alone errs by {100 * float(behind.max()):.0f} %; the total changes by"
    f" {float((found.sum(-1) - 1).abs().max()):.0e}"
)


def draw(pyplot):
    """Concentrations from the unseen start, and the learned rate."""
    figure, panels = pyplot.subplots(1, 4, figsize=(16, 4), layout="constrained")
    for i, axes in enumerate(panels[:3]):
        for y, style in (
            (exact, {"color": "0.7", "lw": 5, "label": "true"}),
            (without, {"color": RED, "ls": "--", "label": "known part alone"}),
            (found, {"color": BLUE, "label": "known part + network"}),
        ):
            axes.semilogx(later[1:].tolist(), y[1:, 0, i].tolist(), **style)
        axes.axvline(float(times[-1]), color="black", lw=0.6, ls=":", label="end of the data")
        axes.set(title=f"{'ABC'[i]} from an unseen start", xlabel="time (s)")
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useMathText=True)
    below(panels[0])
    with torch.no_grad():
        seen = states(field, begin, times)[times > 0.01].flatten(0, 1)
        at_data = field.unknown(0.0, seen)[:, 0]
    line = torch.linspace(0, 1, 100, dtype=torch.float64).unsqueeze(1)
    panels[3].plot(
        line.tolist(), missing(line.expand(-1, 3)).tolist(), color="0.7", lw=5, label="true"
    )
    panels[3].plot(
        seen[:, 2].tolist(),
        at_data.tolist(),
        ".",
        color=ORANGE,
        ms=6,
        label="learned, where data were",
    )
    panels[3].plot(settled[:, 2].tolist(), rate.tolist(), color=BLUE, label="learned, unseen start")
    panels[3].set(title="the missing rate of C -> A, for t > 0.01 s", xlabel="C", ylabel="1/s")
    below(panels[3], 1)
    return figure


save(draw, "hybrid/rate.png")
