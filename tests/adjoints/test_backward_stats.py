"""The work of a gradient is counted: evaluations, products, Jacobians, factorisations, solves,
repeated steps."""

import pytest
import torch

from pynode import DiscreteAdjoint, Krylov, Sparse, solve
from pynode.core.stats import Stats
from pynode.methods import registry
from tests.support.cases import Forced, leaf, smooth_jac, tensor

STAGES = {
    name: registry.get(name).tableau.stages
    for name in ("Tsit5", "Rodas5P", "KenCarp4", "RadauIIA5")
}


class Counting(torch.nn.Module):
    """Forced, by a branch that no vmap takes, so that every evaluation is a call."""

    def __init__(self, n=2):
        super().__init__()
        self.inner, self.calls = Forced(n), 0

    def forward(self, t, y):
        if y[0].item() > -1e9:
            self.calls += 1
        return self.inner(t, y)


class Plain(Counting):
    """The same without the branch: f at many points is one call."""

    def forward(self, t, y):
        return self.inner(t, y)


# Calls of f that see whether it is still the same, and how it may be called: they belong to no
# count.
LOOKS = 4


def jac_of(f):
    """A Jacobian that does not call f."""
    inner = f.inner

    def jac(t, y):
        slope = 1 - torch.tanh(y @ inner.W.T + inner.b * torch.sin(2 * t)) ** 2
        return (
            slope.unsqueeze(1) * inner.W - inner.rate * torch.eye(len(y), dtype=y.dtype)
        ).detach()

    return jac


def backward(f, method, frozen=False, n=2, **options):
    """(Stats before, Stats after, calls of f on the way back) of one gradient."""
    y0 = leaf(torch.linspace(1.0, -0.5, n, dtype=torch.float64))
    f.requires_grad_(not frozen)
    solution = solve(f, y0, [0.0, 0.6, 2.0], method=method, rtol=1e-4, atol=1e-6, **options)
    before, f.calls = Stats(**solution.stats.as_dict()), 0
    solution.y[-1].sum().backward()
    return before, solution.stats, f.calls


@pytest.mark.parametrize(
    "method", ["Tsit5", "Rodas5P", "KenCarp4", "RadauIIA5", "FBDF", "QNDF", "RKC", "AdamsPECE"]
)
@pytest.mark.parametrize("checkpoints", [None, 3])
def test_evaluations_are_calls_of_f(method, checkpoints):
    """Those of the products count; those of Jacobians do not, here made without f but for
    Rosenbrock's derivative of one."""
    f = Counting()
    options = {"jac": jac_of(f)} if registry.get(method).implicit else {}
    before, after, calls = backward(
        f, method, adjoint=DiscreteAdjoint(checkpoints=checkpoints), **options
    )
    # Rodas5P differentiates f in time wherever a step is repeated.
    moved = after.backward_steps if method == "Rodas5P" else 0
    assert 0 <= calls - moved - after.backward_nfe <= LOOKS and after.backward_nfe > 0
    assert {k: v for k, v in after.as_dict().items() if not k.startswith("backward_")} == {
        k: v for k, v in before.as_dict().items() if not k.startswith("backward_")
    }
    assert (after.backward_steps >= after.accepted) == (
        checkpoints is not None or method in ("RKC", "AdamsPECE")
    )


def test_counts_of_each_family():
    """Every family's formula, with the parameters' products and without."""
    for frozen in (False, True):
        free = 0 if frozen else 1
        _, s, _ = backward(Plain(), "Tsit5", frozen)
        # The further stages of the dense output of one step apart.
        inside = 1 + s.accepted * STAGES["Tsit5"]
        assert s.backward_njac >= inside - 1 and s.backward_nvjp == free * s.backward_njac
        assert s.backward_nlu == s.backward_nsolve == 0
        _, s, _ = backward(Plain(), "FBDF", frozen)
        assert s.backward_njac == s.backward_nlu == s.backward_nsolve == s.accepted
        assert s.backward_nvjp == s.backward_nfe == free * s.accepted + 1
        _, s, _ = backward(Plain(), "Rodas5P", frozen)
        assert s.backward_nlu == s.accepted and s.backward_nsolve == s.accepted * STAGES["Rodas5P"]
        assert s.backward_njac == 2 * s.accepted * STAGES["Rodas5P"]
        assert s.backward_nvjp == 2 * free * s.accepted * STAGES["Rodas5P"]
        _, s, _ = backward(Plain(), "KenCarp4", frozen)
        assert s.backward_nlu == s.backward_nsolve == s.accepted * (STAGES["KenCarp4"] - 1)
        assert (
            s.backward_njac == s.accepted * STAGES["KenCarp4"]
            and s.backward_nvjp == free * s.backward_njac
        )
        _, s, _ = backward(Plain(), "RadauIIA5", frozen)
        assert s.backward_nlu == s.backward_nsolve == s.accepted
        assert (
            s.backward_njac == s.accepted * STAGES["RadauIIA5"]
            and s.backward_nvjp == free * s.backward_njac
        )
        for method in ("RKC", "AdamsPECE"):
            _, s, _ = backward(Plain(), method, frozen)
            assert s.backward_steps == s.accepted and s.backward_nvjp >= s.accepted


def test_large_explicit_states_go_back_by_products():
    """One evaluation and one product a stage that matters, and no Jacobian; no evaluation where the
    graphs are kept."""
    _, s, calls = backward(Counting(40), "Tsit5", n=40)
    assert s.backward_njac == s.backward_nfe == calls == 0
    _, s, calls = backward(Counting(40), "Tsit5", n=40, adjoint=DiscreteAdjoint(keep_graphs=False))
    assert s.backward_njac == 0 and 0 <= calls - s.backward_nfe <= LOOKS
    assert s.accepted * (STAGES["Tsit5"] - 1) <= s.backward_nvjp <= s.backward_nfe


@pytest.mark.parametrize(
    ("method", "structure"), [("FBDF", Sparse()), ("Rodas5P", Sparse()), ("QNDF", Krylov())]
)
def test_structured_solves(method, structure):
    """A factorisation a step; without matrices a product for each iteration of the transposed
    solves."""
    _, s, _ = backward(Counting(12), registry.get(method, jacobian=structure), n=12)
    assert s.backward_njac == s.accepted and s.backward_nsolve >= s.accepted
    if structure.name == "krylov":
        assert s.backward_nvjp > 2 * s.accepted and s.backward_nlu == 0
    else:
        assert s.backward_nlu == s.accepted


def test_second_derivatives_and_given_jacobians_are_counted():
    y0 = leaf(tensor(1.0, 0.5))

    def f(t, y):
        return torch.stack((y[0] * y[1], -y[0] * y[0]))

    solution = solve(f, y0, [0.0, 1.0], method="fbdf", jac=lambda t, y: smooth_jac(t, y))
    (first,) = torch.autograd.grad(solution.y[-1].sum(), y0, create_graph=True)
    once = solution.stats.backward_nfe
    torch.autograd.grad(first.sum(), y0)
    assert solution.stats.backward_nfe > once + 2 * solution.stats.accepted
    assert solution.stats.backward_steps == solution.stats.accepted


def test_only_what_was_counted_is_shown():
    y0 = leaf(tensor(1.0))
    solution = solve(lambda t, y: -y, y0, [0.0, 1.0], method="tsit5")
    assert (
        "backward" not in repr(solution)
        and "njac" not in repr(solution.stats)
        and "nfe=" in repr(solution)
    )
    solution.y[-1].sum().backward()
    assert "backward_njac=" in repr(solution) and eval(repr(solution.stats)) == solution.stats
