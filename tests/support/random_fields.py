"""Random vector fields: compositions of the operations that native code has."""

import random

import torch
from torch import nn
from torch.nn import functional

from .native_fields import DOUBLE

# Each term takes two vectors (n,), a matrix (n, n), the time and a generator of Python numbers
# that it may use once, when the field is made; it gives a vector (n,). All keep numbers of order 1.
ONE = [
    lambda a: torch.exp(-a.abs()),
    lambda a: torch.log(a.abs() + 1.1),
    lambda a: torch.log1p(a * a),
    lambda a: torch.expm1(torch.tanh(a)),
    lambda a: torch.sqrt(a * a + 0.3),
    lambda a: torch.rsqrt(a * a + 0.7),
    lambda a: torch.sin(a) + torch.cos(2 * a),
    lambda a: torch.sinh(torch.sigmoid(a)) - torch.cosh(torch.tanh(a)),
    lambda a: torch.atan(a) + torch.asinh(a),
    lambda a: torch.asin(0.9 * torch.tanh(a)) + torch.acos(0.8 * torch.sin(a)),
    lambda a: torch.atanh(0.7 * torch.tanh(a)) + torch.acosh(1.5 + a * a),
    lambda a: torch.tan(0.5 * torch.tanh(a)),
    lambda a: torch.erf(a) - torch.erfc(0.3 * a),
    lambda a: torch.sigmoid(a) + functional.logsigmoid(a),
    lambda a: functional.gelu(a) + functional.gelu(-a, approximate="tanh"),
    lambda a: functional.silu(a) + functional.mish(0.5 * a),
    lambda a: functional.elu(a, 0.7) + functional.selu(0.2 * a) + functional.celu(a, 1.3),
    lambda a: functional.softplus(a, 2.0) + functional.softsign(a),
    lambda a: functional.relu(a) + functional.leaky_relu(-a, 0.1),
    lambda a: functional.hardtanh(a) + functional.hardswish(a),
    lambda a: a.reciprocal().clamp(-2, 2) + a.sign() + functional.relu6(3 * a),
    lambda a: torch.tanh(a).pow(3) + torch.sigmoid(a) ** 0.5 + torch.sigmoid(a) ** -1.7,
    lambda a: 2.0 ** torch.tanh(a) + torch.exp2(torch.sin(a)) - torch.log2(a.abs() + 1.5),
    lambda a: torch.log10(a.abs() + 1.5) + a.square() / (1 + a.square()),
    lambda a: functional.threshold(a, 0.1, 0.2) + torch.nan_to_num(a),
    lambda a: torch.floor(3 * a) * 0.1 + torch.ceil(a) * torch.sin(a) + torch.trunc(2 * a) * 0.1,
    lambda a: torch.remainder(a, 0.7) + torch.fmod(a, 0.9),
    lambda a: a.softmax(0) + a.log_softmax(0) * 0.1,
    lambda a: functional.layer_norm(a, a.shape, eps=0.1),
    lambda a: a - a.mean() + 0.1 * a.std() + a.var(correction=0) + 0.1 * torch.linalg.norm(a),
    lambda a: a.norm(p=3) * a * 0.2 + a.abs().amax() - a.amin() + torch.linalg.norm(a, 1) * 0.1,
    lambda a: a.logsumexp(0) * 0.1 + a.cumsum(0) * 0.3,
    lambda a: torch.tanh(a).cumprod(0) + torch.tanh(a).prod(),
    lambda a: a.max() * a + a.min() + a.max(0).values + a[None].max(1).values,
    lambda a: a.flip(0) + a.roll(1) * 0.5,
    lambda a: torch.cat([a[1:], a[:1].neg()]),
    lambda a: torch.stack([a, 2 * a, a * a]).sum(0) * 0.3,
    lambda a: torch.stack([a, a.flip(0)], 1).reshape(-1)[::2],
    lambda a: functional.pad(a, (1, 1))[2:] - a + functional.pad(a, (1, 0), value=0.3)[:-1],
    lambda a: a.repeat(2)[: a.numel()] + a.unsqueeze(1).expand(-1, 3).sum(1) * 0.2,
    lambda a: torch.diag(a).sum(0) + torch.outer(a, a).diagonal() * 0.5,
    lambda a: torch.outer(a, torch.sin(a)).triu().sum(1) * 0.3 + torch.outer(a, a).tril().sum(0),
    lambda a: torch.where(a > 0, torch.sin(a), a * a),
    lambda a: a.masked_fill(a < 0.1, 0.3) + (a > 0.2) * a + (a > 0).to(a.dtype),
    lambda a: torch.einsum("i,j->i", a, torch.cos(a)) * 0.3,
    lambda a: a.gather(0, _reversed(a)) + a.index_select(0, _reversed(a)) * 0.2,
    lambda a: torch.zeros_like(a).scatter_add(0, torch.zeros_like(_reversed(a)), a),
    lambda a: torch.zeros_like(a).index_add(0, _reversed(a), a.sin()) + a.take(_reversed(a)),
    lambda a: torch.index_put(a, (_reversed(a)[:1],), a[:1] * 2, accumulate=True),
    lambda a: _written(a),
    lambda a: torch.special.xlog1py(a, a * a) * 0.3 + torch.xlogy(a * a + 0.1, a * a + 0.5),
    lambda a: torch.logaddexp(a, a.flip(0)) * 0.3 + a.diff(prepend=a[:1]),
    lambda a: a.clone().mul_(2.0).add_(a, alpha=0.3).tanh_(),
    lambda a: a.unfold(0, 2, 1).sum(1).sum() * a * 0.1 + torch.addcmul(a, a, a, value=0.2),
]
TWO = [
    lambda a, b: a + 0.7 * b,
    lambda a, b: a.sub(b, alpha=0.3),
    lambda a, b: a * torch.tanh(b),
    lambda a, b: a / (1.0 + b * b),
    lambda a, b: torch.maximum(a, b) - torch.minimum(a, 0.5 * b),
    lambda a, b: torch.where(a > b, a, b * b * 0.3),
    lambda a, b: torch.atan2(a, b.abs() + 0.5) + torch.hypot(a, b + 2.0),
    lambda a, b: torch.pow(a.abs() + 0.5, torch.tanh(b)),
    lambda a, b: torch.lerp(a, b, 0.3) + torch.lerp(a, b, torch.sigmoid(a)),
    lambda a, b: torch.dot(a, b) * 0.2 * a,
    lambda a, b: torch.outer(a, b) @ b * 0.2,
    lambda a, b: torch.bmm(a.view(1, 1, -1), b.view(1, -1, 1)).view(1) * a * 0.2,
    lambda a, b: torch.addcdiv(a, b, 1.5 + a * a, value=0.5),
    lambda a, b: torch.clamp(a, min=b) + torch.clamp(a, max=b + 1.0),
    lambda a, b: torch.rsub(a, b, alpha=0.5),
    lambda a, b: torch.where((a > 0) & (b > 0) | (a < b).logical_not(), a, b),
]
MATRIX = [
    lambda a, m: m @ a * 0.5,
    lambda a, m: a @ m * 0.5,
    lambda a, m: functional.linear(a, m, a) * 0.5,
    lambda a, m: (m @ m.T @ a) * 0.3,
    lambda a, m: torch.addmv(a, m, a, beta=0.5, alpha=0.3),
    lambda a, m: torch.tanh(m * a).sum(0) + torch.tanh(m + a[:, None]).mean(1),
    lambda a, m: torch.softmax(m, 1) @ a,
    lambda a, m: (m.softmax(0) * a).amax(1) + m.diagonal() * a,
    lambda a, m: torch.einsum("ij,i,j->i", m, a, torch.sin(a)) * 0.3,
    lambda a, m: torch.addmm(m, m, m)[0] * 0.3 + m.trace() * a * 0.1,
    lambda a, m: torch.baddbmm(m[None], m[None], m[None]).sum((0, 1)) * 0.1,
    lambda a, m: functional.layer_norm(m, m.shape[1:], a, a).mean(0),
]


def _reversed(a):
    return torch.arange(a.numel() - 1, -1, -1)


def _written(a):
    out = torch.zeros_like(a)
    out[0] = a[-1] * 0.5
    out[1:] = a[:-1].sin()
    out[::2] += a[::2]
    return out


class RandomField(nn.Module):
    """A chain of random terms on the state, three parameters, and the time."""

    def __init__(self, seed):
        super().__init__()
        draw = random.Random(seed)
        generator = torch.Generator().manual_seed(seed)
        self.n = draw.randint(2, 5)
        self.vector = nn.Parameter(torch.randn(self.n, dtype=DOUBLE, generator=generator))
        self.matrix = nn.Parameter(torch.randn(self.n, self.n, dtype=DOUBLE, generator=generator))
        self.register_buffer("scale", torch.rand((), dtype=DOUBLE, generator=generator))
        self.steps = [self._step(draw, place + 3) for place in range(draw.randint(3, 8))]
        self.y0 = torch.randn(self.n, dtype=DOUBLE, generator=generator)

    def _step(self, draw, known):
        kind = draw.choice((1, 1, 1, 2, 2, 3))
        terms = {1: ONE, 2: TWO, 3: MATRIX}[kind]
        places = (draw.randrange(known), draw.randrange(max(0, known - 2), known))
        return kind, draw.randrange(len(terms)), places

    def forward(self, t, y):
        found = [y, self.vector, torch.sin(t) * self.scale + y]
        for kind, which, (first, second) in self.steps:
            if kind == 1:
                new = ONE[which](found[second])
            elif kind == 2:
                new = TWO[which](found[first], found[second])
            else:
                new = MATRIX[which](found[second], self.matrix)
            found.append(new.expand(self.n) + 0.1 * found[first])
        return torch.tanh(found[-1]) + found[-2] * 0.1
