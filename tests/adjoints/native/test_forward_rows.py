"""adjoint='forward' of a batch whose rows are native solves."""

import pytest
import torch

from pynode import solve
from tests.support.cases import leaf, tensor
from tests.support.gradients import distance
from tests.support.native_solves import random_like

pytest.importorskip("numba")
COUNT = 5


def outputs(adjoint, method="rodas5p", times=(0.0, 1.0, 3.0), threads=1, backend="native"):
    """(solution, inputs): the outputs of Van der Pol's oscillators, with a stiffness for each row
    and a common gain that is a frozen number times a parameter."""
    mu = leaf(torch.logspace(0, 1.5, COUNT, dtype=torch.float64))
    gain = leaf(tensor(1.1))
    frozen = tensor(0.9, 1.0)
    y0 = leaf(tensor(2.0, 0.0).repeat(COUNT, 1) + 0.1 * torch.arange(COUNT).unsqueeze(1))

    def f(t, y, mu):
        a, b = y[..., 0], y[..., 1]
        drive = 0.1 * torch.sin(t[:, 0])
        return frozen * torch.stack((b, mu * gain * (1 - a * a) * b - a + drive), -1)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        solution = solve(
            f,
            y0,
            times,
            batched=True,
            method=method,
            args=(mu,),
            backend=backend,
            adjoint=adjoint,
            rtol=1e-7,
            atol=1e-9,
        )
    finally:
        torch.set_num_threads(before)
    return solution, [y0, mu, gain]


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "Kvaerno5", "FBDF"])
def test_equals_the_discrete_adjoint(method):
    found = []
    for adjoint in ("forward", "discrete"):
        solution, inputs = outputs(adjoint, method)
        weights = random_like(solution.y.shape)
        found.append(torch.autograd.grad((weights * solution.y).sum(), inputs))
    assert distance(*found) < 1e-10


def test_many_cotangents_cost_one_pass():
    """They are what single cotangents give, and the sensitivities are kept."""
    solution, inputs = outputs("forward")
    y = solution.y
    rows = random_like((4, *y.shape))
    found = torch.autograd.grad(y, inputs, rows, retain_graph=True, is_grads_batched=True)
    once = solution.stats.as_dict()
    for i, row in enumerate(rows):
        single = torch.autograd.grad(y, inputs, row, retain_graph=True)
        assert distance([part[i] for part in found], single) < 1e-12
    assert solution.stats.as_dict() == once and once["backward_nlu"] > 0


def test_rows_with_times_of_their_own():
    times = torch.linspace(0.0, 2.0, 4, dtype=torch.float64).unsqueeze(1)
    times = times * torch.linspace(0.5, 1.0, COUNT, dtype=torch.float64)
    found = []
    for adjoint in ("forward", "discrete"):
        solution, inputs = outputs(adjoint, times=times)
        found.append(torch.autograd.grad(solution.y.square().sum(), inputs))
    assert distance(*found) < 1e-10


def test_threads_change_no_bit():
    found = []
    for threads in (1, 2):
        solution, inputs = outputs("forward", threads=threads)
        found.append(torch.autograd.grad(solution.y.square().sum(), inputs))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_the_torch_engine_gives_the_same():
    found = []
    for backend in ("torch", "native"):
        solution, inputs = outputs("forward", backend=backend)
        rows = random_like((3, *solution.y.shape))
        found.append(torch.autograd.grad(solution.y, inputs, rows, is_grads_batched=True))
    assert distance(*found) < 1e-5
