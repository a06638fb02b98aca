"""Starts that run side by side give the results of starts that run one after the other."""

import threading

import pytest
import torch

pytest.importorskip("pypesto", reason="estimation: pip install 'torch-stiff-ode[fit]'")
pytest.importorskip("numba", reason="the native engine needs numba")

from pynode.fit import TableProblem, estimate
from pynode.fit.together import SharedProblem
from tests.support.estimation import chain, chain_data


class Counting:
    """A problem that counts the theta of its batches."""

    def __init__(self, problem, pays=True):
        self.problem = problem
        self.batches_pay = pays
        self.sizes = []

    def __getattr__(self, name):
        return getattr(self.problem, name)

    def gauss_newton_batch(self, thetas):
        self.sizes.append(len(thetas))
        return self.problem.gauss_newton_batch(thetas)

    def gradient_batch(self, thetas):
        self.sizes.append(len(thetas))
        return self.problem.gradient_batch(thetas)


@pytest.fixture(scope="module")
def problem():
    made = TableProblem(chain, chain_data(sigma=0.02), bounds={"k1": (1e-2, 1e1)}, noise=0.02)
    made.objective(torch.zeros(2, dtype=torch.float64))
    return made


def in_order(found):
    return sorted(found.starts, key=lambda start: start.index)


def test_results_are_those_of_one_after_the_other(problem):
    together = Counting(problem)
    singly = Counting(problem, pays=False)
    found = estimate(together, 5)
    expected = estimate(singly, 5)
    assert max(together.sizes) == 5
    assert singly.sizes == []
    for mine, right in zip(in_order(found), in_order(expected), strict=True):
        assert mine.evaluations == right.evaluations
        assert torch.allclose(mine.theta, right.theta, rtol=1e-8)
        assert mine.seconds > 0


def test_problems_say_whether_batches_pay(problem):
    assert problem.batches_pay
    torch_engine = TableProblem(chain, chain_data(), noise=0.1, backend="torch")
    assert not torch_engine.batches_pay


def test_an_error_of_the_model_reaches_the_caller(problem):
    class Broken(Counting):
        def gauss_newton_batch(self, thetas):
            if len(self.sizes) == 3:
                raise ZeroDivisionError("of the model")
            return super().gauss_newton_batch(thetas)

    with pytest.raises(ZeroDivisionError, match="of the model"):
        estimate(Broken(problem), 4)


def test_a_start_that_ends_does_not_hold_up_the_others(problem):
    """Three threads ask one, two and three times."""
    shared = SharedProblem(Counting(problem))
    theta = torch.zeros(2, dtype=torch.float64)
    ready = threading.Barrier(3)
    answers = []

    def start(times):
        with shared.start():
            ready.wait(30)
            for _ in range(times):
                answers.append(float(shared.gradient(theta)[0]))

    threads = [threading.Thread(target=start, args=(i,)) for i in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 6
    assert sorted(shared.problem.sizes) == [1, 2, 3]
