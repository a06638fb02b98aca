"""What goes wrong in f or at the start, and how the solve says so."""

import math

import pytest
import torch

from pynode import SolveError, Status
from tests.support.cases import tensor

each_method = pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_start_that_is_not_finite_is_refused(engine, value):
    with pytest.raises(ValueError, match="y0 is not finite"):
        engine.solve(lambda t, y: -y, tensor(value), [0.0, 1.0], method="Tsit5")


RESULTS = {
    "another dtype": (lambda y: y.to(torch.int64), "convert the module or y0"),
    "another shape": (lambda y: y[:1], "shape"),
}


@pytest.mark.parametrize("what", RESULTS)
def test_what_f_returns_is_checked(engine, what):
    wrong, words = RESULTS[what]
    with pytest.raises((TypeError, ValueError), match=words), torch.no_grad():
        engine.solve(lambda t, y: wrong(y), tensor(1.0, 2.0), [0.0, 1.0], method="Tsit5")


@each_method
@pytest.mark.uses("python")
def test_an_error_of_f_reaches_the_caller_as_it_is(engine, method):
    def f(t, y):
        if float(t) > 0.5:
            raise KeyError("mine")
        return -y

    with pytest.raises(KeyError, match="mine"), torch.no_grad():
        engine.solve(f, tensor(1.0), [0.0, 10.0], method=method)


@each_method
def test_a_blow_up_ends_the_solve(engine, method):
    """y' = y^2 ends at t = 1. The outputs before it are kept."""
    times = [0.0, 0.5, 2.0]
    with torch.no_grad():
        found = engine.solve(lambda t, y: y * y, tensor(1.0), times, method=method, throw=False)
    assert not found.status.success
    assert found.reached == pytest.approx(1.0, abs=1e-3)
    assert found.t.tolist() == times[:2]
    assert float(found.y[-1]) == pytest.approx(2.0, rel=1e-4)
    with torch.no_grad(), pytest.raises(SolveError):
        engine.solve(lambda t, y: y * y, tensor(1.0), times, method=method)


@each_method
@pytest.mark.uses("python")
def test_a_field_that_becomes_nan_ends_the_solve(engine, method):
    """From t = 1 on, whatever the step."""

    def f(t, y):
        return -y if float(t) < 1.0 else torch.full_like(y, torch.nan)

    with torch.no_grad():
        found = engine.solve(f, tensor(1.0), [0.0, 5.0], method=method, throw=False)
    assert found.status is Status.NONFINITE
    assert found.reached == pytest.approx(1.0, abs=1e-6)
    assert "What to do" in found.message
