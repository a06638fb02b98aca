"""The rules of failure reports, each on a case made by hand, forward and backward in time."""

import pytest
import torch

from pynode import ODEProblem
from pynode.core.options import Options
from pynode.core.status import Status
from pynode.core.stop_conditions import Limits
from pynode.core.trajectory import Attempt
from pynode.core.vector_field import VectorField
from pynode.failure import Case, field_causes, probes, solver_causes
from pynode.failure.examine import _shares
from pynode.failure.rerun import Rerun, _is_rounding
from pynode.methods import registry
from tests.support.cases import tensor

both = pytest.mark.parametrize("sign", [1.0, -1.0])


def case_of(
    f,
    y,
    t=0.0,
    span=(0.0, 3.0),
    status=Status.MAX_STEPS,
    size=1e-3,
    method="tsit5",
    start=None,
    jac=None,
    **more,
):
    """A solve of f that ended at (t, y) after steps of one size."""
    problem = ODEProblem(f, y, span, jac=jac)
    layout, atol = problem.layout(), torch.tensor(1e-9, dtype=y.dtype)
    method, start = registry.get(method), y if start is None else start
    return Case(
        problem,
        VectorField(problem, layout, t),
        layout,
        method,
        method.name,
        status,
        t,
        y,
        start,
        span,
        Options(),
        atol,
        (1, 2),
        [Attempt(t, size, 0.5, None)],
        100,
        **more,
    )


@both
@pytest.mark.parametrize("power", [2, 3])
def test_the_time_of_a_blow_up(sign, power):
    """y' = y^p is infinite after y^(1 - p) / (p - 1)."""
    f, y = (lambda t, y: sign * y**power), tensor(0.1, 100.0)
    case = case_of(f, y, t=0.5 * sign, span=(0.0, 3.0 * sign), start=tensor(0.1, 0.5))
    component, t = probes.blow_up(case)
    assert component == 1 and t == pytest.approx(
        sign * (0.5 + 100.0 ** (1 - power) / (power - 1)), rel=1e-9
    )
    # Not grown.
    assert (
        probes.blow_up(case_of(f, y, t=0.5 * sign, span=(0.0, 3.0 * sign), start=tensor(0.1, 20.0)))
        is None
    )
    backward = case_of(
        lambda t, y: -f(t, y), y, t=0.5 * sign, span=(0.0, 3.0 * sign), start=tensor(0.1, 0.5)
    )
    assert probes.blow_up(backward) is None  # it decays
    assert (
        probes.blow_up(
            case_of(lambda t, y: sign * 1e3 * y, y, span=(0.0, 3.0 * sign), start=tensor(0.1, 0.5))
        )
        is None
    )


def test_the_gap_between_autograd_and_differences():
    """f_1 hangs on y_0 by 3, of which autograd sees 1; the other entries are right, and one is
    large."""

    def f(t, y):
        return torch.stack((1e4 * y[0] - 5 * y[1], y[0] + 2 * y[0].detach() + 7 * y[1]))

    i, j, own, true = probes.wrong_derivative(case_of(f, tensor(1e3, 1e-3)))
    assert (i, j) == (1, 0) and own == pytest.approx(1.0) and true == pytest.approx(3.0, rel=1e-6)
    bent = probes.wrong_derivative(
        case_of(lambda t, y: torch.exp(300 * (y.detach() - 1)), tensor(1.0))
    )
    assert bent[2] == 0 and bent[3] == pytest.approx(300, rel=1e-4)
    assert (
        probes.wrong_derivative(case_of(lambda t, y: torch.sin(y) + y.flip(0), tensor(1.0, 2.0)))
        is None
    )
    # No derivative.
    assert (
        probes.wrong_derivative(case_of(lambda t, y: torch.relu(y - 1.0), tensor(1.0, 2.0))) is None
    )


@both
def test_events_that_pile_up(sign):
    times = [sign * (1 - 0.5**n) for n in range(1, 7)]
    events = [("bounce", t) for t in times]
    case = case_of(
        lambda t, y: -y, tensor(1.0), times[-1], (0.0, 3.0 * sign), Status.MAX_EVENTS, events=events
    )
    found = solver_causes.events(case, Rerun())
    assert found.cause == "events pile up" and found.finding.endswith(f"t = {sign:g}.")
    assert f"before t = {sign:g}," in found.remedy
    case.events = [("bounce", sign * n) for n in range(6)]
    assert solver_causes.events(case, Rerun()).cause == "many events"


@both
def test_a_state_that_leaves_zero_behind(sign):
    def examined(f, y):
        case = case_of(f, y, span=(0.0, 3.0 * sign), status=Status.DOMAIN)
        case.limits = Limits.of(
            case.layout, case.field.stats, None, None, True, None, torch.tensor(1e-9)
        )
        return solver_causes.domain(case, Rerun()).finding

    assert "y[1] = 1e-12" in examined(lambda t, y: torch.full_like(y, -sign), tensor(1.0, 1e-12))
    assert "Every step" in examined(lambda t, y: torch.full_like(y, sign), tensor(1.0, 1e-12))
    assert "Every step" in examined(lambda t, y: torch.full_like(y, -sign), tensor(1.0, 0.5))
    assert "refuses the last good state" in examined(lambda t, y: y / 0, tensor(1.0, 0.5))


@both
def test_what_a_limit_would_have_to_be(sign):
    """100 steps made two thirds of the span; 1000 more of the last size are left: 1.5 times 1100 of
    100."""
    case = case_of(lambda t, y: -y, tensor(1.0), 2.0 * sign, (0.0, 3.0 * sign), size=1e-3 * sign)
    found = solver_causes.limit(case, Rerun())
    assert found.finding.startswith(
        "100 steps reached 66.7 % of the span, the last ones of size 0.001: about 1e+03 more"
    )
    assert "max_steps by a factor of 16" in found.remedy


def test_stiffness_is_a_matter_of_the_steps():
    f, y = (lambda t, y: -1e4 * y), tensor(1.0)
    found = solver_causes.stiffness(case_of(f, y, size=3e-4), Rerun())
    assert (
        "about 1e+04, 3 over a step of 0.0003" in found.finding
        and "about 1e+04 steps more" in found.finding
    )
    # Accuracy limits the steps.
    assert solver_causes.stiffness(case_of(f, y, size=1e-6), Rerun()) is None
    # Hardly any are left.
    assert solver_causes.stiffness(case_of(f, y, t=2.9999, size=3e-4), Rerun()) is None
    assert solver_causes.stiffness(case_of(f, y, size=3e-4, method="qndf"), Rerun()) is None


def test_a_jac_is_compared_with_the_derivative():
    f, y = (lambda t, y: torch.stack((y[0] * y[1], 2 * y[1]))), tensor(3.0, 5.0)

    def examined(entry):
        jac = tensor(5.0, 3.0, 0.0, entry).reshape(2, 2)
        return field_causes.jac(
            case_of(f, y, status=Status.NEWTON, method="qndf", jac=lambda t, y: jac), Rerun()
        )

    assert examined(2.0) is None and examined(2.001) is None
    assert "entry (1, 1) is 2.1, the derivative 2" in examined(2.1).finding


def test_the_first_time_at_which_f_is_not_finite():
    case = case_of(lambda t, y: y * torch.sqrt(0.7 - t), tensor(1.0), 0.2)
    assert probes.first_nonfinite(case, 1.5) == pytest.approx(0.7, abs=1e-12)


def test_culprits():
    case = case_of(lambda t, y: torch.log(y[1] - 2) + 0 * y, tensor(-1.0, 3.0, 1.0))
    point = (0.0, tensor(-5.0, 1.0, 2.0), None)
    assert probes.culprits(case, point) == [1] and not probes.mended_by_sign(case, point, 1)
    assert probes.mended_by_sign(case, (0.0, tensor(0.0, -3.0, 0.0), None), 1)


def test_shares_of_the_error():
    case = case_of(lambda t, y: 2 * y, tensor(1.0, 2.0, 3.0, 4.0, 5.0))
    shares = _shares(case, Rerun(error=tensor(0.1, -3.0, 4.0, 0.0, 0.3)))
    assert [s.component for s in shares] == ["y[2]", "y[1]"] and [s.error for s in shares] == [
        4.0,
        -3.0,
    ]
    assert shares[0].part == pytest.approx(16 / 25.1) and (shares[0].y, shares[0].slope) == (
        3.0,
        6.0,
    )


def test_errors_that_stay_are_rounding():
    def attempts(ratio):
        return [Attempt(0.0, 10.0**-k, ratio(10.0**-k), None) for k in range(8)]

    assert (
        _is_rounding(attempts(lambda h: 5.0))
        and not _is_rounding(attempts(lambda h: 1e9 * h))
        and not _is_rounding(attempts(lambda h: 0.5))
    )
    assert not _is_rounding(attempts(lambda h: 5.0)[:3]) and not _is_rounding(
        [Attempt(0.0, 1.0, 5.0, None)] * 8
    )
    case = case_of(lambda t, y: -y, tensor(1.0), status=Status.STEP_TOO_SMALL)
    assert (
        solver_causes.noise(case, Rerun()) is None
        and solver_causes.noise(case, Rerun(noise=True)).cause == "precision"
    )
    case.options = Options(rtol=1e-14)
    assert solver_causes.noise(case, Rerun()).cause == "precision"
