"""Make examples/data/fructose.csv: three runs of a batch reactor, as a laboratory exports them.

    python examples/make_fructose_data.py

Fructose becomes HMF, and HMF becomes levulinic acid; a part of the fructose is lost to humins:

    fructose' = -k1 fructose - k3 fructose^2
    HMF'      =  k1 fructose - k2 HMF
    acid'     =  k2 HMF

k1 = 0.030, k2 = 0.011 per minute, k3 = 0.012 L/(mol min): numbers of this example, not of a
publication. The starts were weighed in. Each later value has a normal error of 0.012 mol/L. The
file has a title, a line of units, semicolons and decimal commas.
"""

from pathlib import Path

import torch

from pynode import solve

STARTS = {"R1": 0.5, "R2": 1.0, "R3": 2.0}
NOISE = 0.012


def reactor(t, y):
    """dy/dt in mol/(L min) of the concentrations y, (3,), in mol/L."""
    fructose, hmf, _ = y
    dehydration = 0.030 * fructose
    rehydration = 0.011 * hmf
    loss = 0.012 * fructose**2
    return torch.stack((-dehydration - loss, dehydration - rehydration, rehydration))


def comma(number: float) -> str:
    """A number with a decimal comma."""
    return f"{number:.3f}".replace(".", ",")


torch.manual_seed(7)
minutes = torch.arange(0, 181, 10, dtype=torch.float64)
lines = [
    "Fructose to HMF, 140 °C, March series",
    "",
    "Run;Time;Fructose;HMF;Levulinic acid",
    ";min;mol/L;mol/L;mol/L",
]
for run, start in STARTS.items():
    exact = solve(reactor, [start, 0.0, 0.0], minutes, rtol=1e-9, atol=1e-12).y
    measured = exact + NOISE * torch.randn(exact.shape, dtype=torch.float64)
    measured = measured.clamp(min=0)
    measured[0] = exact[0]
    for minute, row in zip(minutes.tolist(), measured.tolist(), strict=True):
        lines.append(";".join([run, f"{minute:g}", *map(comma, row)]))

path = Path(__file__).parent / "data" / "fructose.csv"
path.write_text("\n".join(lines) + "\n", encoding="utf-8")
print(f"{path}: {len(lines)} lines")
