"""What goes wrong in the middle of a solve on a real Julia, after which the next solve works."""

import math
import os
import signal
import threading

import pytest
import torch
from cases import tensor
from juliacase import julia, leaf, next_solve_works

from pynode import RejectStep, SolveError, Status, problems


class Faulty:
    """-y, until it is asked after a time; then what the test wants."""

    def __init__(self, fault):
        self.fault = fault

    def __call__(self, t, y):
        return self.fault(y) if float(t) > 0.5 else -y


def test_an_exception_in_the_field_comes_back_as_itself():
    class Mine(Exception):
        pass

    def fault(y):
        raise Mine("at half past")

    with pytest.raises(Mine, match="at half past"), torch.no_grad():
        julia(Faulty(fault), tensor(1.0), [0.0, 1.0], method="FBDF")
    next_solve_works()


def test_an_exception_in_the_backward_pass():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return -y

        @staticmethod
        def backward(ctx, g):
            raise ZeroDivisionError("in the backward pass")

    y0 = leaf(tensor(1.0))
    y = julia(lambda t, y: Once.apply(y), y0, [0.0, 1.0], method="Tsit5", adjoint="NativeGauss").y
    with pytest.raises(ZeroDivisionError, match="in the backward pass"):
        y[-1].backward()
    next_solve_works()


def test_nan_in_the_field_is_a_status():
    with torch.no_grad():
        solution = julia(Faulty(lambda y: y * math.nan), tensor(1.0), [0.0, 0.3, 1.0], method="FBDF", throw=False)
    assert solution.status is Status.NONFINITE and len(solution.y) == 2
    with pytest.raises(SolveError, match="What to do"), torch.no_grad():
        julia(Faulty(lambda y: y * math.nan), tensor(1.0), [0.0, 1.0], method="Rodas5P")
    next_solve_works()


def test_a_failure_has_the_same_report():
    with pytest.raises(SolveError) as caught, torch.no_grad():
        julia(lambda t, y: y * y, tensor(1.0), [0.0, 3.0], method="FBDF")
    report = caught.value.report()
    assert report.cause == "blow-up" and report.method == "FBDF" and "infinite at t = 0.9999" in report.finding
    problem = problems.get("robertson")
    with torch.no_grad():
        few = julia(problem.field, problem.y0, [0.0, 1e4], method="Tsit5", max_steps=500, throw=False)
    assert few.report().cause == "stiffness" and "dominate the error" in str(few.report())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal to send to oneself")
def test_ctrl_c_in_the_field():
    def fault(y):
        os.kill(os.getpid(), signal.SIGINT)
        return -y

    # Shells start what runs in the background with this signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), torch.no_grad():
            julia(Faulty(fault), tensor(1.0), [0.0, 1.0], method="FBDF")
    finally:
        signal.signal(signal.SIGINT, before)
    next_solve_works()


def reject():
    raise RejectStep


def test_limits_and_domains():
    problem = problems.get("robertson")
    with torch.no_grad():
        few = julia(problem.field, problem.y0, [0.0, 1e4], method="Tsit5", max_steps=50, throw=False)
        assert few.status is Status.MAX_STEPS and few.stats.accepted + few.stats.rejected <= 51
        few = julia(problem.field, problem.y0, [0.0, 1e4], method="Tsit5", max_nfe=100, throw=False)
        assert few.status is Status.MAX_EVALUATIONS
        calls = []
        stopped = julia(
            lambda t, y: -y, tensor(1.0), [0.0, 9.0], method="Tsit5", callback=lambda t, y, stats: calls.append(t) or t > 1
        )
        assert stopped.status is Status.CALLBACK and calls == sorted(calls) and calls[-1] > 1
        root = julia(
            lambda t, y: -torch.sqrt(y) if float(y) >= 0 else reject(), tensor(1.0), [0.0, 1.9], method="Tsit5", rtol=1e-7
        )
        assert abs(float(root.y[-1]) - (1 - 0.95) ** 2) < 1e-5
        positive = julia(lambda t, y: -50 * y, tensor(1.0), [0.0, 5.0], method="Tsit5", rtol=1e-2, atol=1e-2, nonnegative=True)
        assert float(positive.y[-1]) >= 0


def test_another_thread_is_told():
    next_solve_works()
    told = []

    def run():
        try:
            next_solve_works()
        except RuntimeError as error:
            told.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "same_thread" in told[0]
