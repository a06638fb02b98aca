"""What is looked at in large data is bounded, and is what small data show."""

import pytest
import torch

from pynode.data import read
from pynode.train import log_times, slopes, understand
from pynode.train.features import representative, thinned
from pynode.train.times import sample_evenly, spread_over_decades

T = torch.linspace(0.0, 6.0, 31, dtype=torch.float64)


def waves(count):
    return read(
        {f"run{k}": {"t": T.tolist(), "x": ((1 + k) * torch.cos(T)).tolist()} for k in range(count)}
    )


@pytest.mark.parametrize(
    ("count", "rows", "expected"),
    [(4, 124, [0, 1, 2, 3]), (4, 123, [0, 2, 3]), (10, 70, [2, 7]), (3, 5, [1])],
)
def test_a_sample_of_the_trajectories_is_spread_over_all(count, rows, expected):
    data = waves(count)
    chosen = representative(data, rows)
    assert [run.name for run in chosen.trajectories] == [f"run{k}" for k in expected]
    assert chosen.columns == data.columns
    assert (chosen is data) == (len(expected) == count)


def test_many_even_times_are_not_spread_over_decades():
    assert not spread_over_decades(torch.linspace(0, 1, 5000, dtype=torch.float64))
    assert spread_over_decades(log_times(1e-4, 1.0, 30))
    assert not spread_over_decades(log_times(1e-2, 1.0, 30))


def test_even_times_are_drawn_evenly():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        rows = sample_evenly(101, 10, generator)
        assert ((rows - 1) // 10).tolist() == list(range(10))
    assert sample_evenly(4, 9, generator).tolist() == [1, 2, 3]


def test_a_long_trajectory_is_thinned():
    data = waves(1)
    few = thinned(data, 10)
    assert few.trajectories[0].t.tolist() == data.trajectories[0].t[::4].tolist()
    assert thinned(data, 31) is data
    assert few.trajectories[0].u is None and few.trajectories[0].sd is None


def test_inputs_and_errors_are_thinned_too():
    columns = {"t": T.tolist(), "x": torch.cos(T).tolist(), "u": T.tolist(), "x_sd": [0.1] * 31}
    data = read({"run": columns}, inputs=("u",), errors=("x_sd",))
    (run,) = data.trajectories
    (few,) = thinned(data, 10).trajectories
    assert torch.equal(few.u, run.u[::4]) and torch.equal(few.sd, run.sd[::4])


def test_all_trajectories_are_counted():
    data = waves(12)
    found = understand(data)
    assert found.trajectories == 12 and found.points == 31


def test_a_smoothed_value_is_that_of_the_nearest_observations():
    """Local quadratics of all observations by the definition of the nearest ones."""
    generator = torch.Generator().manual_seed(0)
    t = torch.rand(40, dtype=torch.float64, generator=generator).sort().values
    y = torch.randn(40, 1, dtype=torch.float64, generator=generator)
    seen = torch.rand(40, 1, generator=generator) > 0.2
    found = slopes(t, y, seen, 7, log=False)
    points = t[seen[:, 0]]
    values = y[seen]
    for k in range(40):
        distance = (points - t[k]).abs()
        near = distance.argsort()[:7]
        reach = 1.5 * distance[near].max()
        x = (points[near] - t[k]) / reach
        root = (1 - x.abs() ** 3) ** 1.5
        design = torch.stack((root, root * x, root * x * x), 1)
        fit = torch.linalg.lstsq(design, (root * values[near])[:, None]).solution[:, 0]
        assert float(found.y[k, 0]) == pytest.approx(float(fit[0]), rel=1e-8, abs=1e-10)
        assert float(found.slope[k, 0]) == pytest.approx(float(fit[1] / reach), rel=1e-8, abs=1e-8)
