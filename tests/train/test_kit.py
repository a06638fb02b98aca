"""The pieces of the training kit, each alone: times, slopes, shooting, gradients, stopping, least
squares, data sets."""

import math

import pytest
import torch
from torch import nn

from pynode import SolveError, problems, solve
from pynode.data import DataError, dataset
from pynode.train import (
    EarlyStopping,
    LevenbergMarquardt,
    ScaledField,
    Scaling,
    Slopes,
    collocation,
    log_times,
    multiple_shooting,
    normalise_gradients,
    observe,
    sample_times,
    slopes,
)
from pynode.train.accuracy import accuracy
from pynode.train.explicit_costs import costs
from tests.support import ROOT
from tests.support.cases import tensor

TIGHT = {"method": "vern7", "rtol": 1e-9, "atol": 1e-11}


class Decay(nn.Module):
    """y1' = -k1 y1 + cos t, y2' = k1 y1 - k2 y2^2."""

    def __init__(self, k=(3.0, 0.5)):
        super().__init__()
        self.k = nn.Parameter(tensor(*k))

    def forward(self, t, y):
        a, b = y.unbind(-1)
        gone = self.k[0] * a
        return torch.stack((torch.cos(torch.as_tensor(t)) - gone, gone - self.k[1] * b * b), -1)


@pytest.fixture(scope="module")
def truth():
    t = torch.linspace(0.0, 2.0, 9, dtype=torch.float64)
    with torch.no_grad():
        return t, solve(Decay(), tensor(1.0, 0.2), t, **TIGHT).y


def test_log_times():
    t = log_times(1e-5, 1e5, 50)
    assert t.shape == (51,) and t[:2].tolist() == [0.0, 1e-5] and float(t[-1]) == 1e5
    ratios = t[2:] / t[1:-1]
    assert float(ratios.max() / ratios.min()) == pytest.approx(1.0, abs=1e-12)
    assert log_times(1.0, 100.0, 3, start=None).tolist() == pytest.approx([1, 10, 100])
    for bad in ((0.0, 1.0, 3), (2.0, 1.0, 3), (1.0, 2.0, 1), (1.0, 2.0, 3, 1.5)):
        with pytest.raises(ValueError, match=r"ratios|count|start"):
            log_times(*bad)


def test_sampled_times_are_even_over_the_decades():
    """Of a thousand evenly spaced times, as many come from each decade."""
    t, generator = (
        torch.linspace(5.0, 1005.0, 100_001, dtype=torch.float64),
        torch.Generator().manual_seed(0),
    )
    counts = torch.zeros(5)
    for _ in range(40):
        rows = sample_times(t, 5, generator)
        assert bool((rows.diff() > 0).all()) and 1 <= int(rows[0]) and int(rows[-1]) <= 100_000
        counts += torch.histc((t[rows] - 5.0).log10(), 5, -2, 3)
    # In the first decade there are only ten times, and one drawn twice counts once.
    assert counts[1:].min() >= 36 and counts[0] >= 28, counts
    assert sample_times(tensor(0.0, 1.0), 5, generator).tolist() == [1]
    with pytest.raises(ValueError, match="two times"):
        sample_times(tensor(1.0), 3)


def test_slopes_of_quadratics_are_exact():
    t = tensor(0.0, 0.3, 0.4, 1.0, 1.7, 2.0, 2.2)
    y = torch.stack((1 + 2 * t - 3 * t * t, t), 1)
    found = slopes(t, y, neighbours=4, log=False)
    assert torch.allclose(
        found.slope, torch.stack((2 - 6 * t, torch.ones_like(t)), 1)
    ) and torch.allclose(found.y, y)
    # In the logarithm of time: dy/dt = (dy/ds) / t.
    t = log_times(1e-3, 1e2, 12)
    s = t[1:].log()
    y = torch.cat((tensor(7.0), s * s))[:, None]
    found = slopes(t, y)
    assert torch.allclose(found.slope[1:, 0], 2 * s / t[1:]) and torch.allclose(
        found.unit[1:], t[1:]
    )
    assert float(found.slope[0, 0]) == pytest.approx(float(y[1, 0] - 7.0) / 1e-3)


def test_slopes_converge_and_leave_gaps_out():
    errors = []
    for count in (21, 41):
        t = torch.linspace(0, 3, count, dtype=torch.float64)
        y, seen = torch.sin(t)[:, None].clone(), torch.ones(count, 1, dtype=torch.bool)
        y[5], seen[5] = 99.0, False
        errors.append(float((slopes(t, y, seen).slope[:, 0] - torch.cos(t)).abs()[2:-2].max()))
    assert errors[0] < 0.05 and errors[1] < errors[0] / 3
    for bad in ({"neighbours": 2}, {"neighbours": 50}):
        with pytest.raises(ValueError, match="neighbours must be from 3"):
            slopes(t, y, seen, **bad)
    with pytest.raises(ValueError, match="a row for each time"):
        slopes(t, y[1:])


def test_collocation_finds_the_constants(truth):
    t = torch.linspace(0.0, 2.0, 41, dtype=torch.float64)
    with torch.no_grad():
        y = solve(Decay(), tensor(1.0, 0.2), t, **TIGHT).y
    f, calls = Decay((1.0, 1.0)), []
    points = Slopes.joined([slopes(t, y), slopes(t, y)])
    assert len(points.t) == 82
    last = collocation(f, points, 200, lr=5e-2, report=lambda *record: calls.append(record))
    assert (
        torch.allclose(f.k, tensor(3.0, 0.5), rtol=0.02)
        and last < 0.02
        and calls[-1] == (200, 200, last)
    )


@pytest.mark.parametrize("loss", ["mae", "mse"])
def test_shooting_in_one_segment_is_the_single_solve(truth, loss):
    t, y = truth
    f = Decay((2.0, 1.0)).requires_grad_(False)
    error = solve(f, y[0], t, **TIGHT).y[1:] - y[1:]
    expected = (error.abs() if loss == "mae" else error * error).mean()
    assert float(multiple_shooting(f, t, y, 8, loss=loss, **TIGHT)) == pytest.approx(
        float(expected), rel=1e-12
    )


@torch.no_grad()
def test_shooting_on_the_true_field_loses_nothing(truth):
    t, y = truth
    assert float(multiple_shooting(Decay(), t, y, 3, **TIGHT)) < 1e-9
    off = y[[0, 3, 6]] + tensor(0.0, 0.1)
    with_gaps = multiple_shooting(Decay(), t, y, 3, starts=off, continuity=0.0, **TIGHT)
    assert float(
        multiple_shooting(Decay(), t, y, 3, starts=off, continuity=10.0, **TIGHT)
    ) > 2 * float(with_gaps)


def test_the_gradient_of_shooting(truth):
    """In the parameters and in starts that are learned, against central differences."""
    t, y = truth
    f, starts = Decay((2.0, 1.0)), (y[[0, 3, 6]] + 0.1).requires_grad_()

    def loss():
        return multiple_shooting(f, t, y, 3, starts=starts, loss="mse", continuity=2.0, **TIGHT)

    found = torch.cat([g.flatten() for g in torch.autograd.grad(loss(), [f.k, starts])])
    expected = []
    for leaf in (f.k, starts):
        for i in range(leaf.numel()):
            values = []
            for change in (1e-5, -1e-5):
                with torch.no_grad():
                    leaf.view(-1)[i] += change
                    values.append(float(loss()))
                    leaf.view(-1)[i] -= change
            expected.append((values[0] - values[1]) / 2e-5)
    assert torch.allclose(found, tensor(*expected), rtol=1e-6, atol=1e-9)


def test_shooting_refuses(truth):
    t, y = truth
    seen = torch.ones_like(y, dtype=torch.bool)
    seen[4, 1] = False
    with pytest.raises(ValueError, match="would start where a value is missing"):
        multiple_shooting(Decay(), t, y, 4, seen=seen)
    assert torch.isfinite(multiple_shooting(Decay(), t, y, 3, seen=seen))
    with pytest.raises(ValueError, match="intervals must be"):
        multiple_shooting(Decay(), t, y, 0)
    with pytest.raises(ValueError, match="starts must be 3 states of 2"):
        multiple_shooting(Decay(), t, y, 3, starts=y[:2])
    with pytest.raises(ValueError, match="unknown loss"):
        multiple_shooting(Decay(), t, y, 3, loss="huber")
    with pytest.raises(SolveError):
        multiple_shooting(Decay(), t, y, 3, max_steps=1)


def test_gradients_are_normalised():
    a, b, unused = (nn.Parameter(tensor(*v)) for v in ((1.0, 2.0), (3.0,), (1.0,)))
    (3 * a.sum() + 4 * b.sum() * 0.5).backward()
    norm = normalise_gradients([a, b, unused], 10.0)
    assert float(norm) == pytest.approx(22**0.5) and unused.grad is None
    assert torch.allclose(a.grad / b.grad, tensor(1.5, 1.5)) and float(
        torch.cat((a.grad, b.grad)).norm()
    ) == pytest.approx(10)
    a.grad.fill_(float("nan"))
    before = b.grad.clone()
    assert not torch.isfinite(normalise_gradients([a, b])) and torch.equal(b.grad, before)
    a.grad, b.grad = torch.zeros(2).double(), torch.zeros(1).double()
    assert float(normalise_gradients([a, b])) == 0 and float(b.grad) == 0
    with pytest.raises(ValueError, match="norm must be positive"):
        normalise_gradients([a], 0.0)


def test_early_stopping():
    stopping = EarlyStopping(patience=3, least=0.01)
    # 0.995 is not a whole per cent better than 1, and 0.98 is; a loss that is not a number is no
    # progress.
    stops = [stopping.update(loss) for loss in (1.0, 0.995, 0.98, 2.0, math.nan)]
    assert stops == [False] * 5 and stopping.best == 0.98
    again = EarlyStopping(patience=3, least=0.01)
    again.load_state_dict(stopping.state_dict())
    assert again.update(0.98) and again.waited == 3
    for bad in ({"patience": 0}, {"patience": 1, "least": 1.0}):
        with pytest.raises(ValueError, match="must be"):
            EarlyStopping(**bad)


def test_levenberg_marquardt_finds_the_constants(truth):
    """Of a solve, by its sensitivities, in few steps; and it stops at the minimum."""
    t, y = truth
    f = Decay((2.0, 1.0))
    lm, costs, tried = LevenbergMarquardt(f.parameters()), [], []

    def residuals():
        return (
            solve(f, y[0], t, method="fbdf", rtol=1e-6, atol=1e-8, adjoint="forward").y - y
        ).flatten()

    while len(costs) < 30 and lm.step(residuals, lambda: tried.append(0)):
        costs.append(lm.cost)
    assert len(costs) < 15 and sorted(costs, reverse=True) == costs and len(tried) >= len(costs)
    assert torch.allclose(f.k, tensor(3.0, 0.5), rtol=1e-4)


@pytest.mark.parametrize("rows", [2, 6])
def test_levenberg_marquardt_on_linear_residuals(rows):
    """More residuals than parameters and fewer: the step of small damping is the least-squares
    solution, the shortest one."""
    A, b, x = (
        torch.randn(rows, 4).double(),
        torch.randn(rows).double(),
        nn.Parameter(torch.zeros(4).double()),
    )
    lm = LevenbergMarquardt([x], damping=1e-12)
    assert lm.step(lambda: A @ x - b) and lm.damping == 1e-12  # its least
    assert torch.allclose(x.detach(), torch.linalg.pinv(A) @ b, atol=1e-8)
    assert not LevenbergMarquardt([x]).step(lambda: None)
    with pytest.raises(ValueError, match="require gradients"):
        LevenbergMarquardt([])


def test_levenberg_marquardt_leaves_what_it_cannot_improve():
    x = nn.Parameter(tensor(1.0))
    failed = iter([tensor(2.0) * x, *[None] * 100])
    lm = LevenbergMarquardt([x])
    assert not lm.step(lambda: next(failed)) and x.tolist() == [1.0]
    # Another problem, with the damping of a start, which then falls.
    assert lm.step(lambda: tensor(2.0) * x) and abs(float(x.detach())) < 0.1 and lm.damping < 1e-2


def test_data_sets_of_tensors():
    data = dataset([0.0, 1.0, 2.0], [[1.0, 2.0], [3.0, math.nan], [5.0, 6.0]])
    assert data.columns == ("y1", "y2") and data.observations == 3
    assert data.trajectories[0].seen.tolist() == [[True, True], [True, False], [True, True]]
    for t, y in (
        ([0.0, 0.0], [[1.0], [1.0]]),
        ([0.0, 1.0], [1.0, 2.0]),
        ([0.0, 1.0], [[math.nan], [1.0]]),
        ([0.0, 1.0], [[1.0], [math.inf]]),
        ([0.0, 1.0], [[1.0, 1.0], [2.0, math.nan]]),
    ):
        with pytest.raises(DataError, match=r"increasing|initial state|finite"):
            dataset(t, y)
    for bad in ({"columns": ("a",)}, {"seen": [True, True]}):
        with pytest.raises(DataError, match="do not fit"):
            dataset([0.0, 1.0], [[1.0, 1.0], [2.0, 2.0]], **bad)


def test_a_scaled_field_of_any_module():
    """With one's own module and loop: du/dt = net(u) / t_scale in states of the order of one."""
    data = observe(problems.get("robertson"), log_times(1e-5, 1e5, 10))
    assert data.columns == ("A", "B", "C")
    scaling = Scaling.of(data, "kim")
    f = ScaledField(nn.Linear(3, 3).double(), scaling)
    u = scaling.scaled(data.trajectories[0].y)
    assert torch.allclose(f(0.0, u), f.net(u) / 1e5)
    solution = solve(f, u[0], data.trajectories[0].t, method="fbdf")
    (solution.y - u).abs().mean().backward()
    assert float(f.net.weight.grad.norm()) > 0


def test_the_accuracy_of_a_field():
    problem = problems.get("robertson")
    data = observe(problem, log_times(1e-5, 1e5, 8))
    problem.field.atol = lambda rtol: rtol * torch.tensor(problem.atol, dtype=torch.float64)
    exact = accuracy(problem.field, data)
    assert exact.columns == ("A", "B", "C") and max(exact.pointwise) < 1e-5
    with torch.no_grad():
        problem.field.k[0] *= 1.1  # A -> B
    wrong = accuracy(problem.field, data)
    assert all(0.005 < a <= b < 0.2 for a, b in zip(wrong.of_largest, wrong.pointwise, strict=True))


def test_explicit_methods_are_not_affordable():
    fbdf, tsit5, *others = costs(problems.get("robertson"), 2000)
    assert fbdf.reached == 1.0 and fbdf.evaluations < 2000 and fbdf.whole == fbdf.evaluations
    for cost in (tsit5, *others):
        assert (
            0 < cost.reached < 1e-4
            and cost.evaluations <= 2010
            and cost.whole > 1e6 > cost.evaluations
        )


def test_the_page_runs():
    """The code of docs/training.md, which lowers what it says it lowers."""
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    names = {}
    blocks = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    (block,) = [block for block in blocks if "LevenbergMarquardt(" in block]
    exec(block, names)
    assert torch.isfinite(names["loss"]) and names["net"][0].weight.grad is not None
    first, lm, u = names["lm"].cost, names["lm"], names["u"]
    lm.step(
        lambda: (
            solve(names["field"], u[0], names["t"], method="fbdf", adjoint="forward").y - u
        ).flatten()
    )
    assert lm.cost < first
