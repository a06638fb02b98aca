"""Many cotangents of one native solve at once give what single pullbacks give, in all ways in which
torch asks for them."""

import numpy as np
import pytest
import torch
from torch import nn

from pynode import solve
from pynode.adjoints.native.pullback import pullback, pullback_many
from pynode.train import LevenbergMarquardt
from pynode.translate.field import translate
from tests.support.native_solves import assert_close, forced, native, network, random_like

METHODS = ["Tsit5", "Rodas5P", "KenCarp4", "FBDF", "QNDF", "RadauIIA5"]
RECORD = {"record": True}


def solved(f, y0, times, method="rodas5p", **options):
    """(outputs, their inputs) of a native solve."""
    start = y0.clone().requires_grad_()
    solution = solve(f, start, times, method=method, backend="native", **options)
    return solution.y, [start, *f.parameters()]


def one_by_one(y, inputs, rows):
    """The gradients of each row of cotangents, stacked."""
    grads = [torch.autograd.grad(y, inputs, row, retain_graph=True) for row in rows]
    return [torch.stack(parts) for parts in zip(*grads, strict=True)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert_close(one.numpy(), other, 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_compiled_sweeps(method):
    """Also for rows that are zero at the end, everywhere, or everywhere but at the start."""
    f, y0, times = network()
    trajectory = native(f, y0, times, method, extra=RECORD)
    field = translate(f, y0, 0.0)
    grads = random_like((5, len(times), 3)).numpy()
    grads[1, 3:] = 0.0
    grads[2] = 0.0
    grads[3, 1:] = 0.0
    many = pullback_many(field, trajectory, times.tolist(), grads)
    for i, row in enumerate(grads):
        one = pullback(field, trajectory, times.tolist(), row)
        np.testing.assert_array_equal(many.y0[i], one.y0)
        for whole, part in zip(many.targets, one.targets, strict=True):
            np.testing.assert_array_equal(whole[i], part)
    assert not many.y0[2].any()
    assert_close(many.y0[3], torch.from_numpy(grads[3, 0]), 1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_later_steps_with_zero_cotangents(method):
    """A cotangent of a middle output is the sum of what two cotangents of all outputs give."""
    f, y0, times = forced()
    trajectory = native(f, y0, times, method, extra=RECORD)
    field = translate(f, y0, 0.0)
    whole = random_like((len(times), 2)).numpy()
    early = whole.copy()
    early[5:] = 0.0
    grads = np.stack([early, whole, whole - early])
    result = pullback_many(field, trajectory, times.tolist(), grads)
    for part in (result.y0, *result.targets):
        assert_close(part[0] + part[2], torch.from_numpy(part[1]), 1e-12)


def test_threads_change_no_bit():
    f, y0, times = network()
    trajectory = native(f, y0, times, "FBDF", extra=RECORD)
    field = translate(f, y0, 0.0)
    grads = random_like((20, len(times), 3)).numpy()
    alone = pullback_many(field, trajectory, times.tolist(), grads, threads=1)
    together = pullback_many(field, trajectory, times.tolist(), grads, threads=4)
    np.testing.assert_array_equal(alone.y0, together.y0)
    for one, other in zip(alone.targets, together.targets, strict=True):
        np.testing.assert_array_equal(one, other)
    assert alone.counts == together.counts


@pytest.mark.parametrize("method", ["rodas5p", "fbdf"])
def test_batched_grads_of_autograd(method):
    y, inputs = solved(*network(), method)
    rows = random_like((6, *y.shape))
    found = torch.autograd.grad(y, inputs, rows, retain_graph=True, is_grads_batched=True)
    assert_same(found, one_by_one(y, inputs, rows))


def test_vmap_over_a_gradient():
    y, inputs = solved(*network())
    rows = random_like((2, 3, *y.shape))

    def gradient(row):
        return torch.autograd.grad(y, inputs, row, retain_graph=True)

    expected = one_by_one(y, inputs, rows.flatten(0, 1))
    assert_same(torch.func.vmap(gradient)(rows[0]), [part[:3] for part in expected])
    last = rows[0].movedim(0, -1)
    assert_same(torch.func.vmap(gradient, in_dims=-1)(last), [part[:3] for part in expected])
    nested = torch.func.vmap(torch.func.vmap(gradient))(rows)
    assert_same([part.flatten(0, 1) for part in nested], expected)


def test_batches_inside_a_batch():
    """Batches of is_grads_batched, one inside the other."""
    y, inputs = solved(*network())
    rows = random_like((2, 3, *y.shape))

    def gradient(row):
        return torch.autograd.grad(y, inputs, row, retain_graph=True)

    nested = torch._vmap_internals._vmap(torch._vmap_internals._vmap(gradient))(rows)
    expected = one_by_one(y, inputs, rows.flatten(0, 1))
    assert_same([part.flatten(0, 1) for part in nested], expected)


class Computed(nn.Module):
    """A field whose rate is computed outside of it, and a parameter that it does not use."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate
        self.unused = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, t, y):
        return -self.rate * y


def test_tensors_that_are_computed_from_others():
    logarithm = torch.tensor([0.1, -0.3], dtype=torch.float64, requires_grad=True)
    f = Computed(logarithm.exp())
    y0 = torch.ones(2, dtype=torch.float64)
    times = torch.linspace(0.0, 1.0, 4, dtype=torch.float64)
    y = solve(f, y0, times, method="tsit5", backend="native").y
    rows = random_like((3, *y.shape))
    found = torch.autograd.grad(y, logarithm, rows, retain_graph=True, is_grads_batched=True)
    assert_same(found, one_by_one(y, [logarithm], rows))


@pytest.mark.parametrize("count", [7, 300])
def test_levenberg_marquardt(count):
    """Both ways give the same step. 300 residuals take more than one call."""
    times = torch.linspace(0.0, 2.0, count // 2 + 2, dtype=torch.float64)
    moved = []
    for batched in (True, False):
        f, y0, _ = forced()
        unused = nn.Parameter(torch.ones(2, dtype=torch.float64))

        def residuals(f=f, y0=y0):
            y = solve(f, y0, times, method="rodas5p", backend="native").y
            return (y[1:] - 0.3).flatten()[:count]

        lm = LevenbergMarquardt([*f.parameters(), unused], batched=batched)
        assert lm.step(residuals)
        moved.append(f.k.detach())
        assert unused.tolist() == [1.0, 1.0]
    assert_close(moved[0].numpy(), moved[1], 1e-10)
