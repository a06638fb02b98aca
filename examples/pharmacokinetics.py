"""Fifty patients with doses of their own, in one batch: how much of a tablet reaches the blood, and
how fast each patient clears it.

    python examples/pharmacokinetics.py [STEPS]

Each patient takes tablets every twelve hours or so, and every third one also gets an infusion. Only
the infusions tell how much of a tablet arrives, because all of an infusion does. The blood of each
patient was tested ten times, at other times for each. The fit finds the bioavailability, the rate
of absorption, the typical clearance and volume, and how each patient differs from them, by the
method of Levenberg and Marquardt: with adjoint="forward" one solve gives the derivatives of all
tests in all 104 unknowns. Takes some seconds with the native engine; the picture is
out/pharmacokinetics/patients.png.
"""

import sys

import torch
from picture import save
from torch import nn

from pynode.backends.packages import missing_for_native
from pynode.models import Doses

torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another
torch.manual_seed(0)
steps = int(sys.argv[1]) if sys.argv[1:] else 20
patients = 50
spread = 0.3  # standard deviation of the logarithms of clearance and volume among patients
noise = 0.1  # of a test, relative
engine = "torch" if missing_for_native() else "native"
options = {"batched": True, "method": "tsit5", "rtol": 1e-6, "atol": 1e-6, "backend": engine}
if engine == "native":
    options["adjoint"] = "forward"


class Body(nn.Module):
    """Amounts in the gut and in the blood, in mg. p: (m, 3), the rate of absorption in 1/h, the
    clearance in l/h and the volume in l of each patient."""

    def forward(self, t, y, p):
        absorbed = p[:, 0] * y[:, 0]
        return torch.stack((-absorbed, absorbed - p[:, 1] / p[:, 2] * y[:, 1]), 1)


body = Body()

# The table of doses: six tablets each, and an infusion over two hours for every third patient.
day = torch.arange(6, dtype=torch.float64) * 12
tablets = day + 3 * torch.rand(patients, 6, dtype=torch.float64)
infusions = 30 + 12 * torch.rand(patients, 1, dtype=torch.float64)
infusions[torch.arange(patients) % 3 != 0] = torch.nan
times = torch.cat((tablets, infusions), 1)
is_tablet = torch.tensor([True] * 6 + [False])


def doses(bioavailability):
    """What all patients receive."""
    arriving = torch.where(is_tablet, bioavailability, torch.ones(()))
    return Doses(
        times,
        100.0,
        target=[0] * 6 + [1],
        duration=torch.where(is_tablet, 0.0, 2.0),
        bioavailability=arriving,
    )


def concentrations(bioavailability, p, when):
    """Of the drug in the blood in mg/l, (T, patients), at the times when, (T, patients)."""
    start = torch.zeros(patients, 2, dtype=torch.float64)
    amounts = doses(bioavailability).solve(body, start, when, args=(p,), **options).y
    return amounts[1:, :, 1] / p[:, 2]


def individual(typical, eta):
    """(patients, 3) parameters from the logarithms of the typical ones and the deviations."""
    return torch.cat((typical[:1].expand(patients, 1), typical[1:] + eta), 1).exp()


# The truth, and the tests.
true_share = torch.tensor(0.62, dtype=torch.float64)
true_typical = torch.tensor([0.8, 5.0, 40.0], dtype=torch.float64).log()
true_eta = spread * torch.randn(patients, 2, dtype=torch.float64)
tests = (4 + 90 * torch.rand(10, patients, dtype=torch.float64)).sort(0).values
when = torch.cat((torch.zeros(1, patients, dtype=torch.float64), tests))
with torch.no_grad():
    exact = concentrations(true_share, individual(true_typical, true_eta), when)
    seen = exact * (noise * torch.randn_like(exact)).exp()


def residuals(unknowns):
    """All that the fit makes small, in standard deviations: of the tests, and of the patients."""
    eta = unknowns[4:].view(patients, 2)
    found = concentrations(unknowns[0].sigmoid(), individual(unknowns[1:4], eta), when)
    return torch.cat((((found / seen).log() / noise).reshape(-1), unknowns[4:] / spread))


def linearised(unknowns):
    """(residuals (r,), their derivatives (r, 104))."""
    unknowns = unknowns.clone().requires_grad_()
    values = residuals(unknowns)
    rows = torch.eye(len(values), dtype=torch.float64)
    return values.detach(), torch.autograd.grad(values, unknowns, rows, is_grads_batched=True)[0]


# The fit, from values that are far off.
unknowns = torch.zeros(4 + 2 * patients, dtype=torch.float64)
unknowns[:4] = torch.tensor([1.5, *torch.tensor([2.0, 2.0, 80.0]).log()])
damping = 1e-2
values, jacobian = linearised(unknowns)
for step in range(steps):
    if step % 5 == 0:
        print(f"step {step:>3}  penalised likelihood {0.5 * values.square().sum().item():.2f}")
    matrix = jacobian.T @ jacobian
    matrix = matrix + damping * matrix.diag().diag()
    trial = unknowns - torch.linalg.solve(matrix, jacobian.T @ values)
    with torch.no_grad():
        better = residuals(trial).square().sum() < values.square().sum()
    if better:
        unknowns = trial
        values, jacobian = linearised(unknowns)
        damping = damping / 10
    else:
        damping = damping * 10
share = unknowns[0].sigmoid()
typical = unknowns[1:4]
eta = unknowns[4:].view(patients, 2)
error = torch.linalg.inv(jacobian.T @ jacobian).diag().sqrt()

p = individual(typical, eta)
true_p = individual(true_typical, true_eta)
names = ("absorption, 1/h", "clearance, l/h", "volume, l")
margin = 2 * (share * (1 - share) * error[0]).item()
print(f"bioavailability  {share.item():.3f} +- {margin:.3f}, true {true_share.item():.3f}")
for name, value, true in zip(names, typical.exp().tolist(), true_typical.exp().tolist()):
    print(f"typical {name:<16} {value:.3g}, true {true:.3g}")
miss = (p[:, 1] / true_p[:, 1]).log().abs().median()
print(f"clearance of a patient: the median error is {100 * miss.item():.1f} %")


def draw(pyplot):
    """Four patients, and the clearance of all."""
    figure, axes = pyplot.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    grid = torch.linspace(0, 96, 400, dtype=torch.float64)
    with torch.no_grad():
        curves = concentrations(share, p, grid.unsqueeze(1).expand(-1, patients))
    for number, (patient, symbol) in enumerate(zip((0, 1, 6), "o^D")):
        colour = f"C{number}"
        axes[0].plot(grid[1:], curves[:, patient], color=colour)
        axes[0].plot(when[1:, patient], seen[:, patient], symbol, color=colour, markersize=4)
        axes[0].plot(tablets[patient], [-0.25 - 0.2 * number] * 6, "|", color=colour)
        axes[0].plot(infusions[patient], [-0.25 - 0.2 * number], "s", color=colour, markersize=4)
    axes[0].set_xlabel("time (h)")
    axes[0].set_ylabel("concentration (mg/l)")
    axes[0].set_title("three patients: tests, fit, doses (squares: infusions)", fontsize=10)
    low, high = (float(x) for x in torch.cat((p[:, 1], true_p[:, 1])).aminmax())
    axes[1].plot([low, high], [low, high], color="0.7")
    axes[1].plot(true_p[:, 1], p[:, 1], "o", markersize=4)
    axes[1].set_xlabel("true clearance (l/h)")
    axes[1].set_ylabel("found clearance (l/h)")
    axes[1].set_title("all patients", fontsize=10)
    return figure


save(draw, "pharmacokinetics/patients.png")
