"""Ctrl-C and other signals in a solve on a real Julia, after which the next solve is right.

A process of its own sends them, since a thread of this one might wait for Julia.
"""

import math
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from pynode import JuliaBackend, Status, solve
from tests.support.cases import leaf, tensor
from tests.support.juliacase import next_solve_works

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no signal to send to oneself")
HOOKS = ["native", "python"]
SEND = "import os, sys, time; time.sleep(0.2); os.kill(int(sys.argv[1]), int(sys.argv[2]))"


@contextmanager
def arriving(number, handler):
    """A block in which a signal arrives after 0.2 s."""
    before = signal.signal(number, handler)
    sender = subprocess.Popen(
        [sys.executable, "-S", "-c", SEND, str(os.getpid()), str(int(number))]
    )
    try:
        yield
    finally:
        sender.wait()
        signal.signal(number, before)


def oscillator(t, y):
    return torch.stack([y[1], -1e8 * y[0]])


def endless(hooks, **options):
    """A solve of hours."""
    return solve(
        oscillator,
        tensor(1.0, 0.0),
        [0.0, 1e9],
        backend=JuliaBackend(hooks=hooks),
        method="Tsit5",
        max_steps=10**12,
        **options,
    )


@pytest.mark.parametrize("hooks", HOOKS)
def test_ctrl_c(hooks):
    for _ in range(3):
        with (
            arriving(signal.SIGINT, signal.default_int_handler),
            pytest.raises(KeyboardInterrupt),
            torch.no_grad(),
        ):
            endless(hooks)
        next_solve_works()


@pytest.mark.parametrize("hooks", HOOKS)
def test_a_handler_that_raises(hooks):
    def late(number, frame):
        raise TimeoutError("too late")

    with (
        arriving(signal.SIGUSR1, late),
        pytest.raises(TimeoutError, match="too late"),
        torch.no_grad(),
    ):
        endless(hooks)
    next_solve_works()


@pytest.mark.parametrize("hooks", HOOKS)
def test_ctrl_c_in_a_gradient(hooks):
    y0 = leaf(tensor(1.0, 0.0))
    y = solve(
        lambda t, y: torch.stack([y[1], -1e4 * y[0]]),
        y0,
        [0.0, 3.0],
        backend=JuliaBackend(hooks=hooks),
        method="Tsit5",
        adjoint="NativeGauss",
    ).y
    with (
        arriving(signal.SIGINT, signal.default_int_handler),
        pytest.raises(KeyboardInterrupt),
    ):
        while True:
            torch.autograd.grad(y[-1, 0], y0, retain_graph=True)
    (gradient,) = torch.autograd.grad(y[-1, 0], y0)
    assert abs(float(gradient[0]) - math.cos(300.0)) < 1e-2


@pytest.mark.parametrize("hooks", HOOKS)
def test_limits_inside_of_a_solve(hooks):
    with torch.no_grad():
        late = endless(hooks, max_seconds=0.2, throw=False)
        many = endless(hooks, max_nfe=777, throw=False)
    assert late.status is Status.MAX_SECONDS and late.stats.accepted > 0
    assert many.status is Status.MAX_EVALUATIONS and many.stats.nfe == 777
