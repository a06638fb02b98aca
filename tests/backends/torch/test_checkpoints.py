"""DiscreteAdjoint with few states kept: the gradient of all states kept, from steps repeated in
every digit."""

import math
from functools import cache

import pytest
import torch

from pynode import Banded, DiscreteAdjoint, Event, Krylov, Sparse, SplitField, problems, solve
from pynode.adjoints.discrete.adjoint import parse_bytes
from pynode.backends.torch.checkpoint_schedule import advance, place, repetitions
from pynode.methods.registry import get
from tests.support.cases import METHODS, Forced, diffusion_chain, leaf, tensor
from tests.support.gradients import agree, assert_same, gradients

every_method = pytest.mark.parametrize("method", METHODS)
STIFF = ["KenCarp4", "RadauIIA5", "Rodas5P", "FBDF", "QNDF", "AutoTsit5(Rodas5P())"]
LARGE = 300


def assert_checkpoints_change_nothing(inputs, *problem, counts=(3,), **options):
    expected = gradients(inputs, "discrete", *problem, **options)
    for count in counts:
        found = gradients(inputs, DiscreteAdjoint(checkpoints=count), *problem, **options)
        agree(found, expected, tolerance=1e-12)


@cache
def least(units, slots):
    """Units run again at least, found by trying every place."""
    if units == 1:
        return 0
    if slots == 1:
        return units * (units - 1) // 2
    return min(m + least(m, slots) + least(units - m, slots - 1) for m in range(1, units))


def run_again(units, slots):
    """How often each unit is run again, with points placed on the way forwards and then on the way
    back."""
    points, levels, counts, end = [], [], [0] * units, units
    for i in range(units):
        level = math.inf if i == 0 else 0
        if len(points) == slots:
            given_up = place(levels)
            if given_up is None:
                continue
            level = levels[-1] + 1 if given_up == slots - 1 else 0
            del points[given_up], levels[given_up]
        points.append(i)
        levels.append(level)
    while points:
        if end - points[-1] <= 1:
            end = points.pop()
            continue
        m = advance(end - points[-1], max(1, slots - len(points) + 1))
        for j in range(points[-1], points[-1] + m):
            counts[j] += 1
        points.append(points[-1] + m)
    return counts


@pytest.mark.parametrize("slots", [1, 2, 3, 6])
def test_placement_on_the_way_back_is_the_best_there_is(slots):
    for units in range(2, 60):
        m = advance(units, slots)
        assert 1 <= m < units
        rest = m * (m - 1) // 2 if slots == 1 else least(units - m, slots - 1) + least(m, slots)
        assert least(units, slots) == m + rest
        r = repetitions(units, slots)
        # Griewank & Walther, eq. 2.
        assert least(units, slots) == r * units - math.comb(slots + r, r - 1)


@pytest.mark.parametrize("slots", [1, 2, 3, 6])
def test_placement_without_knowing_the_length_repeats_no_unit_more_often(slots):
    for units in [*range(1, 70), 200]:
        assert max(run_again(units, slots)) <= repetitions(units, slots)


@every_method
def test_the_gradient_is_that_of_all_states(method):
    """Outputs inside steps and at their ends; more points than steps as well."""
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    counts = (
        (7,)
        if method in ("ImplicitEuler", "ImplicitMidpoint", "Trapezoid", "SDIRK2")
        else (1, 3, 500)
    )
    t = [0.3, 0.5, 0.51, 0.9, 1.3]
    assert_checkpoints_change_nothing([y0, *f.parameters()], f, y0, t, method, counts=counts)


@pytest.mark.parametrize("method", STIFF)
def test_steps_are_repeated_in_every_digit(method):
    """On a stiff problem with failed attempts: Jacobians and factorisations have the age that they
    had."""
    f = problems.get("vanderpol").field
    y0 = leaf(tensor(2.0, 0.0))
    options = {"method": method, "rtol": 1e-4, "atol": 1e-6}
    solution = solve(f, y0, [0.0, 820.0], adjoint=DiscreteAdjoint(checkpoints=4), **options)
    recording = solution._trajectory.recording
    assert (
        solution.stats.rejected > 3 and len(recording.restarts.points) <= 4 and not recording.steps
    )
    kept = solve(f, y0, [0.0, 820.0], **options)._trajectory.recording.steps
    repeated = {
        first + i: step for first, steps in recording.backwards() for i, step in enumerate(steps)
    }
    assert len(repeated) == len(kept) == solution.stats.accepted
    assert all(torch.equal(repeated[i].y, step.y) for i, step in enumerate(kept))


@pytest.mark.parametrize(
    "method", ["Tsit5", "Rodas5P", "KenCarp4", "RadauIIA5", "FBDF", "RKC", "AdamsPECE"]
)
def test_large_states(method):
    """Recorded steps let go of their stages, with and without checkpoints."""
    f, y0 = Forced(LARGE), leaf(torch.linspace(-1, 1, LARGE, dtype=torch.float64))
    options = {"rtol": 1e-2, "atol": 1e-3}
    problem = [y0, f.W, f.rate], f, y0, [0.0, 0.2, 0.5], method
    assert_same(*problem, **options)
    assert_checkpoints_change_nothing(*problem, counts=(2,), **options)
    adjoint = DiscreteAdjoint(keep_graphs=False)
    recording = solve(
        f, y0, [0.0, 0.5], method=method, adjoint=adjoint, **options
    )._trajectory.recording
    assert all(step.state is None and not _states(step.tape) for step in recording.steps)


def _states(tape):
    """Vectors as large as the state in a nested tape."""
    if isinstance(tape, torch.Tensor):
        return int(tape.shape[-1] == LARGE)
    return sum(map(_states, tape)) if isinstance(tape, (list, tuple)) else 0


# Rosenbrock methods take no matrix-free Jacobians.
STRUCTURED = [
    ("QNDF", Sparse()),
    ("QNDF", Banded(1, 1)),
    ("QNDF", Krylov()),
    ("Rodas5P", Sparse()),
    ("Rodas5P", Banded(1, 1)),
]


@pytest.mark.parametrize(("method", "structure"), STRUCTURED, ids=lambda x: getattr(x, "name", x))
def test_structured_jacobians(method, structure):
    rate, y0 = leaf(tensor(20.0)), leaf(torch.linspace(0.1, 1, 12, dtype=torch.float64))

    def f(t, y):
        return diffusion_chain(t, y, rate)

    assert_checkpoints_change_nothing(
        [y0, rate], f, y0, [0.0, 0.3, 1.0], get(method, jacobian=structure)
    )


@pytest.mark.parametrize("method", ["QNDF", "FBDF", "Rodas5P"])
def test_mass_matrix(method):
    rate, y0 = leaf(tensor(3.0)[0]), leaf(tensor(1.0, 0.2, 0.7))
    mass = tensor(1.0, 2.0, 0.0)

    def f(t, y):
        return torch.stack(
            (-rate * y[0] * y[1], y[0] - torch.cos(t) * y[1], y[0] + y[1] - 0.5 * y[2])
        )

    options = {"mass": mass, "consistent": "solve"}
    assert_checkpoints_change_nothing([y0, rate], f, y0, [0.0, 0.4, 2.0], method, **options)


def test_split_field():
    slow, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    rate = torch.nn.Parameter(tensor(5.0))
    f = SplitField(lambda t, y: -rate * y, slow)
    assert_checkpoints_change_nothing(
        [y0, rate, *slow.parameters()], f, y0, [0.0, 0.4, 2.0], "KenCarp4", counts=(1, 3)
    )


@pytest.mark.parametrize("method", ["Tsit5", "FBDF", "KenCarp4"])
def test_events(method):
    """A ball that bounces: several segments, each with points of its own; outputs and events are
    those of all states."""
    gravity, y0 = leaf(tensor(9.81)[0]), leaf(tensor(1.0, 0.0))
    ground = Event(
        lambda t, y: y[0], direction=-1, reset=lambda t, y: torch.stack((y[0], -0.8 * y[1]))
    )
    found = []
    for adjoint in ("discrete", DiscreteAdjoint(checkpoints=2)):
        solution = solve(
            lambda t, y: torch.stack((y[1], -gravity * torch.ones_like(y[0]))),
            y0,
            [0.0, 0.7, 1.9],
            method=method,
            events=ground,
            adjoint=adjoint,
            max_step=0.05,
        )
        assert len(solution.events) == 3
        total = solution.y.sum() + solution.events[1].t + solution.events[2].y[1]
        found.append(torch.autograd.grad(total, [y0, gravity]))
    agree(found[1], found[0], tolerance=1e-12)


def test_dense_output_and_times():
    f, y0, t = Forced(), leaf(tensor(1.0, -0.5, 0.3)), leaf(tensor(0.0, 0.4, 2.0))
    found = []
    for adjoint in ("discrete", DiscreteAdjoint(checkpoints=2)):
        solution = solve(f, y0, t, method="tsit5", dense=True, adjoint=adjoint)
        total = solution.y[1].sum() + solution(1.234).sum() + solution.derivative(0.77).sum()
        found.append(torch.autograd.grad(total, [y0, t, *f.parameters()]))
    agree(found[1], found[0], tolerance=1e-12)


def _numbers(held, seen=None):
    """Numbers in all tensors that a recording holds."""
    seen = set() if seen is None else seen
    if isinstance(held, torch.Tensor):
        new = held.data_ptr() not in seen
        seen.add(held.data_ptr())
        return held.numel() if new else 0
    return sum(_numbers(part, seen) for part in held) if isinstance(held, (list, tuple)) else 0


@pytest.mark.parametrize(
    "method", ["Tsit5", "Rodas5P", "KenCarp4", "RadauIIA5", "FBDF", "RKC", "AdamsPECE"]
)
def test_memory_does_not_grow_with_the_steps(method):
    """What the forward solve keeps, in vectors of the state: within the bound that max_memory
    counts with."""
    n, held = 40, []
    for end in (1.0, 6.0):
        f, y0 = Forced(n), leaf(torch.linspace(-1, 1, n, dtype=torch.float64))
        solution = solve(
            f, y0, [0.0, end], method=method, max_step=0.05, adjoint=DiscreteAdjoint(checkpoints=4)
        )
        recording = solution._trajectory.recording
        assert not recording.steps and len(recording.restarts.points) == 4
        held.append(_numbers([point.content for point in recording.restarts.points]) / n)
    assert held[1] <= 4 * recording.method.memory[0]
    assert held[1] <= 1.5 * held[0]


def test_max_memory():
    f, y0 = Forced(40), leaf(torch.linspace(-1, 1, 40, dtype=torch.float64))
    t = [0.0, 1.0, 4.0]
    expected = gradients([y0, f.W], "discrete", f, y0, t, "kencarp4")
    found = gradients([y0, f.W], DiscreteAdjoint(max_memory="20KB"), f, y0, t, "kencarp4")
    agree(found, expected, tolerance=1e-12)
    solution = solve(f, y0, t, method="kencarp4", adjoint=DiscreteAdjoint(max_memory="20KB"))
    recording = solution._trajectory.recording
    assert len(recording.restarts.points) < solution.stats.accepted
    assert 8 * _numbers([point.content for point in recording.restarts.points]) <= 10_000
    assert (
        max(
            8 * _numbers([[s.start, s.y, s.tape] for s in steps])
            for _, steps in recording.backwards()
        )
        <= 10_000
    )
    with pytest.raises(ValueError, match="give at least that"):
        solve(f, y0, t, method="kencarp4", adjoint=DiscreteAdjoint(max_memory=500))


def test_sizes_in_words():
    assert (
        parse_bytes("500MB") == 500_000_000
        and parse_bytes(" 1.5 GiB ") == 3 * 2**29
        and parse_bytes("64b") == 64
    )
    assert parse_bytes(12) == 12
    for wrong in ("a lot", "500", "-1MB", 0):
        with pytest.raises(ValueError, match="max_memory"):
            parse_bytes(wrong)
    with pytest.raises(TypeError, match="max_memory"):
        parse_bytes(1.5)


def test_what_makes_no_sense_is_told():
    with pytest.raises(ValueError, match="at least 1"):
        DiscreteAdjoint(checkpoints=0)
    with pytest.raises(TypeError, match="number of states"):
        DiscreteAdjoint(checkpoints="many")
    with pytest.raises(ValueError, match="not both"):
        DiscreteAdjoint(checkpoints=3, max_memory="1GB")


def test_a_field_that_changes_is_told():
    scale = tensor(1.0)
    y0 = leaf(tensor(1.0, 2.0))
    y = solve(
        lambda t, y: -scale * y,
        y0,
        [0.0, 5.0],
        method="tsit5",
        adjoint=DiscreteAdjoint(checkpoints=2),
    ).y
    scale.mul_(1e4)
    with pytest.raises(
        RuntimeError, match=r"the same values every time|does not return what it returned"
    ):
        y[-1].sum().backward()


def test_repeated_steps_are_counted():
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    solution = solve(f, y0, [0.0, 2.0], method="tsit5", adjoint=DiscreteAdjoint(checkpoints=2))
    forward = solution.stats.as_dict()
    solution.y[-1].sum().backward()
    after = solution.stats.as_dict()
    assert after["backward_steps"] > forward["accepted"] and after["backward_nfe"] > forward["nfe"]
    assert all(after[name] == forward[name] for name in forward if not name.startswith("backward_"))
