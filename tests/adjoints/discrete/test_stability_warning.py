"""A gradient through steps at the limit of an explicit method's stability is noise, and says so;
others are silent."""

import math
import warnings

import pytest
import torch

from pynode import problems, solve

RATE, END = 1190.23, 1.3918
EXACT = 1.2684535345588825e-07  # dy(END)/da of y' = -a (y - sin t), y(0) = 1


def forced(t, y, a):
    return -a * (y - torch.sin(t))


def gradient(method, rtol, batched=False, **options):
    a = torch.tensor(RATE, dtype=torch.float64, requires_grad=True)
    y0 = torch.ones((2, 1) if batched else 1, dtype=torch.float64)
    y = solve(
        forced,
        y0,
        (0.0, END),
        method=method,
        args=(a,),
        rtol=rtol,
        atol=rtol / 100,
        batched=batched,
        **options,
    ).y
    return float(torch.autograd.grad(y[-1].mean(), a)[0])


@pytest.mark.parametrize(
    ("method", "batched"),
    [
        ("adamspece", False),
        ("tsit5", False),
        ("bs3", False),
        ("tsit5", True),
        ("bs3", True),
    ],
)
def test_noise_is_told(method, batched):
    with pytest.warns(RuntimeWarning, match="stability.*may be noise.*'rodas5p'"):
        found = gradient(method, 1e-4, batched)
    assert abs(found - EXACT) > EXACT  # what it warns of


def test_what_it_recommends():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gradient("rodas5p", 1e-8) == pytest.approx(EXACT, rel=1e-3)
        assert gradient("qndf", 1e-8) == pytest.approx(EXACT, rel=0.5)
        assert gradient("auto", 1e-8) == pytest.approx(EXACT, rel=0.1)
        assert gradient("adamspece", 1e-8, adjoint="gauss") == pytest.approx(EXACT, rel=0.1)
        # Shorter than stability allows: accuracy chose the steps, and the gradient is right.
        assert gradient("tsit5", 1e-8) == pytest.approx(EXACT, rel=1e-3)


def oscillator(t, y):
    return torch.stack((y[..., 1], -y[..., 0]), -1)


def healthy():
    for name in ("lorenz", "lotka_volterra", "spiral"):
        problem = problems.get(name)
        yield name, problem.field, problem.y0, 15.0
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 8)
    ).double()
    yield "network", lambda t, y: 3 * net(y), torch.randn(8, dtype=torch.float64), 40.0
    yield "oscillator", oscillator, torch.ones(2, dtype=torch.float64), 60.0
    yield "decay", lambda t, y: -y, torch.ones(1, dtype=torch.float64), 50.0


@pytest.mark.parametrize("method", ["adamspece", "tsit5", "dp8", "bs3"])
@pytest.mark.parametrize(
    ("f", "y0", "end"), [case[1:] for case in healthy()], ids=[case[0] for case in healthy()]
)
def test_healthy_problems_are_silent(f, y0, end, method):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for rtol in (1e-2, 1e-4) if method == "bs3" else (1e-2, 1e-4, 1e-7):
            y = solve(
                f,
                y0.clone().requires_grad_(),
                (0.0, end),
                method=method,
                rtol=rtol,
                atol=rtol / 100,
            ).y
            y[-1].sum().backward()


def test_the_boundary_of_adams():
    """Of one step of order 1, y1 = y + z/2 (y + y + z y): 1 + z + z^2/2, stable down to -2."""
    from pynode.adjoints.discrete.stability import adams_boundary

    assert adams_boundary(1) == pytest.approx(2.0, abs=0.02)
    assert adams_boundary(2) == pytest.approx(2.4, abs=0.02)
    assert all(adams_boundary(k + 1) < adams_boundary(k) for k in range(2, 12))
    assert math.isfinite(adams_boundary(12))
