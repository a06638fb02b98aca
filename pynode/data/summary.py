"""What is in a data set: spans, missing values, noise, oscillation, and the sentences that say
so."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.formatting import counted, number
from ..core.text_table import WIDTH, text_table
from .dataset import Dataset, Trajectory
from .names import is_error

# The noise is measured at most at so many times of each trajectory.
MOST_TIMES = 20_000
# Neighbours on each side from which a value is predicted.
NEIGHBOURS = (1, 2, 3)
# A higher degree must lower the bound by more than this factor.
CLOSE = 1.25
# With fewer residuals nothing is said of the noise.
FEWEST_RESIDUALS = 6
# The standard deviation of normal numbers in units of the median of their sizes.
OF_MEDIAN = 1.4826
# A turning point counts if the state turns by more than this fraction of its range, and by more
# than so many standard deviations of the noise.
TURN = 0.1
TURN_IN_NOISE = 4.0
# A state that turns so often oscillates.
TURNS = 3


@dataclass(frozen=True)
class StateSummary:
    """One state. low, high: the smallest and the largest value. missing: at how many of all times a
    value is missing. noise: the standard deviation, None if unknown. known_by: 'errors',
    'replicates' or 'differences', which give a bound from above. turns: the mean number of turning
    points of a trajectory. period: of the oscillation, in the unit of the time, None without.
    decades: of positive values."""

    name: str
    unit: str
    low: float
    high: float
    missing: int
    noise: float | None
    known_by: str
    turns: float
    period: float | None
    decades: float | None

    @property
    def relative_noise(self) -> float | None:
        """The noise in units of the range."""
        if self.noise is None or not self.high > self.low:
            return None
        return self.noise / (self.high - self.low)


@dataclass(frozen=True)
class Summary:
    """A data set. span: its first and last time. steps: the shortest and the longest time between
    neighbours. decades: of the span in units of the shortest step."""

    time: str
    time_unit: str
    trajectories: tuple[str, ...]
    times: int
    observations: int
    span: tuple[float, float]
    steps: tuple[float, float]
    decades: float
    states: tuple[StateSummary, ...]
    inputs: tuple[str, ...]
    held: bool
    errors: tuple[str | None, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        plain = asdict(self)
        for state, own in zip(plain["states"], self.states, strict=True):
            state["relative_noise"] = own.relative_noise
        return plain

    def __str__(self) -> str:
        sentences = [textwrap.fill(line, WIDTH) for line in self._sentences()]
        about = [textwrap.fill(line, WIDTH) for line in self._about_time()]
        return "\n".join([*about, *self._table(), *sentences])

    def _about_time(self) -> list[str]:
        runs = counted(len(self.trajectories), "trajectory", "trajectories")
        unit = ""
        if self.time_unit:
            unit = f" {self.time_unit}"
        steps = f"steps of {number(self.steps[0])}"
        if self.steps[1] > 1.001 * self.steps[0]:
            steps = f"steps from {number(self.steps[0])} to {number(self.steps[1])}"
        return [
            f"{runs}, {self.times} times, {self.observations} observed values after the start.",
            f"Time: {self.time!r}, from {self.span[0]:g} to {self.span[1]:g}{unit}, in {steps}"
            f" ({self.decades:.1f} decades).",
            "",
        ]

    def _table(self) -> list[str]:
        rows = [("state", "from", "to", "missing", "noise", "turns", "period")]
        for state in self.states:
            noise = "?"
            if state.noise is not None:
                noise = number(state.noise)
            if state.relative_noise is not None:
                noise += f" ({100 * state.relative_noise:.2g} %)"
            period = "-"
            if state.period is not None:
                period = number(state.period)
            rows.append(
                (
                    _short(state.name),
                    f"{state.low:.4g}",
                    f"{state.high:.4g}",
                    str(state.missing),
                    noise,
                    f"{state.turns:.3g}",
                    period,
                )
            )
        return text_table(rows, left=(0,))

    def _sentences(self) -> list[str]:
        said = [""]
        if self.inputs:
            how = "change along lines"
            if self.held:
                how = "keep each value until the next one"
            said.append(f"Inputs: {', '.join(self.inputs)}; they {how}.")
        for state, column in zip(self.states, self.errors):
            if column is not None:
                said.append(f"{column!r} is the standard deviation of {state.name!r}.")
        ways = {state.known_by for state in self.states if state.noise is not None}
        if "differences" in ways:
            said.append(
                "The noise is what neighbours do not explain: an upper bound if times are sparse."
            )
        elif "replicates" in ways:
            said.append("The noise is the spread of the replicates.")
        turning = [state.name for state in self.states if state.turns >= TURNS]
        if turning:
            said.append(f"Oscillating: {', '.join(turning)}.")
        for state in self.states:
            if state.low == state.high and not is_error(state.name):
                said.append(
                    f"{state.name!r} never changes: leave it out with --drop {state.name}, or train"
                    " with --keep-constant."
                )
        return said + list(self.notes)


def summarise(data: Dataset) -> Summary:
    """Measure a data set."""
    runs = data.trajectories
    steps = [run.t.diff() for run in runs]
    shortest = min(float(step.min()) for step in steps)
    longest = max(float(step.max()) for step in steps)
    span = max(float(run.t[-1] - run.t[0]) for run in runs)
    states = []
    for i, name in enumerate(data.columns):
        states.append(_state(data, i, name))
    return Summary(
        data.time,
        data.time_unit,
        tuple(run.name for run in runs),
        sum(len(run.t) for run in runs),
        data.observations,
        (min(float(run.t[0]) for run in runs), max(float(run.t[-1]) for run in runs)),
        (shortest, longest),
        math.log10(span / shortest),
        tuple(states),
        data.inputs,
        data.held,
        data.errors,
        data.notes,
    )


def noise(runs: Sequence[Trajectory], i: int) -> tuple[float | None, str]:
    """The standard deviation of the noise in state i, and how it is known: from errors, from
    replicates, or from differences of neighbours. None if there are too few values."""
    given = [run.lines.sd for run in runs]
    if all(sd is not None and bool((sd[:, i] > 0).any()) for sd in given):
        known = [sd[:, i][sd[:, i] > 0] for sd in given if sd is not None]
        return float(torch.cat(known).median()), "errors"
    spread = _spread(runs, i)
    if spread is not None:
        return spread, "replicates"
    return from_differences(
        [(run.t[run.seen[:, i]], run.y[:, i][run.seen[:, i]]) for run in runs]
    ), "differences"


def from_differences(curves: Sequence[tuple[Tensor, Tensor]]) -> float | None:
    """The standard deviation of the noise in curves (t, y), each (T,), with increasing times. None
    if they have too few points.

    A polynomial through neighbours predicts each value. The weights of the polynomial say how much
    of the residual is noise. What the polynomial misses of the curve adds to the residual.
    The median of the residuals bounds the noise from above. The lowest degree is taken whose
    bound is close to the smallest. Gasser, Sroka & Jennen-Steinmetz, Biometrika 73 (1986) 625-633,
    have it for straight lines.
    """
    bounds = []
    for k in NEIGHBOURS:
        parts = [_residuals(t, y, k) for t, y in curves if len(t) > 2 * k]
        if parts and sum(len(part) for part in parts) >= FEWEST_RESIDUALS:
            bounds.append(OF_MEDIAN * float(torch.cat(parts).abs().median()))
    if not bounds:
        return None
    return next(bound for bound in bounds if bound <= CLOSE * min(bounds))


def turning_points(y: Tensor, least: float) -> list[int]:
    """Where a curve (T,) turns by more than ``least``, as indices: maxima and minima in turn."""
    found = []
    up = None
    best = 0
    values = y.tolist()
    low = high = 0
    for i, value in enumerate(values):
        if up is None:
            if value < values[low]:
                low = i
            if value > values[high]:
                high = i
            if value - values[low] > least:
                up = True
                best = i
            elif values[high] - value > least:
                up = False
                best = i
            continue
        rise = value - values[best]
        if not up:
            rise = -rise
        if rise > 0:
            best = i
        elif -rise > least:
            found.append(best)
            up = not up
            best = i
    return found


def _state(data, i, name) -> StateSummary:
    runs = data.trajectories
    lines = [run.lines for run in runs]
    values = torch.cat([line.y[:, i][line.seen[:, i]] for line in lines])
    low = float(values.min())
    high = float(values.max())
    missing = sum(int((~run.seen[:, i]).sum()) for run in runs)
    size, known_by = noise(runs, i)
    turns = []
    periods = []
    for run in runs:
        t, y = _thinned(run.t[run.seen[:, i]], run.y[:, i][run.seen[:, i]])
        least = max(TURN * (high - low), TURN_IN_NOISE * (size or 0.0))
        places = turning_points(y, least)
        turns.append(len(places))
        if len(places) >= TURNS:
            periods.append(2 * float(t[places[-1]] - t[places[0]]) / (len(places) - 1))
    often = sum(turns) / len(turns)
    period = None
    if often >= TURNS:
        period = sum(periods) / len(periods)
    decades = None
    if low > 0:
        decades = math.log10(high / low)
    unit = ""
    if data.units:
        unit = data.units[i]
    return StateSummary(name, unit, low, high, missing, size, known_by, often, period, decades)


def _spread(runs, i) -> float | None:
    """The standard deviation within replicates, pooled; None without replicates."""
    squares = 0.0
    freedom = 0
    for run in runs:
        if run.repeats is None:
            continue
        seen = run.repeats.seen[:, i]
        row = run.repeats.row[seen]
        y = run.repeats.y[:, i][seen]
        count = torch.bincount(row, minlength=len(run.t))
        total = torch.zeros(len(run.t), dtype=y.dtype).index_add_(0, row, y)
        off = y - (total / count.clamp(min=1))[row]
        squares += float((off * off).sum())
        freedom += len(y) - int((count > 0).sum())
    if freedom < 1:
        return None
    return math.sqrt(squares / freedom)


def _residuals(t, y, k):
    """(M,) what 2 k neighbours do not predict, with the standard deviation of the noise."""
    centre = torch.arange(k, len(t) - k)
    centre = centre[:: max(1, len(centre) // MOST_TIMES)]
    offsets = torch.cat((torch.arange(-k, 0), torch.arange(1, k + 1)))
    places = centre[:, None] + offsets
    x = t[places] - t[centre, None]
    # Lagrange's weights at 0; the diagonal of the matrix of differences is left out.
    apart = x[:, :, None] - x[:, None, :]
    one = torch.eye(2 * k, dtype=t.dtype)
    weights = ((one + (1 - one) * (-x[:, None, :])) / (apart + one)).prod(-1)
    predicted = (weights * y[places]).sum(1)
    return (y[centre] - predicted) / (1 + (weights * weights).sum(1)).sqrt()


def _thinned(t, y):
    step = max(1, len(t) // MOST_TIMES)
    return t[::step], y[::step]


def _short(name):
    if len(name) > 24:
        return name[:21] + "..."
    return name
