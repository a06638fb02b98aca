"""Thermodynamics of species: against Cantera, and the relations between the functions."""

import numpy as np
import pytest
import torch

from pynode.models.combustion.extract import gas_data
from pynode.models.combustion.mechanism import Mechanism
from tests.support.mechanisms import mechanism

ct = pytest.importorskip("cantera", reason="mechanisms need cantera")
# The invented polynomials jump where their ranges meet, which Cantera notices.
pytestmark = pytest.mark.filterwarnings("ignore:NasaPoly2")
# Inside, at and outside the ranges of the polynomials.
TEMPERATURES = [150.0, 300.0, 900.0, 1000.0, 1001.0, 1700.0, 2500.0, 6500.0]


def thermodynamics(gas):
    return Mechanism(gas_data(gas, "a test")).thermo


@pytest.mark.parametrize("name", ["", "airNASA9.yaml", "gri30.yaml"])
def test_against_cantera(name):
    """NASA-7, NASA-9 and constant heat capacities."""
    gas = ct.Solution(name) if name else ct.Solution(yaml=mechanism())
    thermo = thermodynamics(gas)
    for T in TEMPERATURES:
        here = torch.tensor([T], dtype=torch.float64)
        species = [one.thermo for one in gas.species()]
        R = ct.gas_constant
        cp = np.array([one.cp(T) for one in species]) / R
        h = np.array([one.h(T) for one in species]) / (R * T)
        s = np.array([one.s(T) for one in species]) / R
        np.testing.assert_allclose(thermo.heat_capacities(here), cp, rtol=1e-10)
        np.testing.assert_allclose(thermo.enthalpies(here), h, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(thermo.entropies(here), s, rtol=1e-10)


def test_potentials():
    """g / (R T) - ln c0, and its derivative in T by van 't Hoff."""
    thermo = thermodynamics(ct.Solution(yaml=mechanism()))
    T = torch.tensor([1100.0], dtype=torch.float64, requires_grad=True)
    standard = thermo.pressure / (8.31446261815324 * 1100.0)
    expected = thermo.enthalpies(T) - thermo.entropies(T) - np.log(standard)
    found = thermo.potentials(T)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)
    for potential, h in zip(found, thermo.enthalpies(T), strict=True):
        (slope,) = torch.autograd.grad(potential, T, retain_graph=True)
        torch.testing.assert_close(slope, (1.0 - h) / T, rtol=1e-10, atol=1e-12)
