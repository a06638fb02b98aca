"""Where t is large its rounding must not reach the state: errors in units of the tolerance as they
are at t = 0."""

import math

import pytest
import torch

from pynode import Event, solve
from pynode.compat.torchdiffeq import odeint
from pynode.core.step_control import shortened
from pynode.methods.registry import get
from pynode.sde.brownian import BrownianPath
from tests.support.cases import UNIX

METHODS = ("tsit5", "dp8", "qndf", "fbdf", "rodas5p", "kencarp4", "radauiia5", "adamspece", "rkc")
JULIA = ("tsit5", "vern7", "qndf", "fbdf", "rodas5p", "kencarp4")
BATCHED = ("tsit5", "dp8", "qndf", "fbdf", "rodas5p", "kencarp4")


def growth(t, y):
    return y


def one(*shape):
    return torch.ones(*shape, dtype=torch.float64)


def error(engine, t0, method, rtol, direction=1.0, **options):
    """Of e^1 after one unit of time, in tolerances."""
    f = growth if direction > 0 else lambda t, y: -y
    options = {"method": method, "rtol": rtol, "atol": rtol, **options}
    with torch.no_grad():
        y = engine.solve(f, one(1), (t0, t0 + direction), **options).y[-1]
    return float((y - math.e).abs().max()) / rtol / (1 + math.e)


@pytest.mark.parametrize("direction", [1.0, -1.0], ids=["forward", "backward"])
@pytest.mark.parametrize(
    ("engine", "method"),
    [
        *(("single", method) for method in METHODS),
        *(("rows", method) for method in BATCHED),
        *(("julia", method) for method in JULIA),
    ],
    indirect=["engine"],
)
def test_errors_are_those_at_zero(engine, method, direction):
    rtol = 1e-7 if method == "rkc" else 1e-10
    at_zero = error(engine, 0.0, method, rtol, direction=direction)
    assert error(engine, UNIX, method, rtol, direction=direction) < 2 * at_zero + 0.5


@pytest.mark.parametrize(
    ("engine", "method", "option"),
    [("julia", "radauiia5", "radau"), ("julia", "cvode_bdf", "sundials")],
    indirect=["engine"],
)
def test_errors_of_optional_packages(engine, method, option):
    engine.require_package(option)
    at_zero = error(engine, 0.0, method, 1e-10)
    assert error(engine, UNIX, method, 1e-10) < 2 * at_zero + 0.5


@pytest.mark.parametrize("engine", ["single", "rows"], indirect=True)
def test_steps_of_one_size(engine):
    """The size of a step is what the time moves by: with 1e-3 at t = 1.7e9 it is 0.99993 of it, and
    one step more."""
    assert error(engine, UNIX, "tsit5", 1e-10, step_size=1e-3) < 1


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_stops_outputs_and_dense_output(method):
    times = torch.tensor([UNIX, UNIX + 0.3, UNIX + 0.7, UNIX + 1.0], dtype=torch.float64)
    inside = [UNIX + x for x in (0.1, 0.35, 0.9)]
    solution = solve(
        growth,
        one(1),
        times,
        method=method,
        rtol=1e-10,
        atol=1e-10,
        tstops=[UNIX + 0.5],
        dense=True,
    )
    for t, y in zip(
        [*times.tolist(), *inside], [*solution.y, *(solution(t) for t in inside)], strict=True
    ):
        assert abs(float(y) - math.exp(t - UNIX)) < 1e-8


def test_events():
    event = Event(lambda t, y: y[..., 0] - 2, terminal=True)
    for batched, y0 in ((False, one(1)), (True, one(2, 1))):
        found = solve(
            growth,
            y0,
            (UNIX, UNIX + 1),
            method="tsit5",
            rtol=1e-10,
            atol=1e-10,
            events=event,
            batched=batched,
        )
        records = found.events[0] if batched else found.events
        assert abs(float(records[0].t) - UNIX - math.log(2)) < 5e-7  # two units in the last place
        assert abs(float(records[0].y[0]) - 2) < 1e-6


ADJOINTS = ["discrete", "gauss", "gausskronrod", "interpolating", "backsolve"]
JULIA_ADJOINTS = ["auto", "gauss", "interpolating"]


@pytest.mark.parametrize(
    ("engine", "adjoint"),
    [
        *(("single", a) for a in ADJOINTS),
        *(("julia", a) for a in JULIA_ADJOINTS),
    ],
    indirect=["engine"],
)
def test_gradients(engine, adjoint):
    engine.require_adjoint(adjoint)

    def gradient(t0):
        k, y0 = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), one(1).requires_grad_()
        y = engine.solve(
            lambda t, y, k: torch.sin(k * y),
            y0,
            (t0, t0 + 1),
            method="tsit5",
            args=(k,),
            rtol=1e-10,
            atol=1e-10,
            adjoint=adjoint,
        ).y[-1]
        return torch.stack([x.reshape(()) for x in torch.autograd.grad(y.sum(), (k, y0))])

    assert float((gradient(UNIX) - gradient(0.0)).abs().max()) < 2e-10


class Growth(torch.nn.Module):
    def forward(self, t, y):
        return y


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_compiled_steps(method):
    def final(compiler):
        chosen = get(method, compile=compiler)
        return solve(Growth(), one(1), (UNIX, UNIX + 1), method=chosen, rtol=1e-10, atol=1e-10)

    with torch.no_grad():
        plain, compiled = final(False), final("eager")
    assert compiled.stats.accepted == plain.stats.accepted
    assert float((compiled.y[-1] - plain.y[-1]).abs()) < 1e-12


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_torchdiffeq(method):
    t = torch.tensor([UNIX, UNIX + 1], dtype=torch.float64)
    options = {"step_size": 1e-3} if method == "rk4" else None
    y = odeint(growth, one(1), t, method=method, rtol=1e-10, atol=1e-10, options=options)
    assert abs(float(y[-1]) - math.e) < 1e-8


def test_brownian_path():
    """Values at times that are a few units in the last place apart are not those of the nearest one
    met before."""
    path = BrownianPath((2000,), (UNIX, UNIX + 1), seed=3, dtype=torch.float64)
    step = 5e-6
    increments = torch.stack(
        [path.increment(UNIX + i * step, UNIX + (i + 1) * step) for i in range(4)]
    )
    assert torch.allclose(increments.var(1), torch.full((4,), step, dtype=torch.float64), rtol=0.2)


def test_first_step_that_the_time_can_tell():
    """From near zero at a large time the first step found is too small to move it."""
    start = torch.tensor([1e-6], dtype=torch.float64)
    exact = 10 - (10 - 1e-6) * math.exp(-1)
    for method in ("tsit5", "qndf", "rodas5p"):
        assert (
            abs(
                float(solve(lambda t, y: 10 - y, start, (UNIX, UNIX + 1), method=method).y[-1])
                - exact
            )
            < 1e-4
        )
    rows = solve(
        lambda t, y: 10 - y, start.expand(2, 1), (UNIX, UNIX + 1), method="tsit5", batched=True
    )
    assert float((rows.y[-1] - exact).abs().max()) < 1e-4


def test_a_span_of_one_unit_in_the_last_place():
    end = math.nextafter(1.0, 2.0)
    assert float(solve(lambda t, y: -y, one(1), (1.0, end), method="tsit5").y[-1]) == pytest.approx(
        1.0
    )
    assert float(
        solve(lambda t, y: -y, one(2, 1), (1.0, end), method="tsit5", batched=True).y[-1, 0]
    ) == pytest.approx(1.0)


def test_steps_that_the_time_cannot_tell_are_refused():
    """A blow-up at a large time ends with a sentence, in bounded time."""
    for batched, y0 in ((False, one(1)), (True, one(2, 1))):
        found = solve(
            lambda t, y: y * y, y0, (UNIX, UNIX + 2), method="tsit5", batched=batched, throw=False
        )
        assert not found.success
        assert "floating point can resolve" in found.message


@pytest.mark.parametrize("batched", [False, True], ids=["single", "rows"])
@pytest.mark.parametrize("method", ["KenCarp4", "Rodas5P", "Kvaerno5"])
def test_a_transient_of_a_few_units_in_the_last_place_of_t(method, batched):
    """1.7e9 is known to 2.4e-7, and y falls within 1e-6: refused steps shrink to single units of t,
    not to an error."""
    start, rate = 1.7e9, 1e6

    def f(t, y):
        return -rate * (y - 1.0)

    y0 = 3 * one(2, 1) if batched else 3 * one(1)
    found = solve(f, y0, [start, start + 1e-2], method=method, rtol=1e-3, batched=batched)
    torch.testing.assert_close(found.y[-1], torch.ones_like(y0), rtol=0, atol=1e-3)


def test_a_refused_step_gets_shorter():
    """Also where its end is rounded: by one unit in the last place of t at least."""
    t = 1.7e9
    unit = math.ulp(t)
    assert shortened(0.5, 1.0, 1.5, 0.5) == 0.25
    assert shortened(0.5, 1.0, 1.5, 2.0) == 0.45
    assert shortened(3 * unit, t, t + 3 * unit, 0.9) == 2 * unit
    assert shortened(unit, t, t + unit, 0.9) == 0
    assert shortened(-3 * unit, t, t - 3 * unit, 0.9) == -2 * unit
