"""Gradients of Radau methods where a fast reaction is at equilibrium: h J has entries of 1e5 beside
ones, and rows of J cancel. Elimination alone loses nine digits there."""

import pytest
import torch

from pynode import solve

pytest.importorskip("numba", reason="the native engine needs numba")
TIGHT = {"rtol": 1e-11, "atol": 1e-14}


class Receptor(torch.nn.Module):
    """P binds A, C is their complex, and Q is A after its change. The sum of A, C and Q stays.
    The sizes are those of a published model of a growth factor (Fujita 2010)."""

    def forward(self, t, y, u):
        P, C, A, Q = y.unbind(-1)
        bound = 9.4e-4 * P * A - 6.1e4 * C
        back = 0.43 * C
        changes = (u - 0.03 * P - bound + back, bound - back, 0.0118 * Q - bound, back - 0.0118 * Q)
        return torch.stack(changes, -1)


def slopes(method, adjoint="auto", backend="native"):
    """d/du of all states at the time 10."""
    u = torch.tensor(3e4, dtype=torch.float64, requires_grad=True)
    start = torch.tensor([4.6e5, 0.0, 0.027, 0.0], dtype=torch.float64)
    options = {"method": method, "backend": backend, "adjoint": adjoint, **TIGHT}
    y = solve(Receptor(), start, [0.0, 10.0], args=(u,), **options).y[-1]
    return torch.stack([torch.autograd.grad(part, u, retain_graph=True)[0] for part in y])


@pytest.mark.parametrize("method", ["radauiia5", "radauiia9"])
@pytest.mark.parametrize("adjoint", ["auto", "forward"])
def test_native_gradients(method, adjoint):
    torch.testing.assert_close(slopes(method, adjoint), slopes("rodas5p"), rtol=1e-9, atol=0)


def test_the_torch_engine():
    found = slopes("radauiia9", backend="torch")
    torch.testing.assert_close(found, slopes("rodas5p"), rtol=1e-9, atol=0)
