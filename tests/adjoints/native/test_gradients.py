"""The native discrete adjoint against the torch engine's on the same steps."""

import numpy as np
import pytest
import torch

from pynode import methods, solve
from pynode.adjoints.native import rows
from pynode.adjoints.native.pullback import interpreted, located, pullback
from pynode.adjoints.native.rows import pullback_rows
from pynode.backends.native.rows import integrate_rows
from pynode.core.options import Options
from pynode.methods import registry
from pynode.translate.field import translate
from tests.support.native_solves import (
    assert_close,
    forced,
    literature,
    native,
    network,
    random_like,
    same_gradients,
)

EXPLICIT = ["Tsit5", "DP5", "BS3", "Vern7", "DP8"]
ROSENBROCK = ["Rodas5P", "Rodas4", "Rodas3P", "Rosenbrock23"]
RECORD = {"record": True}


@pytest.mark.parametrize("method", EXPLICIT + ROSENBROCK)
@pytest.mark.parametrize("case", [forced, network])
def test_every_method(method, case):
    same_gradients(*case(), method, 1e-10)


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P"])
def test_backwards_in_time(method):
    f, y0, _ = forced()
    same_gradients(f, y0, torch.linspace(1.0, 0.4, 9, dtype=torch.float64), method, 1e-10)


@pytest.mark.parametrize("name", ["robertson", "hires", "pollution"])
def test_stiff_problems(name):
    same_gradients(*literature(name), "Rodas5P", 1e-8)


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P"])
def test_the_python_of_the_sweep(method):
    same_gradients(*forced(), method, 1e-10, loop=interpreted)


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P"])
def test_against_autograd_of_solve(method):
    """With its own steps, the torch engine gives the same gradient."""
    f, y0, times = forced()
    start = y0.clone().requires_grad_()
    grads = random_like((len(times), 2))
    solution = solve(f, start, times, method=method, adjoint="discrete")
    ybar, kbar = torch.autograd.grad((solution.y * grads).sum(), (start, f.k))
    trajectory = native(f, y0, times, method, extra=RECORD)
    field = translate(f, y0, 0.0)
    result = pullback(field, trajectory, times.tolist(), grads.numpy())
    assert_close(result.y0, ybar, 1e-8)
    assert_close(result.targets[0], kbar, 1e-8)


def test_outputs_in_any_order_and_again():
    """The cotangents of repeated times add up, and the order of the times does not matter."""
    f, y0, times = forced()
    trajectory = native(f, y0, times, "Tsit5", extra=RECORD)
    field = translate(f, y0, 0.0)
    grads = random_like((len(times), 2)).numpy()
    once = pullback(field, trajectory, times.tolist(), grads)
    order = [4, 2, 0, 8, 1, 3, 7, 5, 6, 4]
    halves = grads[order]
    halves[[0, -1]] *= 0.5
    again = pullback(field, trajectory, times[order].tolist(), halves)
    assert_close(again.y0, once.y0, 1e-13)
    assert_close(again.targets[0], once.targets[0], 1e-13)


def test_outputs_are_located():
    """At the start, at the ends of steps, and inside."""
    f, y0, _ = forced()
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    trajectory = native(f, y0, times, "Tsit5", extra=RECORD)
    starts = trajectory.starts
    inside = starts[2] + 0.25 * trajectory.sizes[2]
    steps, thetas = located(trajectory, [0.0, starts[1], inside, 1.0])
    assert steps.tolist() == [-1, 0, 2, trajectory.accepted - 1]
    assert thetas[[1, 3]].tolist() == [-1.0, -1.0]
    assert thetas[2] == pytest.approx(0.25)


def test_a_solve_without_steps():
    f, y0, times = forced()
    trajectory = native(f, y0, times, "Tsit5", max_nfe=2, extra=RECORD)
    assert trajectory.accepted == 0
    field = translate(f, y0, 0.0)
    result = pullback(field, trajectory, [0.0], np.array([[1.0, 2.0]]))
    assert result.y0.tolist() == [1.0, 2.0]
    assert not result.targets[0].any()


def test_rows_do_not_depend_on_threads():
    f, y0, times = network()
    field = translate(f, y0, 0.0)
    starts = y0.numpy() * np.linspace(0.5, 1.5, 20)[:, None]
    given = [times.tolist()] * 20
    paths = integrate_rows(
        field, methods.Rodas5P(), starts, given, Options(), [1e-9] * 20, record=True
    )
    grads = random_like((20, len(times) - 1, 3)).numpy()
    ends = random_like((20, 3)).numpy()
    alone = list(pullback_rows(field, paths, grads, ends, threads=1))
    together = list(pullback_rows(field, paths, grads, ends, threads=4))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.starts, other.starts)
        for a, b in zip(one.targets, other.targets, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF", "Kvaerno5", "RadauIIA5"])
def test_rows_are_solves_alone(method):
    """Rows of times, starts and cotangents of their own, in groups of three."""
    f, y0, times = forced()
    field = translate(f, y0, 0.0)
    starts = y0.numpy() * np.linspace(0.5, 1.5, 7)[:, None]
    given = [times[: 3 + i].tolist() for i in range(7)]
    solver = registry.get(method)
    paths = integrate_rows(field, solver, starts, given, Options(), [1e-9] * 7, record=True)
    grads = random_like((7, 8, 2)).numpy()
    ends = random_like((7, 2)).numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "NUMBERS", 15)
        groups = list(pullback_rows(field, paths, grads, ends))
    assert [group.first for group in groups] == [0, 3, 6]
    found = np.concatenate([group.starts for group in groups])
    targets = np.concatenate([group.targets[0] for group in groups])
    for i, path in enumerate(paths):
        own = np.concatenate((np.zeros((1, 2)), grads[i, : 2 + i], ends[i : i + 1]))
        expected = pullback(field, path, [*given[i], given[i][-1]], own)
        assert_close(found[i], expected.y0, 1e-13)
        assert_close(targets[i], expected.targets[0], 1e-13)


def test_rows_with_their_own_parameters():
    """A row with its own addresses is the solve of a field with these parameters."""
    f, y0, times = forced()
    field = translate(f, y0, 0.0)
    own = [f.k.detach().clone() * scale for scale in (1.0, 1.2)]
    inputs = np.array([[k.data_ptr()] for k in own])
    starts = np.stack([y0.numpy()] * 2)
    given = [times.tolist()] * 2
    grads = random_like((2, len(times), 2)).numpy()
    grads[:, 0] = 0.0
    arguments = (starts, given, Options(), [1e-9] * 2)
    paths = integrate_rows(field, methods.Rodas5P(), *arguments, inputs=inputs, record=True)
    ends = np.zeros((2, 2))
    (results,) = pullback_rows(field, paths, grads[:, 1:], ends, inputs=inputs)
    for k, path, found, cotangents in zip(own, paths, results.targets[0], grads, strict=True):
        with torch.no_grad():
            f.k.copy_(k)
        alone = native(f, y0, times, "Rodas5P", extra=RECORD)
        expected = pullback(translate(f, y0, 0.0), alone, times.tolist(), cotangents)
        assert_close(path.outputs, alone.outputs, 1e-13)
        assert_close(found, expected.targets[0], 1e-12)
