"""Rate constants and rates of all kinds, against Cantera on random states."""

import numpy as np
import pytest
import torch

from pynode.models.combustion.extract import gas_data
from pynode.models.combustion.mechanism import Mechanism
from tests.support.mechanisms import KINDS, mechanism

ct = pytest.importorskip("cantera", reason="mechanisms need cantera")
# The invented polynomials jump where their ranges meet, which Cantera notices.
pytestmark = pytest.mark.filterwarnings("ignore:NasaPoly2")
KILO = 1000.0
SHIPPED = ["h2o2.yaml", "gri30.yaml", "ohn.yaml", "air.yaml"]


def states(gas, count=12):
    """Random states of a gas: each sets it, and gives (T, P, c)."""
    random = np.random.default_rng(0)
    for _ in range(count):
        composition = random.dirichlet(np.full(gas.n_species, 0.4))
        gas.TPX = random.uniform(400, 2900), 10 ** random.uniform(3, 7), composition
        yield (
            torch.tensor([gas.T], dtype=torch.float64),
            torch.tensor([gas.P], dtype=torch.float64),
            torch.tensor(gas.concentrations * KILO),
        )


def check(gas):
    """All rates of a gas to 1e-10, relative to the terms that they are sums of."""
    ours = Mechanism(gas_data(gas, "a test"))
    for T, P, c in states(gas):
        with torch.no_grad():
            forward = ours.forward_constants(T, P, c) * ours.reactant_products(c)
            reverse = ours.reverse_constants(T, P, c) * ours.product_products(c)
            net = ours.progress(T, P, c)
            made = ours.production(T, P, c)
        up = gas.forward_rates_of_progress * KILO
        down = gas.reverse_rates_of_progress * KILO
        np.testing.assert_allclose(forward, up, rtol=1e-10)
        np.testing.assert_allclose(reverse, down, rtol=1e-10)
        error = np.abs(net.numpy() - gas.net_rates_of_progress * KILO)
        assert (error <= 1e-10 * (np.abs(up) + np.abs(down))).all()
        terms = (gas.creation_rates + gas.destruction_rates) * KILO
        error = np.abs(made.numpy() - gas.net_production_rates * KILO)
        assert (error <= 1e-10 * np.abs(terms)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(kind):
    check(ct.Solution(yaml=mechanism(kind)))


def test_all_kinds_together():
    """In one mechanism the reactions keep their order, and their parameters."""
    gas = ct.Solution(yaml=mechanism(*KINDS))
    check(gas)
    ours = Mechanism(gas_data(gas, "a test"))
    assert list(ours.equations) == gas.reaction_equations()


@pytest.mark.parametrize("name", SHIPPED)
def test_mechanisms_of_cantera(name):
    check(ct.Solution(name))


def test_states_have_leading_dimensions():
    gas = ct.Solution(yaml=mechanism(*KINDS))
    ours = Mechanism(gas_data(gas, "a test"))
    found = list(states(gas, 6))
    T, P, c = (torch.stack(parts).reshape(2, 3, -1) for parts in zip(*found))
    together = ours.production(T, P, c)
    assert together.shape == (2, 3, gas.n_species)
    apart = torch.stack([ours.production(*state) for state in found])
    torch.testing.assert_close(together.reshape(6, -1), apart, rtol=1e-12, atol=0)


def test_a_factor_on_a_reaction_is_one_on_all_its_expressions():
    """by_reaction, for each kind: d ln k is 1 in the reaction's own factor."""
    kinds = [kind for kind in KINDS if kind != "negative"]
    ours = Mechanism(gas_data(ct.Solution(yaml=mechanism(*kinds)), "a test"))
    T = torch.tensor([1350.0], dtype=torch.float64)
    P = torch.tensor([2e5], dtype=torch.float64)
    c = torch.linspace(0.2, 3.0, 8, dtype=torch.float64)
    logs = ours.forward_constants(T, P, c).log()
    parameters = (ours.arrhenius.log_A, ours.chebyshev.coefficients)
    for number, log in enumerate(logs):
        found = torch.autograd.grad(log, parameters, retain_graph=True)
        expected = torch.zeros(len(kinds), dtype=torch.float64)
        expected[number] = 1.0
        torch.testing.assert_close(ours.by_reaction(found), expected, rtol=0, atol=1e-12)
