"""Formulas that jump where a state crosses a value: gradients through the times of crossings."""

import pytest
import torch

from pynode import solve
from pynode.backends.packages import missing_for_native
from tests.support.cases import tensor
from tests.support.difference_quotients import central, gradient
from tests.support.sbml_texts import antimony

TIGHT = {"rtol": 1e-10, "atol": 1e-12, "method": "rodas5p"}
NATIVE = pytest.param(
    "native",
    marks=pytest.mark.skipif(bool(missing_for_native()), reason="native code needs its packages"),
)
# S decays to c, and goes on at a constant rate.
DROP = "S' = piecewise(-k*S, S > c, -k*c*0.1); S = 1; k = 0.5; c = 0.4"


def made(text):
    return antimony(f"model m; {text}; end")


def weighted(model, times, **options):
    """A number made of all states at all times, as a function of p."""

    def value(p):
        y = model.simulate(times, p, **{**TIGHT, **options}).y
        return (y * torch.linspace(1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)).sum()

    return value


def close(found, right, rtol=1e-5):
    torch.testing.assert_close(found, right, rtol=rtol, atol=rtol * float(right.abs().max()))


@pytest.mark.parametrize("backend", ["torch", NATIVE])
@pytest.mark.parametrize("adjoint", ["auto", "forward"])
def test_closed_form(backend, adjoint):
    """After t* = ln(1/c)/k: S = c - 0.1 k c (4 - t*). So dS/dk = -0.4 c, and dS/dc follows."""
    model = made(DROP)
    p = model.values.clone().requires_grad_()
    options = {**TIGHT, "backend": backend, "adjoint": adjoint}
    end = model.simulate([0.0, 4.0], p, **options)["S"][-1]
    (found,) = torch.autograd.grad(end, p)
    c = torch.tensor(0.4, dtype=torch.float64)
    right = 1 - 0.1 * 0.5 * (4 + c.log() / 0.5) - 0.1
    assert float(found[model.constants.index("k")]) == pytest.approx(-0.16, rel=1e-7)
    assert float(found[model.constants.index("c")]) == pytest.approx(float(right), rel=1e-7)


@pytest.mark.parametrize("backend", ["torch", NATIVE])
def test_a_plain_solve_and_the_rows_of_a_batch(backend):
    model = made(DROP)
    options = {**TIGHT, "backend": backend}
    p = model.values.clone().requires_grad_()
    one = solve(model, model.initial(p), [0.0, 1.0, 4.0], args=(p,), **options)
    assert one.y.shape == (3, 1) and not one.events
    (right,) = torch.autograd.grad(one.y[-1, 0], p)
    # The second row crosses at another time, the third one not at all.
    rows = model.values.repeat(3, 1)
    rows[1, model.constants.index("k")] = 0.8
    rows[2, model.constants.index("c")] = 1e-3
    rows.requires_grad_()
    many = solve(model, model.initial(rows), [0.0, 1.0, 4.0], args=(rows,), batched=True, **options)
    assert many.y.shape == (3, 3, 1) and [len(records) for records in many.events] == [0, 0, 0]
    (found,) = torch.autograd.grad(many.y[-1].sum(), rows)
    close(found[0], right)
    assert float(found[1, model.constants.index("k")]) == pytest.approx(-0.16, rel=1e-7)
    slope = -4.0 * torch.exp(torch.tensor(-2.0)).item()
    assert float(found[2, model.constants.index("k")]) == pytest.approx(slope, rel=1e-7)


def test_without_a_gradient_nothing_stops():
    """The values agree with the ones of a solve with stops."""
    model = made(DROP)
    p = model.values.clone().requires_grad_()
    held = model.simulate([0.0, 1.0, 4.0], p, **TIGHT).y
    with torch.no_grad():
        close(model.simulate([0.0, 1.0, 4.0], p, **TIGHT).y, held.detach(), 1e-8)


KINDS = {
    "an oscillator through a threshold": (
        "x' = y; y' = -w*w*x + piecewise(a, x > c, 0); x = 1; y = 0; w = 2; a = 0.3; c = 0.25",
        20.0,
    ),
    "a function of the time": (
        "S' = piecewise(k, sin(w*time) > 0.3, -S); S = 1; k = 1; w = 1.3",
        7,
    ),
    "two conditions": (
        "S' = -k*S*piecewise(1, (S > c) && (T < d), 3); T' = 1; S = 1; T = 0; k = 0.4; c = 0.3;"
        "d = 1.55",
        4.0,
    ),
    "strict or not": (
        "S' = piecewise(-k*S, S > c, 0) + piecewise(-0.1, S <= c, 0); S = 1; k = 0.5; c = 0.4",
        4.0,
    ),
    "a rule": ("g := piecewise(1, S > c, 3); S' = -k*g*S; S = 1; k = 0.3; c = 0.55", 4.0),
    "with a known time": (
        "S' = piecewise(-k*S, S > c, -0.1) + piecewise(0, time < e, 0.3); S = 1; k = 0.5; c = 0.4;"
        "e = 1.1",
        4.0,
    ),
    "whole numbers": ("S' = k*(1 + floor(S/q)); S = 0.1; k = 0.3; q = 0.37", 4.0),
    "whole numbers above": ("S' = -k*ceil(S/q); S = 3.1; k = 0.3; q = 0.37", 6.0),
    "a remainder": ("S' = piecewise(k, rem(time, q) < h, -S); S = 1; k = 1; q = 1.7; h = 0.65", 8),
    "powers and logarithms": (
        "S' = piecewise(-k*(S^1.7 + log(2*S)), S > c, -0.1); S = 1; k = 0.5; c = 0.4",
        4.0,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_differences(kind):
    text, end = KINDS[kind]
    model = made(text)
    value = weighted(model, torch.linspace(0, end, 6, dtype=torch.float64))
    # Differences of solves with stops have little noise.
    right = central(lambda p: value(p.requires_grad_()), model.values)
    close(gradient(value, model.values), right)


def test_where_nothing_jumps_nothing_is_watched():
    text = (
        "S' = piecewise(S - c, S > c, 0) - k*abs(S - c) - max(0, S - c)"
        "+ piecewise(c, S*k < c, S*k) - piecewise(0.1, S < 0.1, 2, S > 2, S);"
        "S = 1; k = 0.5; c = 0.4"
    )
    model = made(text)
    assert model.pynode_switches.names == ()
    value = weighted(model, [0.0, 1.0, 4.0])
    close(gradient(value, model.values), central(value, model.values))
    assert made(DROP).pynode_switches.names == ("S = c",)


def test_a_start_on_the_surface():
    """The solution leaves it to one side, where it has the gradient of this side."""
    model = made("S' = piecewise(k, S > c, 2*k); S = 0.4; k = 0.5; c = 0.4")
    p = model.values.clone().requires_grad_()
    end = model.simulate([0.0, 2.0], p, **TIGHT)["S"][-1]
    (found,) = torch.autograd.grad(end, p)
    assert float(end.detach()) == pytest.approx(1.4)
    right = {"init(S)": 1.0, "k": 2.0, "c": 0.0}
    close(found, tensor(*(right[name] for name in model.constants)))


def test_at_an_output_and_at_events():
    """The crossing at t = 2 ln 2.5 is an output time; the events move the state across c."""
    crossing = 2 * torch.tensor(2.5, dtype=torch.float64).log().item()
    model = made(DROP)
    assert float(model.simulate([0.0, crossing], **TIGHT)["S"][-1]) == pytest.approx(0.4)
    model = made(f"{DROP}; u = 0.9; E: at (time >= 3): S = u; F: at (S < 0.6): S = S - 0.3")
    value = weighted(model, [0.0, 1.4, 2.5, 3.5, 6.0])
    right = central(lambda p: value(p.requires_grad_()), model.values)
    close(gradient(value, model.values), right)
    with torch.no_grad():
        free = value(model.values)
    assert float(free) == pytest.approx(
        float(value(model.values.clone().requires_grad_()).detach())
    )


def test_sliding_is_said_and_does_not_hang():
    """S slides along c: both sides lead to it."""
    model = made("S' = piecewise(-k, S > c, k); S = 1; k = 0.5; c = 0.4")
    p = model.values.clone().requires_grad_()
    with pytest.warns(UserWarning, match=r"S = c.*the gradient is not right there.*hysteresis"):
        end = model.simulate([0.0, 1.5], p, rtol=1e-4, atol=1e-5)["S"][-1]
    assert float(end.detach()) == pytest.approx(0.4, abs=1e-3)


def test_what_rests_on_the_surface_begins_to_move():
    """S stays at c until its input begins, and then crosses."""
    model = made(
        "S' = piecewise(0, time < e, k) + piecewise(0.2, S > c, 0); S = 0.4; k = 0.5; c = 0.4;"
        "e = 1.3"
    )
    p = model.values.clone().requires_grad_()
    end = model.simulate([0.0, 1.0, 3.0], p, **TIGHT)["S"][-1]
    (found,) = torch.autograd.grad(end, p)
    assert float(end.detach()) == pytest.approx(0.4 + 0.7 * 1.7)
    assert float(found[model.constants.index("e")]) == pytest.approx(-0.7)
    assert float(found[model.constants.index("k")]) == pytest.approx(1.7)


def test_a_root_that_ends_at_the_surface():
    """Behind the surface the square root has no value. It is not needed there."""
    model = made("S' = piecewise(-k*(1 + sqrt(S - c)), S > c, -0.1); S = 1; k = 0.5; c = 0.4")
    p = model.values.clone().requires_grad_()
    end = model.simulate([0.0, 4.0], p, **TIGHT)["S"][-1]
    (found,) = torch.autograd.grad(end, p)
    # With u = sqrt(S - c): 2 u u' = -k (1 + u), so k t* = 2 (u0 - ln(1 + u0)).
    root = torch.tensor(0.6, dtype=torch.float64).sqrt()
    crossing = 2 * (root - (1 + root).log()) / 0.5
    assert float(end.detach()) == pytest.approx(0.4 - 0.1 * (4 - float(crossing)), rel=1e-6)
    right = -0.1 * float(crossing) / 0.5
    assert float(found[model.constants.index("k")]) == pytest.approx(right, rel=1e-2)


RELATIONS_BETWEEN_WHOLE_NUMBERS = {
    "one that follows from another one": (
        "S' = -S + piecewise(0.3, (rem(time, P) <= h) || (rem(time, P) <= 0.45*h), 1);"
        "S = 0.14; P = 1.13; h = 0.3154"
    ),
    "with another condition": (
        "x' = -0.5*x + 0.8*y"
        "+ piecewise(0.3*x, (rem(time, P) <= 0.38*c) || (rem(time, P) <= 0.17*c), a);"
        "y' = -0.9*x - 0.2*y + piecewise(b*x, x > -0.3*c, b*x, rem(time, P) > 0.8*c, 0.3*x);"
        "x = 0.14; y = -0.54; a = 0.31; b = -0.7; c = 0.83; P = 1.13"
    ),
    "equality": "S' = piecewise(2*k, floor(S/q) == 2, k); S = 0.1; k = 0.3; q = 0.37",
}


@pytest.mark.parametrize("kind", RELATIONS_BETWEEN_WHOLE_NUMBERS)
def test_relations_between_whole_numbers(kind):
    """They change where the whole numbers jump, too."""
    model = made(RELATIONS_BETWEEN_WHOLE_NUMBERS[kind])
    value = weighted(model, torch.linspace(0, 4, 6, dtype=torch.float64))
    right = central(lambda p: value(p.requires_grad_()), model.values)
    close(gradient(value, model.values), right)


def test_sliding_where_a_whole_number_decides():
    """S slides along 1/2, as it does where the condition is S < 1/2."""
    model = made("S' = b + piecewise(a, floor(2*S) < c, -a); S = 0; a = 0.5; b = 0.1; c = 0.4")
    p = model.values.clone().requires_grad_()
    with pytest.warns(UserWarning, match=r"floor\(2\*S\).*the gradient is not right there"):
        end = model.simulate([0.0, 1.5], p, rtol=1e-4, atol=1e-5)["S"][-1]
    assert float(end.detach()) == pytest.approx(0.5, abs=1e-3)
