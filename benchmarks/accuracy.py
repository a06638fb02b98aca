"""How exact gradients are, beside the states that they come from.

The discrete gradient is exact for the steps that were taken. How far it is from the gradient of the
*solution* depends on how well these steps, chosen for the states alone, would have carried the
sensitivities dy/dp.

  accuracy   "state": error of the outputs, the largest over all times, relative to the largest
             value of each component; "gradient": error of the discrete gradient, relative to its
             length; "ratio" of the two; "steps" of the solve. Each is the geometric mean of the
             solves at three tolerances, half a decade around rtol: single ones scatter by a factor
             of 2
  remedies   errors of the gradient by BDF: of the discrete one at rtol and at a tenth of it, of the
             Gauss adjoint, and where the sensitivities are under error control as well
             ("controlled": they are states, and the gradient is read from them; the formulas are
             the same, only the steps are not, so that this is what the choice of steps costs)

The loss is the mean square of the outputs, each component divided by its largest value. Gradients
of reactions are taken in the logarithms of their constants. References: RadauIIA9 at rtol 1e-12.
"network" is a 3-32-3 field with the scaling, gates and warm start of ``pynode train`` on
Robertson's data.
"""

import itertools
import statistics

from benchmarks.pairs import CLOCKS  # noqa: F401  before torch: it holds everything to one thread

import torch  # isort: skip

from torch import nn

from benchmarks import report
from benchmarks.fields import Boehm
from pynode import problems, solve
from pynode.train.model import build
from pynode.train.scaling import Scaling
from pynode.train.synthetic import observe
from pynode.train.times import log_times
from pynode.train.warmstart import warm_start

BDF = ("qndf", "fbdf")
MOST = 5  # parameters whose sensitivities are solved for
METHODS = (*BDF, "rodas5p", "kvaerno5", "radauiia5", "radauiia9")
RTOLS = (1e-4, 1e-6)
REFERENCE = ("radauiia9", 1e-12)
AROUND = [10 ** (k / 4) for k in (-1, 0, 1)]


class Case:
    """A field of the parameters p, (p,): f(t, y, p); with start, outputs and atol at rtol 1e-6, a
    float or (n,)."""

    def __init__(self, f, p, y0, times, atol):
        self.f, self.p, self.y0, self.times = f, p, y0, times
        self.atol = torch.as_tensor(atol, dtype=torch.float64)
        with torch.no_grad():
            self.states = self.solve(self.p, *REFERENCE).y[1:]
        self.largest = self.states.abs().amax(0)
        self.exact = self.gradient(*REFERENCE)[0]

    def solve(self, p, method, rtol, adjoint="discrete"):
        options = {
            "method": method,
            "rtol": rtol,
            "atol": self.atol * (rtol / 1e-6),
            "adjoint": adjoint,
            "max_steps": 10**6,
        }
        return solve(self.f, self.y0, self.times, args=(p,), **options).check()

    def loss(self, y):
        return (y / self.largest).square().mean()

    def gradient(self, method, rtol, adjoint="discrete"):
        p = self.p.clone().requires_grad_()
        solution = self.solve(p, method, rtol, adjoint)
        return torch.autograd.grad(self.loss(solution.y[1:]), p)[0], solution

    def errors(self, method, rtol, adjoint="discrete"):
        """(error of the states, error of the gradient, steps)."""
        gradient, solution = self.gradient(method, rtol, adjoint)
        return (
            self.state_error(solution.y[1:].detach()),
            distance(gradient, self.exact),
            solution.stats.accepted,
        )

    def controlled(self, method, rtol):
        """The same with the sensitivities among the states."""
        n, p = len(self.y0), len(self.p)
        by_y, by_p = (torch.func.jacrev(self.f, argnums=i) for i in (1, 2))

        def f(t, z):
            y, s = z[:n], z[n:].view(n, p)
            return torch.cat(
                (self.f(t, y, self.p), (by_y(t, y, self.p) @ s + by_p(t, y, self.p)).flatten())
            )

        atol = (self.atol * (rtol / 1e-6)).expand(n)
        z0, atol = (
            torch.cat((self.y0, self.y0.new_zeros(n * p))),
            torch.cat((atol, atol.repeat_interleave(p))),
        )
        with torch.no_grad():
            solution = solve(
                f, z0, self.times, method=method, rtol=rtol, atol=atol, max_steps=10**6
            ).check()
        y, s = solution.y[1:, :n], solution.y[1:, n:].view(-1, n, p)
        slope = torch.func.grad(self.loss)(y)
        return (
            self.state_error(y),
            distance(torch.einsum("ti,tip->p", slope, s), self.exact),
            solution.stats.accepted,
        )

    def state_error(self, y):
        return float(((y - self.states) / self.largest).abs().max())


def distance(a, b):
    return float((a - b).norm() / b.norm())


def reaction(field, y0, times, atol):
    """The case of a field of pynode.problems or like one, in the logarithms of its constants k."""

    def f(t, y, p):
        return torch.func.functional_call(field, {"k": p.exp()}, (t, y))

    return Case(f, field.k.detach().log(), y0, times, atol)


def network():
    data = observe(problems.get("robertson"), log_times(1e-5, 1e5, 50))
    scaling, run = Scaling.of(data, "decades"), data.trajectories[0]
    model = build(
        {"hidden": [32], "activation": "tanh", "time_input": False},
        scaling,
        torch.Generator().manual_seed(0),
    )
    warm_start([model], data, 600)
    names, weights = zip(*((name, w.detach()) for name, w in model.named_parameters()), strict=True)
    sizes = [w.numel() for w in weights]

    def f(t, y, p):
        parts = {
            name: part.view(w.shape)
            for name, part, w in zip(names, p.split(sizes), weights, strict=True)
        }
        return torch.func.functional_call(model, parts, (t, y))

    y0 = scaling.scaled(run.y)[0]
    return Case(f, nn.utils.parameters_to_vector(weights), y0, run.t.tolist(), 1e-9)


def cases() -> dict:
    """Name -> a function that makes the case."""
    robertson, hires, boehm = problems.get("robertson"), problems.get("hires"), Boehm()
    return {
        "robertson": lambda: reaction(
            robertson.field, robertson.y0, [0.0, *robertson.t_eval.tolist()], robertson.atol
        ),
        "hires": lambda: reaction(hires.field, hires.y0, [0.0, *hires.t_eval.tolist()], hires.atol),
        "boehm": lambda: reaction(boehm, boehm.start(), [0.0, *boehm.times], 1e-6),
        "network": network,
    }


def mean(errors, method, rtol, *more):
    """Geometric means of errors(method, rtol, *more) at the tolerances around rtol."""
    found = [errors(method, a * rtol, *more) for a in AROUND]
    state, gradient, steps = (
        statistics.geometric_mean(column) for column in zip(*found, strict=True)
    )
    return {"state": state, "gradient": gradient, "ratio": gradient / state, "steps": round(steps)}


def remedied(case, method, rtol):
    """Errors of the gradient by the remedies, and what they take."""
    tenth, gauss = mean(case.errors, method, rtol / 10), mean(case.errors, method, rtol, "gauss")
    row = {
        "tenth": tenth["gradient"],
        "gauss": gauss["gradient"],
        "steps": gauss["steps"],
        "steps_tenth": tenth["steps"],
    }
    if len(case.p) < MOST:
        controlled = mean(case.controlled, method, rtol)
        row |= {"controlled": controlled["gradient"], "steps_controlled": controlled["steps"]}
    return row


def main(argv=None):
    parser = report.parser(__doc__)
    parser.add_argument("--cases", nargs="+", default=tuple(cases()), choices=tuple(cases()))
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--rtols", nargs="+", type=float, default=RTOLS)
    parser.add_argument(
        "--remedies", nargs="*", default=BDF, help="the methods of the second table"
    )
    args = parser.parse_args(argv)
    report.heading()
    accuracy, remedies = [], []
    for name in args.cases:
        case = cases()[name]()
        for method, rtol in itertools.product(args.methods, args.rtols):
            report.progress(name, method, rtol)
            label = {"case": name, "method": method, "rtol": rtol}
            accuracy.append({**label, **mean(case.errors, method, rtol)})
            if method in args.remedies:
                remedies.append(
                    {**label, "discrete": accuracy[-1]["gradient"], **remedied(case, method, rtol)}
                )
    report.table(
        "accuracy: the discrete gradient",
        accuracy,
        ("case", "method", "rtol", "state", "gradient", "ratio", "steps"),
    )
    columns = (
        "case",
        "method",
        "rtol",
        "discrete",
        "tenth",
        "gauss",
        "controlled",
        "steps",
        "steps_tenth",
        "steps_controlled",
    )
    report.table("remedies: errors of the gradient", remedies, columns)
    report.save("accuracy", {"accuracy": accuracy, "remedies": remedies}, args)


if __name__ == "__main__":
    main()
