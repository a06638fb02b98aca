"""What one training gradient costs: loss.backward() through 50 outputs, one thread, in units of the
forward solve.

  gradient   forward with its recording and backward, beside a forward solve without gradient
             ("ratio"; target of FBDF: 3); "backward" is the part of the ratio that loss.backward()
             takes (target of the discrete adjoint: 2)
  direct     the discrete adjoint beside adjoint="direct", the graph of the whole solve, forward and
             backward each; "grad_diff" is the largest difference of their gradients relative to the
             largest entry

Fields: the stiff problems with their physical constants as parameters (a), the other problems for
Tsit5, a 3-50-50-3 tanh network, and the same with decay rates of 1, 30 and 1000, which makes it
stiff (b). The loss is the mean square of the outputs, each component scaled by its largest value.
"""

import statistics

from benchmarks.pairs import CLOCKS, pair

import torch  # isort: skip

from benchmarks import report
from benchmarks.case import OUTPUTS
from benchmarks.problems import PROBLEMS, SMOOTH, STIFF, names
from pynode import solve

HARD = names(STIFF, network=False)
OTHERS = names(SMOOTH, network=False)
NETWORKS = (*names(SMOOTH, network=True), *names(STIFF, network=True))
METHODS = ("fbdf", "qndf", "rodas5p", "tsit5")


class Case:
    """A field with start and outputs, and the loss of one training step."""

    def __init__(self, name: str, method: str, rtol: float, clock: str):
        self.name = name
        self.method = method
        self.rtol = rtol
        self.now = CLOCKS[clock]
        log = name in ("robertson", "hires")
        problem = PROBLEMS[name].make()
        self.field = problem.field
        self.y0 = problem.y0
        end = problem.tspan[1]
        self.atol = torch.tensor(problem.atol, dtype=torch.float64)
        inner = (
            torch.logspace(-5, 0, OUTPUTS) * end if log else torch.linspace(0, end, OUTPUTS + 1)[1:]
        )
        self.times = [0.0, *inner.double().tolist()[:-1], end]
        self.parameters = tuple(self.field.parameters())
        self.backward_seconds = []
        states = self.forward().y
        self.largest = states.abs().amax(0).clamp_min(1e-30)

    def solve(self, y0, adjoint="discrete", **options):
        return solve(
            self.field,
            y0,
            self.times,
            rtol=self.rtol,
            atol=self.atol,
            adjoint=adjoint,
            throw=False,
            **{"method": self.method, **options},
        )

    def forward(self):
        with torch.no_grad():
            return self.solve(self.y0)

    def gradient(self, adjoint="discrete"):
        """d loss / d (y0, parameters); the time of the backward pass is noted."""
        y0 = self.y0.clone().requires_grad_()
        solution = self.solve(y0, adjoint)
        loss = (solution.y / self.largest).square().mean()
        begin = self.now()
        grads = torch.autograd.grad(loss, (y0, *self.parameters))
        self.backward_seconds.append(self.now() - begin)
        return grads, solution

    def direct(self):
        return self.gradient("direct")


def measure(case, args) -> tuple:
    """(row of the gradient, row of the comparison with direct or None)."""
    label = {"field": case.name, "method": case.method}
    found = case.forward()
    if not found.success:
        return {**label, "note": found.status.name}, None
    timed = pair(case.gradient, case.forward, args.seconds, args.clock)
    backward = statistics.median(case.backward_seconds[-len(timed.a) :])
    grads, solution = case.gradient()
    stats = solution.stats
    row = {
        **label,
        **timed.row(),
        "backward": backward / timed.median_b,
        "steps": stats.accepted,
        "nfe": stats.nfe,
        "us_step": 1e6 * backward / max(stats.accepted, 1),
    }
    if case.name not in args.direct:
        return row, None
    other = case.direct()[0]
    scale = [max(float(b.abs().max()), 1e-300) for b in other]
    difference = max(
        float((a - b).abs().max()) / s for a, b, s in zip(grads, other, scale, strict=True)
    )
    timed = pair(case.gradient, case.direct, args.seconds, args.clock, rounds=(3, 100), warmup=0)
    return row, {**label, **timed.row(), "grad_diff": difference}


def main(argv=None):
    parser = report.parser(__doc__)
    fields = (*HARD, *OTHERS, *NETWORKS)
    parser.add_argument("--rtol", type=float, default=1e-6)
    parser.add_argument("--fields", nargs="+", default=fields, choices=fields)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument(
        "--direct",
        nargs="*",
        default=("robertson", "hires", "spiral", "mlp"),
        choices=fields,
        help='fields compared with adjoint="direct" as well: it takes minutes on the long ones',
    )
    args = parser.parse_args(argv)
    report.heading()
    costs = []
    comparisons = []
    for name in args.fields:
        for method in args.methods:
            if (method == "tsit5" and name in HARD) or (method != "tsit5" and name in OTHERS):
                continue
            report.progress(name, method)
            cost, comparison = measure(Case(name, method, args.rtol, args.clock), args)
            costs.append(cost)
            comparisons += [comparison] if comparison else []
    columns = ("field", "method", "ms", "min_ms", "base_ms", "ratio", "low", "high", "rounds")
    shown = (*columns, "backward", "us_step", "steps", "nfe", "note")
    report.table("gradient: forward and backward, beside forward", costs, shown)
    if comparisons:
        report.table(
            'direct: the discrete adjoint beside "direct"', comparisons, (*columns, "grad_diff")
        )
    report.save("gradient", {"gradient": costs, "direct": comparisons}, args)


if __name__ == "__main__":
    main()
