"""Whole steps compiled (compile=True) beside the same solve as it stands, one thread: forward, and
forward with the gradient.

Fields: a 3-50-50-3 tanh network, the same with decay rates of 1, 30 and 1000, which makes it stiff,
problems with their constants as parameters, and --rows Van der Pol oscillators of a batch, mu from
1 to 10,000, to t = 10 with the gradient in their starts. "compile_s" is the time of the first
solve, compilation and comparison of steps included; "difference" the largest of the states at the
end, relative to their size. Needs a C++ compiler.
"""

import time

from benchmarks.gradient import Case
from benchmarks.pairs import pair
from pynode.methods import registry
from pynode.methods.registry import get

import torch  # isort: skip

from benchmarks import batched, gpu, report
from pynode import solve

BATCH = "vanderpol rows"
FIELDS = ("lotka_volterra", "mlp", "stiff mlp", "robertson", "vanderpol", "pollution", BATCH)
METHODS = ("tsit5", "rosenbrock23", "rodas5p")
# Those that Tsit5 is for; the other methods are for the others, unless named.
SOFT = ("lotka_volterra", "mlp")


class Compiled(Case):
    """The same case, its steps compiled by this backend of torch.compile."""

    backend = "inductor"

    def solve(self, y0, adjoint="discrete"):
        return super().solve(y0, adjoint, method=registry.get(self.method, compile=self.backend))


class Rows:
    """A batch of Van der Pol oscillators; forward and gradient as those of a Case."""

    def __init__(self, rows, method, rtol, backend):
        self.batch, self.method, self.backend = batched.Batch(rows, 1, 10.0, rtol), method, backend
        self.field = gpu.called(self.batch.field)
        self.forward()

    def solve(self, y0):
        batch = self.batch
        return solve(
            self.field,
            y0,
            batch.t,
            args=(batch.constants,),
            method=get(self.method, compile=self.backend),
            rtol=batch.rtol,
            atol=batch.atol,
            batched=True,
        )

    def forward(self):
        with torch.no_grad():
            return self.solve(self.batch.y0)

    def gradient(self):
        y0 = self.batch.y0.clone().requires_grad_()
        return torch.autograd.grad(self.solve(y0).y[1:].square().mean(), y0)


def measure(name, method, args) -> list:
    """Rows of the solve and of the gradient."""
    if name == BATCH:
        plain, began = Rows(args.rows, method, args.rtol, False), time.perf_counter()
        compiled = Rows(args.rows, method, args.rtol, args.backend)
    else:
        plain, began = Case(name, method, args.rtol, args.clock), time.perf_counter()
        compiled = Compiled(name, method, args.rtol, args.clock)
    seconds = time.perf_counter() - began
    expected, found = plain.forward(), compiled.forward()
    difference = float((expected.y[-1] - found.y[-1]).abs().max() / expected.y[-1].abs().max())
    rows = []
    for what in ("forward", "gradient"):
        timed = pair(getattr(compiled, what), getattr(plain, what), args.seconds, args.clock)
        rows.append(
            {
                "field": name,
                "method": method,
                "what": what,
                **timed.row(),
                "compile_s": seconds,
                "difference": difference,
                "steps": found.stats.accepted,
            }
        )
    return rows


def main(argv=None):
    parser = report.parser(__doc__)
    parser.add_argument("--rtol", type=float, default=1e-6)
    parser.add_argument("--fields", nargs="+", default=FIELDS, choices=FIELDS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument(
        "--rows", type=int, default=1024, help="of the batch (default: %(default)s)"
    )
    parser.add_argument(
        "--backend", default=Compiled.backend, help="of torch.compile (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    Compiled.backend = args.backend
    report.heading()
    rows = []
    for name in args.fields:
        for method in args.methods:
            if args.methods is METHODS and (method == "tsit5") != (name in SOFT):
                continue
            report.progress(name, method)
            torch.manual_seed(0)
            rows += measure(name, method, args)
    columns = (
        "field",
        "method",
        "what",
        "ms",
        "base_ms",
        "ratio",
        "low",
        "high",
        "compile_s",
        "difference",
        "steps",
    )
    report.table("compiled: whole steps compiled, beside the same as they stand", rows, columns)
    report.save("compiled", {"compiled": rows}, args)


if __name__ == "__main__":
    main()
