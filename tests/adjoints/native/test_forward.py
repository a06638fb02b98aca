"""The native forward sensitivities: the transpose of the discrete adjoint, and those of the torch
engine."""

import numpy as np
import pytest
import torch
from torch import nn

from pynode import solve
from pynode.adjoints.native.forward.sensitivities import interpreted, sensitivities
from pynode.adjoints.native.pullback import pullback
from pynode.translate.field import translate
from tests.support.cases import Forced, leaf, tensor
from tests.support.gradients import distance, weighted_gradients
from tests.support.native_solves import (
    FAMILIES,
    VARIANTS,
    assert_close,
    forced,
    literature,
    native,
    network,
    random_like,
)

METHODS = [*FAMILIES, *VARIANTS]
RECORD = {"record": True}


def assert_transposed(f, y0, times, method, tolerance, loop=None, **options):
    """Products with a cotangent are what the discrete adjoint gives. Returns the counts."""
    trajectory = native(f, y0, times, method, extra=RECORD, **options)
    assert trajectory.status.success
    field = translate(f, y0, float(times[0]))
    grads = random_like((len(times), len(y0))).numpy().astype(trajectory.y.dtype)
    back = pullback(field, trajectory, times.tolist(), grads)
    made = sensitivities(field, trajectory, times.tolist(), loop=loop)
    found = np.split(np.einsum("tn,tnk->k", grads, made.matrix), [len(y0)])
    assert_close(found[0], torch.from_numpy(back.y0), tolerance)
    targets = np.concatenate([part.reshape(-1) for part in back.targets])
    assert_close(found[1], torch.from_numpy(targets), tolerance)
    return made.counts


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", [forced, network])
def test_every_method(method, case):
    """Several outputs inside a step, and at ends of steps."""
    assert_transposed(*case(), method, 1e-12)


@pytest.mark.parametrize("method", FAMILIES)
def test_the_python_of_the_loop(method):
    assert_transposed(*forced(), method, 1e-12, loop=interpreted)


@pytest.mark.parametrize("method", FAMILIES)
def test_backwards_in_time(method):
    f, y0, _ = forced()
    assert_transposed(f, y0, torch.linspace(1.0, 0.4, 9, dtype=torch.float64), method, 1e-12)


@pytest.mark.parametrize("method", ["Rodas5P", "Kvaerno5", "RadauIIA9", "QNDF", "FBDF"])
@pytest.mark.parametrize("name", ["robertson", "hires", "pollution"])
def test_stiff_problems(name, method):
    """Pollution has sparse factors."""
    assert_transposed(*literature(name), method, 1e-8)


@pytest.mark.parametrize("method", ["ImplicitMidpoint", "ImplicitEuler"])
def test_fixed_steps(method):
    assert_transposed(*forced(), method, 1e-12, step_size=0.05)


@pytest.mark.parametrize("method", FAMILIES)
def test_float32(method):
    f, y0, times = forced()
    assert_transposed(f.float(), y0.float(), times, method, 1e-3, rtol=1e-4, atol=1e-5)


def test_one_factorisation_serves_all_directions():
    counts = assert_transposed(*network(), "QNDF", 1e-12)
    trajectory = native(*network(), "QNDF", extra=RECORD)
    assert counts["nlu"] == counts["nsolve"] == trajectory.accepted


def test_kept_targets():
    """The other targets get no directions."""
    f, y0, times = network()
    trajectory = native(f, y0, times, "Rodas5P", extra=RECORD)
    field = translate(f, y0, 0.0)
    whole = sensitivities(field, trajectory, times.tolist()).matrix
    sizes = [field.targets[i].numel() for i in field.differentiable]
    ends = np.cumsum([3, *sizes])
    for place in range(len(sizes)):
        kept = [i == place for i in range(len(sizes))]
        part = sensitivities(field, trajectory, times.tolist(), kept).matrix
        expected = whole[:, :, np.r_[:3, ends[place] : ends[place + 1]]]
        assert_close(part, torch.from_numpy(expected), 1e-13)
    alone = sensitivities(field, trajectory, times.tolist(), of_start=False).matrix
    assert_close(alone, torch.from_numpy(whole[:, :, 3:]), 1e-13)


def test_outputs_in_any_order_and_again():
    f, y0, times = forced()
    trajectory = native(f, y0, times, "FBDF", extra=RECORD)
    field = translate(f, y0, 0.0)
    whole = sensitivities(field, trajectory, times.tolist()).matrix
    order = [4, 2, 0, 8, 1, 4]
    again = sensitivities(field, trajectory, times[order].tolist()).matrix
    np.testing.assert_array_equal(again, whole[order])
    np.testing.assert_array_equal(whole[0], np.eye(2, 5))


def test_a_solve_without_steps():
    f, y0, times = forced()
    trajectory = native(f, y0, times, "Tsit5", max_nfe=2, extra=RECORD)
    found = sensitivities(translate(f, y0, 0.0), trajectory, [0.0])
    np.testing.assert_array_equal(found.matrix[0], np.eye(2, 5))


@pytest.mark.parametrize("method", FAMILIES)
def test_beside_the_torch_engine(method):
    """The same steps, so the same derivatives."""
    f = Forced()
    y0 = leaf(tensor(1.0, -0.5, 0.3))
    inputs = [y0, *f.parameters()]
    found = []
    for backend in ("native", "torch"):
        gradients, solution = weighted_gradients(
            inputs, f, y0, (0.0, 0.3, 1.1), "forward", method=method, rtol=1e-5, backend=backend
        )
        assert solution.adjoint == "ForwardSensitivity"
        found.append((gradients, solution.stats.accepted))
    assert found[0][1] == found[1][1]
    assert distance(found[0][0], found[1][0]) < 1e-8


@pytest.mark.parametrize("adjoint", ["forward", "discrete"])
def test_frozen_unused_and_computed_tensors(adjoint):
    """Only what needs a gradient gets one, also through what f reads computed from it."""
    base = leaf(tensor(0.4, -0.2))
    f = Forced()
    f.b.requires_grad_(False)
    f.unused = nn.Parameter(tensor(1.0, 2.0))
    y0 = leaf(tensor(1.0, -0.5, 0.3))
    rates = base.exp()

    def g(t, y, shift):
        return f(t, y) - rates.sum() * y + shift * torch.cos(t)

    shift = leaf(tensor(0.2))
    options = {"method": "Rodas5P", "args": (shift,), "rtol": 1e-5}
    inputs = [y0, f.W, f.rate, base, shift]
    found, _ = weighted_gradients(
        inputs, g, y0, (0.0, 0.5, 1.0), adjoint, backend="native", **options
    )
    expected, _ = weighted_gradients(inputs, g, y0, (0.0, 0.5, 1.0), "discrete", **options)
    assert distance(found, expected) < 1e-8
    y = solve(f, y0, (0.0, 1.0), method="tsit5", adjoint=adjoint, backend="native").y
    found = torch.autograd.grad(y.sum(), [f.unused, f.W])
    assert not found[0].any() and found[1].any()


def test_many_gradients_cost_one_pass():
    f = Forced()
    solution = solve(
        f, tensor(1.0, -0.5, 0.3), (0.0, 0.5, 1.0), method="fbdf", adjoint="forward",
        backend="native",
    )  # fmt: skip
    rows = random_like((4, *solution.y.shape))
    found = torch.autograd.grad(solution.y, f.W, rows, retain_graph=True, is_grads_batched=True)[0]
    once = solution.stats.as_dict()
    for i, row in enumerate(rows):
        single = torch.autograd.grad(solution.y, f.W, row, retain_graph=True)[0]
        assert_close(found[i].numpy(), single, 1e-12)
    assert solution.stats.as_dict() == once and once["backward_nlu"] == once["accepted"]


def test_changed_parameters_and_many_columns():
    f = Forced()
    y0 = leaf(tensor(1.0, -0.5, 0.3))
    y = solve(f, y0, (0.0, 1.0), method="tsit5", adjoint="forward", backend="native").y
    with torch.no_grad():
        f.W.mul_(2)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()
    wide = nn.Linear(120, 120).double()
    with pytest.raises(ValueError, match=r"columns.*discrete"):
        solve(
            lambda t, y: torch.tanh(wide(y)),
            torch.ones(120, dtype=torch.float64),
            (0.0, 1.0),
            method="tsit5",
            adjoint="forward",
            backend="native",
        )


def test_the_short_way_and_the_long_way():
    """The first solve of a field, and one with a further option, take the long way."""
    f = Forced()
    found = []
    alone = []
    for more in ({}, {}, {"max_seconds": 1e6}):
        y0 = leaf(tensor(1.0, -0.5, 0.3))
        options = {"method": "rodas5p", "backend": "native", **more}
        gradients, solution = weighted_gradients(
            [y0, *f.parameters()], f, y0, (0.0, 0.5, 1.0), "forward", **options
        )
        assert solution.adjoint == "ForwardSensitivity"
        assert solution.stats.backward_nlu == solution.stats.accepted
        found.append(gradients)
        alone.append(
            weighted_gradients(
                [*f.parameters()], f, y0.detach(), (0.0, 0.5, 1.0), "forward", **options
            )[0]
        )
    for other in found[1:]:
        assert distance(other, found[0]) < 1e-14
    for other in alone:
        assert distance(other, found[0][1:]) < 1e-12
