"""Levenberg-Marquardt on residuals that come in parts."""

import pytest
import torch

from pynode.train import LevenbergMarquardt
from pynode.train.times import part_done


def parts(x):
    """Residuals with two parts, of which each depends on one number and both on a third."""
    first = torch.stack((x[0] * x[2] - 2, x[0] ** 2 - 1))
    second = torch.stack((x[1].exp() - x[2], x[1] - 0.3, x[1] * x[2]))
    return [first, second]


@pytest.mark.parametrize("batched", [False, True])
def test_parts_make_the_step_of_the_whole(batched):
    apart = torch.tensor([0.5, 0.1, 0.7], dtype=torch.float64, requires_grad=True)
    together = apart.detach().clone().requires_grad_()
    one = LevenbergMarquardt([apart], batched=batched)
    other = LevenbergMarquardt([together], batched=batched)
    for _ in range(3):
        assert one.step(lambda: parts(apart))
        assert other.step(lambda: torch.cat(parts(together)))
        assert torch.allclose(apart, together, rtol=1e-12)
    assert one.cost == pytest.approx(other.cost)


def test_a_part_is_differentiated_by_itself():
    """The derivatives of one part do not pass through the other."""
    passed = []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, name):
            ctx.name = name
            return x.clone()

        @staticmethod
        def backward(ctx, cotangent):
            passed.append(ctx.name)
            return cotangent, None

    x = torch.ones(2, dtype=torch.float64, requires_grad=True)

    def residuals():
        return [Watched.apply(x[k : k + 1], name) for k, name in enumerate("ab")]

    assert LevenbergMarquardt([x]).step(residuals)
    assert sorted(passed) == ["a", "b"]


def test_the_time_counts_where_it_is_ahead_by_more_than_a_step():
    assert part_done(3, 10, 0.39) == 0.3
    assert part_done(3, 10, 0.6) == 0.6
    assert part_done(3, 10, 7.0) == 1.0
    assert part_done(0, 0, 0.0) == 0.0
