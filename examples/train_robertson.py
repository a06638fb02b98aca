"""Learn Robertson's stiff reaction from 50 observations, from Python.

    python examples/train_robertson.py [--help]

Three species react at rates nine decades apart. No explicit method can follow them to 1e5 seconds,
so the neural ODE is trained through the implicit FBDF. Takes a minute or two; the files go to
out/robertson.
"""

import argparse
from pathlib import Path

import torch

from pynode import solve
from pynode.data import read
from pynode.train import Options, display, fit, load_model, plot_fit, plot_loss

torch.set_num_threads(1)  # the tensors are tiny: more threads only wait for one another
here = Path(__file__).resolve().parent
parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
parser.add_argument("--epochs", type=int, default=300, help="passes over the data")
parser.add_argument("--warm-start", type=int, default=1500, help="iterations before them")
parser.add_argument(
    "--out", type=Path, default=here.parent / "out" / "robertson", help="folder of results"
)
chosen = parser.parse_args()
out = chosen.out

data = read(here / "data" / "robertson.csv")
options = Options(
    hidden=(32, 32),
    activation="gelu",
    method="fbdf",
    epochs=chosen.epochs,
    warm_start=chosen.warm_start,
)
run = fit(data, options, out, progress=display())
print(
    f"loss: {run.baseline:.3g} if nothing moved, {run.first:.3g} after the warm start,"
    f" {run.best:.3g} at the end"
)

plot_loss(out / "loss.png", run.history, run.best)
plot_fit(out / "fit.png", run.field, data)

# The model is an ordinary vector field in the units of the data: solve it from anywhere, with any
# method.
field = load_model(out / "model.pt")
with torch.no_grad():
    solution = solve(
        field, field.y0, [0.0, 1.0, 1e3, 1e5], method="rodas5p", rtol=1e-6, atol=field.atol(1e-6)
    )
for t, y in zip(solution.t.tolist(), solution.y.tolist(), strict=True):
    print(
        f"t = {t:<8g}"
        + "  ".join(f"{name} = {value:.4g}" for name, value in zip(data.columns, y, strict=True))
    )
print(solution.stats)
