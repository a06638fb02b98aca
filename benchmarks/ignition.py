"""Ignition at constant volume, beside Cantera's reactor network, on two mechanisms of Cantera.

    python -m benchmarks.ignition [--mechanisms h2o2 gri30] [--rounds 9]

Two tasks: T(t) at 24 times around the ignition, and the ignition delay. Each solver runs at several
tolerances, all in turn, round after round; times are medians of the processor's time. `ratio` is
pynode's time over Cantera's at the error of this row of Cantera: the least over the methods, by
interpolation of log(time) in log(error). The last table has the cost of the gradient of the delay
in all rate constants, in units of the forward solve.

For Cantera the steps of an initialised network are timed. A delay by Cantera is where Cantera's
interpolation passes the threshold; this search is not timed. For pynode the call is timed.
"""

import argparse
import math
import statistics
import time

from benchmarks import pairs  # first: it holds everything to one thread

import numpy as np  # isort: skip
import torch  # isort: skip

from pynode import solve  # isort: skip
from pynode.models import cantera  # isort: skip

# T, P and composition of the start, the temperature of ignition, and the delay by Cantera's network
# at rtol 1e-13 and 1e-10.
CASES = {
    "h2o2": (1100.0, 101325.0, "H2:2,O2:1,N2:3.76", 1500.0, 8.561181197932928e-05),
    "gri30": (1400.0, 1013250.0, "CH4:1,O2:2,N2:7.52", 1900.0, 0.0004649289694782312),
}
PLACES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0)
LATER = (1.005, 1.01, 1.02, 1.03, 1.05, 1.1, 1.2, 1.5, 2.0, 4.0, 10.0, 100.0)
METHODS = ("fbdf", "qndf", "rodas5p")
RTOLS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
CANTERA_RTOLS = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)


class Case:
    """One mechanism with the start and the references."""

    def __init__(self, name):
        import cantera as package

        self.package = package
        self.name = name
        self.T, self.P, self.X, self.threshold, self.delay = CASES[name]
        self.gas = package.Solution(f"{name}.yaml")
        self.reactor = cantera(f"{name}.yaml")
        self.y0 = self.reactor.initial(self.T, self.P, self.X)
        self.times = [self.delay * place for place in PLACES + LATER]
        self.reference = self.ours("radau", 1e-11, 1e-17)[1]

    def ours(self, method, rtol, atol):
        """(seconds, T at the times)."""
        begun = time.process_time()
        with torch.no_grad():
            found = solve(
                self.reactor,
                self.y0,
                [0.0, *self.times],
                method=method,
                rtol=rtol,
                atol=atol,
                backend="native",
            )
        return time.process_time() - begun, found.y[1:, 0].numpy()

    def our_delay(self, method, rtol, atol):
        """(seconds, delay)."""
        begun = time.process_time()
        with torch.no_grad():
            found = self.reactor.ignition_delay(
                self.y0, temperature=self.threshold, method=method, rtol=rtol, atol=atol
            )
        return time.process_time() - begun, float(found)

    def network(self, rtol, atol):
        """Cantera's network at the start."""
        self.gas.TPX = self.T, self.P, self.X
        reactor = self.package.IdealGasReactor(self.gas)
        net = self.package.ReactorNet([reactor])
        net.rtol = rtol
        net.atol = atol
        net.initialize()
        return net

    def theirs(self, rtol, atol):
        """(seconds, T at the times)."""
        net = self.network(rtol, atol)
        found = []
        begun = time.process_time()
        for t in self.times:
            net.advance(t)
            found.append(self.gas.T)
        return time.process_time() - begun, np.array(found)

    def their_delay(self, rtol, atol):
        """(seconds, (time before, time after the ignition))."""
        net = self.network(rtol, atol)
        before = now = 0.0
        begun = time.process_time()
        while self.gas.T < self.threshold:
            before = now
            now = net.step()
        return time.process_time() - begun, (before, now)

    def root(self, rtol, atol, before, after):
        """Where the interpolation of Cantera's network passes the threshold, by bisection."""
        for _ in range(40):
            middle = 0.5 * (before + after)
            self.network(rtol, atol).advance(middle)
            if self.gas.T < self.threshold:
                before = middle
            else:
                after = middle
        return 0.5 * (before + after)

    def error(self, T):
        """The largest relative error of T at the times."""
        return float(np.abs(T / self.reference - 1.0).max())


def fine(rtol):
    """atol of pynode in mol/m3, and of Cantera in mass fractions."""
    return 1e-5 * rtol, 1e-6 * rtol


def rounds_of(case, count):
    """{(task, solver, rtol): (seconds, error)}, medians over the rounds."""
    jobs = {}
    for rtol in CANTERA_RTOLS:
        jobs["T(t)", "cantera", rtol] = (case.theirs, (rtol, fine(rtol)[1]))
        jobs["delay", "cantera", rtol] = (case.their_delay, (rtol, fine(rtol)[1]))
    for method in METHODS:
        for rtol in RTOLS:
            jobs["T(t)", method, rtol] = (case.ours, (method, rtol, fine(rtol)[0]))
            jobs["delay", method, rtol] = (case.our_delay, (method, rtol, fine(rtol)[0]))
    seconds = {key: [] for key in jobs}
    results = {}
    for number in range(count + 1):
        for key, (run, arguments) in jobs.items():
            taken, results[key] = run(*arguments)
            if number:  # the first round warms up
                # A brief run repeats, so that a warm processor is timed.
                repeats = max(1, round(pairs.BRIEF / max(taken, 1e-6)))
                taken = sum(run(*arguments)[0] for _ in range(repeats)) / repeats
                seconds[key].append(taken)
    found = {}
    for (task, solver, rtol), taken in seconds.items():
        result = results[task, solver, rtol]
        if task == "T(t)":
            error = case.error(result)
        elif solver == "cantera":
            root = case.root(rtol, fine(rtol)[1], *result)
            error = abs(root / case.delay - 1.0)
        else:
            error = abs(result / case.delay - 1.0)
        found[task, solver, rtol] = (statistics.median(taken), error)
    return found


def time_at(points, error):
    """The least time at no larger error than this, on the line through (seconds, error); None
    outside of the errors."""
    points = sorted(points, key=lambda point: -point[1])
    found = []
    for (t0, e0), (t1, e1) in zip(points, points[1:]):
        if e1 <= error <= e0 and e1 < e0:
            share = math.log(e0 / error) / math.log(e0 / e1)
            found.append(math.exp((1 - share) * math.log(t0) + share * math.log(t1)))
    return min(found, default=None)


def show(case, found):
    """Print the rows of Cantera with the ratios, and pynode's own."""
    for task in ("T(t)", "delay"):
        print(f"\n{case.name}, {task}\n")
        print("| rtol | Cantera error | ms | ratio | method |\n|---|---|---|---|---|")
        for rtol in CANTERA_RTOLS:
            seconds, error = found[task, "cantera", rtol]
            options = []
            for method in METHODS:
                taken = time_at([found[task, method, r] for r in RTOLS], error)
                if taken is not None:
                    options.append((taken / seconds, method))
            ratio, method = min(options, default=(math.nan, "-"))
            print(f"| {rtol:.0e} | {error:.1e} | {1e3 * seconds:.2f} | {ratio:.2f} | {method} |")
        for method in METHODS:
            rows = [found[task, method, rtol] for rtol in RTOLS]
            line = ", ".join(f"{error:.0e}: {1e3 * seconds:.2f}" for seconds, error in rows)
            print(f"\n{method}, error: ms: {line}")


def gradients(case, count):
    """Print what the gradient of the delay in all rate constants costs."""
    print(f"\n{case.name}, gradient of the delay in all rate constants\n")
    print(
        "| method | rtol | forward ms | with gradient ms | further solves |\n|---|---|---|---|---|"
    )
    for method, rtol in (("fbdf", 1e-6), ("fbdf", 1e-8), ("rodas5p", 1e-6)):
        atol = fine(rtol)[0]
        forward = []
        whole = []
        for number in range(count + 1):
            taken, _ = case.our_delay(method, rtol, atol)
            begun = time.process_time()
            delay = case.reactor.ignition_delay(
                case.y0, temperature=case.threshold, method=method, rtol=rtol, atol=atol
            )
            delay.log().backward()
            if number:
                forward.append(taken)
                whole.append(time.process_time() - begun)
            case.reactor.zero_grad()
        f = statistics.median(forward)
        g = statistics.median(whole)
        print(f"| {method} | {rtol:.0e} | {1e3 * f:.2f} | {1e3 * g:.2f} | {g / f - 1:.2f} |")


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mechanisms", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    for name in options.mechanisms:
        case = Case(name)
        show(case, rounds_of(case, options.rounds))
        gradients(case, options.rounds)


if __name__ == "__main__":
    main()
