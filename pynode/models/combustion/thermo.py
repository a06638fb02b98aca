"""Thermodynamics of an ideal gas by NASA's polynomials of seven or nine coefficients.

McBride, Zehe & Gordon, NASA/TP-2002-211556, eqs. 1 to 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...core.reaction_equations import GAS_CONSTANT
from .data_sheet import DataSheet
from .records import ThermoData

FIRST_OF_SEVEN = 2  # NASA-7 has no a1 and a2


class Thermodynamics(DataSheet):
    """Heat capacities, enthalpies and entropies of K species, dimensionless, at the standard
    pressure.

    The temperature T, in K, is (..., 1); the results are (..., K). Coefficients hold up
    to the upper end of a range. The first and the last range also hold outside.
    """

    coefficients: Tensor
    breaks: Tensor

    def __init__(self, species: Sequence[ThermoData], pressure: float) -> None:
        super().__init__()
        ranges = max(len(one.breaks) for one in species) + 1
        table = np.zeros((ranges, len(species), 9))
        breaks = np.full((ranges - 1, len(species)), np.inf)
        for k, one in enumerate(species):
            count = len(one.breaks)
            table[: count + 1, k] = one.coefficients
            table[count + 1 :, k] = one.coefficients[-1]
            breaks[:count, k] = one.breaks
        self.nine = bool(table[:, :, :FIRST_OF_SEVEN].any())
        if not self.nine:
            table = table[:, :, FIRST_OF_SEVEN:]
        self.pressure = pressure
        # (coefficients, ranges, K)
        self.numbers("coefficients", table.transpose(2, 0, 1))
        self.numbers("breaks", breaks)

    def selected(self, T: Tensor) -> list[Tensor]:
        """The coefficients at T, each (..., K): a1 to a9, or a3 to a9 of NASA-7."""
        found = list(self.coefficients[:, 0])
        for zone, above in enumerate(self.breaks, start=1):
            higher = T > above
            upper = self.coefficients[:, zone]
            found = [torch.where(higher, x, y) for x, y in zip(upper, found, strict=True)]
        return found

    def heat_capacities(self, T: Tensor, chosen: list[Tensor] | None = None) -> Tensor:
        """cp / R."""
        chosen = chosen or self.selected(T)
        a3, a4, a5, a6, a7 = chosen[-7:-2]
        total = a3 + T * (a4 + T * (a5 + T * (a6 + T * a7)))
        if self.nine:
            inverse = T.reciprocal()
            total = total + inverse * (chosen[1] + inverse * chosen[0])
        return total

    def enthalpies(self, T: Tensor, chosen: list[Tensor] | None = None) -> Tensor:
        """h / (R T)."""
        chosen = chosen or self.selected(T)
        a3, a4, a5, a6, a7, a8 = chosen[-7:-1]
        inverse = T.reciprocal()
        total = a3 + a4 * (T / 2) + a5 * (T * T / 3) + a6 * (T**3 / 4) + a7 * (T**4 / 5)
        total = total + a8 * inverse
        if self.nine:
            total = total + inverse * (chosen[1] * T.log() - inverse * chosen[0])
        return total

    def entropies(self, T: Tensor, chosen: list[Tensor] | None = None) -> Tensor:
        """s / R."""
        chosen = chosen or self.selected(T)
        a3, a4, a5, a6, a7, _, a9 = chosen[-7:]
        total = a3 * T.log() + a4 * T + a5 * (T * T / 2) + a6 * (T**3 / 3) + a7 * (T**4 / 4) + a9
        if self.nine:
            inverse = T.reciprocal()
            total = total - inverse * (chosen[1] + 0.5 * inverse * chosen[0])
        return total

    def potentials(self, T: Tensor, chosen: list[Tensor] | None = None) -> Tensor:
        """(g - R T ln c0) / (R T), where c0 = P0 / (R T) is the concentration, in mol/m3, of the
        standard state. A reaction is in equilibrium if the sum of nu (this + ln c) is zero."""
        chosen = chosen or self.selected(T)
        standard = (self.pressure / GAS_CONSTANT / T).log()
        return self.enthalpies(T, chosen) - self.entropies(T, chosen) - standard
