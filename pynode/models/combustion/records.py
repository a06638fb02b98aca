"""What a mechanism file says, as plain records. All numbers are in mol, m, kg, s, K and J."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# Kinds of forward rate constants.
ARRHENIUS = "Arrhenius"
LINDEMANN = "Lindemann"
TROE = "Troe"
SRI = "SRI"
TSANG = "Tsang"
PLOG = "PLOG"
CHEBYSHEV = "Chebyshev"
FALLOFF = (LINDEMANN, TROE, SRI, TSANG)


@dataclass(frozen=True)
class ArrheniusData:
    """k(T) = A T^b exp(-E / (R T)). E in J/mol, A in units of k / K^b."""

    A: float
    b: float
    E: float


@dataclass(frozen=True)
class ThirdBodyData:
    """[M] = sum over the species of efficiency times concentration."""

    default: float
    efficiencies: dict[str, float]


@dataclass(frozen=True)
class ReactionData:
    """One reaction.

    kind: of the forward rate constant. rates: one expression for ARRHENIUS, (low, high) for the
    falloff kinds, one for each of ``pressures`` for PLOG. orders: of the forward rate in each
    species. third_body: of the falloff kinds, and of reactions whose rate has the factor [M]
    (``multiplied``). falloff: the numbers of the broadening factor. activated: chemically
    activated. chebyshev: (NT, NP) coefficients of log10 k; ranges: (Tmin, Tmax, Pmin, Pmax).
    """

    equation: str
    kind: str
    reactants: dict[str, float]
    products: dict[str, float]
    orders: dict[str, float]
    reversible: bool
    rates: tuple[ArrheniusData, ...] = ()
    third_body: ThirdBodyData | None = None
    multiplied: bool = False
    falloff: tuple[float, ...] = ()
    activated: bool = False
    pressures: tuple[float, ...] = ()
    chebyshev: np.ndarray | None = None
    ranges: tuple[float, ...] = ()


@dataclass(frozen=True)
class ThermoData:
    """NASA's nine coefficients of one species in each temperature range.

    breaks: the temperatures between the ranges. coefficients: (ranges, 9). cp/R = a1 T^-2 + a2 T^-1
    + a3 + a4 T + a5 T^2 + a6 T^3 + a7 T^4; a8 and a9 are the constants of h/(RT) and s/R.
    """

    breaks: tuple[float, ...]
    coefficients: np.ndarray


@dataclass(frozen=True)
class GasData:
    """An ideal gas: its species with molar masses in kg/mol and thermodynamics, its reactions, and
    the pressure of the standard state in Pa."""

    species: tuple[str, ...]
    masses: np.ndarray
    thermo: tuple[ThermoData, ...]
    pressure: float
    reactions: tuple[ReactionData, ...] = field(default=())
