"""The explicit methods: pynode's Tsit5 and DP5 beside torchdiffeq's dopri5, same field, tolerances
and outputs, one thread.

  forward            no gradient on either side; the target is 0.4 of torchdiffeq's time
  gradient           forward and backward against torchdiffeq's odeint, which keeps the graph of the
                     whole solve
  gradient/adjoint   the same against odeint_adjoint, a second solve backwards in time

Lotka-Volterra, the cubic spiral, Lorenz, and a 3-50-50-3 tanh network with one start and with a
batch of 256. A ratio below 1 says that pynode is faster; "error" is the largest over the outputs
relative to the largest value of the component, against a solve at rtol 1e-12 with SciPy's DOP853
(left out without SciPy; on Lorenz it mostly shows that chaos amplifies). "grad_diff" is the largest
difference of the two gradients relative to the largest entry. With --torchode also torchode's
Dopri5 and Tsit5 with automatic differentiation, which step every sample of a batch by itself.
"""

from benchmarks.pairs import pair

import torch  # isort: skip

from benchmarks import report
from benchmarks.case import OUTPUTS, tight
from benchmarks.fields import start
from benchmarks.peers.torchdiffeq import torchdiffeq
from benchmarks.peers.torchode import torchode
from benchmarks.problems import PROBLEMS, SMOOTH, names
from pynode import solve

METHODS = ("tsit5", "dp5")
FIELDS = (*names(SMOOTH, network=False), "mlp x1", "mlp x256")


class Case:
    """A field with a start, (n,) or (batch, n), and output times; solvers are functions of no
    arguments."""

    def __init__(self, name: str, rtol: float):
        """name: of a problem; with ' x256' of that problem from so many random starts."""
        self.name = name
        self.rtol = rtol
        base, _, batch = name.partition(" x")
        problem = PROBLEMS[base].make()
        self.field = problem.field
        self.atol = problem.atol
        self.y0 = start(int(batch)) if batch else problem.y0
        self.t = torch.linspace(0.0, problem.tspan[1], OUTPUTS + 1, dtype=torch.float64)
        self.parameters = tuple(self.field.parameters())

    def pynode(self, method):
        times = self.t.tolist()
        return lambda y0, f=self.field: (
            solve(f, y0, times, method=method, rtol=self.rtol, atol=self.atol).y
        )

    def torchdiffeq(self, adjoint=False):
        return lambda y0, f=self.field: torchdiffeq(
            f, y0, self.t, "dopri5", self.rtol, self.atol, adjoint
        )

    def torchode(self, method):
        name = {"tsit5": "Tsit5", "dp5": "Dopri5"}[method]
        return lambda y0, f=self.field: torchode(f, y0, self.t, name, self.rtol, self.atol)

    def forward(self, solver):
        def run():
            with torch.no_grad():
                return solver(self.y0)

        return run

    def gradient(self, solver):
        """d (mean of squares of the outputs) / d (y0, parameters)."""

        def run():
            y0 = self.y0.clone().requires_grad_()
            loss = solver(y0).square().mean()
            return torch.autograd.grad(loss, (y0, *self.parameters))

        return run

    def evaluations(self, solver) -> int:
        """Calls of the field in one forward solve."""
        count = [0]

        def counted(t, y):
            count[0] += 1
            return self.field(t, y)

        with torch.no_grad():
            solver(self.y0, counted)
        return count[0]

    def reference(self):
        """(T, ...) states of a tight solve, None without SciPy."""
        if report.missing("scipy.integrate", "scipy"):
            return None
        return tight(self.field, self.y0, self.t)


def error(states, reference) -> float | None:
    """Largest difference relative to the largest value of the component over all times and
    samples."""
    if reference is None:
        return None
    largest = reference.abs().reshape(-1, reference.shape[-1]).amax(0)
    return float(((states.detach() - reference).abs() / largest).max())


def difference(grads, others) -> float:
    return max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(grads, others, strict=True)
    )


def measure(case, method, peer_name, peer_solver, adjoint_solver, args) -> list:
    """Rows of one method of pynode beside one peer."""
    mine = case.pynode(method)
    reference = args.references[case.name]
    row = {"field": case.name, "method": method, "peer": peer_name}
    forward = case.forward(mine)
    other = case.forward(peer_solver)
    rows = [
        {
            **row,
            "task": "forward",
            **pair(forward, other, args.seconds, args.clock).row(),
            "nfe": case.evaluations(mine),
            "peer_nfe": case.evaluations(peer_solver),
            "error": error(forward(), reference),
            "peer_error": error(other(), reference),
        }
    ]
    tasks = {"gradient": peer_solver, "gradient/adjoint": adjoint_solver}
    for task, solver in tasks.items():
        if solver is None or args.forward_only:
            continue
        a = case.gradient(mine)
        b = case.gradient(solver)
        timed = pair(a, b, args.seconds, args.clock).row()
        rows.append({**row, "task": task, **timed, "grad_diff": difference(a(), b())})
    return rows


def main(argv=None):
    parser = report.parser(__doc__)
    parser.add_argument("--rtol", type=float, default=1e-6)
    parser.add_argument("--fields", nargs="+", default=FIELDS, choices=FIELDS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--forward-only", action="store_true")
    parser.add_argument("--torchode", action="store_true", help="compare with torchode as well")
    args = parser.parse_args(argv)
    cases = [Case(name, args.rtol) for name in args.fields]
    references = args.references = {case.name: case.reference() for case in cases}
    rows = []
    with_torchdiffeq = not report.missing("torchdiffeq")
    with_torchode = args.torchode and not report.missing("torchode")
    report.heading()
    for case in cases:
        for method in args.methods:
            report.progress(case.name, method)
            if with_torchdiffeq:
                solvers = case.torchdiffeq(), case.torchdiffeq(adjoint=True)
                rows += measure(case, method, "torchdiffeq dopri5", *solvers, args)
            if with_torchode:
                rows += measure(
                    case, method, f"torchode {method}", case.torchode(method), None, args
                )
    del args.references
    if not rows:
        rows = alone(cases, references, args)
    for task in dict.fromkeys(row["task"] for row in rows):
        shown = [row for row in rows if row["task"] == task]
        report.table(
            task,
            shown,
            (
                "field",
                "method",
                "peer",
                "ms",
                "min_ms",
                "base_ms",
                "ratio",
                "low",
                "high",
                "rounds",
                *(
                    ("nfe", "peer_nfe", "error", "peer_error")
                    if task == "forward"
                    else ("grad_diff",)
                ),
            ),
        )
    report.save("explicit", {"explicit": rows}, args)


def alone(cases, references, args) -> list:
    """Without a peer: Tsit5 beside DP5."""
    rows = []
    for case in cases:
        a, b = (case.forward(case.pynode(method)) for method in METHODS)
        row = {"field": case.name, "method": "tsit5", "peer": "pynode dp5", "task": "forward"}
        rows.append(
            {
                **row,
                **pair(a, b, args.seconds, args.clock).row(),
                "error": error(a(), references[case.name]),
            }
        )
    return rows


if __name__ == "__main__":
    main()
