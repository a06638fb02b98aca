"""The ignition delay of hydrogen in air, and which reactions decide it.

    python examples/ignition.py [MECHANISM FUEL]

A mechanism of Cantera (h2o2.yaml and H2 if nothing is named) becomes a torch module. Sixteen
temperatures are solved as one batch for the delays. One backward pass gives the sensitivities of a
delay to all rate constants, at a hot and at a cold start. Takes some seconds, and half a minute the
first time, which compiles; the picture is out/ignition/delays.png. It needs the package cantera:
pip install 'torch-stiff-ode[cantera]'.
"""

import sys

import torch
from picture import below, save

from pynode import solve
from pynode.core.drawing.palette import look
from pynode.models import cantera

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
file, fuel = sys.argv[1:3] if sys.argv[2:] else ("h2o2.yaml", "H2")
PRESSURE = 101325.0  # Pa
COLD = 950.0  # K
HOT = 1300.0  # K
SHOWN = 8  # reactions in the picture

reactor = cantera(file)
oxygen = {"H2": 0.5, "CH4": 2.0}[fuel]
air = {fuel: 1.0, "O2": oxygen, "N2": 3.76 * oxygen}

# Delays over the temperature of the start: each row of a batch is a gas of its own.
temperatures = torch.linspace(COLD, HOT, 16, dtype=torch.float64)
with torch.no_grad():
    delays = reactor.ignition_delay(reactor.initial(temperatures, PRESSURE, air))
for T, delay in zip(temperatures.tolist()[::5], delays.tolist()[::5]):
    print(f"{T:6.0f} K: ignition after {delay * 1e6:10.2f} microseconds")

# d ln delay / d ln k of every reaction, from one solve and one backward pass.
sensitivities = {}
for T in (COLD, HOT):
    delay = reactor.ignition_delay(reactor.initial(T, PRESSURE, air))
    sensitivities[T] = reactor.sensitivities(delay.log())
largest = torch.stack(list(sensitivities.values())).abs().amax(0)
order = largest.argsort(descending=True)[:SHOWN].tolist()
equations = reactor.mechanism.equations
print(f"{'d ln delay / d ln k':<32} {COLD:6.0f} K {HOT:6.0f} K")
for number in order:
    numbers = "  ".join(f"{float(found[number]):7.3f}" for found in sensitivities.values())
    print(f"{equations[number]:<32} {numbers}")

# The gas through the ignition.
start = reactor.initial(HOT, PRESSURE, air)
times = torch.linspace(0.0, 2.0, 300, dtype=torch.float64) * delays[-1]
with torch.no_grad():
    path = solve(reactor, start, times, method="fbdf", rtol=1e-7, atol=1e-11).y
    fractions = reactor.mole_fractions(path)


def draw(pyplot):
    """Delays over 1/T, the ignition at the hottest start, and the sensitivities."""
    figure, (left, middle, right) = pyplot.subplots(
        1, 3, figsize=(15, 4.2), layout="constrained", width_ratios=(1, 1, 1.3)
    )
    left.semilogy((1000 / temperatures).tolist(), (delays * 1e6).tolist(), "o-", ms=4)
    left.set(xlabel="1000 K / T", ylabel="ignition delay (µs)", title=f"{fuel} in air")
    clock = (times * 1e6).tolist()
    for number, name in enumerate((fuel, "O2", "H2O", "H", "OH")):
        k = reactor.species.index(name)
        middle.plot(clock, fractions[:, k].tolist(), ls=look(number).dashes, label=name)
    middle.axvline(float(delays[-1]) * 1e6, color="0.6", lw=1, ls="--")
    middle.set(xlabel="t (µs)", ylabel="mole fraction", title=f"from {HOT:.0f} K")
    below(middle, 5)
    hotter = middle.twinx()
    hotter.plot(clock, path[:, 0].tolist(), color="black", lw=1)
    hotter.set(ylabel="T (K, black)")
    places = range(len(order))
    for shift, (T, found) in zip((0.2, -0.2), sensitivities.items()):
        values = [float(found[number]) for number in order]
        right.barh([place + shift for place in places], values, 0.38, label=f"{T:.0f} K")
    right.set(
        yticks=list(places),
        yticklabels=[equations[number] for number in order],
        xlabel="d ln delay / d ln k",
        title="sensitivities",
    )
    right.invert_yaxis()
    right.axvline(0.0, color="0.6", lw=1)
    below(right)
    return figure


save(draw, "ignition/delays.png")
