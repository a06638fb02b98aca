"""Driven systems in the native engine, beside SciPy.

A rectifier (resistance, inductance, diode, capacitor) driven by a voltage of 401 samples, which is
held or connected by lines: Rodas5P beside SciPy's LSODA with a NumPy field and the same table, at
equal tolerances, with errors relative to the largest value of each state. The reference begins anew
at each sample. Then fifty patients with six doses each at times of their own, as one batch, beside
a loop over SciPy's LSODA (target: 0.2 s).
"""

from benchmarks.pairs import pair

import numpy as np  # isort: skip
import torch  # isort: skip

from benchmarks import report
from pynode import solve
from pynode.models import Doses, InputTable

KNOTS = np.linspace(0.0, 0.04, 401)
OUTPUTS = KNOTS[::4]
RESISTANCE = 10.0
INDUCTANCE = 1e-3
CAPACITY = 47e-6
STRAY = 1e-6
LOAD = 1e3
SATURATION = 1e-9
THERMAL = 0.05
PATIENTS = 50


def voltages():
    """A mains voltage with noise, (401,)."""
    noise = np.random.default_rng(0).standard_normal(len(KNOTS))
    return 5 * np.sin(2 * np.pi * 50 * KNOTS) + 0.3 * noise


class Rectifier(torch.nn.Module):
    """Current, voltage before the diode and behind it."""

    def __init__(self, u: InputTable):
        super().__init__()
        self.u = u

    def forward(self, t, y, *table):
        i, v, w = y.unbind(-1)
        current = SATURATION * torch.expm1(torch.clamp((v - w) / THERMAL, max=40.0))
        di = (self.u(t, *table) - RESISTANCE * i - v) / INDUCTANCE
        return torch.stack((di, (i - current) / STRAY, (current - w / LOAD) / CAPACITY), -1)


def by_numpy(kind: str):
    """The same as a NumPy field."""
    values = voltages()

    def field(t, y):
        if kind == "linear":
            u = np.interp(t, KNOTS, values)
        else:
            u = values[min(max(np.searchsorted(KNOTS, t, "right") - 1, 0), len(KNOTS) - 1)]
        i, v, w = y
        current = SATURATION * np.expm1(min((v - w) / THERMAL, 40.0))
        di = (u - RESISTANCE * i - v) / INDUCTANCE
        return np.array([di, (i - current) / STRAY, (current - w / LOAD) / CAPACITY])

    return field


def reference(kind: str):
    """The states at the outputs, (101, 3), from one solve between each two samples."""
    from scipy.integrate import solve_ivp

    field = by_numpy(kind)
    y = np.zeros(3)
    states = [y]
    for low, high in zip(KNOTS[:-1], KNOTS[1:], strict=True):
        last = np.nextafter(high, 0.0)

        def before(t, y, last=last):
            return field(min(t, last), y)

        y = solve_ivp(before, (low, high), y, method="Radau", rtol=1e-11, atol=1e-13).y[:, -1]
        states.append(y)
    return np.array(states)[::4]


def rectifier(kind: str, rtol: float, exact, args):
    """A row of the table."""
    from scipy.integrate import odeint

    u = InputTable(KNOTS, voltages(), kind)
    module = Rectifier(u)
    field = by_numpy(kind)
    scale = np.abs(exact).max(0)
    options = {"method": "rodas5p", "backend": "native", "rtol": rtol, "atol": 1e-3 * rtol}

    @torch.no_grad()
    def own():
        start = torch.zeros(3, dtype=torch.float64)
        return solve(module, start, OUTPUTS, args=u.args, **options, **u.stops()).y.numpy()

    def lsoda():
        more = {"rtol": rtol, "atol": 1e-3 * rtol, "mxstep": 100_000}
        return odeint(field, np.zeros(3), OUTPUTS, tfirst=True, **more)

    errors = [float(np.abs((run() - exact) / scale).max()) for run in (own, lsoda)]
    timed = pair(own, lsoda, args.seconds, args.clock).row()
    return {"input": kind, "rtol": rtol, **timed, "error": errors[0], "base_error": errors[1]}


class Body(torch.nn.Module):
    """Amounts in the gut and in the blood."""

    def forward(self, t, y):
        return torch.stack((-1.2 * y[..., 0], 1.2 * y[..., 0] - 0.15 * y[..., 1]), -1)


def patients(args):
    """A row for fifty patients."""
    from scipy.integrate import odeint

    torch.manual_seed(0)
    times = torch.cumsum(6 + 8 * torch.rand(PATIENTS, 6, dtype=torch.float64), 1)
    outputs = np.linspace(0, 100, 60)
    doses = Doses(times, 100.0)
    body = Body()

    @torch.no_grad()
    def own():
        start = torch.zeros(PATIENTS, 2, dtype=torch.float64)
        options = {"method": "tsit5", "backend": "native", "batched": True}
        return doses.solve(body, start, outputs, **options).y

    def field(t, y):
        return np.array([-1.2 * y[0], 1.2 * y[0] - 0.15 * y[1]])

    def loop():
        for row in times.tolist():
            y = np.zeros(2)
            bounds = [0.0, *row, 100.0]
            for low, high in zip(bounds[:-1], bounds[1:], strict=True):
                inside = outputs[(outputs > low) & (outputs < high)]
                grid = np.array([low, *inside, high])
                y = odeint(field, y, grid, tfirst=True, rtol=1e-6, atol=1e-9)[-1]
                y = y + np.array([100.0, 0.0])

    return {"patients": PATIENTS, **pair(own, loop, args.seconds, args.clock).row()}


def main(argv=None):
    parser = report.parser(__doc__)
    parser.add_argument("--rtols", type=float, nargs="+", default=(1e-4, 1e-6, 1e-8))
    args = parser.parse_args(argv)
    if report.missing("scipy.integrate", "scipy"):
        parser.exit(1, "this benchmark needs SciPy: pip install scipy\n")
    report.heading()
    rows = []
    for kind in ("linear", "held"):
        report.progress(kind)
        exact = reference(kind)
        rows += [rectifier(kind, rtol, exact, args) for rtol in args.rtols]
    shown = ("ms", "base_ms", "ratio", "low", "high")
    columns = ("input", "rtol", *shown, "error", "base_error")
    report.table("Rodas5P beside SciPy's LSODA", rows, columns)
    batch = [patients(args)]
    report.table("Fifty patients beside a loop over LSODA", batch, ("patients", *shown))
    report.save("inputs", {"rectifier": rows, "patients": batch}, args)


if __name__ == "__main__":
    main()
