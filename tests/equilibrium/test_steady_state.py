"""Steady states with closed forms: values, gradients, conserved sums, batches, refusals."""

import pytest
import torch

import pynode
from pynode import SteadyStateError, steady_state

METHODS = ("auto", "newton", "solve")


def tensor(*values, grad=False):
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def chain(t, y, k):
    """0 -> A -> B -> 0. At rest A = k1 / k0 and B = k1 / k2."""
    made, lost = k[1] - k[0] * y[0], k[0] * y[0] - k[2] * y[1]
    return torch.stack((made, lost))


def binding(t, y, k):
    """A + B <-> C for rows."""
    rate = k[..., 0] * y[..., 0] * y[..., 1] - k[..., 1] * y[..., 2]
    return torch.stack((-rate, -rate, rate), -1)


def bound(start, k):
    """C at rest, from the quadratic equation of the law of mass action."""
    a, b = start[..., 0] + start[..., 2], start[..., 1] + start[..., 2]
    half = (a + b + k[..., 1] / k[..., 0]) / 2
    return half - torch.sqrt(half**2 - a * b)


@pytest.mark.parametrize("method", METHODS)
def test_a_slow_chain(method):
    """Time constants of 1000 and 2: no guessed end of a solve is needed."""
    k = tensor(1e-3, 2.0, 0.5, grad=True)
    found = steady_state(chain, tensor(0.0, 0.0), args=(k,), method=method)
    torch.testing.assert_close(found.y, tensor(2000.0, 4.0), rtol=1e-6, atol=0)
    (slope,) = torch.autograd.grad(found.y[0], k)
    torch.testing.assert_close(slope, tensor(-2e6, 1000.0, 0.0), rtol=1e-6, atol=1e-6)
    assert found.stable
    assert found.residual < 1e-6
    assert found.conserved.shape == (0, 2)


def test_newton_reaches_rounding():
    k = tensor(1e-3, 2.0, 0.5)
    for method in ("auto", "newton"):
        found = steady_state(chain, tensor(0.0, 0.0), args=(k,), method=method)
        torch.testing.assert_close(found.y, tensor(2000.0, 4.0), rtol=1e-13, atol=0)
        assert "newton" in found.how


@pytest.mark.parametrize("method", METHODS)
def test_conserved_sums_of_rows(method):
    """Each row keeps its own totals, and y0 has a gradient through them."""
    k = tensor([2.0, 1.0], [3.0, 1.0], [1.0, 0.5], grad=True)
    start = tensor([1.0, 2.0, 0.0], [1.0, 1.0, 1.0], [3.0, 0.1, 0.0], grad=True)
    found = steady_state(binding, start, args=(k,), batched=True, method=method)
    exact = bound(start, k)
    torch.testing.assert_close(found.y[:, 2], exact, rtol=1e-7, atol=0)
    weights = tensor(1.0, -2.0, 3.0)
    for mine, right in zip(
        torch.autograd.grad((weights * found.y[:, 2]).sum(), (k, start)),
        torch.autograd.grad((weights * exact).sum(), (k, start)),
        strict=True,
    ):
        torch.testing.assert_close(mine, right, rtol=1e-6, atol=1e-9)
    assert found.stable.tolist() == [True] * 3
    for sums in found.conserved:
        assert sums.shape == (2, 3)
        torch.testing.assert_close(sums @ tensor(-1.0, -1.0, 1.0), tensor(0.0, 0.0))


def test_rows_equal_single_systems():
    k = tensor([2.0, 1.0], [30.0, 1e-3])
    start = tensor([1.0, 2.0, 0.0], [1.0, 1.0, 1.0])
    rows = steady_state(binding, start, args=(k,), batched=True).y
    for i in range(2):
        alone = steady_state(binding, start[i], args=(k[i],)).y
        torch.testing.assert_close(rows[i], alone, rtol=1e-10, atol=1e-14)


def test_given_sums():
    k = tensor(2.0, 1.0)
    start = tensor(1.0, 2.0, 0.0)
    sums = tensor([1.0, 0.0, 1.0], [1.0, -1.0, 0.0])
    found = steady_state(binding, start, args=(k,), conserved=sums)
    torch.testing.assert_close(found.y[2], bound(start, k))
    with pytest.raises(ValueError, match=r"\(c, 3\)"):
        steady_state(binding, start, args=(k,), conserved=torch.ones(1, 2))
    with pytest.raises(ValueError, match="follow from the others"):
        steady_state(binding, start, args=(k,), conserved=torch.cat((sums, sums[:1])))


def bistable(t, y):
    """At rest at 0, 1 and 2; 1 is unstable."""
    return -y * (y - 1) * (y - 2)


@pytest.mark.parametrize(("start", "reached"), [(0.9, 0.0), (1.1, 2.0), (5.0, 2.0), (0.5, 0.0)])
def test_the_state_that_the_trajectory_reaches(start, reached):
    found = steady_state(bistable, tensor(start))
    torch.testing.assert_close(found.y, tensor(reached), rtol=1e-9, atol=1e-9)
    assert found.stable


def test_newton_alone_refuses_an_unstable_state():
    """From 0.95 Newton's iteration converges to 1."""
    found = steady_state(bistable, tensor(0.95), method="newton")
    assert found.stable
    torch.testing.assert_close(found.y, tensor(0.0), rtol=0, atol=1e-9)


def test_a_state_that_depends_on_the_way():
    """A decays while B lasts: A at rest is exp(-k), and the Jacobian there is singular."""

    def f(t, y, k):
        return torch.stack((-k * y[0] * y[1], -y[1]))

    k = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    found = steady_state(f, tensor(1.0, 1.0), args=(k,))
    assert found.how == "solve"
    assert not found.stable
    torch.testing.assert_close(found.y[0], torch.exp(-k), rtol=1e-6, atol=0)
    (slope,) = torch.autograd.grad(found.y[0], k)
    torch.testing.assert_close(slope, -torch.exp(-k), rtol=1e-5, atol=0)


def test_second_derivatives():
    k = tensor(0.5, 2.0, 0.8)

    def second_state(k):
        return steady_state(chain, tensor(1.0, 1.0), args=(k,)).y[1]

    hessian = torch.autograd.functional.hessian(second_state, k)
    right = torch.zeros(3, 3, dtype=torch.float64)
    right[1, 2] = right[2, 1] = -1 / 0.8**2
    right[2, 2] = 2 * 2.0 / 0.8**3
    torch.testing.assert_close(hessian, right, rtol=1e-9, atol=1e-9)


def test_parameters_of_a_module_and_nested_states():
    class Tank(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inflow = torch.nn.Parameter(tensor(3.0))

        def forward(self, t, y):
            return {"level": self.inflow - 2.0 * y["level"]}

    tank = Tank()
    found = steady_state(tank, {"level": tensor(0.0)})
    torch.testing.assert_close(found.y["level"], tensor(1.5))
    found.y["level"].sum().backward()
    torch.testing.assert_close(tank.inflow.grad, tensor(0.5))


def test_f_at_a_fixed_time():
    found = steady_state(lambda t, y: t - y, tensor(0.0), t=3.0)
    torch.testing.assert_close(found.y, tensor(3.0))


def test_what_has_no_steady_state():
    with pytest.raises(SteadyStateError, match="grows"):
        steady_state(lambda t, y: torch.ones_like(y), tensor(0.0))
    with pytest.raises(ValueError, match="method must be one of"):
        steady_state(bistable, tensor(0.5), method="guess")


def test_the_native_engine_follows_the_trajectory():
    pytest.importorskip("numba")
    k = tensor(1e-3, 2.0, 0.5, grad=True)
    found = pynode.steady_state(chain, tensor(0.0, 0.0), args=(k,), backend="native")
    torch.testing.assert_close(found.y, tensor(2000.0, 4.0))


def test_native_rows_equal_torch():
    pytest.importorskip("numba")
    k = tensor([2.0, 1.0], [30.0, 1e-3], grad=True)
    start = tensor([1.0, 2.0, 0.0], [1.0, 1.0, 1.0], grad=True)
    slopes = []
    for backend in ("torch", "native", "native", "native"):
        found = steady_state(binding, start, args=(k,), batched=True, backend=backend)
        torch.testing.assert_close(found.y[:, 2], bound(start, k), rtol=1e-10, atol=1e-13)
        slopes.append(torch.autograd.grad(found.y[:, 2].sum(), (k, start)))
    for other in slopes[1:]:
        torch.testing.assert_close(other, slopes[0], rtol=1e-7, atol=1e-10)


def test_sums_and_span_of_an_earlier_search():
    k = tensor([2.0, 1.0], [3.0, 1.0])
    start = tensor([1.0, 2.0, 0.0], [1.0, 1.0, 1.0])
    first = steady_state(binding, start, args=(k,), batched=True)
    sums = first.conserved
    again = steady_state(binding, start, args=(k,), batched=True, conserved=sums, span=first.span)
    torch.testing.assert_close(again.y, first.y, rtol=1e-10, atol=1e-13)
