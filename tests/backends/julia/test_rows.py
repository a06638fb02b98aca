"""batched=True on a real Julia: every row is a solve of its own, on Julia's threads."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from pynode import JuliaBackend, Status, solve
from pynode.core.solution import BatchSolution
from tests.support.cases import leaf, tensor
from tests.support.juliacase import julia

TIGHT = {"rtol": 1e-8, "atol": 1e-10}
each_method = pytest.mark.parametrize("method", ["QNDF", "Rodas5P", "Tsit5"])


def oscillator(t, y, mu, shift):
    """Van der Pol with a drive: y (..., 2), mu (...), shift (1,)."""
    x, v = y.unbind(-1)
    drive = torch.cos(shift * t)
    return torch.stack((v, mu * (1 - x * x) * v - x + drive.reshape(drive.shape[:-1])), -1)


def problem(rows=5):
    mu = torch.logspace(0, 1.5, rows, dtype=torch.float64)
    y0 = torch.stack((torch.linspace(1.0, 2.0, rows).double(), torch.zeros(rows).double()), -1)
    return y0, mu, tensor(0.7)


def rows_of(y0, mu, shift, t, **options):
    return julia(oscillator, y0, t, args=(mu, shift), by_row=[True, False], batched=True, **options)


@each_method
@pytest.mark.parametrize("t", [[0.0, 0.7, 3.0], [3.0, 2.0, 0.5], [100.0, 100.5, 101.0]])
def test_rows_are_single_solves(method, t):
    y0, mu, shift = problem()
    if t[-1] < t[0]:
        mu = mu / 30
    with torch.no_grad():
        batch = rows_of(y0, mu, shift, t, method=method, **TIGHT)
        assert isinstance(batch, BatchSolution) and batch.backend == "julia" and batch.success
        assert batch.reached == [t[-1]] * len(y0)
        for i in range(len(y0)):
            one = julia(oscillator, y0[i], t, args=(mu[i], shift), method=method, **TIGHT)
            assert torch.equal(batch.y[:, i], one.y)


def test_own_times_and_tolerances():
    y0, mu, shift = problem(3)
    t = tensor([0.0, 0.0, 5.0], [0.5, 1.0, 4.9], [1.0, 3.0, 4.6])
    atol = tensor(1e-10, 1e-7)
    with torch.no_grad():
        batch = rows_of(y0, mu / 30, shift, t, method="Rodas5P", rtol=1e-8, atol=atol)
        for i in range(3):
            one = julia(
                oscillator,
                y0[i],
                t[:, i],
                args=(mu[i] / 30, shift),
                method="Rodas5P",
                rtol=1e-8,
                atol=atol,
            )
            assert torch.equal(batch.y[:, i], one.y)


def test_float32():
    y0, mu, shift = (x.float() for x in problem(3))
    with torch.no_grad():
        batch = rows_of(y0, mu, shift, [0.0, 1.0], method="QNDF", rtol=1e-4, atol=1e-6)
        one = julia(
            oscillator, y0[1], [0.0, 1.0], args=(mu[1], shift), method="QNDF", rtol=1e-4, atol=1e-6
        )
    assert batch.y.dtype == torch.float32 and torch.equal(batch.y[:, 1], one.y)


def gradient(y0, mu, shift, t, **options):
    """The loss of all rows and its gradient in y0, mu and shift."""
    inputs = [leaf(x.clone()) for x in (y0, mu, shift)]
    y = rows_of(*inputs, t, **TIGHT, **options).y
    weights = torch.linspace(0.5, 1.5, y[1:].numel(), dtype=y.dtype).view_as(y[1:])
    loss = (weights * y[1:]).sum()
    return torch.autograd.grad(loss, inputs)


@each_method
def test_gradients_are_those_of_single_solves(method):
    y0, mu, shift = problem(4)
    t = [0.0, 0.7, 2.0]
    found = gradient(y0, mu, shift, t, method=method, adjoint="NativeGauss")
    expected = [torch.zeros_like(x) for x in (y0, mu, shift)]
    weights = torch.linspace(0.5, 1.5, 2 * y0.numel(), dtype=y0.dtype).view(2, 4, 2)
    for i in range(4):
        inputs = [leaf(x.clone()) for x in (y0[i], mu[i], shift)]
        y = julia(
            oscillator,
            inputs[0],
            t,
            args=tuple(inputs[1:]),
            method=method,
            adjoint="NativeGauss",
            **TIGHT,
        ).y
        parts = torch.autograd.grad((weights[:, i] * y[1:]).sum(), inputs)
        expected[0][i] = parts[0]
        expected[1][i] = parts[1]
        expected[2] += parts[2]
    for one, other in zip(found, expected):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-11)


def test_gradient_by_differences():
    y0, mu, shift = problem(3)
    t = [0.0, 0.7, 2.0]
    found = gradient(y0, mu, shift, t, method="FBDF")
    weights = torch.linspace(0.5, 1.5, 2 * y0.numel(), dtype=y0.dtype).view(2, 3, 2)

    def loss(mu, shift):
        with torch.no_grad():
            y = rows_of(y0, mu, shift, t, method="Rodas5P", rtol=1e-11, atol=1e-13).y
        return float((weights * y[1:]).sum())

    h = 1e-5
    for i in range(3):
        moved = torch.eye(3, dtype=torch.float64)[i] * h
        slope = (loss(mu + moved, shift) - loss(mu - moved, shift)) / (2 * h)
        assert float(found[1][i]) == pytest.approx(slope, rel=1e-5, abs=1e-6)
    slope = (loss(mu, shift + h) - loss(mu, shift - h)) / (2 * h)
    assert float(found[2]) == pytest.approx(slope, rel=1e-5, abs=1e-6)


def blow_up(t, y, rate):
    """Ends at t = 1 / rate, from 1."""
    return rate * y * y


def test_a_row_that_fails_leaves_the_others_alone():
    rates = leaf(tensor([0.1], [2.0], [0.3]))
    y0 = torch.ones(3, 1, dtype=torch.float64)
    options = {"method": "Rodas5P", "batched": True, **TIGHT}
    batch = julia(blow_up, y0, [0.0, 0.2, 1.0], args=(rates,), throw=False, **options)
    assert [status is Status.SUCCESS for status in batch.statuses] == [True, False, True]
    assert batch.y[1].isfinite().all() and batch.y[2, 1].isnan().all()
    assert batch.reached[1] == pytest.approx(0.5, abs=1e-3)
    # d/dr of 1 / (1 - r t) is t / (1 - r t)^2.
    batch.y[2, [0, 2]].sum().backward()
    expected = tensor([1 / 0.81], [0.0], [1 / 0.49])
    assert torch.allclose(rates.grad, expected, rtol=1e-6)


def test_limits():
    y0, mu, shift = problem(2)
    steps = rows_of(y0, mu, shift, [0.0, 50.0], method="QNDF", max_steps=10, throw=False).statuses
    assert steps == [Status.MAX_STEPS] * 2
    with torch.no_grad():
        batch = rows_of(y0, mu, shift, [0.0, 50.0], method="QNDF", max_nfe=20, throw=False)
        assert batch.statuses == [Status.MAX_EVALUATIONS] * 2
        # The first solve compiles the method, for longer than the limit below.
        rows_of(y0, mu * 0 + 1, shift, [0.0, 1.0], method="Tsit5")
        batch = rows_of(
            y0,
            mu * 0 + 1,
            shift,
            [0.0, 1e7],
            method="Tsit5",
            max_seconds=0.2,
            throw=False,
            max_steps=10**9,
        )
    assert batch.statuses == [Status.MAX_SECONDS] * 2
    assert 0 < batch.reached[0] < 1e7


def test_what_rows_cannot_do_is_one_system():
    """With its Solution; hooks='native' says why not."""
    y0 = torch.ones(3, 2, dtype=torch.float64)
    coupled = lambda t, y: -y + 0.1 * y.sum(0, keepdim=True)  # noqa: E731
    options = {"method": "Tsit5", "batched": True}
    with torch.no_grad():
        assert not isinstance(julia(coupled, y0, [0.0, 1.0], **options), BatchSolution)
        whole = solve(
            lambda t, y: -y, y0, [0.0, 1.0], backend=JuliaBackend(hooks="python"), **options
        )
        assert not isinstance(whole, BatchSolution)
        native = JuliaBackend(hooks="native")
        with pytest.raises(ValueError, match="rows influence one another"):
            solve(coupled, y0, [0.0, 1.0], backend=native, **options)
        with pytest.raises(ValueError, match="takes no dense"):
            solve(lambda t, y: -y, y0, [0.0, 1.0], backend=native, dense=True, **options)


SCRIPT = """
import torch
from tests.backends.julia.test_rows import gradient, problem, rows_of

y0, mu, shift = problem(40)
parts = gradient(y0, mu, shift, [0.0, 0.7, 2.0], method="QNDF")
with torch.no_grad():
    parts += (rows_of(y0, mu, shift, [0.0, 0.7, 2.0], method="Rodas5P").y,)
print(b"".join(x.numpy().tobytes() for x in parts).hex())
"""

INTERRUPTED = """
import os, signal, threading, time
import torch
from tests.backends.julia.test_rows import problem, rows_of
from tests.support.juliacase import next_solve_works

y0, mu, shift = problem(6)
long = {"method": "Tsit5", "max_steps": 10**9}
with torch.no_grad():
    rows_of(y0, mu, shift, [0.0, 0.1], **long)
    for _ in range(3):
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            rows_of(y0, mu, shift, [0.0, 1e8], **long)
        except KeyboardInterrupt:
            print("interrupted")
next_solve_works()
"""


def run(script, threads):
    environment = {**os.environ, "PYTHON_JULIACALL_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def test_results_do_not_depend_on_the_threads():
    assert run(SCRIPT, 1) == run(SCRIPT, 2)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
def test_ctrl_c_ends_a_batch():
    assert run(INTERRUPTED, 2) == ["interrupted"] * 3
