"""The limits of rows: nonnegative components, the domain, a callback, the clock."""

import time

import pytest
import torch

from pynode import SolveError, Status, solve
from tests.support.cases import tensor

FAMILIES = ["tsit5", "rodas5p", "kvaerno5", "qndf", "fbdf"]
RATES = tensor(1.0, 2.0, 3.0)
STARTS = tensor([1.0], [2.0], [0.5])


def decay(t, y, k):
    return -k.unsqueeze(1) * y


def draining(t, y, k):
    """Ends at zero in finite time, and is NaN below."""
    return -k.unsqueeze(1) * torch.sqrt(y)


def rows(f, method="tsit5", times=(0.0, 5.0), **options):
    options = {"batched": True, "throw": False, **options}
    return solve(f, STARTS, times, args=(RATES,), method=method, **options)


@pytest.mark.parametrize("method", FAMILIES)
def test_rows_that_drain_stay_nonnegative(method):
    """As each row alone; f never sees a negative state, and no output is negative."""
    times = [0.0, 1.0, 3.0, 5.0]
    found = rows(draining, method, times, nonnegative=True)
    assert all(status.success for status in found.statuses)
    assert float(found.y.min()) >= 0
    exact = (STARTS.sqrt() - RATES.unsqueeze(1) * torch.tensor(times).view(-1, 1, 1) / 2).clamp(
        min=0
    )
    assert float((found.y - exact.square()).abs().max()) < 1e-4


def test_one_component_of_several():
    def f(t, y, k):
        return torch.stack((-k * torch.sqrt(y[:, 0]), -torch.ones_like(k)), 1)

    start = torch.stack((STARTS[:, 0], torch.zeros(3, dtype=torch.float64)), 1)
    found = solve(
        f, start, [0.0, 5.0], args=(RATES,), method="tsit5", batched=True, nonnegative=[0]
    )
    assert float(found.y[..., 0].min()) >= 0
    torch.testing.assert_close(found.y[-1, :, 1], torch.full((3,), -5.0, dtype=torch.float64))


@pytest.mark.parametrize("method", FAMILIES)
def test_gradient_of_rows_that_stay_nonnegative(method):
    """What nonnegative refuses are steps: the gradient is that of the steps that were taken."""
    grads = []
    for nonnegative in (None, True):
        start = STARTS.clone().requires_grad_()
        y = solve(
            decay,
            start,
            [0.0, 1.0],
            args=(RATES,),
            method=method,
            batched=True,
            nonnegative=nonnegative,
        ).y[-1]
        grads.append(torch.autograd.grad(y.sum(), start)[0])
    torch.testing.assert_close(*grads, rtol=1e-9, atol=0)


@pytest.mark.parametrize("method", FAMILIES)
def test_rows_end_at_the_edge_of_the_domain(method):
    """A row that cannot go on ends with its own status, where the exact solution leaves."""
    found = rows(decay, method, domain=lambda t, y: y[:, 0] > 0.3)
    assert found.statuses == [Status.DOMAIN] * 3
    edge = torch.log(STARTS[:, 0] / 0.3) / RATES
    torch.testing.assert_close(tensor(*found.reached), edge, rtol=1e-4, atol=0)


def test_a_row_that_begins_outside_ends_there():
    found = rows(decay, domain=lambda t, y: y[:, 0] < 1.5)
    assert found.statuses == [Status.SUCCESS, Status.DOMAIN, Status.SUCCESS]
    assert found.reached[1] == 0.0


def test_the_report_of_a_row_names_the_domain():
    found = rows(decay, domain=lambda t, y: y[:, 0] > 0.3)
    with pytest.raises(SolveError, match="leaves the domain"):
        found.check()


@pytest.mark.parametrize(
    "answer", [lambda y: bool((y > 0).all()), lambda y: y[:2, 0] > 0, lambda y: y > 0]
)
def test_a_domain_that_does_not_answer_for_each_row(answer):
    with pytest.raises(ValueError, match="domain must return a bool for each of the 3 rows"):
        rows(decay, domain=lambda t, y: answer(y))


@pytest.mark.parametrize("method", FAMILIES)
def test_a_callback_sees_where_all_rows_stand(method):
    seen = []

    def look(t, y, stats):
        seen.append((t, y))
        assert t.shape == (3,) and y.shape == (3, 1)

    found = rows(decay, method, callback=look)
    assert all(status.success for status in found.statuses)
    times = torch.stack([t for t, _ in seen])
    assert bool((times.diff(dim=0) >= 0).all()) and bool((times[-1] == 5.0).all())
    for t, y in seen:
        exact = STARTS * torch.exp(-RATES * t).unsqueeze(1)
        assert float((y - exact).abs().max()) < 1e-4


@pytest.mark.parametrize("method", FAMILIES)
def test_a_callback_ends_single_rows(method):
    found = rows(decay, method, callback=lambda t, y, stats: (t > 1.0) & (RATES > 1.5))
    assert found.statuses == [Status.SUCCESS, Status.CALLBACK, Status.CALLBACK]
    assert 1.0 < found.reached[1] < 5.0


def test_a_callback_ends_all_rows():
    found = rows(decay, callback=lambda t, y, stats: bool((t > 0.5).any()))
    assert Status.CALLBACK in found.statuses
    assert max(found.reached) < 5.0


@pytest.mark.parametrize("method", FAMILIES)
def test_the_clock_ends_rows(method, monkeypatch):
    """By a clock that each evaluation moves by a second."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def slow(t, y, k):
        now[0] += 1.0
        return decay(t, y, k)

    found = rows(slow, method, max_seconds=30.0)
    assert found.statuses == [Status.MAX_SECONDS] * 3
    assert now[0] < 60


@pytest.mark.parametrize("batched", [False, True])
def test_the_edge_is_not_approached_for_ever(batched):
    """A step of one unit in the last place of t is allowed where y is rounded to itself. 100,000 of
    them were taken."""

    def domain(t, y):
        return y[:, 0] > 0.3 if batched else bool(y[0] > 0.3)

    start = tensor([0.5]) if batched else tensor(0.5)
    found = solve(
        lambda t, y: -3 * y,
        start,
        [0.0, 5.0],
        method="tsit5",
        domain=domain,
        throw=False,
        batched=batched,
    )
    assert found.stats.accepted + found.stats.rejected < 1000
