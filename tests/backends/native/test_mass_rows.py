"""Rows of a batch with a mass matrix: each is the solve of its own."""

import pytest
import torch

from pynode import Event, PresetTimes, solve
from tests.support.cases import tensor
from tests.support.mass_matrices import orthogonal

TIMES = [0.0, 0.3, 1.0, 2.0]
OPTIONS = {"consistent": "solve", "rtol": 1e-6, "atol": 1e-9}
DIAGONAL = tensor(1.0, 2.0, 0.0, 0.0)
ROWS = 4


def coupled(t, y, p):
    """Two differential and two algebraic components, for one state or for rows."""
    a, b, z, w = y.unbind(-1)
    time = t.squeeze(-1) if t.dim() else t
    first = p[..., 0]
    parts = (
        torch.sin(3 * time) - first * a * z,
        0.7 * (w - b) + a * z,
        2 * a * b - z + 0.1 * torch.cos(time),
        a + 0.3 * z - w - 0.1 * first * w**3,
    )
    return torch.stack(parts, -1)


def problem(turned):
    """(f, starts, p, M)."""
    scale = torch.linspace(0.8, 1.2, ROWS, dtype=torch.float64).unsqueeze(1)
    starts = scale * tensor(1.0, 0.5, 0.4, 0.9)
    p = torch.linspace(0.5, 2.0, ROWS, dtype=torch.float64).unsqueeze(1)
    if not turned:
        return coupled, starts, p, DIAGONAL
    turn = orthogonal(4)

    def f(t, y, p):
        return coupled(t, y @ turn, p) @ turn.T

    return f, starts @ turn.T, p, turn @ torch.diag(DIAGONAL) @ turn.T


def rows_and_single_solves(turned, method, adjoint="discrete", **options):
    """((states, gradients in the starts and in p) of the rows, those of the solves one by one)."""
    f, starts, p, mass = problem(turned)
    settings = {**OPTIONS, "mass": mass, "method": method, "backend": "native", **options}
    y0 = starts.clone().requires_grad_()
    own = p.clone().requires_grad_()
    batch = solve(f, y0, TIMES, args=(own,), batched=True, adjoint=adjoint, **settings)
    weights = torch.linspace(1, 2, batch.y.numel(), dtype=torch.float64).view_as(batch.y)
    found = (batch.y, *torch.autograd.grad((weights * batch.y).sum(), (y0, own)))
    parts = []
    steps = 0
    for i in range(ROWS):
        start = starts[i].clone().requires_grad_()
        constant = p[i].clone().requires_grad_()
        one = solve(f, start, TIMES, args=(constant,), **settings)
        gradient = torch.autograd.grad((weights[:, i] * one.y).sum(), (start, constant))
        parts.append((one.y, *gradient))
        steps += one.stats.accepted
    ys, starts_bar, p_bar = zip(*parts, strict=True)
    assert batch.stats.accepted == pytest.approx(steps, abs=ROWS)
    return found, (torch.stack(ys, 1), torch.stack(starts_bar), torch.stack(p_bar))


def assert_close(found, wanted, rtol=1e-6):
    for one, other in zip(found, wanted, strict=True):
        error = (one - other).detach().abs().max()
        assert float(error) <= rtol * float(other.detach().abs().max())


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("method", ["Rodas5P", "RadauIIA5", "KenCarp4", "QNDF", "FBDF"])
def test_rows_are_single_solves(method, turned):
    assert_close(*rows_and_single_solves(turned, method))


@pytest.mark.parametrize("method", ["Rodas5P", "QNDF"])
def test_forward_sensitivities(method):
    assert_close(*rows_and_single_solves(True, method, adjoint="forward"))


@pytest.mark.parametrize("method", ["Rodas5P", "QNDF"])
def test_events_presets_and_jumps(method):
    def condition(t, y, p):
        time = t.squeeze(-1) if t.dim() else t
        return time - 0.9 + 0.1 * y[..., 0]

    events = [
        Event(condition, reset=lambda t, y, p: y + 0.05),
        PresetTimes([1.3], reset=lambda t, y, p: y + 0.1),
    ]
    assert_close(*rows_and_single_solves(False, method, events=events, jumps=[0.7]))


def test_a_start_that_violates_the_equations_names_its_row():
    f, starts, p, mass = problem(False)
    options = {"args": (p,), "batched": True, "backend": "native", "method": "Rodas5P"}
    good = solve(f, starts, [0.0, 1e-3], mass=mass, consistent="solve", **options).y[0]
    solve(f, good, [0.0, 1e-3], mass=mass, **options)
    bad = good.clone()
    bad[2, 3] += 0.1
    with pytest.raises(ValueError, match="row 2 of the batch: y0 is not consistent"):
        solve(f, bad, [0.0, 1e-3], mass=mass, **options)


def test_an_index_above_one_is_refused():
    def f(t, y):
        return torch.stack((y[:, 1], y[:, 0] - 1), 1)

    options = {"batched": True, "backend": "native", "method": "Rodas5P"}
    with pytest.raises(ValueError, match="index is above 1"):
        solve(f, torch.ones(2, 2).double(), [0.0, 1.0], mass=tensor(1.0, 0.0), **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"backend": "torch", "method": "Rodas5P"}, "only with backend='native'"),
        ({"backend": "native", "method": "Tsit5"}, "cannot solve M y' = f"),
    ],
)
def test_refusals(options, sentence):
    f, starts, p, mass = problem(False)
    with pytest.raises(ValueError, match=sentence):
        solve(f, starts, [0.0, 1.0], args=(p,), mass=mass, batched=True, **options)
