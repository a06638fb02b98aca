"""BrownianPath: one path, whatever is asked of it and in which order; with the law of Brownian
motion."""

import pytest
import torch

from pynode.sde import BrownianPath

TIMES = [0.5, 0.123, 0.9999, 1 / 3, 0.25, 2 / 3, 0.75, 1.0, 0.0, 1e-7]


@pytest.mark.parametrize("grid", [(0.0, 1.0), (0.0, 0.3, 0.7, 1.0)])
def test_the_order_of_questions_does_not_matter(grid):
    one, two = (BrownianPath((3, 2), grid, seed=7, dtype=torch.float64) for _ in range(2))
    first = {t: one(t) for t in TIMES}
    second = {t: two(t) for t in sorted(TIMES)}
    assert all(torch.equal(first[t], second[t]) and torch.equal(first[t], one(t)) for t in TIMES)
    assert not first[0.0].any() and len({float(w[0, 0]) for w in first.values()}) == len(TIMES)
    assert torch.equal(one.increment(0.25, 0.5), first[0.5] - first[0.25])
    other = BrownianPath((3, 2), grid, seed=8, dtype=torch.float64)
    assert all(not torch.equal(first[t], other(t)) for t in TIMES if t)


def test_both_dtypes_see_the_same_path():
    double, single = (
        BrownianPath((4,), seed=1, dtype=dtype) for dtype in (torch.float64, torch.float32)
    )
    assert single(0.3).dtype == torch.float32 and torch.equal(single(0.3), double(0.3).float())
    # Differences of float64: a small increment keeps its digits.
    assert torch.equal(
        single.increment(0.5, 0.5 + 2**-20), double.increment(0.5, 0.5 + 2**-20).float()
    )


@pytest.mark.parametrize("grid", [(0.0, 2.0), (0.0, 0.5, 0.8, 2.0)])
def test_it_has_the_law_of_brownian_motion(grid):
    """Increments over parts that do not lie on the tree: normal, independent, with the time as
    variance."""
    n = 40_000
    path = BrownianPath((n,), grid, seed=3, dtype=torch.float64)
    ends = [0.0, 0.1, 0.37, 0.5, 1.1, 1.10001, 2.0]
    parts = torch.stack([path.increment(a, b) / (b - a) ** 0.5 for a, b in zip(ends, ends[1:])])
    covariance = parts @ parts.T / n
    assert (covariance - torch.eye(len(parts), dtype=torch.float64)).abs().max() < 5 * (
        2 / n
    ) ** 0.5
    assert parts.mean(1).abs().max() < 5 / n**0.5
    assert ((parts**4).mean(1) - 3).abs().max() < 5 * (96 / n) ** 0.5


def test_mistakes_are_told():
    path = BrownianPath((2,), (0.0, 1.0))
    for t in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="the Brownian path runs from 0 to 1, not to"):
            path(t)
    for times in ((0.0,), (0.0, 0.0), (1.0, 0.0), (0.0, float("inf")), (0.0, float("nan"))):
        with pytest.raises(ValueError, match="at least two times, finite and strictly increasing"):
            BrownianPath((2,), times)
    for seed in (-1, 2**64, 1.5, True):
        with pytest.raises(ValueError, match=r"seed must be an integer from 0 to 2\*\*64 - 1, not"):
            BrownianPath((2,), seed=seed)
