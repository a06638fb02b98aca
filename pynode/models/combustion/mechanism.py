"""A gas with its reactions: rates of progress and of production at a temperature, a pressure and
concentrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .data_sheet import DataSheet
from .rates import LN10, ArrheniusTable, Chebyshev, Falloff, Plog
from .records import (
    ARRHENIUS,
    CHEBYSHEV,
    LINDEMANN,
    PLOG,
    SRI,
    TROE,
    TSANG,
    GasData,
    ReactionData,
    ThirdBodyData,
)
from .tangent import with_slope
from .thermo import Thermodynamics

# The order of the kinds inside a mechanism. Falloff uses the same order.
KINDS = (ARRHENIUS, LINDEMANN, TROE, TSANG, SRI, PLOG, CHEBYSHEV)
TINY = 1e-300  # a concentration below this counts as zero where an order is not whole


class Mechanism(DataSheet):
    """Rates of m reactions between K species, by mass action.

    ``arrhenius`` has the parameters log_A, b and E of all Arrhenius expressions; ``reaction_of``
    says for each expression which reaction it belongs to. ``chebyshev`` has the coefficients of
    Chebyshev rates. T and P are (..., 1), concentrations (..., K) in mol/m3, rates (..., m) in
    mol/(m3 s). Reactions stand in the order of the file.
    """

    masses: Tensor
    expression_reactions: Tensor
    chebyshev_reactions: Tensor
    file_order: Tensor
    efficiencies: Tensor
    efficiency_bodies: Tensor
    efficiency_species: Tensor
    default_efficiencies: Tensor
    factor_bodies: Tensor
    falloff_bodies: Tensor
    net: Tensor
    net_reactions: Tensor
    net_species: Tensor
    balance: Tensor
    balance_reactions: Tensor
    balance_species: Tensor
    reverse_places: Tensor

    def __init__(self, gas: GasData) -> None:
        super().__init__()
        self.species = gas.species
        self.equations = tuple(one.equation for one in gas.reactions)
        self.thermo = Thermodynamics(gas.thermo, gas.pressure)
        self.numbers("masses", gas.masses)
        groups: dict[str, list[int]] = {kind: [] for kind in KINDS}
        for number, one in enumerate(gas.reactions):
            groups[one.kind].append(number)
        order = [number for kind in KINDS for number in groups[kind]]
        self._make_rates(gas.reactions, groups)
        self._place_third_bodies(gas)
        # kinds one after the other -> order of the file
        self.indices("file_order", np.argsort(np.array(order, dtype=np.int64)))
        self._place_products(gas)
        self._place_equilibria(gas)

    def _make_rates(self, reactions, groups):
        """The modules of the rate constants, and where each finds its Arrhenius expressions."""
        falloff = [k for kind in (LINDEMANN, TROE, TSANG, SRI) for k in groups[kind]]
        simple = groups[ARRHENIUS]
        plog = groups[PLOG]
        entries = [(k, reactions[k].rates[0]) for k in simple]
        entries += [(k, reactions[k].rates[0]) for k in falloff]
        entries += [(k, reactions[k].rates[1]) for k in falloff]
        entries += [(k, rate) for k in plog for rate in reactions[k].rates]
        self.ends = np.cumsum([len(simple), len(falloff), len(falloff)]).tolist()
        self.arrhenius = ArrheniusTable([rate for _, rate in entries])
        self.indices("expression_reactions", [k for k, _ in entries])
        self.falloff = None
        if falloff:
            self.falloff = Falloff([reactions[k] for k in falloff])
        self.falloff_reactions = falloff
        self.plog = None
        if plog:
            self.plog = Plog([reactions[k] for k in plog])
        self.chebyshev = None
        if groups[CHEBYSHEV]:
            self.chebyshev = Chebyshev([reactions[k] for k in groups[CHEBYSHEV]])
            self.indices("chebyshev_reactions", groups[CHEBYSHEV])

    def _place_third_bodies(self, gas):
        """Equal third bodies are one. Efficiencies that equal the default are left out."""
        bodies: list[ThirdBodyData] = []
        for one in gas.reactions:
            if one.third_body is not None and one.third_body not in bodies:
                bodies.append(one.third_body)
        species = {name: k for k, name in enumerate(gas.species)}
        entries = [
            (number, species[name], efficiency - body.default)
            for number, body in enumerate(bodies)
            for name, efficiency in body.efficiencies.items()
            if efficiency != body.default and name in species
        ]
        self.indices("efficiency_bodies", [number for number, _, _ in entries])
        self.indices("efficiency_species", [place for _, place, _ in entries])
        self.numbers("efficiencies", [value for _, _, value in entries])
        self.numbers("default_efficiencies", [body.default for body in bodies])
        # The factor of each reaction is a third body, or 1, which stands behind the last one.
        factors = [len(bodies)] * len(gas.reactions)
        for number, one in enumerate(gas.reactions):
            if one.multiplied:
                factors[number] = bodies.index(_body(one))
        self.any_multiplied = any(one.multiplied for one in gas.reactions)
        self.indices("factor_bodies", factors)
        falloff = [bodies.index(_body(gas.reactions[k])) for k in self.falloff_reactions]
        self.indices("falloff_bodies", falloff)

    def _place_products(self, gas):
        """The factors of the products of concentrations, and what a reaction makes and uses."""
        species = {name: k for k, name in enumerate(gas.species)}
        forward = _factors([one.orders for one in gas.reactions], species)
        reverse = _factors([_reverse_orders(one) for one in gas.reactions], species)
        self.reactant_products = Products(forward)
        self.product_products = Products(reverse)
        entries = []
        for number, one in enumerate(gas.reactions):
            for name, value in _net(one).items():
                entries.append((number, species[name], value))
        self.indices("net_reactions", [number for number, _, _ in entries])
        self.indices("net_species", [place for _, place, _ in entries])
        self.numbers("net", [value for _, _, value in entries])

    def _place_equilibria(self, gas):
        """The sums over species of the equilibrium constants of the reversible reactions."""
        reversible = [k for k, one in enumerate(gas.reactions) if one.reversible]
        places = {number: k for k, number in enumerate(reversible)}
        kept = [k for k, x in enumerate(self.net_reactions.tolist()) if x in places]
        chosen = torch.tensor(kept, dtype=torch.int64)
        self.reversible_count = len(reversible)
        self.indices("balance_reactions", [places[x] for x in self.net_reactions[chosen].tolist()])
        self.indices("balance_species", self.net_species[chosen].tolist())
        self.numbers("balance", self.net[chosen].numpy())
        # Irreversible reactions read the zero behind the last reversible one.
        order = [places.get(k, len(reversible)) for k in range(len(gas.reactions))]
        self.indices("reverse_places", order)

    def third_bodies(self, c: Tensor) -> Tensor:
        """[M] of the different third bodies, (..., bodies)."""
        totals = self.default_efficiencies * c.sum(-1, keepdim=True)
        parts = self.efficiencies * c.index_select(-1, self.efficiency_species)
        return totals.index_add(-1, self.efficiency_bodies, parts)

    def forward_constants(self, T: Tensor, P: Tensor, c: Tensor) -> Tensor:
        """k of the forward reactions, (..., m). It includes the factor [M] of three-body
        reactions."""
        log_k = self.arrhenius(T)
        sign = self.arrhenius.sign
        simple, low, high = self.ends
        constants = log_k[..., :simple].exp()
        if not self.arrhenius.positive:
            constants = sign[:simple] * constants
        parts = [constants]
        bodies = self.third_bodies(c)
        if self.falloff is not None:
            M = bodies.index_select(-1, self.falloff_bodies)
            parts.append(self.falloff(log_k[..., simple:low], log_k[..., low:high], M, T))
        if self.plog is not None:
            parts.append(self.plog(log_k[..., high:], sign[high:], P))
        if self.chebyshev is not None:
            parts.append(self.chebyshev(T, P))
        k = torch.cat(parts, -1).index_select(-1, self.file_order)
        if self.any_multiplied:
            factors = torch.cat((bodies, torch.ones_like(bodies[..., :1])), -1)
            k = k * factors.index_select(-1, self.factor_bodies)
        return k

    def equilibrium_factors(self, T: Tensor) -> Tensor:
        """1 / Kc, (..., m), Kc in units of concentrations; zero for irreversible reactions."""
        shape = (*T.shape[:-1], self.reversible_count)
        fixed = T.detach()
        values = self.thermo.potentials(fixed).index_select(-1, self.balance_species)
        logs = T.new_zeros(shape).index_add(-1, self.balance_reactions, self.balance * values)
        # van 't Hoff: the derivative of the potential in T is (1 - h / (R T)) / T.
        slopes = ((1.0 - self.thermo.enthalpies(T)) / T).index_select(-1, self.balance_species)
        slope = T.new_zeros(shape).index_add(-1, self.balance_reactions, self.balance * slopes)
        factors = with_slope(T, logs, slope).exp()
        padded = torch.cat((factors, torch.zeros_like(T)), -1)
        return padded.index_select(-1, self.reverse_places)

    def reverse_constants(self, T: Tensor, P: Tensor, c: Tensor) -> Tensor:
        """k of the reverse reactions, (..., m)."""
        return self.forward_constants(T, P, c) * self.equilibrium_factors(T)

    def progress(self, T: Tensor, P: Tensor, c: Tensor) -> Tensor:
        """Net rates of the reactions, (..., m)."""
        net = self.reactant_products(c)
        if self.reversible_count:
            net = net - self.equilibrium_factors(T) * self.product_products(c)
        return self.forward_constants(T, P, c) * net

    def production(self, T: Tensor, P: Tensor, c: Tensor) -> Tensor:
        """Net rates at which the species are made, (..., K)."""
        if not self.equations:
            return torch.zeros_like(c)
        parts = self.net * self.progress(T, P, c).index_select(-1, self.net_reactions)
        return torch.zeros_like(c).index_add(-1, self.net_species, parts)

    def by_reaction(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Derivatives in ln k of each reaction, (m,). gradients: in ``log_A``, and in Chebyshev's
        coefficients. A factor on all expressions of a reaction is a factor on the rate."""
        total = torch.zeros(len(self.equations), dtype=torch.float64)
        of_factors = gradients[0]
        if of_factors is not None:
            total = total.index_add(0, self.expression_reactions, of_factors)
        if self.chebyshev is not None and len(gradients) > 1 and gradients[1] is not None:
            leading = gradients[1].index_select(0, self.chebyshev.leading) / LN10
            total = total.index_add(0, self.chebyshev_reactions, leading)
        return total


class Products(DataSheet):
    """Products of concentrations, one for each reaction."""

    columns: Tensor
    power_species: Tensor
    powers: Tensor

    def __init__(self, factors: _Factors) -> None:
        super().__init__()
        self.indices("columns", factors.columns)
        self.power_reactions = tuple(factors.power_reactions)
        if self.power_reactions:
            self.indices("power_species", factors.power_species)
            self.numbers("powers", factors.powers)

    def forward(self, c: Tensor) -> Tensor:
        """(..., m), of the concentrations c, (..., K)."""
        padded = torch.cat((c, torch.ones_like(c[..., :1])), -1)
        # Products have derivatives at zero, powers do not.
        total = padded.index_select(-1, self.columns[0])
        for column in self.columns[1:]:
            total = total * padded.index_select(-1, column)
        if not self.power_reactions:
            return total
        bases = c.index_select(-1, self.power_species)
        there = bases > TINY
        logs = self.powers * torch.where(there, bases, 1.0).log()
        values = torch.where(there, logs.exp(), 0.0)
        # One power after the other, because a reaction can have several.
        parts = list(total.unbind(-1))
        for place, reaction in enumerate(self.power_reactions):
            parts[reaction] = parts[reaction] * values[..., place]
        return torch.stack(parts, -1)


class _Factors(NamedTuple):
    """The factors of products of concentrations.

    columns: lists of m species; the number of species stands for the factor 1. The others are
    powers with orders that are not whole, or are negative.
    """

    columns: list[list[int]]
    power_species: list[int]
    power_reactions: list[int]
    powers: list[float]


def _factors(orders: Sequence[dict[str, float]], species: dict[str, int]) -> _Factors:
    """The factors of each reaction, from its orders in the species."""
    rows: list[list[int]] = []
    powers = []
    for number, one in enumerate(orders):
        row: list[int] = []
        for name, order in one.items():
            if order == int(order) and order >= 0:
                row += [species[name]] * int(order)
            else:
                powers.append((species[name], number, order))
        rows.append(row)
    most = max((len(row) for row in rows), default=0)
    padded = [row + [len(species)] * (max(most, 1) - len(row)) for row in rows]
    columns = [list(column) for column in zip(*padded)]
    return _Factors(
        columns,
        [place for place, _, _ in powers],
        [number for _, number, _ in powers],
        [order for _, _, order in powers],
    )


def _body(reaction: ReactionData) -> ThirdBodyData:
    assert reaction.third_body is not None
    return reaction.third_body


def _reverse_orders(reaction: ReactionData) -> dict[str, float]:
    if not reaction.reversible:
        return {}
    return reaction.products


def _net(reaction: ReactionData) -> dict[str, float]:
    """What a reaction makes minus what it uses, without zeros."""
    names = dict.fromkeys((*reaction.reactants, *reaction.products))
    found = {
        name: reaction.products.get(name, 0.0) - reaction.reactants.get(name, 0.0) for name in names
    }
    return {name: value for name, value in found.items() if value}
