"""The parameters of a table problem: those of the model, unknown initial values, and noise."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.parameter_info import SCALES, ParameterInfo, Prior, Scale, to_scale
from .bound_model import NamedModel
from .tables import Table

FACTOR = 1e3  # from the value of a positive parameter to its bounds, where nobody gives bounds
REACH = 10.0  # the same for other parameters, in units of max(1, |value|)
LEAST_NOISE = 1e-6  # lower bound of an unknown standard deviation, in units of the range
MOST_NOISE = 10.0
FIRST_NOISE = 0.1
LEAST_RELATIVE = 1e-4  # the same for relative errors


class Wishes(NamedTuple):
    """What the user says of parameters. Keys are names of parameters, or of tensors: k stands for
    k[0], k[1], ..."""

    bounds: Mapping[str, tuple[float, float]]
    scales: Mapping[str, Scale]
    priors: Mapping[str, Prior]
    start: Mapping[str, float]

    def of(self, name: str) -> Wish:
        """What is said of the parameter of this name."""
        whole = name.partition("[")[0]
        found: list[Any] = [said.get(name, said.get(whole)) for said in self]
        return Wish(*found)

    def check(self, names: Collection[str], others: Sequence[str] = ()) -> None:
        """Raise ValueError if something is said of a name that is no parameter. others: further
        numbers of the model, which could be estimated."""
        known = {*names, *(name.partition("[")[0] for name in names)}
        for said in self:
            for name in said:
                if name not in known:
                    more = _few([other for other in others if other not in names])
                    offered = f"; the model also has {', '.join(more)}" if more else ""
                    raise ValueError(
                        f"there is no parameter {name!r} to estimate: the parameters are"
                        f" {', '.join(names)}{offered}"
                    )


class Wish(NamedTuple):
    """What the user says of one parameter, None where nothing."""

    bounds: tuple[float, float] | None
    scale: Scale | None
    prior: Prior | None
    start: float | None


@dataclass(frozen=True)
class Initial:
    """An unknown initial value: of state number ``state`` in run number ``run``."""

    info: ParameterInfo
    run: int
    state: int


@dataclass(frozen=True)
class Noise:
    """The errors of column number ``column``. info: the unknown standard deviation, or None;
    deviation: the known one. relative: whether the errors are those of the logarithm."""

    column: int
    info: ParameterInfo | None
    deviation: float
    relative: bool


def model_parameters(
    model: NamedModel, names: Sequence[str], wishes: Wishes
) -> list[ParameterInfo]:
    """The named numbers of the model as parameters. Raises ValueError for an unknown name, or one
    with neither value nor bounds."""
    values = dict(zip(model.names, model.values.tolist(), strict=True))
    for name in names:
        if name not in values:
            raise ValueError(
                f"the model has no parameter {name!r}: it has {', '.join(_few(model.names))}"
            )
    found = []
    for name in names:
        wish = wishes.of(name)
        network = model.networks.get(name, "")
        if network and wish.bounds is None and wish.scale is None:
            # A weight may change its sign.
            wish = wish._replace(scale="lin")
        found.append(replace(_parameter(name, values[name], wish), network=network))
    return found


def initial_parameters(
    table: Table, states: Sequence[str], unknown: Sequence[str], base: Tensor, wishes: Wishes
) -> list[Initial]:
    """The unknown initial values: one for each run and each state in ``unknown``.

    base: (B, n), the values to start from. With one run the name is init(A), with several
    init(A)[run].
    """
    found = []
    for state in unknown:
        i = states.index(state)
        for b, run in enumerate(table.runs):
            name = f"init({state})"
            if len(table.runs) > 1:
                name += f"[{run.name}]"
            value = float(base[b, i])
            low, high = _span(table, state, value)
            wish = wishes.of(name)
            if wish.bounds is None:
                wish = wish._replace(bounds=(low, high), scale=wish.scale or "lin")
            found.append(Initial(_parameter(name, value, wish), b, i))
    return found


def noise_parameters(
    table: Table,
    noise: float | str | Mapping[str, float | str],
    relative: Collection[str],
    counted: Sequence[bool],
    wishes: Wishes,
) -> list[Noise]:
    """The errors of each column. noise: a standard deviation or 'estimate', for all columns or by
    name; columns without a name are estimated, and those with errors in the table have these.
    relative: columns whose logarithm has the errors. counted: for each column whether its first
    lines are measurements. Raises ValueError for a name that is no column, and for values without
    a logarithm."""
    named = noise_by_name(noise)
    if not isinstance(noise, Mapping):
        named = dict.fromkeys(table.columns, noise)
    for name in (*named, *relative):
        if name not in table.columns:
            raise ValueError(
                f"there is no column {name!r} of measurements: they are {', '.join(table.columns)}"
            )
    found = []
    for i, column in enumerate(table.columns):
        is_relative = column in relative
        known = named.get(column, "estimate")
        if is_relative:
            _check_positive(table, i, counted[i])
        if table.errors[i] is not None:
            if is_relative or column in noise_by_name(noise):
                raise ValueError(
                    f"{column!r} has its standard deviations in column {table.errors[i]!r}: leave"
                    f" it out of noise and relative, or leave {table.errors[i]!r} out (--drop)"
                )
            found.append(Noise(i, None, _typical_error(table, i), False))
            continue
        if known != "estimate":
            deviation = float(known)
            if not 0 < deviation < math.inf:
                raise ValueError(
                    f"the standard deviation of {column!r} must be positive, not {known!r}: give a"
                    " number or 'estimate'"
                )
            found.append(Noise(i, None, deviation, is_relative))
            continue
        size = 1.0
        least = LEAST_RELATIVE
        if not is_relative:
            size = _range(table, i)
            least = LEAST_NOISE * size
        name = f"sigma({column})"
        wish = wishes.of(name)
        if wish.bounds is None:
            wish = wish._replace(bounds=(least, MOST_NOISE * size), scale=wish.scale or "log10")
        found.append(Noise(i, _parameter(name, FIRST_NOISE * size, wish), math.nan, is_relative))
    return found


def noise_by_name(noise: float | str | Mapping[str, float | str]) -> dict[str, float | str]:
    """The noise of single columns; empty if it is one for all."""
    if isinstance(noise, Mapping):
        return dict(noise)
    return {}


def _typical_error(table, i) -> float:
    """The median of the standard deviations in the table, for curves between measurements."""
    known = [run.lines.sd[:, i] for run in table.runs]
    positive = torch.cat([sd[sd > 0] for sd in known])
    return float(positive.median())


def _parameter(name: str, value: float, wish: Wish) -> ParameterInfo:
    """A parameter by the value of the model and the wishes of the user."""
    if wish.start is not None:
        value = wish.start
    scale = wish.scale
    if scale is not None and scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r} of {name}: choose one of {', '.join(SCALES)}")
    if wish.bounds is not None:
        low, high = map(float, wish.bounds)
        scale = scale or _natural(low)
    elif math.isnan(value):
        raise ValueError(
            f"{name} has no value: give bounds for it, such as bounds={{{name!r}: (1e-3, 1e3)}}"
        )
    else:
        scale = scale or _natural(value)
        if scale == "lin":
            reach = REACH * max(1.0, abs(value))
            low = value - reach
            high = value + reach
        else:
            low = value / FACTOR
            high = value * FACTOR
    if math.isnan(value):
        value = 0.5 * (low + high)
        if scale != "lin":
            value = math.sqrt(low * high)
    info = ParameterInfo(name, value, low, high, scale, wish.prior)
    if not to_scale(low, scale) <= to_scale(value, scale) <= to_scale(high, scale):
        raise ValueError(
            f"{name} starts at {value:g}, outside its bounds {low:g} and {high:g}: widen them, or"
            " give another start"
        )
    return info


def _natural(value: float) -> Scale:
    """The scale of a parameter that reaches down to this value, or has it."""
    if value > 0:
        return "log10"
    return "lin"


def _range(table, i):
    """The largest difference of values in a column; their size if it is zero."""
    values = _seen(table, i)
    size = max(values) - min(values)
    return size or max(abs(values[0]), 1.0)


def _span(table, state, value):
    """Bounds for an initial value of a state."""
    if state in table.columns:
        values = _seen(table, table.columns.index(state))
    else:
        values = [abs(value), 0.0]
    size = max(values) - min(values) or max(abs(value), 1.0)
    low = min(values) - size
    if min(values) >= 0:
        low = 0.0
    return low, max(values) + size


def _seen(table, i, skipped=0):
    """The measured values of a column, without the first lines of runs if ``skipped`` is 1."""
    found = []
    for run in table.runs:
        known = run.seen[skipped:, i]
        found += run.values[skipped:, i][known].tolist()
    return found


def _check_positive(table, i, first):
    lowest = min(_seen(table, i, int(not first)))
    if lowest <= 0:
        raise ValueError(
            f"column {table.columns[i]!r} has the value {lowest:g}, which has no logarithm, so its"
            " errors cannot be relative: remove such values, or leave it out of relative"
        )


def _few(names):
    if len(names) > 12:
        return [*names[:12], "..."]
    return names
