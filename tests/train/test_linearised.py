"""The loss of linearised trajectories, and its gradient by torch and by native code."""

import math
from dataclasses import replace

import pytest
import torch

from pynode.data import Dataset, Trajectory
from pynode.train import Options, Scaling
from pynode.train.linearised import Linearised, deviations, inverses, scan
from pynode.train.model import build
from pynode.train.warmstart import _steps, warm_start
from tests.support.training import stiff_linear

KINDS = [{}, {"scaling": "kim"}, {"time_input": True}, {"activation": "tanh"}]


@pytest.fixture(scope="module")
def data():
    return stiff_linear(((1.0, 0.0), (0.3, 0.8)))


@pytest.fixture
def native():
    pytest.importorskip("numba")
    pytest.importorskip("llvmlite")
    from pynode.train.linearised_native import NativeLinearised

    return NativeLinearised


def make(data, seed=1, **options):
    options = Options(hidden=(5,), **options)
    generator = torch.Generator().manual_seed(seed)
    return build(options.architecture, Scaling.of(data, options.scaling), generator)


def test_scan_is_the_recurrence():
    a = torch.randn(13, 2, 2, dtype=torch.float64)
    c = torch.randn(13, 2, dtype=torch.float64)
    x, expected = torch.zeros(2, dtype=torch.float64), []
    for k in range(13):
        x = a[k] @ x + c[k]
        expected.append(x)
    assert torch.allclose(scan(a, c), torch.stack(expected))


class Linear(torch.nn.Module):
    """dy/dt = A y in scaled states."""

    def __init__(self, data, matrix):
        super().__init__()
        self.scaling, self.matrix = Scaling.of(data), matrix

    def forward(self, t, u):
        return self.scaling.physical(u) @ self.matrix.T / u.new_tensor(self.scaling.y_scale)


def test_the_deviation_is_how_far_solutions_lie_from_the_data():
    """Of a linear field the linearisation is exact: the difference of the two flows, to the error
    of Euler's steps. Every trajectory begins anew."""
    t = torch.linspace(0, 2, 401, dtype=torch.float64)
    here, there = (
        torch.tensor(m, dtype=torch.float64)
        for m in ([[-1.0, 0.0], [0.5, -0.5]], [[-1.5, 0.7], [0.1, -0.3]])
    )
    starts = (
        torch.tensor([1.0, 0.0], dtype=torch.float64),
        torch.tensor([0.2, 1.0], dtype=torch.float64),
    )

    def flow(matrix):
        return torch.stack(
            [torch.linalg.matrix_exp(matrix * t[:, None, None]) @ start for start in starts]
        )

    seen = torch.ones(len(t), 2, dtype=torch.bool)
    data = Dataset(("a", "b"), "t", tuple(Trajectory("", t, y, seen) for y in flow(here)))
    for matrix in (here, there):
        field = Linear(data, matrix)
        # Two steps between observations.
        steps = _steps(field, data)
        end = steps.end.clone().requires_grad_()
        f = field(steps.t, end)
        found = deviations(steps, f.detach(), inverses(steps, f, end)).abs()
        found = found.reshape(2, -1, 2)[:, 1::2]
        expected = (flow(matrix) - flow(here)).abs()[:, 1:] / found.new_tensor(
            field.scaling.y_scale
        )
        assert torch.allclose(found, expected, atol=3e-3)


def by_the_graph(field, weights, steps):
    """The loss from its definition, one step after the other, and what torch makes of its graph."""
    total = torch.zeros((), dtype=torch.float64)
    d = torch.zeros(steps.end.shape[1], dtype=torch.float64)
    for k in range(len(steps.t)):
        t = steps.t[k]
        end = steps.end[k]
        jacobian = torch.autograd.functional.jacobian(
            lambda u, t=t: field(t, u), end, create_graph=True
        )
        if steps.first[k]:
            d = torch.zeros_like(d)
        residual = steps.start[k] + steps.h[k] * field(t, end) - end
        matrix = torch.eye(len(d), dtype=d.dtype) - steps.h[k] * jacobian
        d = torch.linalg.solve(matrix, d + residual)
        total = total + (steps.weight[k] * d.abs() / (1 + d.abs())).sum()
    loss = total / steps.weight.sum()
    gradient = torch.autograd.grad(loss, weights)
    return float(loss.detach()), torch.cat([part.reshape(-1) for part in gradient])


def agree(found, expected, rtol=1e-9):
    assert math.isclose(found[0], expected[0], rel_tol=rtol)
    assert torch.allclose(found[1], expected[1], rtol=rtol, atol=rtol * float(expected[1].norm()))


@pytest.mark.parametrize("options", KINDS)
def test_the_gradient_is_that_of_the_graph(data, options):
    field = make(data, **options)
    weights = list(field.parameters())
    steps = _steps(field, data)
    agree(Linearised(field, weights, steps)(), by_the_graph(field, weights, steps))


@pytest.mark.parametrize("options", KINDS)
def test_native_code_has_the_same_gradient(native, data, options):
    """Also with other weights, which it reads where they are."""
    field = make(data, **options)
    weights = list(field.parameters())
    steps = _steps(field, data)
    one = native(field, weights, steps)
    other = Linearised(field, weights, steps)
    agree(one(), other())
    with torch.no_grad():
        for weight in weights:
            weight.mul_(1.5).add_(0.01)
    agree(one(), other())


def test_weights_that_the_field_does_not_use(native, data):
    field = make(data)
    weights = list(field.parameters())
    steps = _steps(field, data)
    unused = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    expected = native(field, weights, steps)()[1]
    for kind in (native, Linearised):
        gradient = kind(field, [unused, *weights], steps)()[1]
        assert gradient[:2].tolist() == [0.0, 0.0]
        assert torch.allclose(gradient[2:], expected)


class Growth(torch.nn.Module):
    """du/dt = a u."""

    def __init__(self, a):
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(a, dtype=torch.float64))

    def forward(self, t, u):
        return self.a * u


def test_a_singular_matrix_gives_no_finite_loss(native, data):
    """I - h J is singular where the growth is 1 / h. The warm start then leaves the weights."""
    steps = _steps(make(data), data)
    field = Growth(float(1 / steps.h[3]))
    steps = replace(steps, h=torch.full_like(steps.h, float(1 / field.a.detach())))
    for kind in (native, Linearised):
        loss, gradient = kind(field, [field.a], steps)()
        assert not (math.isfinite(loss) and bool(torch.isfinite(gradient).all()))


def test_a_warm_start_in_native_code(native, data):
    """The same first iterations; later ones differ, because Adam takes rounding for a direction
    where a gradient is zero."""
    losses = []
    for native_code in (True, False):
        fields = [make(data, seed) for seed in (1, 2)]
        seen = []
        warm_start(
            fields,
            data,
            iterations=4,
            trial=3,
            report=lambda *record, seen=seen: seen.append(record[2]),
            native=native_code,
        )
        losses.append(seen)
    assert len(losses[0]) == 7
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
