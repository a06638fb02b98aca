"""Vector fields and method lists that several test files share."""

import torch
from torch import nn

from pynode.core.problem import ODEProblem
from pynode.core.vector_field import VectorField
from pynode.methods import registry

# Those for any f; what is for separable systems alone has tests of its own.
METHODS = [name for name in registry.names() if not registry.get(name).separable]
EXPLICIT = [name for name in METHODS if not registry.get(name).implicit]
IMPLICIT = [name for name in METHODS if registry.get(name).implicit]
ONE_STEP = [name for name in METHODS if hasattr(registry.get(name), "tableau")]
MULTISTEP = [name for name in METHODS if name in ("FBDF", "QNDF")]
# One of each family, for what does not depend on the tableau.
FAMILIES = ["Tsit5", "Rodas5P", "FBDF", "QNDF"]

# The time of a clock in seconds, whose unit in the last place is 2.4e-7.
UNIX = 1.7e9


def tensor(*values, dtype=torch.float64, **options):
    return torch.tensor(values, dtype=dtype, **options)


def leaf(value):
    """A tensor that needs a gradient, from another one or from float64 numbers."""
    if not isinstance(value, torch.Tensor):
        value = torch.tensor(value, dtype=torch.float64)
    return value.detach().clone().requires_grad_()


def directional(loss, leaves, eps=1e-5, seed=1):
    """(derivative of loss() by autograd, by a central difference) along a random change of the
    leaves, moved in place."""
    grads = torch.autograd.grad(loss(), leaves)
    generator = torch.Generator().manual_seed(seed)
    along = [torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) for leaf in leaves]
    values = []
    with torch.no_grad():
        for shift in (eps, -2 * eps):
            for leaf, v in zip(leaves, along, strict=True):
                leaf += shift * v
            values.append(float(loss()))
        for leaf, v in zip(leaves, along, strict=True):
            leaf += eps * v
    return float(sum((g * v).sum() for g, v in zip(grads, along, strict=True))), (
        values[0] - values[1]
    ) / (2 * eps)


def field_of(f, y0, **options):
    """f as the methods see it."""
    problem = ODEProblem(f, y0, (0.0, 1.0), **options)
    return VectorField(problem, problem.layout(), 0.0)


def smooth(t, y):
    """Depends on t, mildly stable; solved by `smooth_exact`."""
    a, b = y[..., 0], y[..., 1]
    return torch.stack((a * b, torch.exp(2 * torch.sin(t)) - a * a - torch.sin(t)), dim=-1)


def smooth_exact(t):
    """(..., 2): exp(sin t), cos t."""
    t = torch.as_tensor(t, dtype=torch.float64)
    return torch.stack((torch.exp(torch.sin(t)), torch.cos(t)), dim=-1)


def smooth_jac(t, y):
    a, b = y
    return torch.stack((torch.stack((b, a)), torch.stack((-2 * a, torch.zeros_like(a)))))


def prothero(rate):
    """y' = rate (y - cos t) - sin t with solution cos t: stiff for large negative rates (Prothero &
    Robinson 1974)."""
    return lambda t, y: rate * (y - torch.cos(t)) - torch.sin(t)


class Forced(nn.Module):
    """A damped tanh network of n states, driven in time; every parameter matters to every
    output."""

    def __init__(self, n=3, dtype=torch.float64):
        super().__init__()
        generator = torch.Generator().manual_seed(n)
        self.W = nn.Parameter(
            torch.randn(n, n, generator=generator, dtype=torch.float64).to(dtype) / n**0.5
        )
        self.b = nn.Parameter(torch.randn(n, generator=generator, dtype=torch.float64).to(dtype))
        self.rate = nn.Parameter(torch.tensor(0.7, dtype=dtype))

    def forward(self, t, y):
        return torch.tanh(y @ self.W.T + self.b * torch.sin(2 * t)) - self.rate * y


def diffusion_chain(t, y, rate=20.0, crowding=1.0):
    """Diffusion and growth along a chain, driven in time: tridiagonal, every component stiff."""
    left, right = torch.cat((y[:1], y[:-1])), torch.cat((y[1:], y[-1:]))
    return rate * (left - 2 * y + right) + y * (1 - crowding * y) * torch.sin(t + y)
