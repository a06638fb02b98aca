"""Native solves and gradients by sparse elimination, beside those by dense elimination."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.native_fields import MassAction
from tests.support.native_solves import assert_close, native, random_like

pytest.importorskip("numba")
pytest.importorskip("llvmlite")

from pynode import solve
from pynode.adjoints.native.pullback import pullback
from pynode.backends.native import elimination
from pynode.backends.native.linear import SPARSE
from pynode.translate.field import translate

READ_ONLY = {"rows", "columns", "plan_rows", "plan_entries", "plan_columns", "samples"}
METHODS = ["QNDF", "Rodas5P", "KenCarp4"]
COUNTS = ["accepted", "rejected", "nfe", "njac", "nlu", "nsolve", "newton_failures"]


class Diffusion(nn.Module):
    """Diffusion along a chain with a decay. k: (n + 1,), in units of the reciprocal time."""

    def __init__(self, n):
        super().__init__()
        self.k = nn.Parameter(torch.linspace(0.5, 1.0, n + 1, dtype=torch.float64) * n * n / 40)

    def forward(self, t, y):
        inside = self.k[1:-1] * (y[1:] - y[:-1])
        wall = torch.zeros(1, dtype=y.dtype)
        flux = torch.cat((wall, inside, wall))
        return flux[1:] - flux[:-1] - y**3


class Oscillators(nn.Module):
    """Fast oscillators side by side, which a slow force moves: with large steps, the pivots on the
    diagonal are small."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(1e5, dtype=torch.float64))

    def forward(self, t, y):
        half = y.shape[0] // 2
        place = y[:half]
        speed = y[half:]
        return torch.cat((1.0 + t - place + self.rate * speed, -self.rate * place - speed))

    def rest(self, count):
        """The state of ``count`` oscillators without motion at the time 0, (2 count,)."""
        place = 1.0 / (1.0 + self.rate.detach() ** 2)
        return torch.cat((place.repeat(count), (-self.rate.detach() * place).repeat(count)))


def diffusion():
    return Diffusion(200), torch.sin(torch.linspace(0.0, 9.0, 200, dtype=torch.float64)), 2.0


def reactions():
    generator = torch.Generator().manual_seed(3)
    return MassAction(100, 500), torch.rand(100, generator=generator, dtype=torch.float64), 5.0


def oscillators():
    f = Oscillators()
    return f, f.rest(12), 1.0


def solved(case, method):
    """(NativeTrajectory, NativeGradient, NativeField)."""
    f, y0, end = case
    times = torch.linspace(0.0, end, 5, dtype=torch.float64)
    trajectory = native(f, y0, times, method, extra={"record": True})
    assert trajectory.status.success
    field = translate(f, y0, 0.0)
    grads = random_like((len(times), len(y0))).numpy()
    return trajectory, pullback(field, trajectory, times.tolist(), grads), field


def beside_dense(case, method, monkeypatch):
    """The NativeTrajectory of the sparse solve, which is the dense one."""
    monkeypatch.setattr(elimination, "SMALLEST", 10**9)
    expected, dense, _ = solved(case, method)
    assert len(expected.memory.plan_rows) == 0
    monkeypatch.undo()
    translate(*case[:2], 0.0).kept.clear()  # solves would still be dense
    trajectory, sparse, field = solved(case, method)
    n = len(trajectory.y)
    assert elimination.plan_of(n, *field.pattern()) is not elimination.DENSE
    for name in COUNTS:
        assert getattr(trajectory, name) == getattr(expected, name), name
    assert_close(trajectory.outputs, expected.outputs, 1e-9)
    assert sparse.counts == dense.counts
    assert_close(sparse.y0, dense.y0, 1e-8)
    for one, other in zip(sparse.targets, dense.targets, strict=True):
        assert_close(one, other, 1e-8)
    return trajectory


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", [diffusion, reactions])
def test_as_by_dense_elimination(case, method, monkeypatch):
    trajectory = beside_dense(case(), method, monkeypatch)
    assert trajectory.memory.pivots[0] == SPARSE


def test_small_pivots_in_a_solve(monkeypatch):
    """Dense elimination takes over in the middle of a solve."""
    trajectory = beside_dense(oscillators(), "Rodas5P", monkeypatch)
    assert trajectory.memory.pivots[0] != SPARSE


def test_threads_share_a_plan():
    """The rows of a batch do not depend on the number of threads, in any bit."""
    f = Diffusion(40)
    starts = random_like((6, 40))

    def rows(t, y):
        return torch.func.vmap(lambda one: f(t, one))(y)

    results = []
    threads = torch.get_num_threads()
    for count in (1, 4):
        torch.set_num_threads(count)
        try:
            solution = solve(
                rows, starts, (0.0, 1.0), method="qndf", batched=True, backend="native"
            )
        finally:
            torch.set_num_threads(threads)
        results.append(solution.y.detach().numpy())
    assert np.array_equal(*results)


@pytest.mark.parametrize("method", METHODS)
def test_solves_share_what_no_loop_writes(method):
    """What the loops write belongs to one solve, forward and backward: other arrays stay as they
    are."""
    trajectory, _, _ = solved((Diffusion(40), random_like((40,)), 1.0), method)
    for blueprint in (trajectory.plan.blueprint, trajectory.plan.sweep.blueprint):
        shared = {name for name, x in blueprint.arrays.items() if isinstance(x, np.ndarray)}
        assert {name for name in shared if blueprint.arrays[name].size} <= READ_ONLY


def test_solves_at_once_by_sparse_elimination():
    """Solves of one field in several threads give the numbers of solves alone."""
    f = Diffusion(40)
    starts = random_like((8, 40))

    def solve_one(y0):
        with torch.no_grad():
            return solve(f, y0, (0.0, 1.0), method="qndf", backend="native").y[-1]

    alone = [solve_one(y0) for y0 in starts]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            together = list(pool.map(solve_one, starts))
            for one, other in zip(alone, together, strict=True):
                assert torch.equal(one, other)
