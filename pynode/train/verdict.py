"""The stage that judges a run: has the field learned the data, and if not, what to try next.

A loss alone does not say it. The error of each state is compared with the noise in its observations
(features.py), and with what a constant and a smooth curve without any model leave.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..data import Dataset
from .collocate import slopes
from .features import fewest_seen, representative, state_noise, turning_points
from .objective import Objective
from .options import Options
from .scaling import ScaledField
from .understanding import LEAST_TURN, TURN_NOISE

LEARNED = "learned"
PARTLY = "partly"
NOT_LEARNED = "not learned"
# A state is learned if its error is below so many times the noise, or below this fraction of its
# range where the noise is smaller.
TIMES_NOISE = 2.0
CLEAN = 0.01
# Nothing can be learned of a state whose noise is more than a part of its variation: 1 where there
# are very many values, less by this over their root, but within the bounds. The noise of few values
# is badly known.
HIDDEN_LESS = 3.5
HIDDEN = (0.65, 0.8)
# A field that leaves more than this part of the variation has found little of it.
FOUND = 0.5
# The fewest values of a state, and the fewest for each of its swings, from which to judge.
FEWEST = 8
FEWEST_A_SWING = 4
# A field that turns less often than this part of the turns of the data misses peaks.
PEAKS = 0.7
# The tolerance of the solves that are judged, and how many times as many steps they may take.
RTOL = 1e-7
MORE_STEPS = 10
# What is said of states that no run can learn.
BLIND = ("too few values", "no more structure")
# Errors of the last third that are so many times those of the first drift away.
DRIFT = 3.0


@dataclass(frozen=True)
class StateVerdict:
    """One state; its errors are root mean squares after the starts, as fractions of its range.

    error: of the learned field. held_out: the same at the times and in the
        trajectories held out, None if there are none. Observations from which starts of these
        were estimated do not count.
    noise: given with the observations (--error), or estimated from them. constant: of the mean.
    spline: of a local quadratic.
    correlation: of neighbouring errors, 0 for noise and near 1 for a curve that is off.
    learned; why: what is wrong, '' if nothing is.
    """

    name: str
    error: float
    held_out: float | None
    noise: float
    constant: float
    spline: float
    correlation: float
    learned: bool
    why: str


@dataclass(frozen=True)
class Verdict:
    """word: 'learned', 'partly' or 'not learned'. sentence: the word with what is wrong. advice:
    what to try next, '' if nothing. states: one StateVerdict each."""

    word: str
    sentence: str
    advice: str
    states: tuple[StateVerdict, ...]

    @property
    def learnable(self) -> bool:
        """Whether another run could learn more: some state that is not learned is neither too
        scarce nor too noisy for that."""
        return any(state.why and not _blind(state) for state in self.states)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with None for numbers that are not finite."""
        plain = asdict(self)
        for state in plain["states"]:
            for name, value in state.items():
                if isinstance(value, float) and not math.isfinite(value):
                    state[name] = None
        plain["states"] = list(plain["states"])
        return plain


def judge(
    field: ScaledField,
    data: Dataset,
    objective: Objective,
    options: Options,
    held_out: Sequence[bool] = (),
) -> Verdict:
    """Judge a field of scaled states on the data of its objective. held_out: for each trajectory
    whether training never saw it. Hidden states are not judged."""
    columns = data.columns[: objective.observed]
    held_out = held_out or (False,) * len(data.trajectories)
    found, failure = objective.solutions(field, **_accurate(options))
    if failure:
        states = tuple(_unsolved(name) for name in columns)
        sentence = f"not learned: the field cannot be solved. {failure}"
        return Verdict(NOT_LEARNED, sentence, "try another --seed or a lower --lr", states)
    scaling = field.scaling
    scales: Sequence[float] = scaling.y_scale
    found = [scaling.physical(solution) for solution in found]
    if scaling.warp is not None:
        data = scaling.warp.restored(data)
        found = [scaling.warp.inverse(solution) for solution in found]
        scales = tuple(_ranges(data))
    states = tuple(
        _state(data, objective, scales[i], found, held_out, i) for i in range(len(columns))
    )
    return _verdict(states, options)


def _accurate(options) -> dict[str, Any]:
    """Options of ``solve`` that leave little of the errors of a solve. A field can be fitted to
    solves that are not accurate, and then another solve of it does not fit."""
    tolerances = options.tolerances
    part = min(1.0, RTOL / tolerances["rtol"])
    return {
        "rtol": part * tolerances["rtol"],
        "atol": part * tolerances["atol"],
        "max_steps": MORE_STEPS * tolerances["max_steps"],
    }


def _blind(state: StateVerdict) -> bool:
    """Whether no run can learn the state."""
    return any(fault in state.why for fault in BLIND)


def _unsolved(name):
    nan = math.nan
    return StateVerdict(name, nan, None, nan, nan, nan, nan, False, "cannot be solved")


def _ranges(data) -> list[float]:
    """The range of each state over all trajectories, without missing values; 1 for a constant."""
    found = []
    for i in range(len(data.columns)):
        y = torch.cat([run.y[run.seen[:, i], i] for run in data.trajectories])
        found.append(float(y.max() - y.min()) or 1.0)
    return found


def _state(data, objective, scale, found, held_out, i) -> StateVerdict:
    """Judge state i, whose errors are fractions of ``scale``. found: the solutions after the
    starts, (T - 1, n) each, in the units of the data."""
    sample = representative(data)
    noise = state_noise(sample, i) / scale
    errors = []
    held = []
    values = []
    starts = []
    turned = 0
    model_turned = 0
    least = max(LEAST_TURN, TURN_NOISE * noise)
    runs = zip(data.trajectories, objective.runs, found, held_out, objective.told, strict=True)
    for run, part, solution, out, told in runs:
        seen = run.seen[1:, i]
        observed = run.y[:, i] / scale
        model = solution[:, i] / scale
        missed = model - observed[1:]
        if out:
            held.append(missed[told:][seen[told:]])
            continue
        errors.append(missed[seen])
        held.append(missed[seen & (part.held_out[1:, i] > 0)])
        values.append(observed[1:][seen])
        starts.append(observed[:1])
        turned += turning_points(torch.cat((observed[:1], values[-1])), least)
        model_turned += turning_points(torch.cat((observed[:1], model[seen])), 0.7 * least)
    error = _rms(torch.cat(errors))
    value = torch.cat(values)
    whole = torch.cat((*starts, value))
    constant = _rms(value - value.mean())
    unseen = None
    if any(len(part) for part in held):
        unseen = _rms(torch.cat(held))
    limit = max(TIMES_NOISE * noise, CLEAN)
    # A state may change most between its start and the next observation.
    variation = _rms(whole - whole.mean())
    count = len(data.trajectories) - sum(held_out)
    why = ""
    if len(value) < FEWEST or len(value) < FEWEST_A_SWING * (1 + turned / count):
        why = f"has too few values ({len(value)}) to tell"
    elif noise > _most_noise(len(value)) * variation:
        why = "has no more structure than noise"
    elif error > limit or _beyond(error, noise) > FOUND * _beyond(variation, noise):
        why = _fault(errors, error, turned, model_turned)
    elif unseen is not None and unseen > 2 * limit:
        where = "in the trajectories" if any(held_out) else "at the times"
        why = f"fits, but is off by {100 * unseen:.2g} % {where} held out"
    return StateVerdict(
        name=data.columns[i],
        error=error,
        held_out=unseen,
        noise=noise,
        constant=constant,
        spline=_smooth_error(sample, scale, i),
        correlation=_correlation(errors),
        learned=not why,
        why=why,
    )


def _most_noise(count) -> float:
    """The part of the variation of so many values that their noise may be."""
    least, most = HIDDEN
    return min(most, max(least, 1 - HIDDEN_LESS / math.sqrt(count)))


def _beyond(size, noise) -> float:
    """The part of a root mean square that is not noise."""
    return math.sqrt(max(0.0, size * size - noise * noise))


def _fault(errors, error, turned, model_turned) -> str:
    """What is wrong with a solution whose errors are too large."""
    if turned and model_turned < PEAKS * turned:
        return "misses its peaks"
    first = _rms(torch.cat([part[: max(1, len(part) // 3)] for part in errors]))
    last = _rms(torch.cat([part[-max(1, len(part) // 3) :] for part in errors]))
    if last > DRIFT * first:
        return "drifts away at later times"
    return f"is off by {100 * error:.2g} % of its range"


def _smooth_error(data, scale, i) -> float:
    """The error of a local quadratic; NaN where there are too few values."""
    missed = []
    for run in data.trajectories:
        near = min(7, fewest_seen(run))
        if near < 4:
            continue
        y = run.y[:, [i]]
        seen = run.seen[:, [i]]
        smooth = slopes(run.t, y, seen, near).y
        missed.append((smooth - y)[1:][seen[1:]] / scale)
    if not missed:
        return math.nan
    return _rms(torch.cat(missed))


def _correlation(errors) -> float:
    """The correlation of neighbouring errors; 0 where there are too few."""
    first = torch.cat([part[:-1] for part in errors])
    second = torch.cat([part[1:] for part in errors])
    product = float((first * second).sum())
    size = float(first.norm() * second.norm())
    if size == 0:
        return 0.0
    return product / size


def _rms(x) -> float:
    return float(x.square().mean().sqrt())


def _verdict(states, options) -> Verdict:
    """All states together."""
    wrong = [state for state in states if not state.learned]
    if not wrong:
        return Verdict(LEARNED, _praise(states), "", states)
    blind = any(_blind(s) for s in states)
    near = all(s.error < FOUND * s.constant for s in states)
    faults = "; ".join(f"{s.name} {s.why}" for s in wrong[:3])
    if len(wrong) > 3:
        faults += f"; and {len(wrong) - 3} more"
    if (near and not blind) or (len(wrong) < len(states) and not blind):
        word = PARTLY
    else:
        word = NOT_LEARNED
    return Verdict(word, f"{word}: {faults}", _advice(wrong, options), states)


def _praise(states) -> str:
    worst = max(states, key=lambda s: s.error / max(TIMES_NOISE * s.noise, CLEAN))
    text = (
        f"learned: the error is at most {100 * worst.error:.2g} % of the range ({worst.name}), and"
        f" the noise there {100 * worst.noise:.2g} %"
    )
    unseen = [(s.held_out, s.name) for s in states if s.held_out is not None]
    if unseen:
        error, name = max(unseen)
        text += f"; of what was held out it is at most {100 * error:.2g} % ({name})"
    return text


def _advice(wrong, options) -> str:
    whys = " ".join(state.why for state in wrong)
    if "too few" in whys:
        return "observe more often, or add trajectories"
    if "no more structure" in whys:
        return "observe with less noise, or drop these columns with --drop"
    if "held out" in whys:
        return "take a smaller network (--hidden 12,12), or observe more often"
    tries = ["--seeds 3"]
    if not options.time_input:
        tries.append("--time-input, if something outside of the data drives it")
    tries.append("more observations where it changes fast")
    if not options.augment:
        tries.append(
            "--augment 1, which adds a hidden state, if the same values go on in different ways"
        )
    return "try " + "; ".join(tries)
