"""First steps and stops: as short as floating point allows, repeated, and beside one another."""

import math

import pytest
import torch

from pynode import SolveError, solve

METHODS = (
    "Rodas5P",
    "QNDF",
    "FBDF",
    "ABDF2",
    "RadauIIA5",
    "AdamsPECE",
    "KenCarp4",
    "Kvaerno5",
    "Tsit5",
    "auto",
)
BATCHED = ("Rodas5P", "QNDF", "FBDF", "KenCarp4", "Kvaerno5", "Tsit5")
TORCH = [*((method, "single") for method in METHODS), *((method, "rows") for method in BATCHED)]
JULIA = [(method, "julia") for method in ("Tsit5", "Rodas5P", "QNDF")]
on_torch = pytest.mark.parametrize(("method", "engine"), TORCH, indirect=["engine"])
on_all = pytest.mark.parametrize(("method", "engine"), TORCH + JULIA, indirect=["engine"])


def decay(engine, method, span=(0.0, 1.0), **options):
    y0 = torch.ones(1, dtype=torch.float64)
    return float(engine.solve(lambda t, y: -y, y0, span, method=method, **options).y[-1])


@on_all
@pytest.mark.parametrize(
    "stops", [[0.5, 0.5], [5e-324], [5e-324, 1e-310, 0.5], [0.5, 0.5 + 2e-16], [0.5, 0.5 + 1e-12]]
)
def test_stops_that_repeat_or_hardly_differ(method, engine, stops):
    assert decay(engine, method, tstops=stops) == pytest.approx(math.exp(-1), rel=1e-4)


@on_torch
@pytest.mark.parametrize("ulps", [1, 1000])
def test_a_slope_is_not_read_from_the_ends_of_a_tiny_step(method, engine, ulps):
    """Their difference is rounding, which a step of ordinary size made 1e15 times as large."""
    start, stops = torch.tensor([-673.0], dtype=torch.float64), [3.0, 3.0 + ulps * math.ulp(3.0)]
    for first in (None, 1.0):
        y0, options = (
            start.clone().requires_grad_(),
            {"rtol": 1e-4, "atol": 1e-3, "first_step": first},
        )
        y = engine.solve(
            lambda t, y: 0 * y + 9.2,
            y0,
            [0.0, 2.5, 10.0],
            method=method,
            tstops=stops,
            **options,
        ).y[-1]
        assert float(y.detach()) == pytest.approx(-581.0, abs=1e-6)
        assert float(torch.autograd.grad(y.sum(), y0)[0]) == pytest.approx(1.0, abs=1e-6)


@on_torch
def test_stops_backward_in_time_to_zero(method, engine):
    found = decay(engine, method, (1.0, 0.0), tstops=[5e-324, 0.5, 0.5])
    assert found == pytest.approx(math.exp(1), rel=1e-4)


@on_all
@pytest.mark.parametrize("start", [1.0, -50.0, 1.7e9])
def test_a_span_of_one_unit_in_the_last_place(method, engine, start):
    assert decay(engine, method, (start, math.nextafter(start, math.inf))) == pytest.approx(
        1.0, abs=1e-6
    )


@on_all
@pytest.mark.parametrize(("y0", "t0"), [(6.9e-14, 50.0), (1e-6, 1.7e9)])
def test_a_first_step_below_the_resolution_of_the_start(method, engine, y0, t0):
    start = torch.full((1,), y0, dtype=torch.float64)
    found = engine.solve(lambda t, y: 10 - y, start, (t0, t0 + 1), method=method).y[-1]
    assert float(found) == pytest.approx(10 - (10 - y0) * math.exp(-1), rel=1e-4)


@pytest.mark.parametrize("method", ["KenCarp4", "RadauIIA5", "QNDF", "auto"])
def test_after_jumps(method):
    def pulses(t, y):
        return -y + 10 * (((t > 1) & (t < 1.5)) | ((t > 50) & (t < 50.5))).to(y)

    jumps = [1, 1.5, 50, 50.5]
    found = float(
        solve(pulses, torch.zeros(1).double(), (0.0, 51.5), method=method, jumps=jumps).y[-1]
    )
    assert found == pytest.approx(10 * (1 - math.exp(-0.5)) * math.exp(-1), rel=1e-4)


@pytest.mark.parametrize("batched", [False, True])
def test_a_slope_of_a_tiny_step_is_made_anew(batched):
    """The slope that a step of 1e-12 leaves has rounding of 1e-4: the next step must not begin with
    it."""

    def f(t, y):
        return torch.cat(
            (
                y[..., 1:] - y[..., :1],
                -50 * (y[..., 1:] - torch.cos(torch.as_tensor(t)).reshape(-1, 1)),
            ),
            -1,
        )

    tight, y0 = {"rtol": 1e-8, "atol": 1e-10}, torch.ones(1, 2, dtype=torch.float64)
    plain, stopped = (
        solve(f, y0, (0.0, 2.0), method="Kvaerno5", batched=batched, tstops=stops, **tight).y[
            -1, 0, 0
        ]
        for stops in ([1.0], [1.0, 1.0 + 1e-12])
    )
    assert abs(float(plain - stopped)) < 5e-9


def test_a_solve_that_cannot_go_on_at_zero_ends():
    """At t = 0 no rounding bounds the steps: they end at a small part of the first one."""
    with pytest.raises(SolveError, match="NaN"):
        solve(
            lambda t, y: y / t * float("nan") if t > 0 else 0 * y,
            torch.ones(1).double(),
            (0.0, 1.0),
            method="Tsit5",
        )


@pytest.mark.parametrize("method", ["FBDF", "QNDF"])
@pytest.mark.parametrize("batched", [False, True])
def test_bdf_begins_with_steps_that_order_one_can_take(method, batched):
    """At the start and after each of six jumps. With first steps for order 5, six steps a segment
    were refused."""

    def f(t, y):
        level = torch.floor(t) % 3
        return torch.stack(
            (-1e3 * (y[..., 0] - level.squeeze(-1)) + y[..., 1], y[..., 0] - y[..., 1]), -1
        )

    y0 = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    y0 = y0 if batched else y0[0]
    clock = f if batched else lambda t, y: f(t.unsqueeze(-1), y)
    options = {
        "method": method,
        "batched": batched,
        "jumps": [1, 2, 3, 4, 5, 6],
        "rtol": 1e-6,
        "atol": 1e-8,
    }
    assert solve(clock, y0, (0.0, 7.0), **options).stats.rejected <= 2 * 7
