"""Rate constants of a stiff reaction at six temperatures: pre-exponential factors and activation
energies from noisy data.

    python examples/arrhenius.py [ITERATIONS]

Robertson's mechanism, A -> B, 2 B -> B + C, B + C -> A + C, with k(T) = A exp(-Ea / (R T)):
constants nine decades apart, six stiff systems solved side by side by FBDF, every one with its own
steps (batched=True), and the gradient of their own steps. Takes about a minute; the picture is
out/arrhenius/constants.png.
"""

import sys

import torch
from picture import BLUE, GREEN, RED, below, save

from pynode import solve
from pynode.nn import Arrhenius, ReactionNetwork

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
torch.manual_seed(0)
iterations = int(sys.argv[1]) if sys.argv[1:] else 40
REACTIONS, NOISE = ["A -> B", "2 B -> B + C", "B + C -> A + C"], 0.02
LOG10_A, EA = (
    torch.tensor([4.6, 9.5, 5.7], dtype=torch.float64),
    torch.tensor([6e4, 2e4, 1.5e4], dtype=torch.float64),
)
temperatures = torch.linspace(420, 600, 6, dtype=torch.float64)
times = torch.cat((torch.zeros(1), torch.logspace(-4, 3, 22)))
start = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(6, 3)


def mechanism(log10_A, Ea):
    return ReactionNetwork.of(REACTIONS, "ABC", Arrhenius(10**log10_A, Ea=Ea, reference=500.0))


def concentrations(network, t=times):
    """(T, 6, 3), a row for each temperature."""
    atol = torch.tensor([1e-8, 1e-11, 1e-8], dtype=torch.float64)
    return solve(
        network, start, t, args=(temperatures,), method="fbdf", batched=True, rtol=1e-5, atol=atol
    ).y


with torch.no_grad():
    exact = concentrations(mechanism(LOG10_A, EA))
# Each species at each temperature in units of its largest value, where the noise is the same for
# all.
scale = exact.amax(0)
data = exact + NOISE * scale * torch.randn_like(exact)
guess = LOG10_A + torch.tensor([-1.0, 0.8, 1.2]), EA * torch.tensor([0.8, 1.3, 1.5])
network, begun = mechanism(*guess), mechanism(*guess)
optimizer = torch.optim.LBFGS(
    network.parameters(), max_iter=iterations, line_search_fn="strong_wolfe"
)
losses = []


def closure():
    optimizer.zero_grad()
    loss = ((concentrations(network) - data) / scale).square().mean()
    loss.backward()
    losses.append(loss.item())
    return loss


optimizer.step(closure)
law = network.rates
k, k0, true = (
    rates(temperatures).detach() for rates in (law, begun.rates, mechanism(LOG10_A, EA).rates)
)
print(
    f"root mean square residual {losses[0] ** 0.5:.3f} -> {min(losses) ** 0.5:.4f} of the range,"
    f" noise {NOISE}, {len(losses)} solves of six systems"
)
for j, reaction in enumerate(REACTIONS):
    print(
        f"{reaction:<14} log10 A {float(law.log10_A[j].detach()):6.3f} (true"
        f" {float(LOG10_A[j]):.3f}, started at {float(guess[0][j]):.3f})  Ea"
        f" {float(law.Ea[j].detach()) / 1e3:6.2f} kJ/mol (true {float(EA[j]) / 1e3:.2f}, started at"
        f" {float(guess[1][j]) / 1e3:.2f})"
    )
print(
    "largest relative error: rate constants between 420 and 600 K"
    f" {100 * float((k / true - 1).abs().max()):.1f} % (started at"
    f" {100 * float((k0 / true - 1).abs().max()):.0f} %), activation energies"
    f" {100 * float((law.Ea.detach() / EA - 1).abs().max()):.1f} %"
)


def draw(pyplot):
    """Concentrations at three of the temperatures, and the constants against 1/T."""
    with torch.no_grad():
        fine = torch.cat((torch.zeros(1), torch.logspace(-4, 3, 120)))
        curves = concentrations(network, fine)
    figure, panels = pyplot.subplots(1, 4, figsize=(16, 4), layout="constrained")
    colours = (BLUE, RED, GREEN)
    for i, axes in enumerate(panels[:3]):
        for row, colour, symbol in zip((0, 2, 5), colours, "os^"):
            label = f"{temperatures[row]:.0f} K"
            axes.plot([], [], f"{symbol}-", ms=3, color=colour, label=label)
            axes.semilogx(fine[1:].tolist(), curves[1:, row, i].tolist(), color=colour)
            axes.semilogx(times[1:].tolist(), data[1:, row, i].tolist(), symbol, ms=3, color=colour)
        axes.set(title="data and learned", xlabel="time (s)", ylabel="ABC"[i])
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useMathText=True)
        below(axes, 3)
    for j, reaction in enumerate(REACTIONS):
        colour, inverse = f"C{j}", (1000 / temperatures).tolist()
        panels[3].semilogy(
            inverse, true[:, j].tolist(), color="0.75", lw=5, label=None if j else "true"
        )
        panels[3].semilogy(
            inverse, k0[:, j].tolist(), "--", color=colour, lw=1, label=None if j else "start"
        )
        panels[3].semilogy(
            inverse, k[:, j].tolist(), color=colour, lw=1.5, label=None if j else "learned"
        )
        panels[3].annotate(
            reaction, (inverse[-1], float(k[-1, j]) / 20), color=colour, ha="left", fontsize=9
        )
    panels[3].set(title="rate constants", xlabel="1000 K / T", ylabel="k", ylim=(1e-5, None))
    below(panels[3], 3)
    return figure


save(draw, "arrhenius/constants.png")
