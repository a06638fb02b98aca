"""The stage that looks at the data, and chooses the options which the user left open."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from ..data import Dataset
from .features import (
    fastest_change,
    first_change,
    representative,
    seen_series,
    spread_over_decades,
    state_noise,
    turning_points,
)
from .options import Options
from .warp import Warp

# A state turns if it moves back by this fraction of its range, or by so many times its noise.
LEAST_TURN = 0.1
TURN_NOISE = 4.0
# A change over the whole range that takes less than one part in so many of the span, for each swing
# of the data, is a jump: the dynamics are stiff.
STIFF = 40.0
# Whoever gives one of these plans the whole: the others of the group keep their defaults.
GROUPS = (
    ("epochs", "polish", "segments", "target", "patience", "shooting", "horizon"),
    ("collocation", "warm_start", "compare_starts", "candidates"),
)
# The options that this stage chooses, unless the user gives them.
CHOSEN = (
    "hidden",
    "activation",
    "scaling",
    "method",
    "rtol",
    "neighbours",
    "learn_starts",
    *GROUPS[0],
    *GROUPS[1],
)
# A state that spans more decades than this is one of stiff dynamics.
WIDE = 3.0
# What is tried in warped coordinates, unless one of these options is given.
WARPED: dict[str, Any] = {
    "warp": True,
    "scaling": "kim",
    "method": "fbdf",
    "activation": "tanh",
    "rtol": 1e-5,
    "collocation": 3000,
    "warm_start": 0,
    "compare_starts": False,
    "segments": 250,
    "epochs": 0,
    "polish": 600,
    "patience": 40,
}
WARP_SETS = {*WARPED, "conserve", "positive", "known", "relative"}
# The hidden layers of the last choice.
WIDER = (32, 32)
# Errors below this part of the ranges are good enough.
TARGET = 2e-3
# Errors below this part of the noise are those of a network that learns the noise.
OVERFIT = 0.95
# With more observations than this, one step of Levenberg-Marquardt takes too long.
MOST_POLISHED = 20_000
# The part of the observations of a swing that may smooth one.
SMOOTHED = 0.65
# The noise, as a fraction of the range, from which observations are smoothed over more neighbours.
NOISY = 0.01


@dataclass(frozen=True)
class Understanding:
    """What the data show, and the options chosen for them.

    trajectories; points: observations of the longest trajectory.
    noise: the standard deviation of the noise of each state, as a fraction of its range.
    turns: the number of turning points of each state, in the trajectory that has most.
    decades: whether the times are spread over decades.
    stiffness: how many times faster the fastest change is than one evenly spread over the span
        and its swings.
    options: what the user gave, and the choice for the rest.
    alternatives: other choices, for a run that has not learned.
    """

    trajectories: int
    points: int
    noise: tuple[float, ...]
    turns: tuple[int, ...]
    decades: bool
    stiffness: float
    options: Options
    alternatives: tuple[Options, ...] = ()

    @property
    def sentences(self) -> tuple[str, str]:
        """One line on the data, and one on the choice."""
        options = self.options
        turns = max(self.turns)
        if turns >= 2:
            shape = f"oscillating ({turns} turning points)"
        else:
            shape = "not oscillating"
        spacing = ", times over decades" if self.decades else ""
        first = (
            f"Data: {self.trajectories} x {self.points} points, {shape}, noise"
            f" {_percent(max(self.noise))} of the range{spacing}."
        )
        starts = []
        if options.collocation:
            starts.append("collocation")
        if options.warm_start:
            starts.append("linearised")
        start = (" or " if options.compare_starts else " then ").join(starts) or "random"
        parts = [f"start {start}", options.method, f"scaling {options.scaling}"]
        if options.segments:
            parts.append(f"segments {options.segments}")
        if options.learn_starts:
            parts.append("learned y0")
        if options.epochs:
            parts.append(f"{options.optimizer} {options.epochs}")
        if options.polish:
            parts.append(f"polish {options.polish}")
        second = f"Choice: {', '.join(parts)}."
        return first, second


def understand(data: Dataset, given: dict[str, Any] | None = None) -> Understanding:
    """Look at the data, and choose the options that are not given.

    given: options of the user, by the names of ``Options``. Raises ValueError for an unusable one.
    """
    given = given or {}
    unknown = set(given) - {field.name for field in fields(Options)}
    if unknown:
        raise ValueError(f"unknown options: {', '.join(sorted(unknown))}")
    noise = []
    turns = []
    sample = representative(data)
    for i in range(len(data.columns)):
        series = seen_series(sample, i)
        values = torch.cat([y for _, y in series])
        spread = float(values.max() - values.min()) or 1.0
        level = state_noise(sample, i)
        noise.append(level / spread)
        least = max(LEAST_TURN * spread, TURN_NOISE * level)
        turns.append(max(turning_points(y, least) for _, y in series))
    decades = any(spread_over_decades(run.t) for run in data.trajectories)
    neighbours = given.get("neighbours", _neighbours(sample, max(noise), max(turns)))
    stiffness = _stiffness(sample, max(turns), neighbours, noise)
    stiff = decades or stiffness > STIFF or _state_decades(sample) > WIDE
    common: dict[str, Any] = {"neighbours": neighbours}
    # The noise of a first observation would stay in the whole solution.
    common["learn_starts"] = max(noise) > NOISY
    # Below the noise, a network learns the noise.
    mean_noise = math.sqrt(sum(level * level for level in noise) / len(noise))
    common["target"] = max(TARGET, OVERFIT * mean_noise)
    options = _with_given(_choice(data, stiff, decades) | common, given)
    alternatives = []
    if not set(given) & WARP_SETS and Warp.of(data) is not None:
        alternatives.append(replace(options, **WARPED))
    if "scaling" not in given:
        if stiff:
            other = replace(options, scaling="kim")
        else:
            other = _with_given(_choice(data, True, decades) | common, given)
        alternatives.append(other)
    if "hidden" not in given:
        alternatives.append(replace(options, hidden=WIDER))
    return Understanding(
        trajectories=len(data.trajectories),
        points=max(len(run.t) for run in data.trajectories),
        noise=tuple(noise),
        turns=tuple(turns),
        decades=decades,
        stiffness=stiffness,
        options=options,
        alternatives=tuple(alternatives),
    )


def _with_given(chosen, given) -> Options:
    """The chosen options, and before them what is given. Whoever gives one of a group plans it."""
    for group in GROUPS:
        if any(name in given for name in group):
            chosen = {name: value for name, value in chosen.items() if name not in group}
    return Options(**{**chosen, **given})


def _choice(data, stiff, decades) -> dict[str, Any]:
    """The options for data that are stiff or not, with times over decades or not."""
    chosen: dict[str, Any] = {"hidden": (24, 24), "patience": 15, "rtol": 1e-5}
    if not stiff:
        # Gates can close while slopes are fitted, and then no gradient opens them again.
        chosen |= {"method": "tsit5", "activation": "tanh", "scaling": "kim"}
        chosen |= {"collocation": 2000, "warm_start": 0, "candidates": 1}
        chosen |= {"segments": 200, "epochs": 0, "polish": 200}
    elif decades:
        # A smoothed slope says little between observations that are decades apart.
        chosen |= {"collocation": 0, "warm_start": 1500}
        chosen |= {"epochs": 100, "polish": 80}
    else:
        chosen |= {"collocation": 2000, "warm_start": 1000, "compare_starts": True}
        chosen |= {"segments": 60, "epochs": 100, "polish": 80}
    if data.observations > MOST_POLISHED:
        chosen |= {"segments": 0, "polish": 0, "epochs": 500}
    return chosen


def _neighbours(data, noise, turns) -> int:
    """How many observations smooth one: three, or more where they are noisy and dense. A quadratic
    follows no more than a part of a swing."""
    points = min(int(run.seen[1:].sum(0).min()) for run in data.trajectories)
    if noise < NOISY:
        wanted = 3
    else:
        swing = points / (1 + turns)
        wanted = max(7, min(points // 8, 25, int(SMOOTHED * swing)))
    return max(3, min(wanted, points))


def _state_decades(data) -> float:
    """The decades that a positive state spans, of the state that spans most."""
    widest = 0.0
    for i in range(len(data.columns)):
        values = torch.cat([y for _, y in seen_series(data, i)])
        if float(values.min()) > 0:
            widest = max(widest, math.log10(float(values.max() / values.min())))
    return widest


def _stiffness(data, turns, neighbours, noise) -> float:
    high = torch.stack([run.y.amax(0) for run in data.trajectories]).amax(0)
    low = torch.stack([run.y.amin(0) for run in data.trajectories]).amin(0)
    scale = (high - low).clamp(min=torch.finfo(high.dtype).tiny)
    fastest = max(fastest_change(run, scale, neighbours) for run in data.trajectories)
    # What happens before the second observation is smoothed away.
    sudden = max(first_change(run, scale, scale.new_tensor(noise)) for run in data.trajectories)
    return max(fastest, sudden) / (1 + turns)


def _percent(fraction) -> str:
    return f"{100 * fraction:.2g} %"
