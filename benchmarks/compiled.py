"""Whole steps compiled (compile=True) beside the same solve as it stands, one thread: forward, and forward with the gradient.

Fields: a 3-50-50-3 tanh network, the same with decay rates of 1, 30 and 1000, which makes it stiff, and problems with their
constants as parameters. "compile_s" is the time of the first solve, compilation and comparison of a step included; "difference"
the largest of the states at the end, relative to their size. Needs a C++ compiler.
"""

import time

from benchmarks.gradient import Case
from benchmarks.pairs import pair

import torch  # isort: skip

from benchmarks import report

FIELDS = ("mlp", "stiff mlp", "robertson", "pollution")
METHODS = ("tsit5", "rosenbrock23", "rodas5p")


class Compiled(Case):
    """The same case, its steps compiled by this backend of torch.compile."""

    backend = "inductor"

    def solve(self, y0, adjoint="discrete"):
        return super().solve(y0, adjoint, compile=self.backend)


def measure(name, method, args) -> list:
    """Rows of the solve and of the gradient."""
    plain, began = Case(name, method, args.rtol, args.clock), time.perf_counter()
    compiled = Compiled(name, method, args.rtol, args.clock)
    seconds = time.perf_counter() - began
    expected, found = plain.forward(), compiled.forward()
    difference = float((expected.y[-1] - found.y[-1]).abs().max() / expected.y[-1].abs().max())
    rows = []
    for what in ("forward", "gradient"):
        timed = pair(getattr(compiled, what), getattr(plain, what), args.seconds, args.clock)
        rows.append({
            "field": name, "method": method, "what": what, **timed.row(), "compile_s": seconds, "difference": difference,
            "steps": found.stats.accepted,
        })
    return rows


def main(argv=None):
    parser = report.parser(__doc__)
    parser.add_argument("--rtol", type=float, default=1e-6)
    parser.add_argument("--fields", nargs="+", default=FIELDS, choices=FIELDS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--backend", default=Compiled.backend, help="of torch.compile (default: %(default)s)")
    args = parser.parse_args(argv)
    Compiled.backend = args.backend
    report.heading()
    rows = []
    for name in args.fields:
        for method in args.methods:
            if method == "tsit5" and name not in ("mlp",):
                continue
            report.progress(name, method)
            torch.manual_seed(0)
            rows += measure(name, method, args)
    columns = ("field", "method", "what", "ms", "base_ms", "ratio", "low", "high", "compile_s", "difference", "steps")
    report.table("compiled: whole steps compiled, beside the same as they stand", rows, columns)
    report.save("compiled", {"compiled": rows}, args)


if __name__ == "__main__":
    main()
