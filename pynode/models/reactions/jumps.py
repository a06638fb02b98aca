"""Times, known in advance, at which the right-hand side of a model can jump."""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp

from .conditions import crossing_time, differences, frozen
from .records import Network


def jump_times(network: Network, derivatives: Sequence[sp.Expr]) -> list[sp.Expr]:
    """The times as expressions of constants, and of states that only events change."""
    needed = network.needed(list(derivatives))
    formulas = [*derivatives, *(network.definitions[x] for x in needed if x in network.definitions)]
    conditions = [
        condition
        for formula in formulas
        for choice in formula.atoms(sp.Piecewise)
        for _, condition in choice.args
    ]
    still = frozen(network)
    times = [crossing_time(part, network, still) for part in differences(conditions)]
    return [time for time in dict.fromkeys(times) if time is not None]
