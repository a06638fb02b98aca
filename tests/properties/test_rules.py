"""The rules of step control and of Newton's iteration give the same for floats, arrays and
tensors. The two engines, and compiled steps, use them in these three forms."""

from functools import partial

import numpy as np
import pytest
import torch

from pynode.algebra.newton import convergence_test
from pynode.core.arithmetic import Arrays, Floats, Tensors
from pynode.core.step_control import Controller, next_step, step_of_size, step_of_slopes
from pynode.methods.jacobian_reuse import growth_after_newton, remembered_rate, worthwhile

COUNT = 200


def spread(generator, low, high):
    """Random numbers, evenly spread over decades."""
    return 10 ** generator.uniform(low, high, COUNT)


def control(kind, xp, ratio, last, before):
    """The rule of a controller of this kind."""
    return Controller(kind).control(xp, ratio, (last, before), 5)


def rules():
    """name -> (rule of a namespace and its numbers, the numbers)."""
    g = np.random.default_rng(16)
    t = g.normal(size=COUNT)
    h = spread(g, -6, 0)
    rates = g.uniform(0.0, 1.5, COUNT)
    return {
        "next_step": (
            lambda xp, t, h, stop: next_step(xp, t, h, stop, 1e-3, 1.0),
            (t, h, t + h * g.uniform(0.5, 2.0, COUNT)),
        ),
        **{
            f"controller {kind}": (
                partial(control, kind),
                (spread(g, -14, 40), spread(g, -4, 0), spread(g, -4, 0)),
            )
            for kind in ("I", "PI", "PID")
        },
        "step_of_size": (
            step_of_size,
            (spread(g, -9, 3), spread(g, -9, 3) * g.integers(0, 2, COUNT), spread(g, -3, 3)),
        ),
        "step_of_slopes": (
            lambda xp, d1, d2: step_of_slopes(xp, d1, d2, 4),
            (spread(g, -6, 6), spread(g, -6, 6)),
        ),
        "convergence_test": (
            lambda xp, norm, last, rate, repeated, remaining: convergence_test(
                xp, norm, last, rate, repeated, remaining, 0.03, 1e-10
            ),
            (
                spread(g, -12, 1),
                spread(g, -4, 1),
                rates,
                g.integers(0, 2, COUNT).astype(bool),
                g.integers(0, 6, COUNT),
            ),
        ),
        "remembered_rate": (
            remembered_rate,
            (rates, g.integers(0, 2, COUNT).astype(bool)),
        ),
        "growth_after_newton": (
            lambda xp, factor, iterations: growth_after_newton(xp, factor, iterations, 7),
            (g.uniform(0.2, 8.0, COUNT), g.integers(1, 8, COUNT).astype(float)),
        ),
        "worthwhile": (worthwhile, (g.uniform(0.2, 2.0, COUNT),)),
    }


def flat(result):
    """The numbers of a result, which may hold tuples."""
    if isinstance(result, tuple):
        return [x for part in result for x in flat(part)]
    return [np.asarray(result, dtype=float)]


@pytest.mark.parametrize("name", rules())
def test_a_rule_is_the_same_for_floats_arrays_and_tensors(name):
    rule, numbers = rules()[name]
    singly = [flat(rule(Floats, *(x.item() for x in line))) for line in zip(*numbers, strict=True)]
    floats = np.array(singly).T
    with np.errstate(all="ignore"):
        arrays = np.array(flat(rule(Arrays, *numbers)))
    tensors = np.array(flat(rule(Tensors, *(torch.from_numpy(x) for x in numbers))))
    np.testing.assert_allclose(arrays, floats, rtol=1e-12)
    np.testing.assert_allclose(tensors, floats, rtol=1e-12)


def test_what_the_convergence_test_decides():
    """Hairer & Wanner II, IV.8.10, with kappa = 0.03: an iteration that halves its corrections
    needs a last one of 0.03, and 0.5^3 / (1 - 0.5) of what one leaves must stay below that."""

    def decide(norm, last, repeated=True, rate=1.0):
        converged, hopeless, rate = convergence_test(
            Floats, norm, last, rate, repeated, 3, 0.03, 1e-10
        )
        return bool(converged), bool(hopeless), rate

    assert decide(0.029, 0.058) == (True, False, 0.5)
    assert decide(0.1, 0.2) == (False, False, 0.5)
    assert decide(0.13, 0.26) == (False, True, 0.5)
    assert decide(0.2, 0.1) == (False, True, 2.0)
    assert decide(0.01, 1.0, repeated=False, rate=0.5) == (True, False, 0.5)
    assert decide(5.0, 1.0, repeated=False) == (False, False, 1.0)
    assert decide(1e-11, 1e-12) == (True, False, 10.0)


def test_how_a_step_grows_after_newton():
    """Of at most 7 iterations, one costs nothing and seven cost 2 / 7 of the growth. A growth below
    1.2 is not worth a factorisation."""

    def grown(factor, iterations):
        return growth_after_newton(Floats, factor, iterations, 7)

    assert grown(3.0, 1) == pytest.approx(3.0)
    assert grown(3.0, 7) == pytest.approx(3.0 * 15 / 21)
    assert grown(1.19, 1) == 1.0
    assert grown(1.3, 7) == 1.0
    assert grown(0.7, 7) == 0.7


def test_a_rate_that_was_not_measured_is_trusted_less():
    assert remembered_rate(Floats, 0.1, True) == 0.1
    assert remembered_rate(Floats, 0.1, False) == pytest.approx(0.1**0.8)
