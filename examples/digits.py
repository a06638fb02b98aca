"""Images told apart by a residual network, and by the differential equation that it is Euler's
method for.

    python examples/digits.py [STEPS] [FOLDER]

x + f(x) is a step of length 1 of Euler's method for dx/dt = f(x) (Chen et al., NeurIPS 2018, sec.
1). Side by side: a residual network of four blocks; one with the same block four times, which is
Euler's method for one field, with steps of 1; and a NeuralODE with that field and an adaptive
solver. Then both fields are solved otherwise than they were trained: what was learned with long
steps is a network and no differential equation, and loses accuracy as the solver gains it (Ott,
Katiyar, Hennig & Tiemann, ICLR 2021). The images are scikit-learn's 1,797 digits of 8 x 8 pixels,
or MNIST's, where FOLDER has its files. Takes about a minute; the picture is out/digits/solvers.png.
"""

import sys

import torch
from mnist import read_mnist
from picture import BLUE, GREY, ORANGE, below, save
from torch import nn

from pynode.nn import NeuralODE

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
torch.manual_seed(0)
steps = int(sys.argv[1]) if sys.argv[1:] else 200
BLOCKS, CHANNELS = 4, 8
EULER = {"method": "euler", "step_size": 1.0}
ADAPTIVE = {"method": "tsit5", "rtol": 2e-2, "atol": 2e-2}
EXACT = {"method": "tsit5", "rtol": 1e-5, "atol": 1e-5}
TIED, ODE = "weight-tied ResNet", "NeuralODE"


def digits():
    """Images (n, 1, side, side) from 0 to 1 and labels (n,): those to learn from, and those kept
    back."""
    if sys.argv[2:]:
        parts = [read_mnist(sys.argv[2], part) for part in ("train", "test")]
        return [(images.unsqueeze(1), labels) for images, labels in parts]
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sys.exit(
            "The images come with scikit-learn, which is not installed: pip install"
            " 'torch-stiff-ode[examples]'"
        )
    data = load_digits()
    images, labels = (
        torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16,
        torch.tensor(data.target),
    )
    return [
        (images[i], labels[i]) for i in torch.randperm(len(images)).split([len(images) - 500, 500])
    ]


(images, labels), (unseen, truth) = digits()
unseen, truth = unseen[:2000], truth[:2000]


def block():
    """f: from images of CHANNELS channels to such images."""
    return nn.Sequential(
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    )


class ResNet(nn.ModuleList):
    """x + f_k(x), for one block f_k after another."""

    def forward(self, x):
        for f in self:
            x = x + f(x)
        return x


def train(middle):
    """Into the channels, through the middle, and to a value a digit, trained; and the loss at each
    step."""
    stem = nn.Conv2d(1, CHANNELS, 3, stride=unseen.shape[-1] // 8, padding=1)
    with torch.no_grad():
        size = stem(unseen[:1]).numel()
    model = nn.Sequential(stem, nn.Tanh(), middle, nn.Flatten(), nn.Linear(size, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for _ in range(steps):
        batch = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return model, losses


@torch.no_grad()
def named(model, **options):
    """The digits that the unseen images are taken for, with the field solved with these options;
    and the evaluations."""
    flow = NeuralODE(model[2].field, model[2].t, **options)
    return model[3:](flow(model[:2](unseen))).argmax(1), flow.stats.nfe


def percent(hits):
    return 100 * float(hits.float().mean())


makers = {
    "ResNet": lambda: ResNet(block() for _ in range(BLOCKS)),
    TIED: lambda: NeuralODE(block(), (0.0, BLOCKS), **EULER),
    ODE: lambda: NeuralODE(block(), (0.0, BLOCKS), **ADAPTIVE),
}
runs, said = {}, []
for name, make in makers.items():
    torch.manual_seed(1)
    model, losses = runs[name] = train(make())
    with torch.no_grad():
        correct = percent(model(unseen).argmax(1) == truth)
    count = sum(p.numel() for p in model.parameters())
    nfe = f", {model[2].stats.nfe} evaluations" if isinstance(model[2], NeuralODE) else ""
    said.append(f"{name} {correct:.1f} % ({count:,} parameters{nfe})")
    print(said[-1], flush=True)

counts = (1, 2, 3, 4, 6, 8, 16, 32)
found = {}
for name, options in (TIED, EULER), (ODE, ADAPTIVE):
    model = runs[name][0]
    trained, (exact, nfe) = named(model, **options)[0], named(model, **EXACT)
    by_count = [named(model, method="euler", step_size=BLOCKS / n)[0] for n in counts]
    found[name] = {
        "trained": trained,
        "exact": exact,
        "nfe": nfe,
        "moved": int((exact != trained).sum()),
        "accuracy": [percent(other == truth) for other in by_count],
        "changed": [percent(other != trained) for other in by_count],
    }
print(
    f"{len(truth):,} unseen digits named rightly: "
    + ", ".join(said)
    + "; solved to rtol 1e-5 instead: "
    + ", ".join(
        f"{name} {percent(values['exact'] == truth):.1f} % ({values['nfe']} evaluations,"
        f" {values['moved']} digits named otherwise)"
        for name, values in found.items()
    )
)


def draw(pyplot):
    """Losses, accuracy and error by solver, and digits that the solver decides about."""
    figure = pyplot.figure(figsize=(14, 7), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(2.4, 1))
    panels = upper.subplots(1, 3)
    colours = dict(zip(runs, (GREY, ORANGE, BLUE)))
    for name, (_, losses) in runs.items():
        mean = torch.tensor(losses).unfold(0, min(10, steps), 1).mean(1).tolist()
        panels[0].semilogy(
            range(steps - len(mean), steps), mean, color=colours[name], label=name, lw=1
        )
    for name, values in found.items():
        symbol = "s-" if name == TIED else "o-"
        label = f"{name}, trained " + (
            f"with {BLOCKS} Euler steps" if name == TIED else "with adaptive steps"
        )
        panels[1].plot(counts, values["accuracy"], symbol, color=colours[name], label=label)
        exact = percent(values["exact"] == truth)
        panels[1].axhline(
            exact, color=colours[name], ls="--", label="    the same field to rtol 1e-5"
        )
        panels[2].plot(counts, values["changed"], symbol, color=colours[name], label=label)
    panels[0].set(title="loss, mean of 10 batches", xlabel="training step")
    panels[1].set(
        title="unseen digits named rightly, %", xlabel="Euler steps that solve the learned field"
    )
    panels[2].set(
        title="named otherwise than as trained, %",
        xlabel="Euler steps that solve the learned field",
    )
    for axes in panels[1:]:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
    for axes in panels:
        below(axes, 1)
    trained, exact = found[TIED]["trained"], found[TIED]["exact"]
    changed = (trained != exact).nonzero().flatten()
    lower.suptitle(
        f"{len(changed)} of {len(truth):,} digits that the {TIED} names otherwise where its field"
        " is solved to rtol 1e-5" + (", the first 12 of them" if len(changed) > 12 else "")
    )
    for axes, i in zip(lower.subplots(1, 12), [*changed[:12].tolist(), *[None] * 12]):
        axes.axis("off")
        if i is not None:
            axes.imshow(unseen[i, 0].tolist(), cmap="gray_r")
            axes.set_title(f"{trained[i]} became {exact[i]}\n(it is {truth[i]})", fontsize=9)
    return figure


save(draw, "digits/solvers.png")
