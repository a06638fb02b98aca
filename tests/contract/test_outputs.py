"""Outputs: at the times that were asked for, in the structure and dtype of y0."""

import math

import pytest
import torch

from tests.support.cases import smooth, smooth_exact, tensor

each_method = pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF"])
TIMES = [0.0, 0.1, 0.1 + 1e-9, 0.77, 2.0]


@each_method
def test_outputs_do_not_depend_on_one_another(engine, method):
    """More outputs change no step, and the first one is y0 itself."""
    options = {"method": method, "rtol": 1e-8, "atol": 1e-10}
    with torch.no_grad():
        few = engine.solve(smooth, smooth_exact(0.0), [TIMES[0], TIMES[-1]], **options)
        many = engine.solve(smooth, smooth_exact(0.0), TIMES, **options)
    assert many.t.tolist() == TIMES
    assert torch.equal(many.y[0], smooth_exact(0.0))
    assert torch.allclose(few.y[-1], many.y[-1], rtol=1e-12, atol=1e-12)
    assert torch.allclose(many.y, smooth_exact(many.t), rtol=0, atol=1e-6)
    assert few.stats.accepted == many.stats.accepted


@each_method
def test_nested_states(engine, method):
    def field(t, y):
        return {"a": -y["a"], "b": (y["a"] * y["b"][0], -y["b"][1])}

    y0 = {"a": tensor(1.0), "b": (tensor([1.0, 2.0]).mT, tensor([3.0]))}
    with torch.no_grad():
        found = engine.solve(field, y0, [0.0, 1.0], method=method, rtol=1e-8, atol=1e-10)
    a, (b, c) = found.y["a"], found.y["b"]
    assert a.shape == (2, 1)
    assert b.shape == (2, 2, 1)
    assert c.shape == (2, 1, 1)
    assert float(a[-1]) == pytest.approx(math.exp(-1), rel=1e-6)
    assert b[-1, :, 0].tolist() == pytest.approx(
        [k * math.exp(1 - math.exp(-1)) for k in (1, 2)], rel=1e-6
    )
    assert float(c[-1]) == pytest.approx(3 * math.exp(-1), rel=1e-6)


@each_method
def test_single_precision(engine, method):
    y0 = torch.ones(2, dtype=torch.float32)
    with torch.no_grad():
        found = engine.solve(lambda t, y: -y, y0, [0.0, 1.0], method=method, rtol=1e-4)
    assert found.y.dtype == torch.float32
    assert float(found.y[-1, 0]) == pytest.approx(math.exp(-1), rel=1e-3)


@each_method
@pytest.mark.uses("dense")
def test_dense_output(engine, method):
    options = {"method": method, "rtol": 1e-8, "atol": 1e-8, "dense": True}
    with torch.no_grad():
        found = engine.solve(smooth, smooth_exact(0.0), [0.0, 2.0], **options)
    times = torch.linspace(0.0, 2.0, 41, dtype=torch.float64)
    assert torch.allclose(found.solution(times), smooth_exact(times), rtol=0, atol=1e-5)


@each_method
@pytest.mark.uses("python")
def test_statistics_are_what_was_done(engine, method):
    """The counts agree with the calls of f."""
    calls = []

    def f(t, y):
        calls.append(None)
        return smooth(t, y)

    with torch.no_grad():
        found = engine.solve(f, smooth_exact(0.0), [0.0, 6.0], method=method, first_step=3.0)
    stats = found.stats
    implicit = method != "Tsit5"
    assert stats.accepted > 5
    assert stats.rejected > 0
    assert 0 < stats.nfe <= len(calls)
    assert (stats.njac > 0) == (stats.nlu > 0) == (stats.nsolve > stats.accepted / 2) == implicit
    assert stats.backward_nvjp == stats.switches == 0
