"""Ignition delays and their sensitivities: against values that Cantera's reactor network and
finite differences gave at tight tolerances, for rows, and by other definitions."""

import pytest
import torch

from pynode.models import cantera
from tests.support.cases import tensor

pytest.importorskip("cantera", reason="mechanisms need cantera")
pytest.importorskip("numba", reason="the native engine needs numba")
HYDROGEN = (1100.0, 101325.0, "H2:2,O2:1,N2:3.76")
METHANE = (1400.0, 1013250.0, "CH4:1,O2:2,N2:7.52")
# d ln delay / d ln A of the reactions with these numbers.
SENSITIVITIES = {
    2: -0.1528870905023912,
    5: 0.10157379309974247,
    8: 0.12358909037045947,
    10: -0.9672812551386629,
    20: -0.049338879914010954,
    16: -0.038061050983020414,
    21: -5.081946016945849e-05,
}


def test_hydrogen():
    reactor = cantera("h2o2.yaml")
    delay = reactor.ignition_delay(reactor.initial(*HYDROGEN), temperature=1500.0)
    assert float(delay.detach()) == pytest.approx(8.561181197932928e-05, rel=1e-7)
    found = reactor.sensitivities(delay.log())
    for number, expected in SENSITIVITIES.items():
        assert float(found[number]) == pytest.approx(expected, abs=1e-4 * 0.967)
    delay.backward()
    arrhenius = reactor.mechanism.arrhenius
    assert all(x.grad is not None for x in (arrhenius.log_A, arrhenius.b, arrhenius.E))


def test_methane():
    reactor = cantera("gri30.yaml")
    y0 = reactor.initial(*METHANE)
    with torch.no_grad():
        delay = reactor.ignition_delay(y0, temperature=1900.0)
    assert float(delay) == pytest.approx(0.0004649289694782312, rel=1e-7)


def test_rows_and_the_gradient_of_the_start():
    reactor = cantera("h2o2.yaml", "constant pressure")
    T = tensor(1100.0, 1250.0).requires_grad_()
    starts = reactor.initial(T, HYDROGEN[1], HYDROGEN[2])
    delays = reactor.ignition_delay(starts, rise=300.0)
    apart = [reactor.ignition_delay(start, rise=300.0) for start in starts.detach()]
    torch.testing.assert_close(delays, torch.stack(apart), rtol=1e-6, atol=0)
    # The threshold stays where it is when T of the start moves.
    (slopes,) = torch.autograd.grad(delays.sum(), T)
    for k, step in enumerate((0.1, 0.1)):
        nearby = [T.detach()[k] + sign * step for sign in (1, -1)]
        later, sooner = (
            reactor.ignition_delay(
                reactor.initial(here, HYDROGEN[1], HYDROGEN[2]),
                temperature=float(T.detach()[k]) + 300.0,
            )
            for here in nearby
        )
        expected = float((later - sooner).detach()) / (2 * step)
        assert float(slopes[k]) == pytest.approx(expected, rel=1e-3)


def test_other_definitions():
    """A peak lies behind the threshold. Without ignition there is a sentence."""
    reactor = cantera("h2o2.yaml")
    y0 = reactor.initial(*HYDROGEN)
    with torch.no_grad():
        rise = reactor.ignition_delay(y0)
        peak = reactor.ignition_delay(y0, peak="H")
    assert float(rise) < float(peak) < 2 * float(rise)
    with pytest.raises(ValueError, match="does not ignite before end = 1e-06"):
        reactor.ignition_delay(y0, end=1e-6)
    with pytest.raises(ValueError, match=r"T has risen by .* K, and ignition is a rise of 400 K"):
        reactor.ignition_delay(y0, end=1e-6)
    with pytest.raises(ValueError, match=r"number of steps \(max_steps\): T .* a rise of 400 K"):
        reactor.ignition_delay(y0, max_steps=20)
    with pytest.raises(ValueError, match="O2 has no maximum until then"):
        reactor.ignition_delay(y0, peak="O2", end=1e-5)
    with pytest.raises(ValueError, match="above the one at the start"):
        reactor.ignition_delay(y0, temperature=900.0)
    with pytest.raises(ValueError, match="CO is no state"):
        reactor.ignition_delay(y0, peak="CO")
    with pytest.raises(ValueError, match="two definitions"):
        reactor.ignition_delay(y0, peak="H", temperature=1500.0)
    with pytest.raises(ValueError, match="rows"):
        reactor.ignition_delay(y0[None, None])


def test_rows_that_do_not_ignite_are_named():
    """A cold mixture does not rise at all."""
    reactor = cantera("h2o2.yaml")
    starts = reactor.initial(tensor(1100.0, 300.0), *HYDROGEN[1:])
    with pytest.raises(ValueError, match=r"rows \[1\] do not ignite .* a rise of 400 K in row 1"):
        reactor.ignition_delay(starts)
