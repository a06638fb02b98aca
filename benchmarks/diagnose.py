"""Is what ``diagnose`` recommends near the best? The labelled problems, each solved by every method
in question.

  labels       what diagnose found, with '!' where that is not what is known of the problem
  recommended  the method (and structure of the Jacobian) that it chose, and its time
  best         the fastest of all contestants at no larger error class, and its time
  ratio        the time of the recommended one over the time of the best one; the two run in turn;
               1 where they are the same
  error        of the recommended one, root mean square in units of atol + rtol |y| over ten times,
               and of the best one
  advice_s     how long diagnose took, trials included

All contestants solve with the tolerances and jumps recommended. No larger error class: at most ten
times the error of the recommended one, or of one unit where it is smaller; of chaotic problems and
such that blow up all count. Every contestant is run once for the list of the best, for at most
three times the time of the recommended one, and the three fastest then in turn with it. A problem
that blows up is solved to 99 % of its time.
"""

import math
import time

from benchmarks.pairs import once, pair
from pynode.methods import Rodas5P
from pynode.methods.registry import get

import torch  # isort: skip

from benchmarks import report
from benchmarks.labelled import CASES
from pynode import diagnose, solve
from pynode.core.norm import Tolerance

METHODS = (
    "tsit5",
    "vern7",
    "bs3",
    "dp5",
    "dp8",
    "adamspece",
    "autotsit5",
    "qndf",
    "fbdf",
    "rodas5p",
    "rodas4",
    "rosenbrock23",
    "kencarp4",
    "kencarp47",
    "kvaerno5",
    "trbdf2",
    "radauiia5",
    "radauiia9",
    "rkc",
)
STRUCTURES = ("dense", "sparse", "krylov")
LARGE = 300  # states from which on the structures of the Jacobian are contestants of their own
# Times the recommended one's, and seconds, after which a contestant is stopped.
SLOW, LEAST = 3.0, 0.5
PAIRED = 3
OUTPUTS = 11


class Contest:
    """One labelled problem with its diagnosis; every contestant is a function of no arguments that
    solves it once."""

    def __init__(self, case):
        self.case, self.setting = case, case.make()
        f, y0, t, rtol, atol = self.setting
        began = time.perf_counter()
        self.found = diagnose(f, y0, t, rtol=rtol, atol=atol)
        self.seconds = time.perf_counter() - began
        end = (
            t[1]
            if self.found.reference.status.success
            else t[0] + 0.99 * (self.found.reference.reached - t[0])
        )
        self.times = [t[0] + (end - t[0]) * i / (OUTPUTS - 1) for i in range(OUTPUTS)]
        self.arguments = self.found.advice.arguments()
        self.own = (self.found.advice.method.lower(), self.found.advice.structure)
        del self.arguments["method"]
        atol = torch.as_tensor(self.arguments["atol"], dtype=torch.float64)
        self.tol = Tolerance(rtol, atol, y0.numel())
        tight = {**self.arguments, "rtol": max(1e-4 * rtol, 1e-12), "atol": 1e-4 * atol}
        double = f.double() if isinstance(f, torch.nn.Module) else f
        by = Rodas5P(jacobian="sparse") if y0.numel() > LARGE else "radauiia9"
        self.reference = solve(double, y0.double(), self.times, method=by, **tight).y.detach()
        if y0.dtype != torch.float64 and isinstance(f, torch.nn.Module):
            f.to(y0.dtype)

    def solve(self, contestant, limit=None):
        method, structure = contestant
        with torch.no_grad():
            return solve(
                self.setting.f,
                self.setting.y0,
                self.times,
                method=get(method, jacobian=structure),
                throw=False,
                max_steps=10**7,
                max_seconds=limit,
                **self.arguments,
            )

    def measured(self, contestant, limit=None):
        """(seconds, error of the outputs, contestant); the error is infinite where it does not
        finish in time."""
        outputs = []
        seconds = once(lambda: outputs.append(self.solve(contestant, limit)))
        if not outputs[0].success:
            return seconds, math.inf, contestant
        scaled = (outputs[0].y.double() - self.reference) / self.tol.scale(self.reference)
        return seconds, float(scaled.square().mean().sqrt()), contestant

    def rivals(self):
        """[(seconds, error, contestant)] of all that finish, the recommended one among them, the
        fastest first."""
        self.measured(self.own)  # warm
        began = time.perf_counter()
        found = [self.measured(self.own)]
        limit = max(LEAST, SLOW * (time.perf_counter() - began))
        large = self.setting.y0.numel() > LARGE
        for method in METHODS:
            for structure in STRUCTURES if large else STRUCTURES[:1]:
                if (method, structure) == self.own:
                    continue
                try:
                    found.append(self.measured((method, structure), limit))
                except ValueError:  # the method does not take this structure
                    continue
        return sorted(one for one in found if math.isfinite(one[1]))

    def row(self, args) -> dict:
        rivals = self.rivals()
        own_error = next(error for _, error, contestant in rivals if contestant == self.own)
        free = {"unstable", "blows up"} & self.case.labels
        near = [one for one in rivals if free or one[1] <= 10 * max(own_error, 1.0)]
        best, ratio, best_error, times = self.own, 1.0, own_error, None
        for _, error, contestant in [one for one in near if one[2] != self.own][:PAIRED]:
            times = pair(
                lambda: self.solve(self.own),
                lambda c=contestant: self.solve(c),
                args.seconds,
                args.clock,
            )
            if times.ratio > ratio:
                best, ratio, best_error = contestant, times.ratio, error
        own = 1e3 * (
            times.median_a if times else next(seconds for seconds, _, c in rivals if c == self.own)
        )
        right = self.found.labels == self.case.labels
        return {
            "problem": self.case.name,
            "labels": ", ".join(sorted(self.found.labels)) + ("" if right else " !"),
            "recommended": _name(self.own),
            "ms": own,
            "best": _name(best),
            "best_ms": own / ratio,
            "ratio": ratio,
            "error": own_error,
            "best_error": best_error,
            "advice_s": self.seconds,
        }


def _name(contestant):
    method, structure = contestant
    return method + (f" {structure}" if structure != "dense" else "")


def main(argv=None):
    parser = report.parser(__doc__)
    names = [case.name for case in CASES]
    parser.add_argument(
        "--problems", nargs="+", default=names, choices=names, help="some of the problems, by name"
    )
    args = parser.parse_args(argv)
    report.heading()
    rows = []
    for case in CASES:
        if case.name in args.problems:
            report.progress(case.name)
            rows.append(Contest(case).row(args))
    columns = (
        "problem",
        "labels",
        "recommended",
        "ms",
        "best",
        "best_ms",
        "ratio",
        "error",
        "best_error",
        "advice_s",
    )
    report.table("diagnose: the recommended method beside the best", rows, columns)
    right, near = (
        sum("!" not in row["labels"] for row in rows),
        sum(row["ratio"] <= 2 for row in rows),
    )
    print(
        f"\n{right} of {len(rows)} labelled right; {near} of {len(rows)} recommendations within 2"
        " times of the best"
    )
    report.save("diagnose", {"diagnose": rows}, args)


if __name__ == "__main__":
    main()
