"""Python functions that look at native steps: domains, callbacks, and ends inside a step."""

import numpy as np
import pytest
import torch

from pynode import Event, solve
from pynode.adjoints.native.pullback import pullback
from pynode.backends.native.event_conditions import native_conditions
from pynode.backends.native.hooks import Cut
from pynode.backends.native.solve import interpreted
from pynode.backends.torch.event_detection import on_side
from pynode.core.layout import Layout
from pynode.core.status import Status
from pynode.translate.field import translate
from tests.support.native_solves import assert_close, forced, native

FAMILIES = ["Tsit5", "Vern7", "Rodas5P", "QNDF", "FBDF", "Kvaerno5"]


@pytest.mark.parametrize("method", FAMILIES)
def test_every_step_is_seen(method):
    """The same steps as the callback of the torch engine sees."""
    f, y0, times = forced()
    expected = []
    with torch.no_grad():
        solve(f, y0, times, method=method, callback=lambda t, y, stats: expected.append(t))
    seen = []
    trajectory = native(f, y0, times, method, extra={"watch": lambda s: seen.append(s.t1)})
    assert trajectory.status is Status.SUCCESS
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    assert len(seen) == trajectory.accepted


@pytest.mark.parametrize("method", FAMILIES)
def test_domain(method):
    """Steps that leave the domain are halved as in the torch engine, until the edge. There rounding
    decides how many steps follow."""
    f, y0, times = forced()
    with torch.no_grad():
        reference = solve(
            f, y0, times, method=method, domain=lambda t, y: bool(y[1] < 1.0), throw=False
        )
    trajectory = native(f, y0, times, method, extra={"allow": lambda t, y: y[1] < 1.0})
    assert trajectory.status is reference.status is Status.DOMAIN
    assert abs(trajectory.accepted - reference.stats.accepted) <= 8
    assert_close(trajectory.outputs, reference.y, 1e-7)
    assert 1.0 - 1e-9 < trajectory.y[1] < 1.0
    assert trajectory.attempts[-1].failure is Status.DOMAIN


@pytest.mark.parametrize("method", FAMILIES)
@pytest.mark.parametrize("dense", [False, True])
def test_polynomials(method, dense):
    """The polynomial of each step goes from its start to its end, and is that of the record."""
    f, y0, times = forced()
    made = []

    def watch(step):
        polynomial = step.polynomial()
        assert_close(polynomial[0], step.start, 1e-9)
        assert_close(polynomial.sum(0), step.y, 1e-9)
        made.append(polynomial)

    trajectory = native(f, y0, times, method, extra={"watch": watch, "dense": dense})
    assert len(made) == trajectory.accepted
    if dense:
        for polynomial, other in zip(made, trajectory.polynomials(), strict=True):
            assert_close(polynomial[: len(other)], other[: len(polynomial)], 1e-12)


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P"])
@pytest.mark.parametrize("loop", [None, interpreted])
def test_an_end_inside_a_step(method, loop):
    """The solve ends at the cut. Outputs before it are there, and its gradient is that of a solve
    with an output at this time."""
    f, y0, times = forced()
    end = 1.37

    def watch(step):
        if step.t1 < end:
            return None
        theta = (end - step.t) / step.h
        polynomial = step.polynomial()
        y = theta ** np.arange(len(polynomial)) @ polynomial
        return Cut(end, y, Status.EVENT)

    extra = {"watch": watch, "record": True}
    trajectory = native(f, y0, times, method, loop=loop, extra=extra)
    assert trajectory.status is Status.EVENT
    assert trajectory.t == end < trajectory.end
    reached = int((times <= end).sum())
    assert len(trajectory.outputs) == reached
    full = native(f, y0, torch.cat([times, times.new_tensor([end])]).sort()[0], method)
    assert_close(trajectory.outputs, full.outputs[:reached], 1e-12)
    assert_close(trajectory.y, full.outputs[reached], 1e-12)

    field = translate(f, y0, 0.0)
    grads = np.array([[1.0, -2.0]])
    whole = native(f, y0, times, method, extra={"record": True})
    one = pullback(field, trajectory, [end], grads)
    other = pullback(field, whole, [end], grads)
    assert_close(one.y0, other.y0, 1e-12)
    assert_close(one.targets[0], other.targets[0], 1e-12)


@pytest.mark.parametrize("name", ["watch", "allow"])
def test_errors_reach_the_caller(name):
    f, y0, times = forced()

    def fails(*_):
        raise ZeroDivisionError("of the user")

    with pytest.raises(ZeroDivisionError, match="of the user"):
        native(f, y0, times, "Tsit5", extra={name: fails})


def test_an_end_at_a_step():
    f, y0, times = forced()
    seen = []

    def watch(step):
        seen.append(step.t1)
        if len(seen) == 3:
            return Cut(step.t1, step.y, Status.CALLBACK)
        return None

    trajectory = native(f, y0, times, "Rodas5P", extra={"watch": watch})
    assert trajectory.status is Status.CALLBACK
    assert trajectory.t == trajectory.end == seen[-1]
    assert trajectory.accepted == 3


@pytest.mark.parametrize("loop", [None, interpreted])
@pytest.mark.parametrize("method", ["Tsit5", "QNDF"])
def test_conditions_choose_the_steps_that_are_seen(method, loop):
    """Python sees the steps around a crossing, and all steps while a side is not known."""
    f, y0, times = forced()
    layout = Layout(y0)
    events = [Event(lambda t, y: t - 2.0), Event(lambda t, y: torch.stack((y[0] + 9, t + 1)))]
    conditions = native_conditions(events, [1, 2], layout, (), 0.0, y0)
    watched = conditions.watched()
    watched.note(np.array([-1.0, 1.0, 1.0]))
    seen = []

    def watch(step):
        seen.append(step)
        if step.t1 > 2.0:
            watched.note(np.array([1.0, 1.0, 1.0]))

    trajectory = native(f, y0, times, method, loop=loop, extra={"watch": watch, "watched": watched})
    assert len(seen) <= 2 < trajectory.accepted
    assert seen[-1].t <= 2.0 <= seen[-1].t1
    watched.note(np.array([1.0, 1.0, 0.0]))
    seen.clear()
    trajectory = native(f, y0, times, method, loop=loop, extra={"watch": watch, "watched": watched})
    assert len(seen) > 2
    assert seen[0].t == 0.0


def test_a_side_that_rounding_moved():
    """The detector goes on with a value on the side that compiled code has seen."""
    known = np.array([1.0, -1.0, 1.0, 0.0])
    values = on_side(np.array([-1e-20, -2.0, 0.0, -3.0]), known)
    assert np.sign(values).tolist() == [1.0, -1.0, 1.0, -1.0]
    assert 0 < values[0] < 1e-300
    assert values[1:].tolist() == [-2.0, values[0], -3.0]
