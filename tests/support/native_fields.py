"""Vector fields for the translator, torch's own answers, and calls of native functions."""

import contextlib
import math

import numpy as np
import torch
from torch import nn

from pynode.translate.verify import call

DOUBLE = torch.float64
NAMES = (
    "f",
    "jac",
    "jac_time",
    "jac_step",
    "jvp",
    "jvp_p",
    "vjp",
    "vjp_p",
    "vjp_time",
    "pullback",
    "second",
)


def mlp(*widths, act=nn.Tanh, dtype=DOUBLE, seed=0):
    """A network of linear layers with an activation between them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = []
        for width, following in zip(widths, widths[1:]):
            layers += [nn.Linear(width, following), act()]
        return nn.Sequential(*layers[:-1]).to(dtype)


class Autonomous(nn.Module):
    """A network as a field."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, t, y):
        return self.net(y)


class Robertson(nn.Module):
    """Robertson's reactions."""

    def __init__(self, dtype=DOUBLE):
        super().__init__()
        self.k = nn.Parameter(torch.tensor([0.04, 3e7, 1e4], dtype=dtype))

    def forward(self, t, y):
        a, b, c = y.unbind(-1)
        first = self.k[0] * a
        second = self.k[1] * b * b
        third = self.k[2] * b * c
        return torch.stack([third - first, first - third - second, second], dim=-1)


class MassAction(nn.Module):
    """Reactions of two species to one; the places are buffers of integers."""

    def __init__(self, species, reactions, dtype=DOUBLE, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        place = torch.randint(0, species, (3, reactions), generator=generator)
        for name, row in zip(("left", "right", "made"), place):
            self.register_buffer(name, row)
        rates = torch.rand(reactions, generator=generator, dtype=dtype)
        self.log_k = nn.Parameter(rates.log())

    def forward(self, t, y):
        rate = self.log_k.exp() * y[self.left] * y[self.right]
        change = torch.zeros_like(y)
        change = change.index_add(0, self.left, -rate)
        change = change.index_add(0, self.right, -rate)
        return change.index_add(0, self.made, rate)


class Stoichiometry(nn.Module):
    """Reactions with a matrix of floating numbers and powers as exponentials of logarithms."""

    def __init__(self, species, reactions, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        draw = torch.randint(-1, 2, (species, reactions), generator=generator)
        self.register_buffer("matrix", draw.to(DOUBLE))
        self.log_k = nn.Parameter(torch.rand(reactions, generator=generator, dtype=DOUBLE))

    def forward(self, t, y):
        order = self.matrix.clamp(max=0.0).neg()
        rate = torch.exp(self.log_k + order.T @ torch.log(y.clamp_min(1e-9)))
        return self.matrix @ rate


class InPlace(nn.Module):
    """Results written into a tensor of zeros, element by element."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.7, dtype=DOUBLE))

    def forward(self, t, y):
        change = torch.zeros_like(y)
        change[0] = y[1] * torch.sin(t) - self.rate
        change[1:] = y[:-1] ** 2
        change[-1] += y.prod()
        change *= 1.5
        return change


class Forced(nn.Module):
    """A driven oscillator with a kink and comparisons."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.linspace(0.1, 1.0, 5, dtype=DOUBLE))

    def forward(self, t, y):
        drive = torch.where(t > 1.0, torch.exp(-t), torch.cos(3.0 * t))
        weight = torch.softmax(self.table, 0)
        push = (weight * torch.arange(5, dtype=DOUBLE)).sum() * drive
        speed = torch.maximum(y[1], y[0] - 0.5)
        return torch.stack([speed, push - torch.abs(y[0]) * y[1] + torch.relu(y[0])])


class Normed(nn.Module):
    """Layer norm, logsumexp, cumsum, and several activations."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4).to(DOUBLE)
        self.mix = nn.Parameter(torch.rand(4, 4, dtype=DOUBLE, generator=_seeded(3)))

    def forward(self, t, y):
        z = self.norm(y)
        z = nn.functional.silu(z @ self.mix) + nn.functional.elu(y)
        z = z + torch.cumsum(nn.functional.softplus(y), 0) - y.logsumexp(0)
        return z - nn.functional.leaky_relu(y.flip(0)) + y.std() + y.roll(1)


class Batched(nn.Module):
    """A state of three particles with positions and velocities, coupled by matrix products."""

    def __init__(self):
        super().__init__()
        self.stiffness = nn.Parameter(torch.rand(3, 3, dtype=DOUBLE, generator=_seeded(5)))

    def forward(self, t, y):
        position, velocity = y.view(2, 3, 2)
        force = torch.einsum("ij,jk->ik", self.stiffness + self.stiffness.T, position)
        distance = (position[:, None] - position[None]).pow(2).sum(-1)
        repel = torch.bmm(distance[None].exp().neg(), position[None])[0]
        return torch.cat([velocity, repel - force - velocity * t]).reshape(-1)


class Bilinear(nn.Module):
    """y^T A y with views, diagonals, padding and stacked parts."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.rand(4, 4, dtype=DOUBLE, generator=_seeded(6)))

    def forward(self, t, y):
        outer = torch.outer(y, y)
        upper = torch.triu(outer * self.a)
        padded = nn.functional.pad(y, (1, 1))
        laplace = padded[2:] - 2 * padded[1:-1] + padded[:-2]
        return laplace + upper.sum(0) + torch.diagonal(self.a) * y + torch.addmv(y, self.a, y)


def _seeded(seed):
    return torch.Generator().manual_seed(seed)


def pendulum(t, y, damping, length):
    """A pendulum with args."""
    return torch.stack([y[1], -damping * y[1] - 9.81 / length * torch.sin(y[0])])


def van_der_pol(t, y):
    """Van der Pol's oscillator without tensors from outside."""
    return torch.stack([y[1], 50.0 * (1 - y[0] ** 2) * y[1] - y[0]])


def constant(t, y):
    """A field that does not depend on the state."""
    return torch.cos(t) * torch.ones_like(y)


def _state(n, seed=1, dtype=DOUBLE):
    return torch.rand(n, dtype=dtype, generator=_seeded(seed)) + 0.2


def fields():
    """(name, f, y0, args) of varied fields."""
    args = (torch.tensor(0.3, dtype=DOUBLE), torch.tensor(1.3, dtype=DOUBLE))
    single = torch.float32
    return [
        ("robertson", Robertson(), torch.tensor([0.9, 1e-4, 0.1], dtype=DOUBLE), ()),
        ("van der pol", van_der_pol, _state(2), ()),
        ("pendulum with args", pendulum, _state(2), args),
        ("constant", constant, _state(3), ()),
        ("mass action", MassAction(20, 25), _state(20), ()),
        ("stoichiometry", Stoichiometry(6, 9), _state(6), ()),
        ("in place", InPlace(), _state(4), ()),
        ("forced", Forced(), _state(2), ()),
        ("normed", Normed(), _state(4), ()),
        ("batched", Batched(), _state(12), ()),
        ("bilinear", Bilinear(), _state(4), ()),
        ("tanh network", Autonomous(mlp(3, 8, 3)), _state(3), ()),
        ("gelu network", Autonomous(mlp(3, 32, 32, 3, act=nn.GELU)), _state(3), ()),
        ("wide network", Autonomous(mlp(5, 40, 40, 5)), _state(5), ()),
        ("single robertson", Robertson(single), torch.tensor([0.9, 1e-4, 0.1]), ()),
        ("single network", Autonomous(mlp(3, 24, 3, dtype=single)), _state(3, 2, single), ()),
    ]


def native(field, name, t, y, v=()):
    """out of a native function at a point."""
    function = field.function(name)
    addresses, held = field.pointers()
    v = np.ascontiguousarray(np.append(v, 0.0), dtype=y.dtype)
    out = call(function.address, t, (y, v), addresses, function.size, function.work)
    assert len(held) == len(field.targets)
    return out


def dense(field, values):
    """The matrix (n, n) of the Jacobian's nonzeros, and what follows them."""
    rows, columns = field.pattern()
    full = np.zeros((field.n, field.n))
    full[rows, columns] = values[: len(rows)]
    return np.concatenate([full.reshape(-1), values[len(rows) :]])


@contextlib.contextmanager
def _differentiable(tensors):
    before = [x.requires_grad for x in tensors]
    for x in tensors:
        x.requires_grad_()
    yield
    for x, wanted in zip(tensors, before):
        x.requires_grad_(wanted)


def _flat(gradients, inputs):
    parts = [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, inputs)]
    return torch.cat([part.reshape(-1) for part in parts])


def _rows(out, inputs, graph):
    if not inputs:
        return out.new_zeros((len(out), 0))
    rows = []
    for component in out:
        if component.requires_grad:
            found = torch.autograd.grad(
                component, inputs, retain_graph=True, create_graph=graph, allow_unused=True
            )
        else:
            found = [None] * len(inputs)
        rows.append(_flat(found, inputs))
    return torch.stack(rows)


def expected(f, args, targets, name, t, y, v):
    """What torch's autograd gives for a native function: whole Jacobians, then products."""
    y = torch.as_tensor(y).clone().requires_grad_()
    t = torch.tensor(t, dtype=y.dtype, requires_grad=True)
    v = torch.as_tensor(v, dtype=y.dtype)
    n = y.numel()
    targets = list(targets)
    with _differentiable(targets):
        out = f(t, y, *args)
        twice = name == "second"
        state = _rows(out, [y], twice)
        slope = _rows(out, [t], twice)
        parameters = _rows(out, targets, False) if name in _PARAMETERS else None
        w = v[:n]
        if twice:
            total = w @ (state @ v[n : 2 * n] + slope[:, 0] * v[2 * n])
            inputs = [y, *targets, t]
            found = [None] * len(inputs)
            if total.requires_grad:
                found = torch.autograd.grad(total, inputs, allow_unused=True)
            return _flat(found, inputs).numpy()
    return _PRODUCTS[name](out, state, slope, parameters, w, v).detach().numpy()


_PARAMETERS = ("vjp_p", "jvp_p", "pullback")
_PRODUCTS = {
    "f": lambda out, state, slope, parameters, w, v: out,
    "jac": lambda out, state, slope, parameters, w, v: state.reshape(-1),
    "jac_time": lambda out, state, slope, parameters, w, v: torch.cat(
        [state.reshape(-1), slope[:, 0]]
    ),
    "jac_step": lambda out, state, slope, parameters, w, v: torch.cat(
        [state.reshape(-1), slope[:, 0], out]
    ),
    "jvp": lambda out, state, slope, parameters, w, v: state @ w,
    "jvp_p": lambda out, state, slope, parameters, w, v: parameters @ v,
    "vjp": lambda out, state, slope, parameters, w, v: w @ state,
    "vjp_p": lambda out, state, slope, parameters, w, v: w @ parameters,
    "vjp_time": lambda out, state, slope, parameters, w, v: w @ slope,
    "pullback": lambda out, state, slope, parameters, w, v: torch.cat(
        [w @ state, w @ parameters, w @ slope]
    ),
}


def vector(field, name, seed=0):
    """A random v of a function's length."""
    parameters = sum(x.numel() for x in field.targets)
    sizes = {"jvp_p": parameters, "second": 2 * field.n + 1}
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, sizes.get(name, field.n))


def difference(field, f, args, name, t, y):
    """The largest difference from torch, relative to the largest number of torch."""
    v = vector(field, name)
    found = native(field, name, t, y, v)
    if name.startswith("jac"):
        found = dense(field, found)
    wanted = expected(f, args, field.targets, name, t, y, v.astype(y.dtype))
    if not wanted.size:
        return float(found.size)
    scale = np.abs(wanted).max()
    error = np.abs(found - wanted).max()
    if math.isclose(scale, 0.0):
        return float(error)
    return float(error / scale)
