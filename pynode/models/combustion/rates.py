"""Forward rate constants of all kinds, each kind for all its reactions at once.

T, in K, and the pressure P, in Pa, are (..., 1). Rate constants are (..., reactions of the kind),
in mol, m and s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ...core.reaction_equations import GAS_CONSTANT
from .data_sheet import DataSheet
from .records import LINDEMANN, SRI, TROE, TSANG, ArrheniusData, ReactionData
from .tangent import with_slope

TINY = 1e-300  # what a logarithm sees in place of zero
LN10 = math.log(10.0)


class ArrheniusTable(DataSheet):
    """ln |k| = log_A + b ln T - E / (R T) of all Arrhenius expressions of a mechanism, E in J/mol.

    log_A, b, E: (m,) parameters. sign: (m,) of A, which can be negative in one of several
    reactions with the same equation, and zero.
    """

    sign: Tensor

    def __init__(self, expressions: Sequence[ArrheniusData]) -> None:
        super().__init__()
        factors = _vector([one.A for one in expressions])
        sizes = torch.where(factors == 0, 1.0, factors.abs())
        self.log_A = nn.Parameter(sizes.log())
        self.b = nn.Parameter(_vector([one.b for one in expressions]))
        self.E = nn.Parameter(_vector([one.E for one in expressions]))
        self.numbers("sign", factors.sign().numpy())
        self.positive = bool((factors > 0).all())

    def forward(self, T: Tensor) -> Tensor:
        """ln |k|, (..., m)."""
        fixed = T.detach()
        value = self.log_A + self.b * fixed.log() - self.E * (1.0 / (GAS_CONSTANT * fixed))
        inverse = T.reciprocal()
        slope = (self.b + self.E * (inverse / GAS_CONSTANT)) * inverse
        return with_slope(T, value, slope)


class Falloff(DataSheet):
    """k = kinf Pr / (1 + Pr) F, Pr = k0 [M] / kinf, and chemically activated k = k0 / (1 + Pr) F.

    F is 1 for Lindemann. Troe: Gilbert, Luther & Troe, Ber. Bunsenges. Phys. Chem. 87 (1983) 169.
    SRI: Stewart, Larson & Golden, Combust. Flame 75 (1989) 25. Tsang: J. Phys. Chem. Ref. Data 20
    (1991) 609, Troe's F with Fcent = a + b T. Reactions come in this order of kinds.
    """

    troe: Tensor
    sri: Tensor
    tsang: Tensor
    activated: Tensor

    def __init__(self, reactions: Sequence[ReactionData]) -> None:
        super().__init__()
        kinds = [one.kind for one in reactions]
        self.count = len(reactions)
        self.troe_count = kinds.count(TROE)
        self.tsang_count = kinds.count(TSANG)
        self.sri_count = kinds.count(SRI)
        self.plain = kinds.count(LINDEMANN)
        if self.troe_count:
            self.numbers("troe", _columns([_troe(one) for one in reactions if one.kind == TROE]))
        if self.tsang_count:
            self.numbers("tsang", _columns([x.falloff for x in reactions if x.kind == TSANG]))
        if self.sri_count:
            self.numbers("sri", _columns([_sri(one) for one in reactions if one.kind == SRI]))
        self.any_activated = any(one.activated for one in reactions)
        if self.any_activated:
            self.numbers("activated", [one.activated for one in reactions])

    def forward(self, log_low: Tensor, log_high: Tensor, M: Tensor, T: Tensor) -> Tensor:
        """k, (..., reactions). log_low, log_high: of the limits. M: (..., reactions)
        concentrations of third bodies."""
        high = log_high.exp()
        reduced = (log_low - log_high).exp() * M
        share = reduced / (1.0 + reduced)
        if self.any_activated:
            without = (log_low - log_high).exp() / (1.0 + reduced)
            share = torch.where(self.activated > 0, without, share)
        k = high * share
        broadened = self.count - self.plain
        if not broadened:
            return k
        log_pr = reduced[..., self.plain :].clamp(min=TINY).log()
        parts = []
        end = self.troe_count + self.tsang_count
        if end:
            parts.append(self._troe_exponent(log_pr[..., :end], T))
        if self.sri_count:
            parts.append(self._sri_exponent(log_pr[..., end:], T))
        factor = torch.cat(parts, -1).exp()
        return torch.cat((k[..., : self.plain], k[..., self.plain :] * factor), -1)

    def _troe_exponent(self, log_pr, T):
        """ln F = ln Fcent / (1 + f1^2)."""
        centres = []
        if self.troe_count:
            a3, inverse3, a1, inverse1, a2, t2 = self.troe
            centre = a3 * (-T * inverse3).exp() + a1 * (-T * inverse1).exp()
            centres.append(centre + a2 * (-t2 * T.reciprocal()).exp())
        if self.tsang_count:
            centres.append(self.tsang[0] + self.tsang[1] * T)
        log_centre = torch.cat(centres, -1).clamp(min=TINY).log()
        decades = log_centre / LN10
        x = log_pr / LN10 - 0.4 - 0.67 * decades
        f1 = x / (0.75 - 1.27 * decades - 0.14 * x)
        return log_centre / (1.0 + f1 * f1)

    def _sri_exponent(self, log_pr, T):
        """ln F, F = d T^e (a exp(-b / T) + exp(-T / c))^X."""
        a, b, weight, inverse_c, log_d, e = self.sri
        decades = log_pr / LN10
        exponent = 1.0 / (1.0 + decades * decades)
        base = a * (-b * T.reciprocal()).exp() + weight * (-T * inverse_c).exp()
        return exponent * base.clamp(min=TINY).log() + log_d + e * T.log()


def _troe(reaction: ReactionData) -> tuple[float, ...]:
    """(1 - a, 1 / T3, a, 1 / T1, 1, T2). A term whose temperature is missing or zero has the weight
    zero."""
    a, t3, t1, *rest = reaction.falloff
    weight3, inverse3 = _inverse(t3)
    weight1, inverse1 = _inverse(t1)
    weight2 = 0.0
    t2 = 0.0
    if rest:
        weight2 = 1.0
        t2 = rest[0]
    return (1.0 - a) * weight3, inverse3, a * weight1, inverse1, weight2, t2


def _sri(reaction: ReactionData) -> tuple[float, ...]:
    """(a, b, 1, 1 / c, ln d, e); for c = 0 the third number is zero."""
    a, b, c, *rest = reaction.falloff
    d, e = rest or (1.0, 0.0)
    return a, b, *_inverse(c), math.log(d), e


def _inverse(x: float) -> tuple[float, float]:
    """(1, 1 / x), or (0, 0) for zero."""
    if x == 0.0:
        return 0.0, 0.0
    return 1.0, 1.0 / x


class Plog(DataSheet):
    """ln k is linear in ln P between the pressures of a reaction, and constant outside.

    Several expressions of a reaction at one pressure are added.
    """

    slots: Tensor
    first: Tensor
    low: Tensor
    high: Tensor
    log_low: Tensor
    scale: Tensor
    owner: Tensor

    def __init__(self, reactions: Sequence[ReactionData]) -> None:
        super().__init__()
        slots: list[int] = []
        firsts: list[int] = []
        segments: list[tuple[int, int, float, float, int]] = []
        count = 0
        for number, reaction in enumerate(reactions):
            known: list[float] = []
            for pressure in reaction.pressures:
                if pressure not in known:
                    known.append(pressure)
                slots.append(count + known.index(pressure))
            if known != sorted(known):
                raise ValueError(f"the pressures of {reaction.equation} must rise")
            firsts.append(count)
            for k in range(len(known) - 1):
                width = math.log(known[k + 1] / known[k])
                start = math.log(known[k])
                segments.append((count + k, count + k + 1, start, 1.0 / width, number))
            count += len(known)
        self.count = len(reactions)
        self.slot_count = count
        self.single = count == len(slots)
        self.indices("slots", slots)
        self.indices("first", firsts)
        table = np.array(segments, dtype=float).reshape(-1, 5)
        self.indices("low", table[:, 0])
        self.indices("high", table[:, 1])
        self.numbers("log_low", table[:, 2])
        self.numbers("scale", table[:, 3])
        self.indices("owner", table[:, 4])

    def forward(self, log_k: Tensor, sign: Tensor, P: Tensor) -> Tensor:
        """k, (..., reactions). log_k: ln |k| of all expressions, sign: of their A."""
        if not self.single:
            totals = log_k.new_zeros((*log_k.shape[:-1], self.slot_count))
            totals = totals.index_add(-1, self.slots, sign * log_k.exp())
            log_k = totals.clamp(min=TINY).log()
        chosen = log_k.index_select(-1, self.first)
        if not len(self.low):
            return chosen.exp()
        place = ((P.log() - self.log_low) * self.scale).clamp(0.0, 1.0)
        rise = log_k.index_select(-1, self.high) - log_k.index_select(-1, self.low)
        chosen = chosen.expand(*rise.shape[:-1], self.count)
        return chosen.index_add(-1, self.owner, place * rise).exp()


class Chebyshev(DataSheet):
    """log10 k = sum a_ij T_i(x) T_j(z), where x is linear in 1 / T and z is linear in log10 P.

    Venkatesh et al., AIChE J. 43 (1997) 1331. coefficients: (c,), one reaction after the
    other.
    """

    places: Tensor
    temperatures: Tensor
    pressures: Tensor
    leading: Tensor

    def __init__(self, reactions: Sequence[ReactionData]) -> None:
        super().__init__()
        tables = [one.chebyshev for one in reactions if one.chebyshev is not None]
        self.shape = np.max([table.shape for table in tables], axis=0).tolist()
        numbers = np.concatenate([table.reshape(-1) for table in tables])
        # The last entry is zero. It fills up tables that are smaller than the largest.
        places = np.full((len(tables), *self.shape), len(numbers))
        start = 0
        for k, table in enumerate(tables):
            rows, columns = table.shape
            places[k, :rows, :columns] = start + np.arange(table.size).reshape(rows, columns)
            start += table.size
        self.count = len(tables)
        self.coefficients = nn.Parameter(torch.tensor(numbers))
        self.indices("places", places.reshape(-1))
        self.indices("leading", places[:, 0, 0])
        ends = np.array([one.ranges for one in reactions])
        inverse = 1.0 / ends[:, :2]
        self.numbers("temperatures", _scales(inverse[:, 0], inverse[:, 1]))
        decades = np.log10(ends[:, 2:])
        self.numbers("pressures", _scales(decades[:, 0], decades[:, 1]))

    def forward(self, T: Tensor, P: Tensor) -> Tensor:
        """k, (..., reactions)."""
        x = T.reciprocal() * self.temperatures[0] + self.temperatures[1]
        z = (P.log() / LN10) * self.pressures[0] + self.pressures[1]
        padded = torch.cat((self.coefficients, torch.zeros_like(self.coefficients[:1])))
        table = padded.index_select(0, self.places).reshape(self.count, *self.shape)
        in_pressure = _polynomials(z, self.shape[1]).unsqueeze(-2)
        in_temperature = _polynomials(x, self.shape[0])
        decades = ((table * in_pressure).sum(-1) * in_temperature).sum(-1)
        return (decades * LN10).exp()


def _scales(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(2, m): the factor and the offset of the line that is -1 at low and 1 at high."""
    width = np.where(high == low, np.inf, high - low)
    return np.stack((2.0 / width, -(low + high) / width))


def _polynomials(x: Tensor, count: int) -> Tensor:
    """Chebyshev's polynomials T_0 to T_(count - 1) at x: (..., count)."""
    found = [torch.ones_like(x), x]
    while len(found) < count:
        found.append(2.0 * x * found[-1] - found[-2])
    return torch.stack(found[:count], -1)


def _vector(values: Sequence[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)


def _columns(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """(width, rows)."""
    return np.array(rows, dtype=float).T
