"""Events of models: each rule of SBML Level 3, sec. 4.11, with a closed form; and gradients."""

import math

import pytest
import torch

from pynode import solve, steady_state
from tests.support.cases import tensor
from tests.support.sbml_texts import antimony

TIGHT = {"rtol": 1e-9, "atol": 1e-12}


def course(text, times, **options):
    return antimony(f"model m; {text}; end").simulate(times, **{**TIGHT, **options})


def values(text, times, name, **options):
    return course(text, times, **options)[name].tolist()


def close(found, expected):
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_a_threshold():
    """S falls to 1/2, is set to 2, and falls again; outputs at an event show what follows it."""
    simulation = course("S' = -S; S = 1; E1: at (S < 0.5): S = 2", [0.0, 0.5, 1.0, 3.0])
    found = simulation["S"].tolist()
    period = math.log(4)
    late = (3 - math.log(2)) % period
    close(found, [1, math.exp(-0.5), 2 * math.exp(math.log(2) - 1), 2 * math.exp(-late)])
    times = [float(event.t) for event in simulation.events]
    close(times, [math.log(2), math.log(2) + period])
    assert {event.name for event in simulation.events} == {"E1"}


def test_what_begins_to_grow_slowly():
    """D grows with t^3 from zero: its trigger becomes true at once."""
    text = "B' = 1; C' = B; D' = C; B = 0; C = 0; D = 0; R = 0; at (D > 0): R = 1"
    close(values(text, [0.0, 1.0], "R"), [1, 1])


def test_what_rests_at_zero_and_begins_to_move():
    text = "S' = piecewise(0, time < 2, 1); S = 0; R = 0; at (S > 0): R = time"
    close(values(text, [0.0, 1.9, 2.0, 4.0], "R"), [0, 0, 2, 2])


@pytest.mark.parametrize("trigger", ["time >= 2", "2 - time <= 0", "2*time - 3 > a"])
def test_triggers_of_the_time_alone(trigger):
    text = f"a = 1; S' = 1; S = 0; at ({trigger}): S = 10"
    close(values(text, [0.0, 1.0, 2.0, 3.0], "S"), [0, 1, 10, 11])


def test_triggers_of_a_function_of_the_time():
    """The solver watches what is not linear in the time, also where no state moves."""
    text = "n = 0; at (sin(time) > 0.5): n = n + 1"
    close(values(text, [0.0, 0.5, 0.6, 6.0, 7.0, 13.2], "n"), [0, 0, 1, 1, 2, 3])


def test_delay():
    """The event happens later, with the values of the time when it was triggered, or of then."""
    text = "S' = 1; S = 0; R = 0; E: at 2 after (S > 1){}: R = S"
    times = [0.0, 2.9, 3.1, 4.0]
    close(values(text.format(""), times, "R"), [0, 0, 1, 1])
    close(values(text.format(", fromTrigger=false"), times, "R"), [0, 0, 3, 3])


def test_a_delay_that_depends_on_the_state():
    text = "S' = 1; S = 0; R = 0; at 3*S after (S > 1): R = 1"
    close(values(text, [0.0, 3.9, 4.1], "R"), [0, 0, 1])


@pytest.mark.parametrize("persistent, result", [("true", 1), ("false", 0)])
def test_persistence(persistent, result):
    """S > 1 holds from 1 to 2 alone, which is shorter than the delay."""
    text = (
        "S' = 1; S = 0; R = 0; at (S > 2): S = -10;"
        f" E: at 3 after (S > 1), persistent={persistent}: R = 1"
    )
    close(values(text, [0.0, 6.0], "R"), [0, result])


@pytest.mark.parametrize("before, result", [("true", 0), ("false", 1)])
def test_the_value_of_a_trigger_before_the_start(before, result):
    text = f"S' = 0; S = 2; R = 0; at (S > 1), t0={before}: R = 1"
    close(values(text, [0.0, 1.0], "R"), [result, result])


def test_a_trigger_that_begins_with_the_first_moment():
    close(values("S' = 1; S = 0; R = 0; at (S > 0): R = 1", [0.0, 1.0], "R"), [1, 1])


def test_priorities():
    """Of simultaneous events those of higher priority come first, whatever their order."""
    text = (
        "S' = 1; S = 0; R = 1; at (S > 1), priority={}, fromTrigger=false: R = R + 3;"
        " at (S > 1), priority=2, fromTrigger=false: R = 10*R"
    )
    close(values(text.format(1), [0.0, 2.0], "R"), [1, 13])
    close(values(text.format(3), [0.0, 2.0], "R"), [1, 40])
    # Without fromTrigger=false an event assigns the values of its trigger time.
    close(values(text.format(3).replace(", fromTrigger=false", ""), [0.0, 2.0], "R"), [1, 10])


def test_priorities_are_those_of_the_moment():
    text = (
        "S' = 1; S = 0; R = 0; rank = 1; at (S > 1), priority=5: rank = 3;"
        " at (S > 1), priority=rank: R = 1; at (S > 1), priority=2: R = 2"
    )
    close(values(text, [0.0, 2.0], "R"), [0, 2])


def test_equal_priorities_are_in_random_order():
    """The same seed gives the same order, and other seeds give both orders."""
    text = "S' = 1; S = 0; R = 0; at (S > 1), priority=1: R = 1; at (S > 1), priority=1: R = 2"
    model = antimony(f"model m; {text}; end")
    found = {float(model.simulate([0.0, 2.0], seed=seed)["R"][-1]) for seed in range(12)}
    assert found == {1.0, 2.0}
    first, again = (model.simulate([0.0, 2.0], seed=3)["R"][-1] for _ in range(2))
    assert first == again


def test_an_event_that_withdraws_another():
    """Not persistent, and its trigger becomes false before it happens, at the same time."""
    text = (
        "S' = 1; S = 0; R = 0; at (S > 1), priority=2: S = -5;"
        " at (S > 1), priority=1, persistent=false: R = 1"
    )
    close(values(text, [0.0, 2.0], "R"), [0, 0])


def test_cascades():
    text = "S' = 1; S = 0; P = 0; R = 0; at (S > 1): P = 1; at (P > 0.5): R = P + 1"
    simulation = course(text, [0.0, 2.0])
    close(simulation["R"].tolist(), [0, 2])
    close([float(event.t) for event in simulation.events], [1, 1])


def test_endless_cascades_are_refused():
    text = "S' = 1; S = 0; P = 0; at (P > 0.5): P = 0; at (S > 1 && P < 0.5): P = 1"
    with pytest.raises(ValueError, match="without end"):
        course(text, [0.0, 2.0])


def test_conditions_of_several_relations():
    text = "S' = 1; S = 0; n = 0; at ((S > 1 && S < 2) || S > 3): n = n + 1"
    close(values(text, [0.0, 0.5, 1.5, 2.5, 3.5], "n"), [0, 0, 1, 1, 2])


def test_equality_of_counters():
    text = "S' = 1; S = 0; n = 0; R = 0; at (S > 1): n = n + 1, S = 0; at (n == 3): R = time"
    close(values(text, [0.0, 5.5], "R"), [0, 3])


def test_amounts_stay_where_a_volume_changes():
    text = (
        "compartment C = 2; species S in C, T in C; J: S => T; 0*S; S = 3; T = 1;"
        " at (time > 1): C = 4; at (time > 2): S = 5; at (time > 3): S = 1, C = 1"
    )
    simulation = course(text, [0.0, 1.5, 2.5, 3.5])
    # An event that changes both assigns the concentration in the volume before it.
    close(simulation["S"].tolist(), [3, 1.5, 5, 4])
    close(simulation["T"].tolist(), [1, 0.5, 0.5, 2])


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_gradients_through_the_times_of_events(backend):
    """y' = -k y falls to h at ln(1/h)/k, jumps to 1, and goes on: y(T) = h^(-1) exp(-k T)."""
    if backend == "native":
        pytest.importorskip("llvmlite", reason="native code needs llvmlite")
    model = antimony("model m; S' = -k*S; S = 1; k = 1.3; h = 0.4; at (S < h): S = 1; end")
    p = model.values.clone().requires_grad_()
    end = model.simulate([0.0, 1.0], p, backend=backend, **TIGHT)["S"][-1]
    k, h = (model.constants.index(name) for name in "kh")
    close([end.item()], [math.exp(-1.3) / 0.4])
    (gradient,) = torch.autograd.grad(end, p)
    expected = tensor(-math.exp(-1.3) / 0.4, -math.exp(-1.3) / 0.16)
    torch.testing.assert_close(gradient[[k, h]], expected, rtol=1e-5, atol=0)


def test_gradients_in_delays_and_planned_times():
    """S grows from the event on, which happens at a + d."""
    text = "model m; S' = on; S = 0; on = 0; a = 0.7; d = 0.6; at d after (time > a): on = 2; end"
    model = antimony(text)
    p = model.values.clone().requires_grad_()
    end = model.simulate([0.0, 3.0], p, **TIGHT)["S"][-1]
    close([end.item()], [2 * 1.7])
    (gradient,) = torch.autograd.grad(end, p)
    places = [model.constants.index(name) for name in "ad"]
    torch.testing.assert_close(gradient[places], tensor(-2.0, -2.0), rtol=1e-6, atol=0)


def test_what_simulate_refuses():
    model = antimony("model m; S' = -S; S = 1; end")
    with pytest.raises(ValueError, match="one vector of constants"):
        model.simulate([0.0, 1.0], model.values.repeat(2, 1))
    with pytest.raises(ValueError, match="times that increase"):
        model.simulate([1.0, 0.0])


def test_values_that_the_file_leaves_out():
    model = antimony("model m; S' = -k*S; S = 1; var unused; end")
    with pytest.raises(ValueError, match="no value for k, on which"):
        model.simulate([0.0, 1.0])
    p = model.values.index_fill(0, torch.tensor(model.constants.index("k")), 1.0)
    close(model.simulate([0.0, 1.0], p, **TIGHT)["S"].tolist(), [1, math.exp(-1)])


def test_an_event_that_divides_by_zero():
    with pytest.raises(ValueError, match="the event E1 at the time 1 makes S infinite"):
        course("S' = -S; S = 1; z = 0; E1: at (time > 1): S = S/z", [0.0, 2.0])


def test_a_plain_solve_refuses_a_model_with_events():
    """Rows, Newton's iteration and the plain solve say what to call; who wants none says so."""
    model = antimony(
        "model m; S' = 1 - S; S = 1; k = 0.1; E: at (time >= 1): S = 2; end", learn=["k"]
    )
    options = {"args": (model.values,), **TIGHT}
    with pytest.raises(ValueError, match=r"events \(E\).*model\.simulate.*without_events"):
        solve(model, model.initial(), [0.0, 2.0], **options)
    with pytest.raises(ValueError, match=r"model\.simulate"):
        solve(model, model.initial()[None], [0.0, 2.0], batched=True, **options)
    with pytest.raises(ValueError, match=r"model\.simulate"):
        steady_state(model, model.initial(), args=(model.values,))
    plain = model.without_events()
    assert plain.without_events() is plain and not plain.events and model.events
    assert next(plain.parameters()) is next(model.parameters())
    found = solve(plain, plain.initial(), [0.0, 2.0], **options)
    close(found.y[:, 0].tolist(), [1.0, 1.0])
