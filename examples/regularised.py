"""Two spirals told apart by flows that are cheap to solve, because their training was made to care.

    python examples/regularised.py [STEPS]

The same AugmentedODE three times: as it is; with the kinetic energy of its paths held small; and
with the norm of its Jacobian, too (RNODE: Finlay, Jacobsen, Nurbekyan & Oberman, ICML 2020). A
classifier gains by pushing its classes ever further apart, which nothing but a regulariser speaks
against. What is regularised trains longer for each step, and costs nothing extra afterwards. Takes
up to a minute; the picture is out/regularised/spirals.png.
"""

import math
import sys
import time

import torch
from picture import BLUE, GREEN, ORANGE, PINK, RED, below, save
from torch import nn

from pynode.nn import AugmentedODE, EvaluationMonitor, JacobianNorm, KineticEnergy

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
steps = int(sys.argv[1]) if sys.argv[1:] else 200
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
REGULARISERS = {
    "none": (),
    "kinetic energy": KineticEnergy(0.01),
    "kinetic energy and Jacobian": (KineticEnergy(0.01), JacobianNorm(0.01)),
}


def spirals(n):
    """n points on two arms that wind round one another, with noise, (n, 2), and their arm, 0 or 1,
    (n,)."""
    arm, radius = torch.arange(n) % 2, torch.rand(n).sqrt()
    angle = math.pi * (2.7 * radius + arm)
    return 2 * torch.stack((radius * angle.cos(), radius * angle.sin()), 1) + 0.06 * torch.randn(
        n, 2
    ), arm


def train(regularisers):
    """A flow with its readout, the evaluations of each training step, and the seconds that all
    took."""
    field = nn.Sequential(
        nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3)
    )
    flow = AugmentedODE(field, 1, regularisers=regularisers, method="tsit5", rtol=1e-3, atol=1e-3)
    model = nn.Sequential(flow, nn.Linear(3, 1), nn.Flatten(0))
    x, arm = spirals(200)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    began = time.perf_counter()
    with EvaluationMonitor(model) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = (
                nn.functional.binary_cross_entropy_with_logits(model(x), arm.float()) + flow.penalty
            )
            loss.backward()
            optimizer.step()
            schedule.step()
            monitor.end_epoch()
    return model.eval().double(), [cost.nfe for cost in monitor.costs], time.perf_counter() - began


torch.manual_seed(0)
x, arm = spirals(2000)
x, found = x.double(), {}
for name, regularisers in REGULARISERS.items():
    torch.manual_seed(1)
    model, training, seconds = train(regularisers)
    counts, right = [], []
    for tolerance in TOLERANCES:
        model[0].options.update(rtol=tolerance, atol=tolerance)
        with torch.no_grad():
            right.append(100 * float(((model(x) > 0) == (arm > 0)).float().mean()))
        counts.append(model[0].stats.nfe)
    found[name] = model, training, counts, right
    print(
        f"{name:<27} "
        + ", ".join(
            f"rtol {tolerance:g}: {accuracy:.2f} % in {count}"
            for tolerance, accuracy, count in zip(TOLERANCES, right, counts)
        )
        + f"; trained in {seconds:.0f} s",
        flush=True,
    )
at = TOLERANCES.index(1e-5)
print(
    "2,000 unseen points told right, and the evaluations that it takes to rtol 1e-5: "
    + "; ".join(
        f"{name} {right[at]:.1f} %, {counts[at]}" for name, (_, _, counts, right) in found.items()
    )
)


def draw(pyplot):
    """The ways of some points, and the evaluations: of each model by tolerance, and while it was
    trained."""
    figure, panels = pyplot.subplots(1, 5, figsize=(19, 4), layout="constrained")
    for axes in panels[1:3]:
        axes.sharex(panels[0])
        axes.sharey(panels[0])
    colours = dict(zip(found, (RED, BLUE, GREEN)))
    for axes, (name, (model, _, counts, right)) in zip(panels, found.items()):
        with torch.no_grad():
            paths = model[0](x[:80], torch.linspace(0, 1, 60))[..., :2]
        for i, path in enumerate(paths.unbind(1)):
            colour = (PINK, ORANGE)[int(arm[i])]
            axes.plot(*path.T.tolist(), color=colour, lw=0.6)
            axes.plot(*path[0].tolist(), "o", color=colour, ms=2.5)
        axes.set(
            title=f"{name}: {right[at]:.1f} %\nright in {counts[at]} evaluations", xlabel="$x_1$"
        )
    panels[0].set(ylabel="$x_2$")
    for symbol, (name, (_, training, counts, _)) in zip("os^", found.items()):
        panels[3].loglog(TOLERANCES, counts, symbol + "-", color=colours[name], label=name)
        panels[4].plot(training, color=colours[name], lw=1, label=name)
    panels[3].set(title="evaluations of what was learned", xlabel="rtol")
    panels[3].invert_xaxis()
    panels[4].set(title="of each training step, rtol 1e-3", xlabel="step", ylim=(0, None))
    for axes in panels[3:]:
        below(axes, 1)
    return figure


save(draw, "regularised/spirals.png")
