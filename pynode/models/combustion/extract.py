"""From cantera's objects to records. An error names what this room cannot compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.reaction_equations import GAS_CONSTANT
from .records import (
    ARRHENIUS,
    CHEBYSHEV,
    FALLOFF,
    LINDEMANN,
    PLOG,
    SRI,
    TROE,
    TSANG,
    ArrheniusData,
    GasData,
    ReactionData,
    ThermoData,
    ThirdBodyData,
)

KILO = 1000.0  # cantera counts in kmol
# cantera's rate.type, with its sub type -> kind.
KINDS = {
    "Arrhenius": ARRHENIUS,
    "falloff/Lindemann": LINDEMANN,
    "chemically-activated/Lindemann": LINDEMANN,
    "falloff/Troe": TROE,
    "chemically-activated/Troe": TROE,
    "falloff/SRI": SRI,
    "chemically-activated/SRI": SRI,
    "falloff/Tsang": TSANG,
    "chemically-activated/Tsang": TSANG,
    "pressure-dependent-Arrhenius": PLOG,
    "Chebyshev": CHEBYSHEV,
}
SUPPORTED = "Arrhenius, three-body, Lindemann, Troe, SRI, Tsang, PLOG and Chebyshev rates"


def gas_data(solution: Any, path: str) -> GasData:
    """The records of a cantera.Solution. path: of the file, for messages.

    Raises ValueError for anything that is no ideal gas of these rates and of NASA polynomials.
    """
    if solution.thermo_model != "ideal-gas":
        raise ValueError(
            f"{path}: the phase {solution.name!r} is of the kind {solution.thermo_model}, and this"
            " room computes only ideal gases. Name an ideal-gas phase with phase=..."
        )
    masses = np.array(solution.molecular_weights) / KILO
    species = tuple(solution.species_names)
    thermo = tuple(_thermo(one, path) for one in solution.species())
    pressures = {one.thermo.reference_pressure for one in solution.species()}
    if len(pressures) > 1:
        raise ValueError(
            f"{path}: the species have different standard pressures, {sorted(pressures)} Pa; give"
            " all of them the same one"
        )
    reactions = tuple(_reaction(one, path) for one in solution.reactions())
    return GasData(species, masses, thermo, pressures.pop(), reactions)


def _thermo(species: Any, path: str) -> ThermoData:
    found = species.thermo
    kind = type(found).__name__
    numbers = np.array(found.coeffs)
    if kind == "NasaPoly2":
        low = numbers[8:15]
        high = numbers[1:8]
        table = np.zeros((2, 9))
        table[:, 2:] = (low, high)
        return ThermoData((float(numbers[0]),), table)
    if kind == "Nasa9PolyMultiTempRegion":
        ranges = numbers[1:].reshape(-1, 11)
        # Cantera takes the upper range at a break, and the lower one for NASA-7.
        breaks = np.nextafter(ranges[1:, 0], 0.0)
        return ThermoData(tuple(breaks.tolist()), ranges[:, 2:])
    if kind == "ConstantCp":
        return ThermoData((), _constant(found)[None])
    raise ValueError(
        f"{path}: the species {species.name!r} has thermodynamics of the kind {kind}; NASA-7,"
        " NASA-9 and constant-cp are supported"
    )


def _constant(thermo: Any) -> np.ndarray:
    """(9,) coefficients of a constant heat capacity."""
    start, enthalpy, entropy, heat = np.array(thermo.coeffs)[:4]
    gas_constant = KILO * GAS_CONSTANT
    table = np.zeros(9)
    table[2] = heat / gas_constant
    table[7] = (enthalpy - heat * start) / gas_constant
    table[8] = (entropy - heat * np.log(start)) / gas_constant
    return table


def _reaction(reaction: Any, path: str) -> ReactionData:
    rate = reaction.rate
    name = rate.type
    if rate.sub_type:
        name = f"{rate.type}/{rate.sub_type}"
    kind = KINDS.get(name)
    if kind is None:
        raise ValueError(
            f"{path}: the reaction {reaction.equation} has a rate of the kind"
            f" {reaction.reaction_type}; supported are {SUPPORTED}"
        )
    orders = {**reaction.reactants, **reaction.orders}
    body = reaction.third_body
    third_body = None
    multiplied = False
    if body is not None:
        third_body = ThirdBodyData(body.default_efficiency, dict(body.efficiencies))
        multiplied = bool(body.mass_action)
    order = sum(orders.values()) + multiplied
    details = _rate(kind, rate, order)
    if kind in FALLOFF:
        if third_body is None:
            third_body = ThirdBodyData(1.0, {})
        if min(one.A for one in details["rates"]) <= 0:
            raise ValueError(
                f"{path}: the falloff reaction {reaction.equation} has a pre-exponential factor"
                " that is not positive, which is not supported; write it as an Arrhenius rate"
            )
    return ReactionData(
        equation=reaction.equation,
        kind=kind,
        reactants=dict(reaction.reactants),
        products=dict(reaction.products),
        orders=orders,
        reversible=bool(reaction.reversible),
        third_body=third_body,
        multiplied=multiplied,
        **details,
    )


def _rate(kind: str, rate: Any, order: float) -> dict[str, Any]:
    """The fields of ReactionData that belong to the rate constant of a reaction of this order."""
    if kind == ARRHENIUS:
        return {"rates": (_arrhenius(rate, order),)}
    if kind == PLOG:
        pressures = tuple(float(pressure) for pressure, _ in rate.rates)
        rates = tuple(_arrhenius(one, order) for _, one in rate.rates)
        return {"rates": rates, "pressures": pressures}
    if kind == CHEBYSHEV:
        table = np.array(rate.data, dtype=float)
        table[0, 0] += (1.0 - order) * np.log10(KILO)
        return {"chebyshev": table, "ranges": (*rate.temperature_range, *rate.pressure_range)}
    activated = bool(rate.chemically_activated)
    low_order = order + 1 - activated
    rates = (_arrhenius(rate.low_rate, low_order), _arrhenius(rate.high_rate, low_order - 1))
    numbers = tuple(np.array(rate.falloff_coeffs).tolist())
    return {"rates": rates, "falloff": numbers, "activated": activated}


def _arrhenius(rate: Any, order: float) -> ArrheniusData:
    return ArrheniusData(
        A=rate.pre_exponential_factor * KILO ** (1.0 - order),
        b=rate.temperature_exponent,
        E=rate.activation_energy / KILO,
    )
