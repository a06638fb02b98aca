"""What the Fisher information at the optimum says: intervals, and what data do not determine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.parameter_info import ParameterInfo, from_scale, to_scale

AT_BOUND = 1e-4  # of the distance between the bounds
SMALL = 0.05  # of the largest component of a direction: what counts as zero
SAME = 0.05  # relative difference of two components that count as equal
MOST_TERMS = 6  # parameters that a sentence names
# What stays the same if one parameter rises as the other falls, and if both rise.
SUM = ("the sum {} + {}", "the difference {} - {}")
RATIO = ("the product {} * {}", "the ratio {} / {}")
LEAST = 1e-14  # of the largest eigenvalue: what rounding leaves of zero


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a parameter, in its own units. lower_open, upper_open: whether it
    ends at the bound of the parameter because the data set no limit there. method: 'fisher' or
    'profile'."""

    name: str
    value: float
    lower: float
    upper: float
    lower_open: bool
    upper_open: bool
    level: float
    method: str


class Freedom(NamedTuple):
    """What is known of noise that is itself estimated. values: measurements for each unknown
    standard deviation; degrees: the same without what the other parameters take up."""

    values: float
    degrees: float


class Information(NamedTuple):
    """The Fisher information in units of the box between the bounds.

    infos, theta: of all k parameters. inner: the places of those that are not at a bound, (q,).
    width: (q,) distances of their bounds. values: (q,) eigenvalues, ascending, at least a tiny part
    of the largest; vectors: (q, q), the eigenvectors as columns. matrix: (k, k), in the scales.
    """

    infos: Sequence[ParameterInfo]
    theta: Tensor
    inner: Tensor
    width: Tensor
    values: Tensor
    vectors: Tensor
    matrix: Tensor

    @classmethod
    def of(cls, infos: Sequence[ParameterInfo], theta: Tensor, matrix: Tensor) -> Information:
        """Of the Gauss-Newton matrix (k, k) at theta, (k,)."""
        lower, upper = box(infos)
        width = upper - lower
        margin = AT_BOUND * width
        inner = ((theta - lower > margin) & (upper - theta > margin)).nonzero()[:, 0]
        width = width[inner]
        values, vectors = _eigen(matrix[inner][:, inner], width)
        return cls(infos, theta, inner, width, values, vectors, matrix)

    def deviations(self) -> Tensor:
        """The standard deviation of each parameter in its scale, (k,).

        Parameters at a bound are known to the others. Their own deviations come from the whole
        matrix.
        """
        lower, upper = box(self.infos)
        values, vectors = _eigen(self.matrix, upper - lower)
        found = (vectors**2 / values).sum(1).sqrt() * (upper - lower)
        found[self.inner] = (self.vectors**2 / self.values).sum(1).sqrt() * self.width
        return found

    def steps(self) -> Tensor:
        """(q, k): one standard deviation along each eigenvector, at most half of the box."""
        size = self.values.rsqrt().clamp(max=0.5)
        found = self.theta.new_zeros(len(self.values), len(self.theta))
        found[:, self.inner] = (self.vectors * size).T * self.width
        return found

    def undetermined(self, level: float = 0.95) -> list[Tensor]:
        """The directions (k,), in the scales of the parameters, along which the confidence interval
        covers the box. Their largest component is 1."""
        limit = (2 * quantile(level)) ** 2
        found = []
        for value, vector in zip(self.values.tolist(), self.vectors.T, strict=True):
            if value < limit:
                direction = torch.zeros_like(self.theta)
                direction[self.inner] = vector * self.width
                found.append(direction / direction[direction.abs().argmax()])
        return _simple(found)


def intervals(
    information: Information, level: float = 0.95, freedom: Freedom | None = None
) -> list[Interval]:
    """theta -/+ z s in the scale of each parameter, where s is from the inverse of the Fisher
    information and z from ``reach``; cut off at the bounds."""
    z = reach(level, freedom)
    lower, upper = box(information.infos)
    found = []
    spread = information.deviations().tolist()
    for i, info in enumerate(information.infos):
        at = float(information.theta[i])
        low = at - z * spread[i]
        high = at + z * spread[i]
        found.append(
            Interval(
                info.name,
                from_scale(at, info.scale),
                from_scale(max(low, float(lower[i])), info.scale),
                from_scale(min(high, float(upper[i])), info.scale),
                low < float(lower[i]),
                high > float(upper[i]),
                level,
                "fisher",
            )
        )
    return found


def sentences(information: Information, level: float = 0.95) -> list[str]:
    """What the data do not determine, in sentences; one that says so if they determine all."""
    found = []
    infos = information.infos
    inner = set(information.inner.tolist())
    for i, info in enumerate(infos):
        if i not in inner and not info.network:
            low = to_scale(info.lower, info.scale)
            high = to_scale(info.upper, info.scale)
            side = "upper"
            bound = info.upper
            if float(information.theta[i]) - low < high - float(information.theta[i]):
                side = "lower"
                bound = info.lower
            found.append(f"{info.name} is at its {side} bound {bound:g}.")
    for direction in information.undetermined(level):
        places = (direction.abs() >= SMALL).nonzero()[:, 0].tolist()
        if not all(infos[i].network for i in places):
            found.append(_sentence(infos, direction))
    networks = list(dict.fromkeys(info.network for info in infos if info.network))
    if not found:
        others = "all parameters"
        if networks:
            others = "all parameters that are no weights of networks"
        found.append(f"The data determine {others} within their bounds.")
    if networks:
        found.append(
            f"The weights of {' and '.join(networks)} have no meaning one by one: look at the"
            " predictions and their bands."
        )
    return found


def quantile(level: float) -> float:
    """z of the two-sided interval: 1.96 for 0.95. Raises ValueError outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"a level is between 0 and 1, such as 0.95, not {level!r}")
    return NormalDist().inv_cdf(0.5 + 0.5 * level)


def reach(level: float, freedom: Freedom | None = None) -> float:
    """The length of an interval to one side, in standard deviations.

    It is the quantile of the normal distribution. If the noise is estimated, it is that of
    Student's distribution, times the factor by which the maximum of the likelihood gives too small
    a noise: as in linear regression (Seber & Wild, Nonlinear Regression, sec. 2.1.2).
    """
    z = quantile(level)
    if freedom is None:
        return z
    return student(level, freedom) * math.sqrt(freedom.values / freedom.degrees)


def rise(level: float, freedom: Freedom | None = None) -> float:
    """How far the objective rises along a profile up to the end of the interval: z^2 / 2, or what
    belongs to Student's distribution, n log(1 + t^2 / nu) / 2 (sec. 5.2.3 there, for one unknown
    standard deviation)."""
    if freedom is None:
        return 0.5 * quantile(level) ** 2
    t = student(level, freedom)
    return 0.5 * freedom.values * math.log1p(t * t / freedom.degrees)


def student(level: float, freedom: Freedom) -> float:
    """The quantile of Student's distribution for a two-sided interval."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom.degrees, 0.5 + 0.5 * level))


def box(infos: Sequence[ParameterInfo]) -> tuple[Tensor, Tensor]:
    """(lower, upper) bounds in the scales, (k,)."""
    lower = [to_scale(info.lower, info.scale) for info in infos]
    upper = [to_scale(info.upper, info.scale) for info in infos]
    return torch.tensor(lower, dtype=torch.float64), torch.tensor(upper, dtype=torch.float64)


def _eigen(matrix, width):
    """(eigenvalues, eigenvectors) of a matrix in units of the box, whose zeros are tiny."""
    scaled = matrix * width * width[:, None]
    values, vectors = torch.linalg.eigh(0.5 * (scaled + scaled.T))
    if len(values):
        values = values.clamp(min=max(LEAST * float(values[-1]), 1e-30))
    return values, vectors


def _simple(directions):
    """The same space by directions with as few parameters as Gauss-Jordan elimination finds."""
    if len(directions) < 2:
        return directions
    rows = torch.stack(directions)
    used: list[int] = []
    for i in range(len(rows)):
        free = rows[i].abs().clone()
        free[used] = 0.0
        pivot = int(free.argmax())
        used.append(pivot)
        rows[i] /= rows[i, pivot].clone()
        for j in range(len(rows)):
            if j != i:
                rows[j] -= rows[j, pivot].clone() * rows[i]
    return [row / row[row.abs().argmax()] for row in rows]


def _sentence(infos, direction):
    """What a direction means in which the objective hardly changes."""
    places = (direction.abs() >= SMALL).nonzero()[:, 0].tolist()
    places.sort(key=lambda i: -abs(float(direction[i])))
    names = [infos[i].name for i in places]
    if len(places) == 1:
        return f"The data do not determine {names[0]}."
    if len(places) == 2:
        kept = _kept(infos, places, [float(direction[i]) for i in places])
        if kept:
            return f"The data do not determine {names[0]} and {names[1]}, but only {kept}."
    parts = [f"{infos[i].name} by {float(direction[i]):+.2g}" for i in places[:MOST_TERMS]]
    if len(places) > MOST_TERMS:
        parts.append(f"and {len(places) - MOST_TERMS} more")
    return (
        f"The data do not determine {_listed(names[:MOST_TERMS])} one by one: they fit as well if"
        f" the parameters change together ({', '.join(parts)}, in their scales)."
    )


def _kept(infos, places, moves):
    """The combination of two parameters that stays the same along the direction, or ''."""
    first, second = (infos[i] for i in places)
    linear = [info.scale == "lin" for info in (first, second)]
    ratio = moves[1] / moves[0]
    if first.scale == second.scale:
        words = RATIO
        if all(linear):
            words = SUM
        if abs(ratio + 1) < SAME:
            return words[0].format(first.name, second.name)
        if abs(ratio - 1) < SAME:
            return words[1].format(first.name, second.name)
    if not any(linear) and first.scale == second.scale:
        power = -1 / ratio
        return f"{first.name} * {second.name}^{power:.2g}"
    return ""


def _listed(names):
    return f"{', '.join(names[:-1])} and {names[-1]}"


def percent(level: float) -> str:
    """'95 %' for 0.95."""
    return f"{100 * level:.3g} %"


def rounded(interval: Interval) -> tuple[str, str, str]:
    """(value, lower, upper) with the digits that the interval justifies."""
    width = interval.upper - interval.lower
    digits = 4
    if 0 < width < math.inf and interval.value:
        digits = max(2, min(9, 2 + math.ceil(math.log10(abs(interval.value) / width + 1e-300))))
    low = f"{interval.lower:.{digits}g}"
    high = f"{interval.upper:.{digits}g}"
    if interval.lower_open:
        low = f"<{low}"
    if interval.upper_open:
        high = f">{high}"
    return f"{interval.value:.{digits}g}", low, high
