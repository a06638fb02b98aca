"""Air pollution: 25 reactions of 20 species, the chemistry of RIVM's dispersion model."""

from typing import ClassVar

import torch

from pynode.problems.base import Problem
from pynode.problems.bilinear import MassAction

SOURCE = (
    "J. G. Verwer, Gauss-Seidel iteration for stiff ODEs from chemical kinetics, SIAM J. Sci."
    " Comput. 15, 1994, 1243-1250; POLLU in Mazzia & Magherini, Test Set for Initial Value Problem"
    " Solvers, release 2.4, 2008."
)


class Pollution(MassAction):
    """dy/dt = S r(y): the rates r, (..., 25), by mass action, and the stoichiometry S, (20, 25), of
    the reactions below.

    y: (..., 20) concentrations of `species` in ppm; t in minutes; constants in 1/min for one
    reactant, 1/(ppm min) for two. Air supplies what the left sides leave out (O2, light, third
    bodies). Verwer 1994.
    """

    defaults: ClassVar = {
        "k1": 0.35,
        "k2": 26.6,
        "k3": 12300.0,
        "k4": 0.00086,
        "k5": 0.00082,
        "k6": 15000.0,
        "k7": 0.00013,
        "k8": 24000.0,
        "k9": 16500.0,
        "k10": 9000.0,
        "k11": 0.022,
        "k12": 12000.0,
        "k13": 1.88,
        "k14": 16300.0,
        "k15": 4.8e6,
        "k16": 0.00035,
        "k17": 0.0175,
        "k18": 1e8,
        "k19": 4.44e11,
        "k20": 1240.0,
        "k21": 2.1,
        "k22": 5.78,
        "k23": 0.0474,
        "k24": 1780.0,
        "k25": 3.12,
    }
    species: ClassVar = (
        "NO2",
        "NO",
        "O3P",
        "O3",
        "HO2",
        "OH",
        "HCHO",
        "CO",
        "ALD",
        "MEO2",
        "C2O3",
        "CO2",
        "PAN",
        "CH3O",
        "HNO3",
        "O1D",
        "SO2",
        "SO4",
        "NO3",
        "N2O5",
    )
    state_units: ClassVar = ("ppm",) * 20
    time_unit: ClassVar = "min"
    reactions: ClassVar = {
        "k1": "NO2 -> NO + O3P",
        "k2": "NO + O3 -> NO2",
        "k3": "HO2 + NO -> NO2 + OH",
        "k4": "HCHO -> 2 HO2 + CO",
        "k5": "HCHO -> CO",
        "k6": "HCHO + OH -> HO2 + CO",
        "k7": "ALD -> MEO2 + HO2 + CO",
        "k8": "ALD + OH -> C2O3",
        "k9": "C2O3 + NO -> NO2 + MEO2 + CO2",
        "k10": "C2O3 + NO2 -> PAN",
        "k11": "PAN -> C2O3 + NO2",
        "k12": "MEO2 + NO -> CH3O + NO2",
        "k13": "CH3O -> HCHO + HO2",
        "k14": "NO2 + OH -> HNO3",
        "k15": "O3P -> O3",
        "k16": "O3 -> O1D",
        "k17": "O3 -> O3P",
        "k18": "O1D -> 2 OH",
        "k19": "O1D -> O3P",
        "k20": "SO2 + OH -> SO4 + HO2",
        "k21": "NO3 -> NO",
        "k22": "NO3 -> NO2 + O3P",
        "k23": "NO2 + O3 -> NO3",
        "k24": "NO3 + NO2 -> N2O5",
        "k25": "N2O5 -> NO3 + NO2",
    }


# ppm; every other species starts at zero.
START = {"NO": 0.2, "O3": 0.04, "HCHO": 0.1, "CO": 0.3, "ALD": 0.01, "SO2": 0.007}


def pollution(
    dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Problem:
    """Verwer's pollution problem over an hour. O3P stays below 5e-9 ppm, hence the small atol."""
    return Problem(
        name="pollution",
        field=Pollution(dtype, device),
        y0=torch.tensor(
            [START.get(name, 0.0) for name in Pollution.species], dtype=dtype, device=device
        ),
        tspan=(0.0, 60.0),
        rtol=1e-6,
        atol=1e-12,
        stiff=True,
        source=SOURCE,
    )
