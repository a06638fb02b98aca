"""CNF: the trace, the density that follows from it, sampling, and the map back."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, Uniform

from pynode.nn import CNF
from pynode.nn.cnf import _Trace
from pynode.nn.integrands import AugmentedField
from tests.support.cases import directional, tensor

TIGHT = {"method": "tsit5", "rtol": 1e-9, "atol": 1e-10, "max_steps": 2000}


class Timed(nn.Module):
    """A field that depends on time, in d dimensions."""

    def __init__(self, d):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(d + 1, 16), nn.Tanh(), nn.Linear(16, d)).double()

    def forward(self, t, z):
        return self.net(torch.cat((z, t.to(z).expand(*z.shape[:-1], 1)), -1))


def linear(rows):
    """z -> A z."""
    field = nn.Linear(len(rows), len(rows), bias=False).double()
    field.weight.data = torch.tensor(rows, dtype=torch.float64)
    return field


def test_the_exact_trace_is_autograds_divergence():
    field, z, t = Timed(3), torch.randn(5, 3, dtype=torch.float64), tensor(0.3)[0]
    slope, trace = AugmentedField(field, 1, _Trace("exact"))(t, (z, torch.zeros(5)), None)
    expected = [torch.autograd.functional.jacobian(lambda x: field(t, x), row).trace() for row in z]
    torch.testing.assert_close(trace, torch.stack(expected), rtol=1e-12, atol=1e-14)
    assert torch.equal(slope, field(t, z))


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf"])
def test_a_linear_field_makes_a_gaussian(method):
    """x = exp(A T) z of standard normal z is normal with covariance exp(A T) exp(A T)^T."""
    A = [[0.3, -1.0], [0.8, -0.5]]
    model = CNF(linear(A), 2, (0.0, 1.5), method=method, rtol=1e-8, atol=1e-9)
    flow = torch.linalg.matrix_exp(1.5 * torch.tensor(A, dtype=torch.float64))
    x = torch.randn(6, 2, dtype=torch.float64)
    expected = MultivariateNormal(torch.zeros(2, dtype=torch.float64), flow @ flow.T).log_prob(x)
    torch.testing.assert_close(model.log_prob(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
def test_hutchinsons_estimate_is_unbiased(noise):
    field, x = Timed(3), torch.randn(1, 3, dtype=torch.float64)
    with torch.no_grad():
        exact = CNF(field, 3, **TIGHT).log_prob(x)
        found = CNF(field, 3, trace="hutchinson", noise=noise, **TIGHT).log_prob(x.expand(4000, 3))
    error = found.std() / math.sqrt(len(found))
    assert 1e-5 < error < 0.05  # a random estimate, but a useful one
    assert abs(found.mean() - exact) < 4 * error


def test_the_noise_is_fixed_while_a_solve_lasts():
    """e . A e of Rademacher noise in the plane has two values, tr A + (a12 + a21) and tr A - (a12 +
    a21); a mixture of draws would lie between them."""
    A = [[0.3, -1.0], [0.4, -0.5]]
    exact, estimate = (CNF(linear(A), 2, trace=name, **TIGHT) for name in ("exact", "hutchinson"))
    x = torch.randn(64, 2, dtype=torch.float64)
    difference = (estimate.log_prob(x) - exact.log_prob(x)).detach()
    torch.testing.assert_close(
        difference.abs(), torch.full_like(difference, 0.6), rtol=1e-6, atol=0
    )
    assert (difference > 0).any() and (difference < 0).any()
    # Another solve, another draw.
    assert not torch.equal(estimate.log_prob(x), estimate.log_prob(x))


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_rows_with_steps_of_their_own(trace):
    """batched=True cuts the noise to the rows still running."""
    field, x = Timed(2), 2 * torch.randn(6, 2, dtype=torch.float64)
    values = []
    for batched in (False, True):
        torch.manual_seed(1)
        model = CNF(field, 2, trace=trace, batched=batched, **TIGHT)
        field.zero_grad()
        found = model.log_prob(x)
        found.sum().backward()
        values.append((found.detach(), field.net[0].weight.grad.clone()))
    torch.testing.assert_close(values[0], values[1], rtol=1e-6, atol=1e-7)


def test_the_reverse_map_recovers_x():
    model = CNF(Timed(2), 2, **TIGHT)
    with torch.no_grad():
        x = model.sample(20)
        torch.testing.assert_close(model(model.inverse(x)), x, rtol=1e-7, atol=1e-8)
        assert (model.inverse(x) - x).abs().max() > 0.05
        path = model(x, [0.0, 0.4, 1.0])
    assert (
        path.shape == (3, 20, 2) and torch.equal(path[-1], model(x)) and path.shape[1:] == x.shape
    )
    assert model.log_prob(x[0]).shape == () and model.log_prob(x.view(4, 5, 2)).shape == (4, 5)


def test_samples_follow_the_density():
    """The entropy, as the mean of -log p over samples and as a sum over a grid; and the density
    integrates to one."""
    base = Independent(Normal(tensor(0.5, -0.5), tensor(0.8, 1.2)), 1)
    model = CNF(Timed(2), 2, base=base, method="tsit5", rtol=1e-6, atol=1e-7)
    side = torch.linspace(-7, 7, 81, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        logp, drawn = model.log_prob(grid), model.log_prob(model.sample(2000))
    cell = float(side[1] - side[0]) ** 2
    assert float(logp.exp().sum()) * cell == pytest.approx(1.0, abs=1e-3)
    entropy = -float((logp.exp() * logp).sum()) * cell
    assert -float(drawn.mean()) == pytest.approx(
        entropy, abs=4 * float(drawn.std()) / math.sqrt(len(drawn))
    )


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_the_gradient_is_that_of_differences(trace):
    field, x = Timed(2), torch.randn(3, 2, dtype=torch.float64)
    model = CNF(field, 2, trace=trace, **TIGHT)

    def value():
        torch.manual_seed(2)
        return model.log_prob(x).sum()

    exact, difference = directional(value, list(field.parameters()), 1e-4)
    assert difference == pytest.approx(exact, rel=1e-5, abs=1e-6)


def test_derivatives_of_the_density_by_torch_func():
    """The score -S^-1 x and the Hessian -S^-1 of a Gaussian with covariance S."""
    A = [[0.3, -1.0], [0.8, -0.5]]
    model, x = CNF(linear(A), 2, **TIGHT), torch.randn(2, dtype=torch.float64)
    flow = torch.linalg.matrix_exp(torch.tensor(A, dtype=torch.float64))
    precision = torch.linalg.inv(flow @ flow.T)
    torch.testing.assert_close(
        torch.func.grad(model.log_prob)(x), -precision @ x, rtol=1e-7, atol=1e-8
    )
    torch.testing.assert_close(
        torch.func.hessian(model.log_prob)(x), -precision, rtol=1e-7, atol=1e-8
    )


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_it_learns_a_density(trace):
    """Points on either side of zero: the likelihood comes near that of the true mixture, above any
    Gaussian's."""
    x = torch.cat((-1.5 + 0.5 * torch.randn(128, 1), 1.5 + 0.5 * torch.randn(128, 1)))
    net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    model = CNF(net, 1, trace=trace, method="tsit5", rtol=1e-3, atol=1e-3)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = -model.log_prob(x).mean()
        loss.backward()
        optimizer.step()
    gaussian = -Normal(x.mean(), x.std()).log_prob(x).mean()
    parts = torch.stack([Normal(m, 0.5).log_prob(x) for m in (-1.5, 1.5)])
    mixture = -(parts.logsumexp(0) - math.log(2)).mean()
    assert loss < 0.7 * mixture + 0.3 * gaussian
    assert loss > mixture - 0.1
    near = (model.sample(400).abs() < 0.5).float().mean()
    assert near < 0.15  # the Gaussian would leave a quarter there


def test_mistakes_are_told():
    field = Timed(2)
    model = CNF(field, 2)
    for wrong in (torch.zeros(4, 3), torch.zeros(2, 4), torch.zeros(())):
        for call in (model.log_prob, model.inverse, model):
            with pytest.raises(
                ValueError, match=r"in 2 dimensions takes points .*, not \(.*the last dimension"
            ):
                call(wrong.double())
    with pytest.raises(
        ValueError, match=r"base has event_shape \(\) where the data have \(2,\).*Independent"
    ):
        CNF(field, 2, base=Uniform(torch.zeros(2), torch.ones(2)))
    with pytest.raises(
        TypeError, match=r"base must be a torch\.distributions\.Distribution, not str"
    ):
        CNF(field, 2, base="normal")
    with pytest.raises(ValueError, match="trace must be one of exact, hutchinson, not 'full'"):
        CNF(field, 2, trace="full")
    with pytest.raises(ValueError, match="noise must be one of rademacher, gaussian, not 'cauchy'"):
        CNF(field, 2, noise="cauchy")
    with pytest.raises(ValueError, match=r"dim must be the dimension of the data.*not 0"):
        CNF(field, 0)
    with pytest.raises(ValueError, match="not 3 times"):
        CNF(field, 2, (0.0, 0.5, 1.0))
    with pytest.raises(
        ValueError, match=r"the field returned shape \(4, 3\) for points of shape \(4, 2\)"
    ):
        CNF(nn.Linear(2, 3).double(), 2).log_prob(torch.zeros(4, 2, dtype=torch.float64))
