"""The short way of a batch gives the numbers of the long way, and leaves to it what it must."""

import math

import numpy as np
import pytest
import torch

from pynode import solve
from pynode.core.status import SolveError

METHODS = ["radauiia9", "rodas5p", "fbdf", "qndf", "tsit5"]


class Decay(torch.nn.Module):
    """dy/dt = -k y + u, where u is one after the time ``switch`` and zero before."""

    def forward(self, t, y, k, switch):
        return -k * y + (t >= switch).to(y)


def arguments(rows=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(rows, 2, dtype=torch.float64, generator=generator)
    k = 1 + torch.rand(rows, 2, dtype=torch.float64, generator=generator)
    switch = torch.tensor([[0.4], [0.0], [1.0]], dtype=torch.float64)[:rows]
    return start, k, switch


def both(times, method="radauiia9", **options):
    """The solution by the long way, and by the short one. Before it, one solve translates f, and
    the next one finds that its rows are independent."""
    start, k, switch = arguments()
    settings = {"args": (k, switch), "batched": True, "backend": "native", "method": method}
    settings |= options
    field = Decay()
    with torch.enable_grad():
        solve(field, start, times, **settings)
        long = solve(field, start, times, **settings)
    with torch.no_grad():
        short = solve(field, start, times, **settings)
    assert short._examine is None  # only the long way can explain a failure
    return long, short


@pytest.mark.parametrize("method", METHODS)
def test_shared_times(method):
    long, short = both([0.0, 0.3, 0.9, 1.5], method, rtol=1e-7)
    assert torch.equal(long.y, short.y)
    assert torch.equal(long.t, short.t)
    assert long.stats == short.stats
    assert long.method == short.method
    assert short.success
    assert short.reached == long.reached
    assert [list(events) for events in short.events] == [[], [], []]


@pytest.mark.parametrize("method", METHODS)
def test_jumps_inside_and_at_both_ends(method):
    times = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64).unsqueeze(1).repeat(1, 3)
    jumps = torch.tensor([[0.4, math.nan], [0.0, 7.0], [1.0, 0.5]], dtype=torch.float64)
    long, short = both(times, method, jumps=jumps, rtol=1e-9, atol=1e-11)
    start, k, switch = arguments()
    torch.testing.assert_close(short.y, long.y, rtol=1e-13, atol=1e-15)
    after = (times[-1].unsqueeze(1) - switch).clamp(min=0)
    exact = start * torch.exp(-k) + (1 - torch.exp(-k * after)) / k
    torch.testing.assert_close(short.y[-1], exact, rtol=1e-6, atol=1e-8)


def test_backwards_with_times_of_each_row():
    times = torch.tensor([[1.0, 2.0, 1.5], [0.5, 0.75, 0.25], [0.0, 0.0, 0.0]], dtype=torch.float64)
    long, short = both(times, jumps=[0.4, 0.0], rtol=1e-9)
    torch.testing.assert_close(short.y, long.y, rtol=1e-13, atol=1e-15)


def test_times_that_change_are_read_again():
    start, k, switch = arguments()
    field = Decay()
    times = torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.float64)
    settings = {"args": (k, switch), "batched": True, "backend": "native", "method": "qndf"}
    with torch.no_grad():
        solve(field, start, times, **settings)
        first = solve(field, start, times, **settings).y[-1]
        times[1] = 2.0
        second = solve(field, start, times, **settings)
        assert float(second.t[-1, 0]) == 2.0
        assert not torch.allclose(first, second.y[-1])
        times[1] = 0.0
        with pytest.raises(ValueError, match="times of row 0"):
            solve(field, start, times, **settings)


def test_other_numbers_in_args_and_other_rows():
    field = Decay()
    with torch.no_grad():
        for seed in range(3):
            start, k, switch = arguments(seed=seed)
            settings = {"args": (k, switch), "batched": True, "method": "rodas5p"}
            native = solve(field, start, [0.0, 0.3], backend="native", **settings)
            torch_engine = solve(field, start, [0.0, 0.3], backend="torch", **settings)
            torch.testing.assert_close(native.y, torch_engine.y, rtol=1e-6, atol=1e-9)


def test_failures_have_their_report_and_wrong_starts_their_error():
    start, k, switch = arguments()
    settings = {"args": (k, switch), "batched": True, "backend": "native", "method": "rodas5p"}
    field = Decay()
    with torch.no_grad():
        solve(field, start, [0.0, 1.0], **settings)
        failed = solve(field, start, [0.0, 1.0], max_steps=1, throw=False, **settings)
        assert not failed.success
        assert failed.report().attempts is not None
        with pytest.raises(SolveError):
            solve(field, start, [0.0, 1.0], max_steps=1, **settings)
        start[1, 1] = np.nan
        with pytest.raises(ValueError, match="y0 is not finite"):
            solve(field, start, [0.0, 1.0], **settings)


def test_rows_that_influence_each_other_are_refused():
    def mixing(t, y):
        return -y.mean(0, keepdim=True) * torch.ones_like(y)

    start = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    for _ in range(2):
        with torch.no_grad(), pytest.raises(ValueError, match="rows influence one another"):
            solve(mixing, start, [0.0, 1.0], batched=True, backend="native", method="rodas5p")
