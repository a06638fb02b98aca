"""Systems M y' = f(t, y) with mass matrices of every kind."""

import torch

from tests.support.cases import tensor


def orthogonal(n):
    """An orthogonal matrix, (n, n), without zeros."""
    generator = torch.Generator().manual_seed(1)
    return torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator))[0]


def masses():
    """(Q, M) by kind: M is Q diag Q^T, or the diagonal as a vector with Q = I."""
    turn = orthogonal(4)
    singular = tensor(1.0, 2.0, 0.0, 0.0)
    return {
        "regular": (turn, turn @ torch.diag(tensor(1.0, 2.0, 0.3, 3.0)) @ turn.T),
        "diagonal": (torch.eye(4, dtype=torch.float64), singular),
        "singular": (turn, turn @ torch.diag(singular) @ turn.T),
    }


class Coupled(torch.nn.Module):
    """Two differential and two algebraic components, which depend on time and on each other, in the
    frame of Q: all components of y are sums of both kinds."""

    def __init__(self, turn):
        super().__init__()
        self.p = torch.nn.Parameter(tensor(1.3, 0.7, 2.0))
        self.register_buffer("turn", turn)

    def forward(self, t, y):
        a, b, z, w = self.turn.T @ y
        first, second, third = self.p
        parts = (
            torch.sin(3 * t) - first * a * z,
            second * (w - b) + a * z,
            third * a * b - z + 0.1 * torch.cos(t),
            a + 0.3 * z - w - 0.1 * first * w**3,
        )
        return self.turn @ torch.stack(parts)


def chain_with_constraints(n, free):
    """(f, y0, M as a diagonal): a chain of n components with as many algebraic ones. free: whether
    these are in equations without them, as the multipliers of constraints that index 1 allows."""
    half = n // 2

    def f(t, y):
        x = y[:n]
        z = y[n:]
        flow = torch.cat((x[:1] * 0, x[:-1] - x[1:]))
        if free:
            # Each equation has the unknown of its neighbour.
            algebraic = z.roll(half) - x * x - 0.1 * torch.sin(t)
        else:
            algebraic = z + 0.1 * z**3 - x * x
        return torch.cat((flow - 0.5 * z, algebraic))

    y0 = torch.ones(2 * n, dtype=torch.float64)
    if not free:
        y0[n:] = 0.9216989942046  # z + 0.1 z^3 = 1
    return f, y0, torch.cat((torch.ones(n), torch.zeros(n))).double()
