"""Reactors whose temperature or pressure is prescribed, also stirred: against SciPy with Cantera's
rates and enthalpies, and gradients against differences."""

import numpy as np
import pytest
import torch

from pynode import solve
from pynode.models import cantera

ct = pytest.importorskip("cantera", reason="mechanisms need cantera")
pytest.importorskip("numba", reason="the native engine needs numba")
scipy_integrate = pytest.importorskip("scipy.integrate")
MECHANISM = "h2o2.yaml"
START = (1250.0, 2e5, "H2:2, O2:1, N2:3.76")
COLD = (400.0, 2e5, "H2:1, O2:1")
STAY = 2e-4
TIMES = [0.0, 5e-6, 2e-5, 4e-5, 1e-4]
INFLOW = {"inflow": {"T": COLD[0], "X": COLD[2]}, "residence_time": STAY}


def heated(t):
    """T(t) in K."""
    return 1250.0 + 200.0 * torch.sin(2e4 * t)


def compressed(t):
    """P(t) in Pa."""
    return 2e5 * (1.0 + 0.5 * torch.sin(1e4 * t))


def rise(t):
    """dP/dt in Pa/s."""
    return 1e9 * np.cos(1e4 * t)


def at(function, t):
    return float(function(torch.tensor(t, dtype=torch.float64)))


class Expected:
    """dT/dt and dY/dt of the mass fractions Y by Cantera. T and the density of a constant volume,
    or P, are prescribed or part of y."""

    def __init__(self, temperature, pressure, stirred):
        self.temperature = temperature
        self.pressure = pressure
        self.stirred = stirred
        entering = ct.Solution(MECHANISM)
        entering.TPX = COLD
        self.inflow = entering.Y.copy()
        self.inflow_enthalpy = entering.enthalpy_mass
        self.gas = ct.Solution(MECHANISM)
        self.gas.TPX = START
        self.density = self.gas.density
        self.start = np.array([START[0], *self.gas.Y])

    def set_state(self, t, y):
        self.gas.set_unnormalized_mass_fractions(y[1:])
        T = y[0]
        if self.temperature is not None:
            T = at(self.temperature, t)
        if self.pressure is None:
            self.gas.TD = T, self.density
        else:
            self.gas.TP = T, at(self.pressure, t)

    def __call__(self, t, y):
        self.set_state(t, y)
        gas = self.gas
        made = gas.net_production_rates
        change = made * gas.molecular_weights / gas.density
        enthalpies = gas.partial_molar_enthalpies
        heat = -(made @ enthalpies) / gas.density
        if self.stirred:
            change = change + (self.inflow - y[1:]) / STAY
            own = self.inflow @ (enthalpies / gas.molecular_weights)
            heat += (self.inflow_enthalpy - own) / STAY
        if self.temperature is not None:
            return np.array([0.0, *change])
        heat += rise(t) / gas.density
        return np.array([heat / gas.cp_mass, *change])

    def course(self):
        """(T, P, X) at TIMES, (times, 2 + K)."""
        solved = scipy_integrate.solve_ivp(
            self, (0.0, TIMES[-1]), self.start, "Radau", TIMES, rtol=1e-9, atol=1e-15
        )
        found = []
        for t, y in zip(TIMES, solved.y.T, strict=True):
            self.set_state(t, y)
            found.append([self.gas.T, self.gas.P, *self.gas.X])
        return np.array(found)


@pytest.mark.parametrize("stirred", [False, True])
@pytest.mark.parametrize(
    ("kind", "temperature", "pressure"),
    [
        ("constant volume", heated, None),
        ("constant pressure", heated, compressed),
        ("constant pressure", None, compressed),
    ],
    ids=["T", "T and P", "P"],
)
def test_courses_and_gradients(kind, temperature, pressure, stirred):
    options = {"temperature": temperature, "pressure": pressure}
    if stirred:
        options |= INFLOW
    reactor = cantera(MECHANISM, kind, **options)
    y0 = reactor.initial(*START)
    settings = {"method": "rodas5p", "rtol": 1e-9, "atol": 1e-14, "backend": "native"}
    with torch.no_grad():
        y = solve(reactor, y0, TIMES, **settings).y
        times = torch.tensor(TIMES, dtype=torch.float64).unsqueeze(-1)
        T, P, _ = reactor.gas(times, y)
        ours = torch.cat((T, P, reactor.mole_fractions(y)), -1).numpy()
    expected = Expected(temperature, pressure, stirred).course()
    np.testing.assert_allclose(ours[:, :2], expected[:, :2], rtol=1e-8)
    np.testing.assert_allclose(ours[:, 2:], expected[:, 2:], rtol=1e-6, atol=1e-11)

    log_A = reactor.mechanism.arrhenius.log_A

    def value():
        return torch.log(reactor.amounts(solve(reactor, y0, [0.0, 4e-5], **settings).y[-1])[1])

    (slopes,) = torch.autograd.grad(value(), log_A)
    largest = int(slopes.abs().argmax())
    step = 1e-4
    with torch.no_grad():
        nearby = []
        for sign in (1, -1):
            log_A[largest] += sign * step
            nearby.append(float(value()))
            log_A[largest] -= sign * step
    expected_slope = (nearby[0] - nearby[1]) / (2 * step)
    assert float(slopes[largest]) == pytest.approx(expected_slope, rel=1e-5)
