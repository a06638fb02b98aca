"""What a failure report is made of: the rerun of the last steps, the norm that watches them,
bisection, the rules."""

import math

import pytest
import torch

from pynode import ODEProblem, solve
from pynode.core.norm import Tolerance
from pynode.core.options import Options
from pynode.core.status import Status
from pynode.core.vector_field import VectorField
from pynode.failure import Case, examine
from pynode.failure.probes import jump
from pynode.failure.rerun import WatchedTolerance, rerun
from pynode.methods import registry
from tests.support.cases import tensor


@pytest.mark.parametrize(
    "method", ["tsit5", "rodas5p", "kencarp4", "radauiia5", "radauiia9", "qndf", "fbdf"]
)
def test_errors_are_in_units_of_their_tolerances(method):
    """The root mean square of all is the ratio of the attempt."""
    f = lambda t, y: torch.stack((100 * torch.cos(40 * t), 0 * t, torch.cos(t))) - y  # noqa: E731
    case = case_of(f, tensor(0.0, 1.0, 0.0), registry.get(method), 0.0)
    again = rerun(case)
    measured = [a.ratio for a in again.attempts if a.failure is None]
    assert again.error.shape == (3,) and again.error.norm().item() / math.sqrt(3) == pytest.approx(
        measured[-1], rel=1e-6
    )


def case_of(f, y, method, t, status=Status.MAX_STEPS, **options):
    problem, options = ODEProblem(f, y, (t, 3.0)), Options(**options)
    field, atol = VectorField(problem, problem.layout(), t), torch.tensor(1e-9, dtype=y.dtype)
    return Case(
        problem,
        field,
        problem.layout(),
        method,
        method.name,
        status,
        t,
        y,
        y,
        (t, 3.0),
        options,
        atol,
        (1, 2),
        [],
        10,
    )


def test_refused_steps_go_on_with_the_state_from_before():
    """Of a method with a memory: after a step that the domain refused, it has not taken it."""
    case = case_of(lambda t, y: -y, tensor(1.0), registry.get("qndf"), 0.0)
    refusals = []

    class Limit:
        @staticmethod
        def allow(t, y):
            refusals.append(t)
            return len(refusals) % 2 == 0

    case.limits = Limit
    attempts = rerun(case).attempts
    refused = [a for a in attempts if a.failure is Status.DOMAIN]
    assert len(refused) > 5
    assert all(
        a.accepted or a.failure is Status.DOMAIN for a in attempts[attempts.index(refused[0]) :]
    )


def test_the_rerun_goes_as_the_solve_went():
    """With the state of the method carried from step to step: the last of them to the end."""
    for method, count in (("qndf", 60), ("tsit5", 25)):
        attempts = rerun(
            case_of(lambda t, y: -y, tensor(1.0), registry.get(method), 0.0, rtol=1e-4)
        ).attempts
        assert attempts[-1].t + attempts[-1].h == pytest.approx(3.0) and len(attempts) < count
        assert sum(not a.accepted for a in attempts) < 8


def test_the_watched_norm_is_the_norm():
    atol = torch.tensor(1e-3, dtype=torch.float64)
    plain, y, y1, e = (
        Tolerance(1e-2, atol, 3),
        tensor(1.0, -4.0, 0.0),
        tensor(2.0, 1.0, 0.0),
        tensor(0.1, 0.2, -0.3),
    )
    watched = WatchedTolerance(plain)
    assert watched.ratio(e, y, y1) == pytest.approx(plain.ratio(e, y, y1), rel=1e-14)
    assert torch.allclose(watched.vector, e / (1e-3 + 1e-2 * tensor(2.0, 4.0, 0.0)), rtol=1e-14)
    assert watched.rms(e, plain.scale(y)) == pytest.approx(plain.rms(e, plain.scale(y)), rel=1e-14)
    assert len(watched.norms) == 2
    watched.begin()
    assert watched.vector is None and not watched.norms


def test_bisection():
    s, i, change, pole = jump(lambda s: tensor(s, 3.0 * (s > 0.3)), -1.0, 2.0)
    assert (
        s == pytest.approx(0.3, abs=1e-12) and i == 1 and change == pytest.approx(3.0) and not pole
    )
    assert jump(lambda s: tensor(math.atan(1e6 * s)), -1.0, 2.0) is None
    assert jump(lambda s: tensor(1.0), -1.0, 2.0) is None
    assert jump(lambda s: tensor(1 / (s - 0.1)), -1.0, 2.0)[3]


def test_every_status_has_a_report():
    """Whatever the rules find or do not find, the last one answers."""
    for status in Status:
        if not status.success:
            report = examine(
                case_of(
                    lambda t, y: -y, tensor(1.0), registry.get("tsit5"), 0.0, status, min_step=1e-3
                )
            )
            assert report.cause and report.finding.endswith(".") and report.remedy.endswith("."), (
                status
            )


@pytest.mark.parametrize("method", registry.names())
def test_fixed_steps_that_overflow_are_no_success(method):
    """The solution is infinite at t = 1, which linearly implicit methods may jump across; no output
    may be."""
    try:
        solution = solve(
            lambda t, y: y * y,
            tensor(1.0, 0.5),
            [0.0, 0.3, 30.0],
            method=method,
            step_size=0.1,
            throw=False,
        )
    except ValueError as error:
        assert "step_size" in str(error)
        return
    assert bool(torch.isfinite(solution.y).all())
    if not registry.get(method).implicit:
        path = solution._trajectory
        assert solution.status is Status.DIVERGED and len(solution.t) == 2 and 0.9 < path.t < 3
        assert [a.accepted for a in path.attempts[-2:]] == [True, False] and bool(
            torch.isfinite(path.y).all()
        )
