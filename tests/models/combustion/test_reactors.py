"""Reactors: against Cantera's networks, and what must stay constant."""

import copy
import pickle

import numpy as np
import pytest
import torch

from pynode import solve
from pynode.models import cantera
from pynode.translate import translate
from tests.support.cases import tensor

ct = pytest.importorskip("cantera", reason="mechanisms need cantera")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
MECHANISM = "h2o2.yaml"
MIXTURE = "H2:2, O2:1, N2:3.76"
HOT = (1300.0, 2e5, MIXTURE)
COLD = (400.0, 2e5, "H2:1, O2:1")
STAY = 2e-5
TIMES = [0.0, 5e-6, 2e-5, 4e-5, 1e-4, 5e-4]
REACTORS = {
    "constant volume": ct.IdealGasReactor,
    "constant pressure": ct.IdealGasConstPressureReactor,
}
TIGHT = {"method": "fbdf", "rtol": 1e-10, "atol": 1e-14, "backend": "native"}


def by_cantera(kind, energy, stirred):
    """(T, P, X) at TIMES, (times, 2 + K)."""
    gas = ct.Solution(MECHANISM)
    gas.TPX = HOT
    reactor = REACTORS[kind](gas, energy="on" if energy == "adiabatic" else "off")
    devices = []
    if stirred:
        entering = ct.Solution(MECHANISM)
        entering.TPX = COLD
        flow = reactor.mass / STAY
        leaving = ct.Reservoir(ct.Solution(MECHANISM))
        devices.append(ct.MassFlowController(ct.Reservoir(entering), reactor, mdot=flow))
        devices.append(ct.MassFlowController(reactor, leaving, mdot=flow))
    net = ct.ReactorNet([reactor])
    net.rtol = 1e-11
    net.atol = 1e-18
    found = []
    for t in TIMES:
        if t > 0:
            net.advance(t)
        found.append([gas.T, gas.P, *gas.X])
    return np.array(found)


@pytest.mark.parametrize("stirred", [False, True])
@pytest.mark.parametrize("energy", ["adiabatic", "isothermal"])
@pytest.mark.parametrize("kind", REACTORS)
def test_trajectories_of_cantera(kind, energy, stirred):
    """Through the ignition, closed or stirred. The cold inflow of a stirred reactor has enthalpies
    and mole masses of its own."""
    pytest.importorskip("numba")
    options = {"energy": energy}
    if stirred:
        options |= {"inflow": {"T": COLD[0], "X": COLD[2]}, "residence_time": STAY}
    reactor = cantera(MECHANISM, kind, **options)
    y0 = reactor.initial(*HOT)
    with torch.no_grad():
        y = solve(reactor, y0, TIMES, **TIGHT).y
        T, P, _ = reactor.gas(0.0, y)
        ours = torch.cat((T, P, reactor.mole_fractions(y)), -1).numpy()
    expected = by_cantera(kind, energy, stirred)
    np.testing.assert_allclose(ours[:, :2], expected[:, :2], rtol=1e-6)
    np.testing.assert_allclose(ours[:, 2:], expected[:, 2:], rtol=1e-5, atol=1e-10)


def test_compositions():
    """X, Y, texts, mappings and tensors give the same state."""
    reactor = cantera(MECHANISM)
    gas = ct.Solution(MECHANISM)
    gas.TPX = HOT
    y0 = reactor.initial(*HOT)
    np.testing.assert_allclose(y0[1:], gas.concentrations * 1000.0, rtol=1e-13, atol=1e-300)
    T, P, _ = HOT
    amounts = {"H2": 2.0, "O2": torch.tensor(1.0), "N2": 3.76}
    for X in (amounts, reactor.mole_fractions(y0), tensor(*gas.X)):
        torch.testing.assert_close(reactor.initial(T, P, X=X), y0, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(reactor.initial(T, P, Y=gas.Y), y0, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(reactor.mass_fractions(y0), gas.Y, rtol=1e-12, atol=1e-300)
    rows = reactor.initial(tensor(900.0, 1300.0), P, MIXTURE)
    torch.testing.assert_close(rows[1], y0)


def elements(reactor, y):
    """Amounts of H, O and N in the states y."""
    gas = ct.Solution(MECHANISM)
    table = [[gas.n_atoms(name, element) for name in gas.species_names] for element in "HON"]
    return reactor.amounts(y) @ torch.tensor(table, dtype=torch.float64).T


@pytest.mark.parametrize("kind", REACTORS)
def test_conservation(kind):
    """Elements are constant but for rounding; so are u at constant volume, h and P at constant
    pressure."""
    reactor = cantera(MECHANISM, kind)
    y0 = reactor.initial(*HOT)
    with torch.no_grad():
        y = solve(reactor, y0, [0.0, 4e-5, 1e-4], method="fbdf", rtol=1e-8, atol=1e-13).y
        before, middle, after = elements(reactor, y)
        thermo = reactor.mechanism.thermo
        T, P, _ = reactor.gas(0.0, y)
        h = T * thermo.enthalpies(T)
        if kind == "constant volume":
            h = h - T
        energy = (h * reactor.amounts(y)).sum(-1)
    assert float(T[-1]) > 2500.0
    torch.testing.assert_close(middle, before, rtol=1e-10, atol=0)
    torch.testing.assert_close(after, before, rtol=1e-10, atol=0)
    size = float((h * reactor.amounts(y)).abs().sum(-1).max())
    assert float((energy - energy[0]).abs().max()) < 1e-6 * size
    if kind == "constant pressure":
        torch.testing.assert_close(P, P[:1].expand_as(P), rtol=1e-10, atol=0)


def compression(t):
    """P(t) in Pa: tenfold in 10 ms."""
    return 1e5 * torch.exp(230.2585092994046 * t)


def test_prescribed_pressure():
    """A gas that does not react is compressed at constant entropy."""
    reactor = cantera("airNASA9.yaml", "constant pressure", pressure=compression)
    assert reactor.states == ("T", *reactor.species)
    assert reactor.state_units == ("K", *["mol/kg"] * len(reactor.species))
    assert reactor.time_unit == "s"
    y0 = reactor.initial(500.0, 1e5, "N2:0.79, O2:0.21")
    with torch.no_grad():
        y = solve(reactor, y0, [0.0, 0.01], method="tsit5", rtol=1e-10).y
    gas = ct.Solution("airNASA9.yaml")
    gas.TPX = 500.0, 1e5, "N2:0.79, O2:0.21"
    gas.SP = gas.s, 1e6
    assert float(y[-1, 0]) == pytest.approx(gas.T, rel=1e-8)
    _, P, c = reactor.gas(0.01, y[-1])
    assert float(P) == pytest.approx(1e6)
    assert float(c.sum()) == pytest.approx(gas.density_mole * 1000.0, rel=1e-8)


@pytest.mark.parametrize("kind", REACTORS)
def test_prescribed_temperature(kind):
    """A constant T(t) is an isothermal reactor; another one is a solve in time-dependent f."""
    held = cantera(MECHANISM, kind, temperature=lambda t: 1300.0 + 0.0 * t)
    isothermal = cantera(MECHANISM, kind, energy="isothermal")
    assert "T" not in held.states
    if kind == "constant volume":
        assert isothermal.state_units == ("K", *["mol/m3"] * len(held.species))
    y0 = held.initial(*HOT)
    y1 = isothermal.initial(*HOT)
    torch.testing.assert_close(held(0.0, y0), isothermal(0.0, y1)[1:])
    ramp = cantera(MECHANISM, kind, temperature=lambda t: 1200.0 + 1e6 * t)
    torch.testing.assert_close(ramp(1e-4, y0), held(0.0, y0))
    rows = torch.stack((y0, y0))
    times = torch.tensor([[0.0], [1e-4]], dtype=torch.float64)
    torch.testing.assert_close(ramp(times, rows)[1], held(0.0, y0))


class Ramp(torch.nn.Module):
    """P(t) with a parameter."""

    def __init__(self):
        super().__init__()
        self.speed = torch.nn.Parameter(tensor(100.0).squeeze())

    def forward(self, t):
        return 1e6 * torch.exp(self.speed * t)


def test_parameters_of_what_is_prescribed():
    """P(t), T of the inflow and the time of residence can be learned, in native code too."""
    pytest.importorskip("numba")
    stay = torch.nn.Parameter(tensor(1e-3).squeeze())
    entering = torch.nn.Parameter(tensor(300.0).squeeze())
    reactor = cantera(
        MECHANISM,
        "constant pressure",
        pressure=Ramp(),
        inflow={"T": entering, "X": COLD[2]},
        residence_time=stay,
    )
    wanted = [reactor.pressure.speed, reactor.inflow.T, reactor.inflow.residence_time]
    assert wanted[1] is entering and wanted[2] is stay
    y0 = reactor.initial(1000.0, 1e6, MIXTURE)
    options = {"method": "rodas5p", "rtol": 1e-5, "atol": 1e-9}
    gradients = []
    for backend in ("torch", "native"):
        y = solve(reactor, y0, (0.0, 1e-4), backend=backend, **options).y
        gradients.append(torch.autograd.grad(y[-1, 0], wanted))
    for native, expected in zip(gradients[1], gradients[0], strict=True):
        assert float(expected) != 0.0
        torch.testing.assert_close(native, expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)), lambda x: x.double()],
    ids=["deepcopy", "pickle", "double"],
)
def test_copies(copied):
    """A copy gives the same slopes, and native code reads nothing of it but its parameters."""
    pytest.importorskip("numba")
    reactor = cantera(MECHANISM)
    other = copied(reactor)
    y0 = reactor.initial(*HOT)
    torch.testing.assert_close(other(0.0, y0), reactor(0.0, y0), rtol=0, atol=0)
    targets = translate(other, y0, 0.0).targets
    assert {id(x) for x in targets} == {id(x) for x in other.parameters()}
