"""What a solve returns: outputs, states of every structure and dtype, dense output, limits of
steps, counts."""

import math

import pytest
import torch

from pynode import ODEProblem, Solution, Status, solve
from pynode.methods import registry
from pynode.methods.registry import get
from tests.support.cases import (
    EXPLICIT,
    FAMILIES,
    METHODS,
    ONE_STEP,
    Forced,
    prothero,
    smooth,
    smooth_exact,
    tensor,
)

every_family = pytest.mark.parametrize("method", FAMILIES)
every_method = pytest.mark.parametrize("method", METHODS)


def test_a_solution_tells_what_was_done():
    solution = solve(smooth, smooth_exact(0.0), [0.0, 0.5, 1.0], method="fbdf")
    assert isinstance(solution, Solution) and solution.success and solution.check() is solution
    assert (
        solution.status is Status.SUCCESS
        and solution.method == "FBDF"
        and "reached the end" in solution.message
    )
    assert solution.t.tolist() == [0.0, 0.5, 1.0] and solution.t.dtype == torch.float64
    assert solution.y.shape == (3, 2)
    assert "FBDF" in repr(solution) and "3 times" in repr(solution)
    counts = solution.stats.as_dict()
    assert min(counts[name] for name in ("nfe", "njac", "nlu", "nsolve", "accepted")) > 0
    assert counts["backward_nfe"] == counts["backward_njac"] == 0


def test_bdf_is_one_of_the_two_forms():
    assert registry.get("bdf").name in ("FBDF", "QNDF")


def test_counts_are_those_of_the_field():
    """Explicit methods: every call of f is counted, once, but for two that see whether it runs in
    inference mode."""
    calls = []

    def f(t, y):
        calls.append(float(t))
        return -y

    with torch.no_grad():
        solution = solve(f, tensor(1.0), [0.0, 1.0, 2.0], method="tsit5")
    assert 0 <= len(calls) - solution.stats.nfe <= 2
    # Tsit5's nodes, the last one the next step's first.
    assert solution.stats.accepted == len(set(calls)) // 5


def test_backward_counts_appear_with_the_gradient():
    f, y0 = Forced(), tensor(1.0, 0.0, 0.0).requires_grad_()
    solution = solve(f, y0, [0.0, 1.0], method="fbdf")
    solution.y[-1].sum().backward()
    assert solution.stats.backward_njac == solution.stats.backward_nlu == solution.stats.accepted
    assert solution.stats.backward_nvjp >= solution.stats.accepted


@every_method
def test_solves_are_repeatable(method):
    options = {"method": method, "rtol": 1e-4}
    first = solve(smooth, smooth_exact(0.0), [0.0, 0.7, 2.0], **options)
    again = solve(smooth, smooth_exact(0.0), [0.0, 0.7, 2.0], **options)
    assert torch.equal(first.y, again.y) and first.stats == again.stats


@every_method
def test_outputs_do_not_shorten_steps(method):
    """2, 31 or 301 of them: the same steps, the same states where they coincide."""
    grids = [torch.linspace(0, 3, n, dtype=torch.float64) for n in (2, 31, 301)]
    results = [
        solve(smooth, smooth_exact(0.0), t, method=method, rtol=1e-4, atol=1e-4) for t in grids
    ]
    assert len({(r.stats.accepted, r.stats.rejected) for r in results}) == 1
    torch.testing.assert_close(results[1].y, results[2].y[::10], rtol=1e-13, atol=1e-14)
    assert torch.equal(results[0].y[-1], results[2].y[-1])


@every_method
@pytest.mark.parametrize("end", [2.0, -2.0], ids=["forwards", "backwards"])
def test_dense_solution_gives_the_outputs(method, end):
    times = torch.linspace(0, end, 23, dtype=torch.float64)
    solution = solve(
        smooth, smooth_exact(0.0), times, method=method, rtol=1e-3, atol=1e-3, dense=True
    )
    torch.testing.assert_close(solution(times), solution.y, rtol=1e-12, atol=1e-12)
    assert solution(float(times[3])).shape == (2,)
    torch.testing.assert_close(
        solution(times[3:5].reshape(2, 1)).squeeze(1), solution.y[3:5], rtol=1e-12, atol=1e-12
    )
    for outside in (-0.1 * end, 1.1 * end):
        with pytest.raises(ValueError, match="lies outside the solved span, 0 to"):
            solution(outside)


def test_no_dense_output_without_asking():
    with pytest.raises(ValueError, match="dense=True"):
        solve(smooth, smooth_exact(0.0), [0.0, 1.0])(0.5)


@every_family
def test_states_of_every_structure(method):
    """A matrix, a scalar, a tuple and a dict of the same numbers take the same steps to the same
    states."""
    rates = tensor(1.0, 2.0, 3.0, 4.0)
    flat = solve(
        lambda t, y: -rates * y * (1 + t),
        torch.ones(4, dtype=torch.float64),
        [0.0, 0.4, 1.0],
        method=method,
    )
    one = torch.ones((), dtype=torch.float64)
    structures = {
        "matrix": (
            one.expand(2, 2),
            lambda t, y: -rates.reshape(2, 2) * y * (1 + t),
            lambda y: y.flatten(1),
        ),
        "tuple": (
            (one, one.expand(3)),
            lambda t, y: (-y[0] * (1 + t), -rates[1:] * y[1] * (1 + t)),
            lambda y: torch.cat((y[0].unsqueeze(1), y[1]), 1),
        ),
        "dict": (
            {"b": one.expand(2), "a": one.expand(2, 1)},
            lambda t, y: {
                "b": -rates[2:] * y["b"] * (1 + t),
                "a": -rates[:2, None] * y["a"] * (1 + t),
            },
            lambda y: torch.cat((y["a"].flatten(1), y["b"]), 1),
        ),
    }
    for y0, f, flatten in structures.values():
        solution = solve(f, y0, [0.0, 0.4, 1.0], method=method, dense=True)
        torch.testing.assert_close(flatten(solution.y), flat.y, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(
            flatten(solution(torch.tensor([0.4, 1.0]))), flat.y[1:], rtol=1e-6, atol=1e-9
        )
        assert (solution.stats.accepted, solution.stats.nsolve) == (
            flat.stats.accepted,
            flat.stats.nsolve,
        )


@every_method
def test_a_scalar_state(method):
    y = solve(lambda t, y: -y, tensor(1.0)[0], [0.0, 1.0], method=method, rtol=1e-4, atol=1e-4).y
    assert y.shape == (2,) and y[-1].item() == pytest.approx(math.exp(-1), rel=2e-2)


@every_method
def test_single_precision(method):
    """The state stays float32, time is float64: 1e4 + 1e-3 is a time of its own."""
    rtol = 1e-2 if registry.get(method).order < 3 and method not in ("FBDF", "QNDF") else 1e-4
    seen = []

    def f(t, y):
        seen.append((t.dtype, y.dtype))
        return -y

    solution = solve(
        f,
        torch.tensor([1.0, 2.0]),
        [1e4, 1e4 + 1e-3, 1e4 + 1.0],
        method=method,
        rtol=rtol,
        atol=1e-4,
    )
    assert set(seen) == {(torch.float32, torch.float32)}
    assert solution.y.dtype == torch.float32 and solution.t.dtype == torch.float64
    assert solution.t[1].item() == 1e4 + 1e-3
    expected = torch.tensor([[1.0, 2.0]]) * torch.exp(-(solution.t.float() - 1e4)).unsqueeze(1)
    torch.testing.assert_close(solution.y, expected, rtol=10 * rtol, atol=0)


@every_family
def test_a_large_state(method):
    """More states than the inverse is kept for."""
    y0 = torch.linspace(-1, 1, 60, dtype=torch.float64)
    y = solve(Forced(60), y0, [0.0, 1.0], method=method, rtol=1e-6, atol=1e-6).y[-1]
    expected = solve(Forced(60), y0, [0.0, 1.0], method="dp8", rtol=1e-9, atol=1e-9).y[-1]
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


@every_family
def test_forms_of_atol(method):
    """A number, a tensor, one a component, in the structure of y0: all the same where the numbers
    are."""
    f, y0, span = lambda t, y: (-y[0], -2 * y[1]), (tensor(1.0, 2.0), tensor(3.0)), [0.0, 1.0]
    each = tensor(1e-5, 1e-5, 1e-5)
    forms = [1e-5, each[0], each, (each[:2], each[2:]), each.unsqueeze(1)]
    results = [solve(f, y0, span, method=method, rtol=1e-3, atol=atol) for atol in forms]
    for result in results[1:]:
        assert result.stats == results[0].stats
        torch.testing.assert_close(result.y, results[0].y, rtol=1e-12, atol=0)
    dicts = {"a": y0[0], "b": y0[1]}
    solution = solve(
        lambda t, y: {"a": -y["a"], "b": -2 * y["b"]},
        dicts,
        span,
        method=method,
        rtol=1e-3,
        atol={"b": tensor(1e-5), "a": tensor(1e-5, 1e-5)},
    )
    assert solution.stats == results[0].stats


@every_family
def test_atol_of_a_component_counts(method):
    """Loosened for the component that is hard, it saves steps; for the other one it does not."""

    def f(t, y):
        return torch.stack((-y[0], 10 * torch.cos(10 * t)))

    def accepted(*atol):
        return solve(
            f, tensor(1.0, 0.0), [0.0, 5.0], method=method, rtol=1e-8, atol=tensor(*atol)
        ).stats.accepted

    tight = accepted(1e-8, 1e-8)
    assert accepted(1e-8, 1e-2) < 0.7 * tight
    assert accepted(1e-2, 1e-8) > 0.7 * tight


@every_method
@pytest.mark.parametrize("end", [1.0, -1.0], ids=["forwards", "backwards"])
def test_bounds_of_steps(method, end):
    rtol = 1e-2 if registry.get(method).order < 3 and method in ONE_STEP else 1e-4
    options = {"method": method, "rtol": rtol, "atol": rtol, "dense": True}
    solution = solve(
        smooth, smooth_exact(0.0), [0.0, end], first_step=1e-3, max_step=0.05, **options
    )
    sizes = [step.h * end for step in solution._trajectory.steps]
    assert sizes[0] == 1e-3
    assert 0 < min(sizes) and max(sizes) <= 0.05 and solution.stats.accepted >= 20
    assert sum(sizes) == pytest.approx(1.0, rel=1e-12)
    assert solve(smooth, smooth_exact(0.0), [0.0, end], first_step=7.0, **options).success


@pytest.mark.parametrize("method", ONE_STEP)
@pytest.mark.parametrize(("size", "count"), [(0.25, 4), (0.1, 10), (0.3, 4), (5.0, 1)])
def test_fixed_steps(method, size, count):
    """As many as fit, the last one shortened, none added for rounding; outputs lie between them."""
    solution = solve(
        smooth, smooth_exact(0.0), [0.0, 0.33, 1.0], method=method, step_size=size, dense=True
    )
    assert solution.stats.accepted == count and solution.stats.rejected == 0
    assert [step.h for step in solution._trajectory.steps[:-1]] == [size] * (count - 1)


@pytest.mark.parametrize("method", ["Tsit5", "DP5", "Rodas5P"])
def test_controllers(method):
    """Each holds the error; they differ in how smoothly steps change."""
    results = {
        kind: solve(
            smooth,
            smooth_exact(0.0),
            [0.0, 3.0],
            method=get(method, controller=kind),
            rtol=1e-6,
            atol=1e-6,
        )
        for kind in ("I", "PI", "PID")
    }
    assert len({r.stats.nfe for r in results.values()}) > 1
    assert all((r.y[-1] - smooth_exact(3.0)).abs().max() < 1e-5 for r in results.values())


def test_ways_to_call():
    """A problem or its parts; times as list, tensor or integers; a name in any case or a Method;
    args of any kind."""
    expected = solve(lambda t, y: -2 * y, tensor(1.0), [0.0, 1.0], method="tsit5").y
    calls = [
        lambda: solve(ODEProblem(lambda t, y: -2 * y, tensor(1.0), (0.0, 1.0)), method="TSIT5"),
        lambda: solve(lambda t, y: -2 * y, tensor(1.0), torch.tensor([0, 1]), method="Tsit5"),
        lambda: solve(lambda t, y: -2 * y, tensor(1.0), range(2), method=registry.get("tsit5")),
        lambda: solve(lambda t, y, r: -r * y, tensor(1.0), [0, 1], method="tsit5", args=(2.0,)),
        lambda: solve(lambda t, y, r: -r * y, tensor(1.0), [0, 1], method="tsit5", args=[2.0]),
        lambda: solve(
            lambda t, y, r: -r * y, tensor(1.0), torch.tensor([0.0, 1.0]), method="tsit5", args=2.0
        ),
    ]
    for call in calls:
        assert torch.equal(call().y, expected)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
@every_family
def test_without_gradients(method, guard):
    """The same numbers, no graph, and tensors that may enter a graph later."""
    f, y0 = Forced(), tensor(1.0, 0.0, 0.0)
    expected = solve(f, y0, [0.0, 0.5, 1.0], method=method)
    with guard():
        found = solve(f, y0, [0.0, 0.5, 1.0], method=method, dense=True)
        between = found(0.3)
    assert expected.y.requires_grad and not found.y.requires_grad
    torch.testing.assert_close(found.y, expected.y.detach(), rtol=1e-12, atol=1e-14)
    if guard is torch.no_grad:
        weight = torch.ones((), requires_grad=True)
        (weight * found.y * between).sum().backward()


def test_a_problem_is_given_once():
    problem = ODEProblem(lambda t, y: -y, tensor(1.0), (0.0, 1.0))
    for more, names in (
        ({"y0": tensor(2.0)}, "y0"),
        ({"t": [0.0, 2.0], "args": (1.0,)}, "t and args"),
    ):
        with pytest.raises(ValueError, match=f"holds its own {names}: remove"):
            solve(problem, **more)


def test_a_stiff_problem_is_one_for_implicit_methods():
    """The reason for this package: Prothero-Robinson costs an explicit method a thousand times the
    evaluations."""
    nfe = {
        method: (
            solve(
                prothero(-1e4), tensor(1.0), [0.0, 2.0], method=method, rtol=1e-5, atol=1e-8
            ).stats.nfe
        )
        for method in ("Tsit5", "FBDF", "QNDF", "Rodas5P")
    }
    assert all(nfe["Tsit5"] > 50 * nfe[method] for method in ("FBDF", "QNDF", "Rodas5P"))
    assert "Tsit5" in EXPLICIT
