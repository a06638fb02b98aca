"""Two contestants side by side, A B A B ..., so that both meet the same disturbances of the
machine.

Times are of the processor, not of the clock on the wall: with one thread the two agree on an idle
machine, and on a busy one the time in which another program ran is left out (``--wall`` measures
that as well). Import this before torch or numpy: it holds everything to one thread, which the
libraries read when they are loaded.
"""

import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import torch  # noqa: E402

torch.set_num_threads(1)

# A pair is measured until the standard error of the median of its ratios is below this, or its time
# is up.
PRECISION = 0.01

# Seconds of a turn of what takes less.
BRIEF = 0.01

CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}


@dataclass(frozen=True)
class Pair:
    """Times in seconds of two contestants, a[i] and b[i] measured one right after the other."""

    a: list
    b: list

    @property
    def median_a(self) -> float:
        return statistics.median(self.a)

    @property
    def median_b(self) -> float:
        return statistics.median(self.b)

    @property
    def ratios(self) -> list:
        return [x / y for x, y in zip(self.a, self.b, strict=True)]

    @property
    def ratio(self) -> float:
        """Ratio of the medians: below 1 where a is faster."""
        return self.median_a / self.median_b

    @property
    def spread(self) -> tuple:
        """Lower and upper quartile of the ratios of neighbours."""
        return _quartiles(self.ratios)

    def row(self) -> dict:
        """What a table shows of the pair; times in milliseconds."""
        low, high = self.spread
        return {
            "ms": 1e3 * self.median_a,
            "min_ms": 1e3 * min(self.a),
            "base_ms": 1e3 * self.median_b,
            "base_min_ms": 1e3 * min(self.b),
            "ratio": self.ratio,
            "low": low,
            "high": high,
            "rounds": len(self.a),
        }


def pair(
    a: Callable,
    b: Callable,
    seconds: float = 4.0,
    clock: str = "cpu",
    rounds: tuple = (5, 100),
    warmup=1,
) -> Pair:
    """Run a and b in turn for about so many seconds, between rounds[0] and rounds[1] times each,
    after a warm-up.

    Stops before, once the ratio is known to PRECISION. clock: 'cpu' or 'wall'.
    """
    for _ in range(warmup):
        a()
        b()
    gc.collect()
    times_a, times_b = [], []
    end = time.perf_counter() + seconds
    while len(times_a) < rounds[1]:
        times_a.append(once(a, clock))
        times_b.append(once(b, clock))
        if len(times_a) >= rounds[0] and (time.perf_counter() > end or _settled(times_a, times_b)):
            break
    return Pair(times_a, times_b)


def in_turn(
    runs: dict, seconds: float = 4.0, clock: str = "cpu", rounds: tuple = (3, 50)
) -> dict[str, list]:
    """Seconds of every run, name -> a list, from rounds in which all of them run in turn.

    runs: name -> a function of no arguments, which has run before. One that takes less than BRIEF
    repeats in its turn until it has taken so long: its time is that of a warm processor. The rounds
    end after so many seconds, between rounds[0] and rounds[1] of them.
    """
    counts = {
        name: max(1, round(BRIEF / max(once(run, clock), 1e-6))) for name, run in runs.items()
    }
    times: dict[str, list] = {name: [] for name in runs}
    gc.collect()
    end = time.perf_counter() + seconds
    for i in range(rounds[1]):
        if i >= rounds[0] and time.perf_counter() > end:
            break
        for name, run in runs.items():
            count = counts[name]
            times[name].append(once(loop(run, count), clock) / count)
    return times


def once(f: Callable, clock: str = "cpu") -> float:
    """Seconds of one call."""
    now = CLOCKS[clock]
    start = now()
    f()
    return now() - start


def loop(f: Callable, number: int) -> Callable:
    """A function that calls f so many times, to measure what takes microseconds."""

    def run():
        for _ in range(number):
            f()

    return run


def _settled(a, b) -> bool:
    """Whether the median of the ratios is known well enough: its standard error is 1.25 sigma /
    sqrt(m)."""
    if len(a) < 9:
        return False
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    low, high = _quartiles(ratios)
    sigma = (high - low) / 1.35
    return 1.25 * sigma / len(ratios) ** 0.5 < PRECISION * statistics.median(ratios)


def _quartiles(values) -> tuple:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high
