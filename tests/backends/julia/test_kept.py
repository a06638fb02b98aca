"""What is kept of the solves of one field on a real Julia: until when, and of what fields."""

import gc

import pytest
import torch

from pynode import JuliaBackend, solve
from pynode.backends.julia.runtime import start
from tests.support.cases import Forced, leaf, tensor
from tests.support.juliacase import julia

SOLVES = 5  # the first one takes the long way, the others the short one


def kept():
    """How many solves Julia keeps."""
    return int(start().main.seval("length(PyNODE.KEPT.values)"))


@pytest.mark.parametrize("retained", [False, True], ids=["not asked", "retained"])
@pytest.mark.parametrize("hooks", ["native", "python"])
def test_a_solve_is_let_go_with_its_graph(hooks, retained):
    """Whether a gradient was never asked for, or another one may follow."""
    f = Forced()
    gc.collect()  # what earlier tests left in cycles
    before = kept()
    for _ in range(SOLVES):
        y = solve(
            f,
            leaf(tensor(1.0, -0.5, 0.3)),
            [0.0, 0.5, 1.0],
            method="Rodas5P",
            backend=JuliaBackend(hooks=hooks),
        ).y
        assert y.requires_grad and kept() > before
        if retained:
            torch.autograd.grad(y.sum(), list(f.parameters()), retain_graph=True)
    del y
    gc.collect()
    assert kept() == before


def test_a_derivative_without_native_code():
    """Where it is infinite at the start, so that it cannot be compared: every solve calls Python,
    or says why not."""

    def root(t, y):
        return torch.stack((-y[0] * torch.sqrt(y[1]), torch.ones_like(y[1])))

    native = JuliaBackend(hooks="native")
    y0 = tensor(1.0, 0.0)
    found = []
    with torch.no_grad(), pytest.warns(UserWarning, match="infinite or NaN entries"):
        for _ in range(3):
            solution = julia(root, y0, [0.0, 1.0], method="Rodas5P")
            assert solution.hooks == "python"
            found.append(solution.y)
            with pytest.raises(ValueError, match=r"cannot be compared|native functions"):
                solve(root, y0, [0.0, 1.0], method="Rodas5P", backend=native)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
