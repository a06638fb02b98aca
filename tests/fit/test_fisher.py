"""Intervals from the Fisher information, and the sentences on what the data do not determine."""

import math

import pytest
import torch

from pynode.fit import ParameterInfo
from pynode.fit.fisher import (
    Freedom,
    Information,
    intervals,
    quantile,
    reach,
    rise,
    sentences,
)


def information(matrix, scale="log10", theta=None, names="abcdef"):
    matrix = torch.as_tensor(matrix, dtype=torch.float64)
    k = len(matrix)
    low, high = (1e-2, 1e2) if scale == "log10" else (-2.0, 2.0)
    infos = [ParameterInfo(name, 1.0, low, high, scale) for name in names[:k]]
    if theta is None:
        theta = [0.1] * k
    return Information.of(infos, torch.tensor(theta, dtype=torch.float64), matrix)


def direction(*moves):
    """An information matrix in which this direction alone is not determined."""
    vector = torch.tensor(moves, dtype=torch.float64)
    vector /= vector.norm()
    return 1e4 * (torch.eye(len(moves), dtype=torch.float64) - torch.outer(vector, vector))


def test_the_interval_of_two_correlated_parameters():
    matrix = torch.tensor([[500.0, 300.0], [300.0, 400.0]])
    found = intervals(information(matrix), 0.9)
    spread = torch.linalg.inv(matrix.double()).diagonal().sqrt()
    z = 1.6448536269514722
    for x, s in zip(found, spread.tolist(), strict=True):
        assert math.log10(x.lower) == pytest.approx(0.1 - z * s)
        assert math.log10(x.upper) == pytest.approx(0.1 + z * s)
        assert (x.lower_open, x.upper_open, x.method) == (False, False, "fisher")
        assert x.value == pytest.approx(10**0.1)


def test_intervals_end_at_the_bounds():
    (found,) = intervals(information([[1e-3]]))
    assert found.lower == pytest.approx(1e-2) and found.upper == pytest.approx(1e2)
    assert found.lower_open and found.upper_open


def test_quantiles():
    assert quantile(0.95) == pytest.approx(1.959964, abs=1e-6)
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile(95)


@pytest.mark.parametrize(
    ("matrix", "scale", "sentence"),
    [
        (direction(1, -1), "log10", "do not determine a and b, but only the product a * b."),
        (direction(1, 1), "log10", "do not determine a and b, but only the ratio a / b."),
        (direction(1, -1), "lin", "do not determine a and b, but only the sum a + b."),
        (direction(1, 1), "lin", "but only the difference a - b."),
        (direction(2, -1), "log10", "but only a * b^2."),
        (direction(0, 1, 0), "log10", "The data do not determine b."),
        (direction(1, 1, 1), "log10", "do not determine a, b and c one by one"),
        (1e4 * torch.eye(2), "log10", "The data determine all parameters within their bounds."),
    ],
)
def test_a_sentence_says_what_is_not_determined(matrix, scale, sentence):
    (found,) = sentences(information(matrix, scale))
    assert found.endswith(sentence) or sentence in found


def test_two_directions_are_taken_apart():
    """a and b trade with each other, and so do c and d; eigenvectors would mix both pairs."""
    matrix = torch.block_diag(direction(1, -1), direction(1, 1))
    found = sentences(information(matrix))
    assert len(found) == 2
    assert any("the product a * b" in x or "the product b * a" in x for x in found)
    assert any("the ratio c / d" in x or "the ratio d / c" in x for x in found)


def test_a_parameter_at_its_bound_is_known_to_the_others():
    found = information(direction(1, -1), theta=[2.0, 0.1])
    assert sentences(found) == ["a is at its upper bound 100."]
    first, second = intervals(found)
    assert first.upper_open
    assert math.log10(second.upper) == pytest.approx(0.1 + 1.96 / math.sqrt(5e3), rel=1e-3)


def test_steps_stay_within_half_of_the_box():
    steps = information(direction(1, -1)).steps()
    assert steps.shape == (2, 2)
    assert float(steps.abs().max()) <= 2.0  # the box is four decades wide


def test_estimated_noise_makes_the_intervals_of_linear_regression():
    """Of n values of a constant m, with unknown noise: m -/+ t s / sqrt(n), where s^2 is the sum of
    squares over n - 1. The maximum of the likelihood has the sum over n."""
    n = 12
    freedom = Freedom(n, n - 1)
    t = 2.200985160082949  # of 11 degrees of freedom
    maximum = math.sqrt((n - 1) / n)  # in units of s
    assert reach(0.95, freedom) * maximum == pytest.approx(t)
    # The profile of m: n log(1 + (m - mean)^2 / v) / 2, where v is the variance of the maximum.
    end = t / math.sqrt(n)
    assert rise(0.95, freedom) == pytest.approx(0.5 * n * math.log1p(end**2 / maximum**2))
    assert rise(0.95) == pytest.approx(1.920729)
