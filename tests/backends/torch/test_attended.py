"""Passes that the host attends: the steps, outputs, statuses, counts and gradients of the ordinary
loop. Here they run on the CPU; tests/support/on_device/attended.py runs them on a device."""

import pytest
import torch

from pynode import solve
from pynode.backends.torch import attended, masked_loop
from tests.support.cases import tensor

METHODS = ["tsit5", "vern7", "midpoint", "rodas5p", "qndf", "fbdf"]
ROWS = 24


@pytest.fixture
def sizes(monkeypatch):
    """The numbers of rows in the attended passes."""
    monkeypatch.setattr(masked_loop, "attends", lambda y0: True)
    found = []
    read = attended.Attended._read

    def noted(self, due, counts):
        found.append(len(due))
        return read(self, due, counts)

    monkeypatch.setattr(attended.Attended, "_read", noted)
    return found


def oscillator(t, y, rate):
    """Stiffer from row to row, with a push in time."""
    x, v = y.unbind(-1)
    return torch.stack((v, rate * ((1 - x * x) * v - x) + torch.sin(t[:, 0])), -1)


def leaves(outputs):
    """(y0, t, rate) that need gradients. Some rows go backwards, and each has its own end."""
    rate = torch.linspace(0.1, 4.0, ROWS, dtype=torch.float64)
    y0 = torch.stack((rate.cos(), rate.sin()), 1)
    length = torch.linspace(0.1, 4.0, ROWS, dtype=torch.float64)
    length[::7] = -0.2
    t = 0.3 + torch.linspace(0, 1, outputs, dtype=torch.float64).unsqueeze(1) * length
    return [x.requires_grad_() for x in (y0, t, rate)]


def both(sizes, monkeypatch, f, y0, t, **options):
    """The same solve by the ordinary loop, and attended."""
    options = {"batched": True, "backend": "torch", "throw": False, **options}
    with monkeypatch.context() as ordinary:
        ordinary.setattr(masked_loop, "attends", lambda y0: False)
        expected = solve(f, y0, t, **options)
        assert not sizes
    found = solve(f, y0, t, **options)
    assert sizes
    return found, expected


@pytest.mark.parametrize("outputs", [2, 200])
@pytest.mark.parametrize("method", METHODS)
def test_everything_is_as_in_the_ordinary_loop(method, outputs, sizes, monkeypatch):
    """Rows leave one after the other, and a step can have more outputs than are written at
    once."""
    given = leaves(outputs)
    y0, t, rate = given
    options = {"method": method, "args": (rate,), "rtol": 1e-4, "atol": 1e-6}
    found, expected = both(sizes, monkeypatch, oscillator, y0, t, **options)
    assert sizes[0] == ROWS
    assert len(set(sizes)) > 5
    assert list(found.statuses) == list(expected.statuses)
    # Rounding can change a step of BDF, within the tolerance; and f of rows that wait is no work
    # here.
    iterates = method in ("qndf", "fbdf")
    few, near, nearly = (0.03, 1e-4, 1e-2) if iterates else (0.0, 1e-9, 1e-7)
    for name in ("accepted", "rejected", "nfe", "nlu"):
        count = getattr(expected.stats, name)
        assert getattr(found.stats, name) == pytest.approx(count, rel=few, abs=300 * few), name
    torch.testing.assert_close(found.y, expected.y, rtol=near, atol=near)
    torch.testing.assert_close(tensor(*found.reached), tensor(*expected.reached))
    grads = [torch.autograd.grad(one.y.square().sum(), given) for one in (found, expected)]
    for grad, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(grad, wanted, rtol=nearly, atol=nearly)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf", "fbdf"])
def test_rows_that_fail(method, sizes, monkeypatch):
    """Each ends alone, with its own status, and its outputs before that."""

    def f(t, y, k):
        return k.unsqueeze(1) * y * y

    k = tensor(0.0, 1.0, -1.0, torch.nan, 2.0)
    options = {"method": method, "args": (k,)}
    times = [0.0, 0.4, 0.9, 2.0]
    found, expected = both(sizes, monkeypatch, f, torch.ones_like(k).unsqueeze(1), times, **options)
    assert list(found.statuses) == list(expected.statuses)
    assert [status.success for status in found.statuses] == [True, False, True, False, False]
    torch.testing.assert_close(found.y, expected.y, rtol=1e-4, atol=1e-6, equal_nan=True)


def test_infinite_jacobian(sizes, monkeypatch):
    """Only the ordinary loop replaces its entries, and takes the solve."""

    def f(t, y):
        return 1 - torch.sqrt(y)

    with pytest.warns(UserWarning, match="infinite"):
        found, expected = both(
            sizes, monkeypatch, f, tensor([0.0], [0.5]), [0.0, 1.0], method="rodas5p"
        )
    torch.testing.assert_close(found.y, expected.y)
    assert found.stats.nfe == expected.stats.nfe
