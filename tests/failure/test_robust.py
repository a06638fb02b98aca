"""Failure reports of fields that misbehave: they never raise, leave nothing behind, and name the
cause."""

import json

import pytest
import torch

from pynode import Event, RejectStep, solve
from pynode.failure.rerun import PATIENCE
from pynode.sde import solve_sde
from tests.support.cases import tensor


def failed(f, y0, t, **options):
    """The solution of a solve that fails."""
    solution = solve(f, y0, t, throw=False, **options)
    assert not solution.success
    return solution


def square(t, y):
    return y * y


class Watchful(torch.nn.Module):
    """Counts its calls in a buffer, in one that it binds anew, and in an attribute; draws random
    numbers."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 2, dtype=torch.float64)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("anew", torch.zeros(()))
        self.register_buffer("none", None)
        self.count = 0

    def forward(self, t, y):
        self.calls += 1
        self.anew = self.anew + 1
        self.count += 1
        setattr(self, f"call{self.count}", t)
        torch.rand(3)
        return self.linear(y) + y**3


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_report_leaves_nothing_behind(wrapped):
    torch.manual_seed(0)
    module = Watchful()
    solution = failed(
        (lambda t, y: module(t, y)) if wrapped else module,
        tensor(1.0, 2.0),
        [0.0, 3.0],
        method="rodas5p",
    )
    before = (
        module.calls.clone(),
        module.anew,
        module.count,
        torch.get_rng_state(),
        solution.stats.as_dict(),
        set(vars(module)),
    )
    anew = float(module.anew)
    report = solution.report()
    assert report.cause == "blow-up"
    assert (
        torch.equal(module.calls, before[0])
        and module.anew is before[1]
        and float(module.anew) == anew
    )
    assert set(vars(module)) == before[5]
    assert (
        module.count == before[2]
        and torch.equal(torch.get_rng_state(), before[3])
        and solution.stats.as_dict() == before[4]
    )
    assert (
        all(p.grad is None and p.requires_grad for p in module.parameters())
        and torch.is_grad_enabled()
    )
    assert str(solution.report()) == str(report)


def test_the_state_that_functional_call_put_into_a_module_is_looked_at():
    module = Caller()
    report = torch.func.functional_call(module, {"field.rate": tensor(torch.nan)}, ()).report()
    assert (
        report.cause == "nonfinite parameters"
        and "rate" in report.finding
        and bool(torch.isfinite(module.field.rate))
    )


class Decay(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = torch.nn.Parameter(tensor(1.0))

    def forward(self, t, y):
        return -self.rate * y


class Caller(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.field = Decay()

    def forward(self):
        return failed(self.field, tensor(1.0), [0.0, 1.0])


def test_weights_of_a_module_that_a_function_closes_over_are_named_without_gradients():
    module = torch.nn.Linear(1, 1, dtype=torch.float64)
    with torch.no_grad():
        module.bias.fill_(torch.inf)
        report = failed(lambda t, y: module(y), tensor(1.0), [0.0, 1.0]).report()
    assert (
        report.cause == "nonfinite parameters"
        and "Linear.bias holds NaN or infinity in 1 of its 1" in report.finding
    )


def test_a_module_of_the_rows_is_looked_at():
    module = torch.nn.Linear(1, 1, dtype=torch.float64)
    module.weight.data.fill_(torch.nan)
    field = torch.nn.Sequential(module)
    field.forward = lambda t, y: module(y)
    report = failed(
        field, torch.ones(2, 1, dtype=torch.float64), [0.0, 1.0], method="tsit5", batched=True
    ).report(1)
    assert report.cause == "nonfinite parameters" and report.row == 1


def ends(t, y):
    """Data that end at t = 1, told by an exception; solved up to 0.9 alone."""
    if float(t.detach()) > 1:
        raise LookupError("no data")
    return -y


def picky(t, y):
    if bool((y < 0.5).any()):
        raise ArithmeticError("too little")
    return -y


@pytest.mark.parametrize("f", [ends, picky])
@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf", "radauiia5", "kencarp4"])
def test_what_f_raises_where_the_solve_never_came_is_no_error(f, method):
    solution = failed(
        f, tensor(1.0), [0.0, 5.0], method=method, max_step=0.01, max_steps=65 if f is picky else 98
    )
    assert solution.report().cause in ("max_steps", "stiffness")


def test_a_jac_of_the_wrong_shape_that_nobody_used():
    report = failed(
        square, tensor(1.0), [0.0, 3.0], method="tsit5", jac=lambda t, y: torch.eye(2)
    ).report()
    assert report.cause == "blow-up"


def test_a_domain_that_raises():
    def domain(t, y):
        if float(y[0]) > 2:
            raise ValueError
        return True

    solution = failed(
        lambda t, y: torch.ones_like(y),
        tensor(0.0),
        [0.0, 3.0],
        method="tsit5",
        max_step=0.1,
        max_steps=12,
        domain=domain,
    )
    assert solution.report().cause == "max_steps"


@pytest.mark.parametrize("seeded", [torch.nn.functional.dropout, lambda y: y + torch.randn_like(y)])
def test_a_random_field(seeded):
    report = failed(
        lambda t, y: -seeded(y), tensor(1.0), [0.0, 3.0], method="tsit5", max_steps=300
    ).report()
    assert report.cause == "f is not repeatable" and "module.eval()" in report.remedy


def test_a_field_that_edits_its_argument():
    def f(t, y):
        y *= 1.001
        return y * y

    solution = failed(f, tensor(1.0), [0.0, 3.0], method="tsit5", max_steps=300)
    reached = solution.y.clone()
    assert solution.report().cause == "f changes its argument" and torch.equal(solution.y, reached)


def test_poles():
    report = failed(
        lambda t, y: 1 / t + 0 * y, tensor(1.0), [-1.0, 1.0], method="tsit5", max_steps=300
    ).report()
    assert report.cause == "pole of f in time" and "jumps=" not in report.remedy
    report = failed(
        lambda t, y: 1 / (1 - y), tensor(0.0), [0.0, 3.0], method="tsit5", max_steps=300
    ).report()
    assert report.cause == "pole of f in the state"


def test_times_that_floating_point_cannot_tell_apart():
    def f(t, y):
        return -1e9 * (y - torch.cos(t))

    report = failed(f, tensor(0.3), [1e8, 1e8 + 3], method="tsit5").report()
    assert (
        report.cause == "resolution of time"
        and "1e+08" in report.finding
        and "'qndf'" in report.remedy
    )


def test_single_precision_of_t_is_no_jump():
    def f(t, y):
        return torch.sin(1e4 * t) + 0 * y

    report = failed(
        f,
        tensor(1.0, dtype=torch.float32),
        [900.0, 901.0],
        method="tsit5",
        max_steps=50,
        max_step=1e-4,
    ).report()
    assert report.cause == "max_steps"


def test_a_field_that_wiggles_is_differentiable():
    def f(t, y):
        return -y + 1e-3 * torch.sin(1e9 * y)

    assert (
        failed(f, tensor(1.0), [0.0, 3.0], method="rodas5p", max_steps=30).report().cause
        == "max_steps"
    )


def test_jumps_that_are_named_are_not_found_again():
    def f(t, y):
        return torch.where(t < 1.0, 0.0, 1e3).to(y) - y

    report = failed(
        f, tensor(1.0), [0.0, 3.0], jumps=[1.0], method="tsit5", max_step=0.01, max_steps=99
    ).report()
    assert report.t == pytest.approx(0.99) and report.cause == "max_steps"


def test_what_lies_beyond_the_span_is_not_asked():
    asked = []

    def f(t, y):
        asked.append(float(t))
        return torch.cos(50 * t) - y

    for start, end in ((0.0, 1.0), (0.0, -1.0)):
        asked.clear()
        failed(f, tensor(1.0), [start, end], method="tsit5", max_steps=3).report()
        assert min(asked) >= min(start, end) and max(asked) <= max(start, end)


def test_limits_of_a_row_count_its_own_steps():
    f, y0 = (lambda t, y: torch.cos(30 * y[..., :1] * t) + 0 * y), tensor([1.0], [2.0])
    solution = failed(f, y0, [0.0, 5.0], method="tsit5", batched=True, max_steps=40)
    report = solution.report(1)
    assert report.cause == "max_steps" and report.finding.startswith("40 steps reached")
    size = float(report.finding.split("of size ")[1].split(":")[0])
    assert 0.2 < size * 40 / report.t < 5 and report.attempts


def test_the_event_that_was_one_too_many_is_named():
    often = Event(lambda t, y: torch.sin(20 * t) + 0 * y[0], max_events=5, name="often")
    rarely = Event(lambda t, y: torch.sin(20 * t - 3.0) + 0 * y[0], name="just before")
    report = failed(
        lambda t, y: -y,
        tensor(1.0),
        [0.01, 3.0],
        events=[often, rarely],
        method="tsit5",
        max_step=0.05,
    ).report()
    assert report.cause == "many events" and "'often' has occurred 6 times" in report.finding
    rows = failed(
        lambda t, y: -y,
        tensor([1.0], [2.0]),
        [0.01, 3.0],
        method="tsit5",
        batched=True,
        max_step=0.05,
        events=[
            Event(lambda t, y: torch.sin(20 * t[:, 0]) + 0 * y[:, 0], max_events=5, name="often")
        ],
    )
    assert "'often' has occurred 6 times" in rows.report().finding


def test_with_a_mass_matrix_rates_are_those_of_the_state():
    report = failed(
        lambda t, y: 4 * y * y, tensor(1.0), [0.0, 3.0], mass=tensor([4.0]), method="rodas5p"
    ).report()
    assert report.cause == "blow-up" and "infinite at t = 1." in report.finding
    assert report.shares[0].slope == pytest.approx(report.shares[0].y ** 2, rel=1e-3)


@pytest.mark.parametrize("method", ["radauiia9", "rk4", "kvaerno3"])
def test_fixed_steps_have_no_error_to_share(method):
    solution = failed(
        lambda t, y: -1e3 * y**3,
        tensor(1.0, 2.0),
        [0.0, 3.0],
        method=method,
        step_size=1e-4,
        max_steps=4,
    )
    report = solution.report()
    assert report.cause in ("max_steps", "stiffness") and not report.shares


def test_a_slow_field_is_asked_for_seconds_alone(clock):
    """A call takes a second. The report needs a few calls beyond its patience, to end what it has
    begun."""
    f = clock.ticking(lambda t, y: torch.cos(300 * t) - y)
    y0 = torch.ones(40, dtype=torch.float64)
    solution = failed(f, y0, [0.0, 3.0], method="rodas5p", max_steps=20)
    began = clock.now
    assert solution.report().cause == "max_steps"
    assert PATIENCE < clock.now - began < 10 * PATIENCE


def test_plain_data_is_strict_json():
    report = failed(lambda t, y: 1 / y, tensor(0.0), [0.0, 1.0]).report()
    json.dumps(report.as_dict(), allow_nan=False)
    report = failed(
        lambda t, y: torch.sqrt(1 - y) + 1, tensor(0.0), [0.0, 3.0], method="tsit5"
    ).report()
    assert any(
        a["ratio"] is None
        for a in json.loads(json.dumps(report.as_dict(), allow_nan=False))["attempts"]
    )
    assert max(map(len, str(report).splitlines())) <= 130


def test_a_solve_under_a_transform_has_a_report():
    seen = []

    def last(y):
        solution = solve(square, y, [0.0, 3.0], throw=False)
        seen.append(solution)
        return solution.y[0].sum()

    torch.func.grad(last)(tensor(1.0))
    assert seen[0].report().cause == "blow-up"


def test_a_stochastic_solve_says_that_it_has_none():
    solution = solve_sde(
        lambda t, y: y**9,
        lambda t, y: 0 * y,
        torch.full((1, 1), 9.0),
        [0.0, 1.0],
        dt=0.1,
        throw=False,
    )
    assert not solution.success
    with pytest.raises(ValueError, match="ordinary differential equations have reports"):
        solution.report()


def test_a_start_that_is_refused():
    def f(t, y):
        raise RejectStep

    for options in ({}, {"method": "tsit5"}, {"method": "qndf", "step_size": None}):
        assert (
            failed(f, tensor(1.0), [0.0, 1.0], **options).report().cause
            == "the solution leaves the domain"
        )
