"""What goes wrong in the middle of a solve on a real Julia, after which the next solve works."""

import itertools
import math
import os
import signal

import pytest
import torch

from pynode import JuliaBackend, RejectStep, SolveError, Status, problems, solve
from tests.support.cases import leaf, smooth, smooth_exact, tensor
from tests.support.juliacase import julia, next_solve_works


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
        solution = julia(
            Faulty(lambda y: y * math.nan), tensor(1.0), [0.0, 0.3, 1.0], method="FBDF", throw=False
        )
    assert solution.status is Status.NONFINITE and len(solution.y) == 2
    with pytest.raises(SolveError, match="What to do"), torch.no_grad():
        julia(Faulty(lambda y: y * math.nan), tensor(1.0), [0.0, 1.0], method="Rodas5P")
    next_solve_works()


def test_a_failure_has_the_same_report():
    with pytest.raises(SolveError) as caught, torch.no_grad():
        julia(lambda t, y: y * y, tensor(1.0), [0.0, 3.0], method="FBDF")
    report = caught.value.report()
    assert (
        report.cause == "blow-up"
        and report.method == "FBDF"
        and "infinite at t = 0.9999" in report.finding
    )
    problem = problems.get("robertson")
    with torch.no_grad():
        few = julia(
            problem.field, problem.y0, [0.0, 1e4], method="Tsit5", max_steps=500, throw=False
        )
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
        few = julia(
            problem.field, problem.y0, [0.0, 1e4], method="Tsit5", max_steps=50, throw=False
        )
        assert few.status is Status.MAX_STEPS and few.stats.accepted + few.stats.rejected <= 51
        few = julia(problem.field, problem.y0, [0.0, 1e4], method="Tsit5", max_nfe=100, throw=False)
        assert few.status is Status.MAX_EVALUATIONS
        calls = []
        stopped = julia(
            lambda t, y: -y,
            tensor(1.0),
            [0.0, 9.0],
            method="Tsit5",
            callback=lambda t, y, stats: calls.append(t) or t > 1,
        )
        assert stopped.status is Status.CALLBACK and calls == sorted(calls) and calls[-1] > 1
        root = julia(
            lambda t, y: -torch.sqrt(y) if float(y) >= 0 else reject(),
            tensor(1.0),
            [0.0, 1.9],
            method="Tsit5",
            rtol=1e-7,
        )
        assert abs(float(root.y[-1]) - (1 - 0.95) ** 2) < 1e-5
        positive = julia(
            lambda t, y: -50 * y,
            tensor(1.0),
            [0.0, 5.0],
            method="Tsit5",
            rtol=1e-2,
            atol=1e-2,
            nonnegative=True,
        )
        assert float(positive.y[-1]) >= 0


@pytest.mark.parametrize("method", ["FBDF", "Rodas5P", "Tsit5"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(
    ("limit", "status"),
    [
        ({"max_nfe": 90}, Status.MAX_EVALUATIONS),
        ({"max_steps": 20}, Status.MAX_STEPS),
        ({"max_seconds": 90}, Status.MAX_SECONDS),
        ({"callback": lambda t, y, stats: stats.accepted > 9}, Status.CALLBACK),
    ],
    ids=lambda x: x.name if isinstance(x, Status) else "",
)
def test_the_steps_before_a_limit_are_kept(method, backward, limit, status, monkeypatch):
    """Outputs and polynomials up to where it was met, in the middle of a step too."""
    # Seconds that pass whenever somebody looks at the clock.
    monkeypatch.setattr("pynode.core.stop_conditions.time.monotonic", itertools.count().__next__)
    # Native functions look at Julia's clock.
    hooks = "python" if "max_seconds" in limit else "auto"
    times = [
        (9.0 - t if backward else t)
        for t in torch.linspace(0, 9, 901, dtype=torch.float64).tolist()
    ]
    start = smooth_exact(times[0])
    for dense in (False, True):
        with torch.no_grad():
            solution = solve(
                smooth,
                start,
                times,
                backend=JuliaBackend(hooks=hooks),
                method=method,
                rtol=1e-8,
                atol=1e-10,
                dense=dense,
                throw=False,
                **limit,
            )
        end = solution.reached
        count = len(solution.t)
        assert solution.status is status and f"{status.sentence}" in solution.message
        assert end != times[0] and abs(end - times[0]) < 8.9 and solution.y.shape[0] == count
        assert (solution._trajectory.y - smooth_exact(end)).abs().max() < 1e-5
        # All outputs up to the end, and no other.
        assert (
            abs(times[count - 1] - times[0]) <= abs(end - times[0]) < abs(times[count] - times[0])
        )
        assert (solution.y - smooth_exact(solution.t)).abs().max() < 1e-5
        if dense:
            inside = times[0] + (end - times[0]) * torch.linspace(0, 1, 13, dtype=torch.float64)
            assert (solution(inside) - smooth_exact(inside)).abs().max() < 1e-5


@pytest.mark.parametrize("method", ["Tsit5", "FBDF"])
def test_a_fixed_step_is_not_tried_again(method):
    """Where f refuses a state the solve ends, with the steps before; what would have a step tried
    again is refused."""
    options = {"method": method, "step_size": 0.1, "throw": False}
    with torch.no_grad():
        solution = julia(Faulty(lambda y: reject()), tensor(1.0), [0.0, 0.3, 1.0], **options)
        assert (
            solution.status is Status.DOMAIN
            and solution.stats.accepted == 5
            and solution.t.tolist() == [0.0, 0.3]
        )
        with pytest.raises(ValueError, match="leave out step_size, or nonnegative and domain"):
            julia(lambda t, y: -y, tensor(1.0), [0.0, 1.0], nonnegative=True, **options)
        with pytest.raises(ValueError, match="has no error control: pass step_size"):
            julia(
                lambda t, y: -y, tensor(1.0), [0.0, 1.0], method="ImplicitMidpoint", first_step=0.1
            )


def test_a_jacobian_that_refuses_a_state():
    def jac(t, y):
        return reject() if float(t) > 0.5 else -torch.eye(1, dtype=torch.float64)

    with torch.no_grad():
        solution = julia(
            lambda t, y: -y, tensor(1.0), [0.0, 0.3, 1.0], method="Rodas5P", jac=jac, throw=False
        )
    assert solution.status is Status.DOMAIN and abs(float(solution.y[1]) - math.exp(-0.3)) < 1e-6
    next_solve_works()


def test_min_step_is_named():
    with torch.no_grad():
        solution = julia(
            lambda t, y: -y,
            tensor(1.0),
            [0.0, 1.0],
            method="Tsit5",
            min_step=0.2,
            rtol=1e-10,
            throw=False,
        )
        assert solution.status is Status.MIN_STEP
        solution = julia(lambda t, y: y * y, tensor(1.0), [0.0, 3.0], method="Tsit5", throw=False)
        assert solution.status is not Status.MIN_STEP
        # It bounds what the error test asks for, not steps of a size that the user chose.
        y = julia(
            lambda t, y: -y, tensor(1.0), [0.0, 1.0], method="Tsit5", min_step=0.5, step_size=0.1
        ).y[-1]
    assert abs(float(y) - math.exp(-1)) < 1e-6


def test_a_gradient_for_which_f_refuses_a_state():
    """No zeros, but a sentence. The check that f is still the same sees only the ends."""
    y0 = leaf(tensor(1.0))
    refusing = []
    y = solve(
        lambda t, y: reject() if refusing and 0 < float(t) < 1 else -y,
        y0,
        [0.0, 1.0],
        backend=JuliaBackend(hooks="python"),
        method="Tsit5",
        adjoint="NativeGauss",
    ).y
    refusing.append(True)
    with pytest.raises(ValueError, match="a state between the steps"):
        y[-1].backward()
    next_solve_works()


def test_a_limit_before_the_first_step_leaves_the_start():
    with torch.no_grad():
        solution = julia(
            smooth, smooth_exact(0.0), [0.0, 1.0], method="Rodas5P", max_nfe=1, throw=False
        )
    assert solution.status is Status.MAX_EVALUATIONS and solution.t.tolist() == [0.0]
    assert torch.equal(solution.y[0], smooth_exact(0.0))


@pytest.mark.parametrize("adjoint", ["gauss", "NativeGauss"])
def test_the_gradient_is_not_held_to_the_limit_of_the_solve(adjoint):
    """And that of a partial solution, for which SciMLSensitivity needs a second one, is the
    gradient of what there is."""
    rate = leaf(tensor(3.0))
    found = []
    for limit, count in ((None, 3), (200, 2)):
        y = julia(
            lambda t, y: -rate * y,
            tensor(1.0),
            [0.0, 0.01, 20.0],
            method="Rodas5P",
            max_nfe=limit,
            rtol=1e-9,
            throw=False,
            adjoint=adjoint,
        ).y
        assert len(y) == count
        found.append(float(torch.autograd.grad(y[1].sum(), rate)[0]))
    assert abs(found[0] + 0.01 * math.exp(-0.03)) < 1e-8 and abs(found[1] - found[0]) < 1e-8
