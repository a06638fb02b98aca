"""Stochastic equations: orders of convergence on one path, stiff drifts, gradients for fixed noise,
moments, and mistakes."""

import math

import pytest
import torch
from torch import nn

from pynode import SolveError, Status
from pynode.sde import SCHEMES, BrownianPath, solve_sde
from tests.support.cases import directional, tensor

each_scheme = pytest.mark.parametrize("name", list(SCHEMES))


def wave(t):
    return 0.5 + 0.3 * torch.sin(3 * t)


def geometric(n, size=0.8):
    """Geometric Brownian motion: drift, diffusion, states at t = 1 of its path on the noise, and
    that."""
    noise = BrownianPath((n, 1), seed=0, dtype=torch.float64)
    exact = torch.exp(0.3 - size**2 / 2 + size * noise(1.0))
    return lambda t, y: 0.3 * y, lambda t, y: size * y, exact, noise


def timed(n):
    """y = exp(a(t) W), whose drift and diffusion depend on time: dy = (a'/a log y + a^2/2) y dt + a
    y dW."""
    noise = BrownianPath((n, 1), seed=0, dtype=torch.float64)

    def drift(t, y):
        return y * (
            0.9 * torch.cos(3 * t) / wave(t) * torch.log(y.clamp(min=1e-6)) + wave(t) ** 2 / 2
        )

    return drift, lambda t, y: wave(t) * y, torch.exp(wave(tensor(1.0)) * noise(1.0)), noise


@each_scheme
def test_one_step_by_its_formula(name):
    """dy = a(t) y dt + b(t) y dW: the noise with b at the start, the drift with a there, or at the
    end where it is implicit."""
    scheme, noise, h = SCHEMES[name], BrownianPath((3, 1), seed=6, dtype=torch.float64), 0.25
    y0, dw = tensor((1.0,), (-2.0,), (0.5,)), noise.increment(0.5, 0.75)

    def a(t):
        return torch.sin(3 * t) - 1

    y = solve_sde(
        lambda t, y: a(t) * y,
        lambda t, y: wave(t) * y,
        y0,
        [0.5, 0.75],
        dt=h,
        method=name,
        brownian=noise,
    ).y[-1]
    start, end = tensor(0.5, 0.75)
    b = wave(start)
    right = y0 * (1 + b * dw + (b * b * (dw * dw - h) / 2 if scheme.milstein else 0))
    torch.testing.assert_close(
        y, right / (1 - h * a(end)) if scheme.implicit else right + h * a(start) * y0
    )


@each_scheme
def test_a_drift_that_no_state_changes(name):
    """dy = p dt + dW, also between times whose difference is rounded: the noise is not asked for
    beyond them."""
    a, b = 0.3, 0.9
    assert a + (b - a) > b
    p, noise = (
        tensor(0.7, -2.0).requires_grad_(),
        BrownianPath((3, 2), (a, b), seed=2, dtype=torch.float64),
    )
    y0, options = (
        torch.zeros(3, 2, dtype=torch.float64),
        {"dt": 0.25, "method": name, "brownian": noise},
    )
    y = solve_sde(
        lambda t, y: p.expand_as(y), lambda t, y: torch.ones_like(y), y0, [a, b], **options
    ).y[-1]
    torch.testing.assert_close(y, 0.6 * p + noise(b))
    torch.testing.assert_close(torch.autograd.grad(y.sum(), p)[0], tensor(1.8, 1.8))


@each_scheme
@pytest.mark.parametrize("equation", [geometric, timed])
def test_strong_order(name, equation):
    """Root mean square errors of paths at steps halved twice, on the same noise."""
    drift, diffusion, exact, noise = equation(500)
    errors = []
    for dt in (1 / 32, 1 / 128):
        with torch.no_grad():
            y = solve_sde(
                drift,
                diffusion,
                torch.ones_like(exact),
                [0.0, 1.0],
                dt=dt,
                method=name,
                brownian=noise,
            ).y[-1]
        errors.append(float((y - exact).square().mean().sqrt()))
    order = math.log2(errors[0] / errors[1]) / 2
    assert abs(order - SCHEMES[name].strong) < 0.2
    assert errors[0] < 0.2


@each_scheme
def test_weak_order(name):
    """Errors of the mean of geometric Brownian motion, on the noise of the exact states so that
    chance nearly cancels."""
    drift, diffusion, exact, noise = geometric(40_000, 0.4)
    errors = []
    for dt in (1 / 4, 1 / 16):
        y = solve_sde(
            drift, diffusion, torch.ones_like(exact), [0.0, 1.0], dt=dt, method=name, brownian=noise
        ).y[-1]
        errors.append(abs(float((y - exact).mean())))
    assert abs(math.log2(errors[0] / errors[1]) / 2 - 1) < 0.25


def test_additive_noise_has_order_one():
    """dy = -y dt + dW: the noise does not depend on the state, and Euler and Maruyama's scheme is
    Milstein's."""
    noise = BrownianPath((400, 1), seed=2, dtype=torch.float64)
    ends = []
    for k in (4, 6, 12):
        y0 = torch.zeros(400, 1, dtype=torch.float64)
        ends.append(
            solve_sde(
                lambda t, y: -y, lambda t, y: y * 0 + 1, y0, [0, 1], dt=2.0**-k, brownian=noise
            ).y[-1]
        )
    errors = [float((y - ends[2]).square().mean().sqrt()) for y in ends[:2]]
    assert math.log2(errors[0] / errors[1]) / 2 > 0.9


@pytest.mark.parametrize("noise_dim", [None, 3])
def test_moments_of_an_ornstein_uhlenbeck_process(noise_dim):
    """Mean and covariance at several times; also with general noise, three sources for two
    states."""
    A = torch.tensor([[-1.0, 0.5], [-0.5, -2.0]], dtype=torch.float64)
    S = torch.tensor([[0.5, 0.2, 0.0], [0.1, 0.3, 0.4]], dtype=torch.float64)
    S = S if noise_dim else torch.diag(tensor(0.5, 0.7))
    n, t = 20_000, [0.0, 0.3, 1.0]
    y0 = tensor(1.0, -0.5).expand(n, 2)

    def diffusion(t, y):
        return S.expand(n, *S.shape) if noise_dim else S.diagonal().expand_as(y)

    ys = solve_sde(lambda t, y: y @ A.T, diffusion, y0, t, dt=0.01, noise_dim=noise_dim).y
    mean, covariance = tensor(1.0, -0.5), torch.zeros(2, 2, dtype=torch.float64)
    # The moments of the scheme itself.
    step, now = torch.eye(2, dtype=torch.float64) + 0.01 * A, 0.0
    for y, end in zip(ys[1:], t[1:]):
        for _ in range(round((end - now) / 0.01)):
            mean, covariance = step @ mean, step @ covariance @ step.T + 0.01 * S @ S.T
        now = end
        assert ((y.mean(0) - mean).abs() < 5 * (covariance.diagonal() / n).sqrt()).all()
        torch.testing.assert_close(y.T.cov(), covariance, rtol=0.05, atol=0.006)


def test_a_stiff_drift_wants_an_implicit_scheme():
    """dy = -2000 (y - cos t) dt + dW in steps of 0.01, where explicit ones would have to be below
    0.001; and a stiff drift that is not linear, on which Newton's iteration works."""
    options = {"t": [0.0, 0.5, 1.0], "dt": 0.01}
    y0 = torch.zeros(500, 1, dtype=torch.float64)

    def linear(t, y):
        return -2000 * (y - torch.cos(t))

    for drift in (linear, lambda t, y: linear(t, y) - 500 * (y - torch.cos(t)) ** 3):
        for name in ("em", "milstein"):
            found = solve_sde(
                drift, lambda t, y: torch.ones_like(y), y0, method=name, throw=False, **options
            )
            assert found.status is Status.DIVERGED or found.y.abs().max() > 1e50
        for name in ("implicitem", "implicitmilstein"):
            found = solve_sde(drift, lambda t, y: torch.ones_like(y), y0, method=name, **options)
            end = found.y[-1]
            assert abs(float(end.mean()) - math.cos(1.0)) < 0.01 and end.std() < 0.02
    assert found.stats.njac < 6 * found.stats.accepted


def test_newton_that_fails_is_given_smaller_steps():
    """dy = y^2 dt has an implicit step only where 4 h y < 1."""
    options = {"method": "implicitem", "dt": 0.5, "throw": False}
    found = solve_sde(lambda t, y: y**2, lambda t, y: 0 * y, tensor(1.0), [0.0, 0.5], **options)
    assert (
        found.status is Status.SUCCESS
        and found.stats.newton_failures > 0
        and found.stats.accepted > 1
    )
    assert float(found.y[-1]) == pytest.approx(2.0, rel=0.5)  # 1 / (1 - t)
    late = solve_sde(lambda t, y: y**2, lambda t, y: 0 * y, tensor(1.0), [0.0, 0.5, 1.5], **options)
    assert late.status is Status.NEWTON and len(late.y) == 2 and "Newton" in late.message


class Net(nn.Module):
    """A function of time and state, by component: entry i depends on y_i alone where ``apart``."""

    def __init__(self, apart):
        super().__init__()
        self.W = nn.Parameter(
            torch.randn(2, dtype=torch.float64) if apart else torch.randn(2, 2, dtype=torch.float64)
        )
        self.b = nn.Parameter(torch.randn(2, dtype=torch.float64))
        self.apart = apart

    def forward(self, t, y):
        return torch.tanh((y * self.W if self.apart else y @ self.W.T) + self.b * torch.cos(t))


@each_scheme
def test_gradients_are_those_of_differences_on_the_same_path(name):
    """Steps of 0.1: the gradient is exact for what was computed, however coarse."""
    drift, diffusion = Net(False), Net(True)
    y0 = torch.randn(4, 2, dtype=torch.float64).requires_grad_()
    noise = BrownianPath((4, 2), (0.0, 0.5, 1.0), seed=5, dtype=torch.float64)

    def value():
        return (
            solve_sde(drift, diffusion, y0, [0.0, 0.4, 1.0], dt=0.1, method=name, brownian=noise)
            .y[1:]
            .square()
            .sum()
        )

    for x in (y0, *drift.parameters(), *diffusion.parameters()):
        exact, difference = directional(value, [x])
        assert difference == pytest.approx(exact, rel=1e-7, abs=1e-8)


def test_the_noise_repeats():
    def run(brownian=None):
        y0, t = torch.zeros(3, 1), [0, 0.5, 1]
        return solve_sde(
            lambda t, y: -y, lambda t, y: torch.ones_like(y), y0, t, dt=0.1, brownian=brownian
        )

    torch.manual_seed(4)
    first = run()
    second = run()
    torch.manual_seed(4)
    assert torch.equal(run().y, first.y) and not torch.equal(second.y, first.y)
    assert torch.equal(run(first.brownian).y, first.y)
    assert (
        first.stats.accepted == 10 and first.status is Status.SUCCESS and first.y.shape == (3, 3, 1)
    )


@each_scheme
def test_it_is_the_same_in_every_unit(name):
    """States of 1e-9, or of 1e9: Newton's iteration ends where it does for states of order one, and
    gradients are as exact."""
    noise = BrownianPath((2, 2), seed=3)  # float32, for a state of float64

    def run(unit):
        def drift(t, y):
            return unit - 4 * y * y / unit

        y0 = (unit * tensor((1.0, 0.3), (0.5, 2.0))).requires_grad_()
        y = solve_sde(
            drift, lambda t, y: 0.3 * y, y0, [0.0, 1.0], dt=0.25, method=name, brownian=noise
        ).y[-1]
        return y / unit, *torch.autograd.grad(y.sum(), y0)

    for unit in (1e-9, 1e9):
        torch.testing.assert_close(run(unit), run(1.0), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["milstein", "implicitmilstein"])
def test_what_surrounds_it(name):
    """Inference mode, and autocast, whose half precision a solve steps out of."""
    net = nn.Linear(2, 2)

    def run(y0):
        torch.manual_seed(4)
        with_net = {"drift": lambda t, y: net(y) - y**3, "diffusion": lambda t, y: 0.3 * y}
        return solve_sde(**with_net, y0=y0, t=[0.0, 1.0], dt=0.25, method=name).y[-1]

    expected = run(torch.ones(3, 2))
    (gradient,) = torch.autograd.grad(expected.sum(), net.weight)
    with torch.inference_mode():
        torch.testing.assert_close(run(torch.ones(3, 2)), expected, rtol=1e-6, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, raised = run(torch.ones(3, 2)), run(torch.ones(3, 2).bfloat16())
    assert torch.equal(found, expected) and torch.equal(raised, expected)
    assert torch.equal(torch.autograd.grad(found.sum(), net.weight)[0], gradient)


def test_mistakes_are_told():
    y0, t = torch.zeros(3, 2), [0.0, 1.0]

    def attempt(
        drift=lambda t, y: -y, diffusion=lambda t, y: torch.ones_like(y), y0=y0, t=t, **options
    ):
        return solve_sde(drift, diffusion, y0, t, **{"dt": 0.1, **options})

    for options, message in (
        (
            {"method": "heun"},
            "method must be one of EM, Milstein, ImplicitEM, ImplicitMilstein, not 'heun'",
        ),
        ({"dt": 0}, "dt must be a positive number"),
        ({"t": [1.0, 0.0]}, "two times, strictly increasing: the noise"),
        ({"y0": torch.zeros(())}, r"one tensor, \(\.\.\., d\)"),
        ({"y0": (y0, y0)}, "join the parts into it"),
        (
            {"diffusion": lambda t, y: y[:, :1]},
            r"the diffusion must return \(3, 2\) torch\.float32, not \(3, 1\)",
        ),
        (
            {"drift": lambda t, y: y.double()},
            r"the drift must return .* not \(3, 2\) torch\.float64",
        ),
        ({"noise_dim": 3}, r"the diffusion must return \(3, 2, 3\)"),
        (
            {"noise_dim": 1.5},
            (
                "noise_dim must be how many components the noise has, an integer of at least 1,"
                " not 1.5"
            ),
        ),
        ({"noise_dim": 3, "method": "milstein"}, "needs diagonal noise"),
        ({"y0": y0 + float("nan")}, "y0 is not finite"),
        (
            {"diffusion": lambda t, y: y.flip(-1), "method": "milstein"},
            "whose component i depends on y_i alone",
        ),
        (
            {"drift": lambda t, y: y.mean(0) - y, "method": "implicitem"},
            "rows of the drift influence one another",
        ),
        (
            {"diffusion": lambda t, y: y.prod(-1, keepdim=True) * y, "method": "milstein"},
            "whose component i depends on y_i",
        ),
        (
            {"drift": lambda t, y: y * y.mean(0), "method": "implicitem"},
            "rows of the drift influence one another",
        ),
        ({"brownian": BrownianPath((2, 2))}, r"has shape \(2, 2\) where the noise has \(3, 2\)"),
        ({"brownian": BrownianPath((3, 2), (0.0, 0.5))}, "the Brownian path runs from 0 to 0.5"),
    ):
        with pytest.raises(ValueError, match=message):
            attempt(**options)
    with pytest.raises(
        SolveError,
        match=r"EM: the state is no longer finite .* between t = 0 .*use smaller steps, or,",
    ):
        attempt(drift=lambda t, y: -(y**3) * 1e6 - 1e6, t=[0.0, 5.0])
