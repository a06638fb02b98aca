"""The test problems: their equations against the literature, their Jacobians and gradients, and
what torch may do to them."""

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch.func import functional_call, jacfwd, jacrev, vmap

from pynode import problems
from tests.support.refdata import NAMES as REFERENCED
from tests.support.refdata import load

NAMES = problems.names()
every_problem = pytest.mark.parametrize("name", NAMES)
every_reference = pytest.mark.parametrize("name", REFERENCED)


def states(name, *batch, dtype=torch.float64, seed=0):
    """Random positive states, (*batch, n), away from the zeros at which products hide their
    mistakes."""
    n = problems.get(name).y0.numel()
    return (
        0.1
        + torch.rand(*batch, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ).to(dtype)


def moderate(name):
    """The field with constants near 1: with its own, from 1e-4 to 4e11, the fast rates drown
    mistakes in the slow ones."""
    field = problems.get(name).field
    with torch.no_grad():
        field.k.copy_(
            0.5
            + torch.rand(
                field.k.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7)
            )
        )
    return field


def assert_close(actual, expected, tolerance=1e-12):
    """Equal to the tolerance relative to the largest entry along the last axis."""
    scale = expected.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(expected.dtype).tiny)
    assert actual.shape == expected.shape
    assert ((actual - expected).abs() / scale).max() <= tolerance


def integrate(problem, t_eval, rtol, atol, method):
    """(T, n) states at t_eval by SciPy, with the problem's own field and Jacobian."""
    field = problem.field

    def call(function):
        return lambda t, y: function(t, torch.from_numpy(np.ascontiguousarray(y))).numpy()

    jac = {} if method == "DOP853" else {"jac": call(field.jac)}
    with torch.inference_mode():
        found = solve_ivp(
            call(field),
            problem.tspan,
            problem.y0.numpy(),
            method,
            t_eval=t_eval,
            rtol=rtol,
            atol=atol,
            **jac,
        )
    assert found.success, found.message
    return torch.from_numpy(found.y.T.copy())


@every_reference
def test_setup_is_that_of_the_reference(name):
    problem, reference = problems.get(name), load(name)
    assert {p: value.item() for p, value in problem.field.named().items()} == reference[
        "parameters"
    ]
    assert problem.parameters == tuple(reference["sensitivity"])
    assert torch.equal(problem.y0, reference["y0"])
    assert problem.tspan == (reference["t0"], pytest.approx(float(reference["t"][-1]), rel=1e-15))
    if problem.t_eval is not None:
        torch.testing.assert_close(problem.t_eval, reference["t"], rtol=1e-14, atol=0)


@every_reference
def test_trajectory_is_that_of_the_reference(name):
    problem, reference = problems.get(name), load(name)
    largest = reference["y"].abs().amax(0)
    y = integrate(problem, reference["t"].numpy(), 1e-8, 1e-10 * largest.numpy(), "Radau")
    assert ((y - reference["y"]).abs() / largest).max() <= 1e-6


@every_reference
def test_suggested_tolerances_serve_every_component(name):
    problem, reference = problems.get(name), load(name)
    y = integrate(problem, reference["t"].numpy(), problem.rtol, problem.atol, "BDF")
    assert ((y - reference["y"]).abs() / reference["y"].abs().amax(0)).max() <= 1e-3


@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("lorenz", [10, 28, 8 / 3]),
        ("lotka_volterra", [1.5, 1, 3, 1]),
        ("spiral", [-0.1, -2, 2, -0.1]),
    ],
)
def test_constants_without_a_reference_file_are_those_published(name, constants):
    assert problems.get(name).field.parameter_vector().tolist() == constants


def textbook(name, y, k):
    """The right side as printed, component by component: y and k are unpacked, the result is a
    tuple."""
    match name:
        case "robertson":
            a, b, c = y
            k1, k2, k3 = k["k1"], k["k2"], k["k3"]
            return -k1 * a + k3 * b * c, k1 * a - k3 * b * c - k2 * b**2, k2 * b**2
        case "vanderpol":
            x, v = y
            return v, k["mu"] * (1 - x**2) * v - x
        case "oregonator":
            x, y, z = y
            s = k["s"]
            return s * (y + x * (1 - k["q"] * x - y)), (z - (1 + x) * y) / s, k["w"] * (x - z)
        case "lotka_volterra":
            x, y = y
            return k["alpha"] * x - k["beta"] * x * y, k["delta"] * x * y - k["gamma"] * y
        case "lorenz":
            x, y, z = y
            return k["sigma"] * (y - x), x * (k["rho"] - z) - y, x * y - k["beta"] * z
        case "spiral":
            x, y = y
            return k["a11"] * x**3 + k["a12"] * y**3, k["a21"] * x**3 + k["a22"] * y**3


@pytest.mark.parametrize(
    "name", ["robertson", "vanderpol", "oregonator", "lotka_volterra", "lorenz", "spiral"]
)
def test_field_and_its_constants_are_the_printed_formula(name):
    field = moderate(name)
    y = states(name, 5)
    vector = field.parameter_vector()
    printed = torch.stack(textbook(name, y.unbind(-1), field.named()), -1)
    assert_close(field(0.0, y), printed)
    weights = states(name, 5, seed=1)
    (actual,) = torch.autograd.grad((weights * field(0.0, y)).sum(), vector)
    (expected,) = torch.autograd.grad((weights * printed).sum(), vector)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=0)


def test_lotka_volterra_keeps_its_invariant():
    problem = problems.get("lotka_volterra")
    k = problem.field.named(problem.field.k.detach())
    x, y = integrate(problem, np.linspace(*problem.tspan, 50), 1e-10, 1e-12, "DOP853").unbind(-1)
    invariant = k["delta"] * x - k["gamma"] * x.log() + k["beta"] * y - k["alpha"] * y.log()
    assert (invariant - invariant[0]).abs().max() <= 1e-8
    assert x.max() - x.min() > 1


@every_problem
def test_jacobian_is_the_derivative(name):
    field = moderate(name)
    y = states(name)
    expected = jacrev(field, argnums=1)(0.0, y)
    assert_close(field.jac(0.0, y), expected)
    assert_close(jacfwd(field, argnums=1)(0.0, y), expected)


@every_problem
@pytest.mark.parametrize("batch", [(4,), (2, 3)])
def test_batches_are_rows(name, batch):
    field = moderate(name)
    y = states(name, *batch)
    rows = y.reshape(-1, y.shape[-1])
    expected = torch.stack([field(0.0, row) for row in rows])
    assert_close(field(0.0, y), expected.reshape(y.shape))
    assert_close(vmap(field, in_dims=(None, 0))(0.0, rows), expected)
    jacobians = torch.stack([field.jac(0.0, row) for row in rows])
    assert_close(field.jac(0.0, y), jacobians.reshape(*batch, *jacobians.shape[1:]))
    assert_close(vmap(field.jac, in_dims=(None, 0))(0.0, rows), jacobians)
    assert_close(vmap(jacrev(field, argnums=1), in_dims=(None, 0))(0.0, rows), jacobians)


@every_problem
def test_gradient_of_each_constant(name):
    field = moderate(name)
    y, weights = states(name), states(name, seed=1)
    (weights * field(0.0, y)).sum().backward()
    gradients = field.named(field.k.grad)
    assert tuple(gradients) == field.parameter_names
    step = 1e-4
    for i, p in enumerate(field.parameter_names):
        shift = step * torch.eye(len(field.k), dtype=torch.float64)[i]
        above, below = (
            functional_call(field, {"k": field.k.detach() + d}, (0.0, y)) for d in (shift, -shift)
        )
        difference = (weights * (above - below)).sum() / (2 * step)
        torch.testing.assert_close(gradients[p], difference, rtol=1e-6, atol=1e-10)


@every_problem
def test_second_derivatives(name):
    field = moderate(name)
    y, v, w = (states(name, seed=seed).requires_grad_(seed == 0) for seed in range(3))
    (pulled,) = torch.autograd.grad(field(0.0, y) @ v, y, create_graph=True)
    twice_y, twice_k = torch.autograd.grad(pulled @ w, (y, field.k))
    expected_y, expected_k = torch.autograd.grad(v @ field.jac(0.0, y) @ w, (y, field.k))
    assert_close(twice_y, expected_y, 1e-11)
    torch.testing.assert_close(twice_k, expected_k, rtol=1e-10, atol=0)


@every_problem
def test_vmap_over_constants(name):
    field = moderate(name)
    y, k = states(name), field.k.detach() * torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64)

    def call(k):
        return functional_call(field, {"k": k}, (0.0, y))

    assert_close(vmap(call)(k), torch.stack([call(row) for row in k]))
    assert_close(vmap(jacfwd(call))(k), vmap(jacrev(call))(k))


@every_problem
def test_float32(name):
    problem, exact = problems.get(name, dtype=torch.float32), problems.get(name).field
    y = states(name, 5)
    assert problem.y0.dtype == problem.field.k.dtype == torch.float32
    # |J| |y| bounds the terms that cancel in a row: what rounding is relative to.
    terms = exact.jac(0.0, y).abs() @ y.unsqueeze(-1)
    f, jac = problem.field(0.0, y.float()), problem.field.jac(0.0, y.float())
    assert f.dtype == jac.dtype == torch.float32
    assert ((f - exact(0.0, y)).abs() <= 1e-5 * terms.squeeze(-1)).all()
    assert_close(jac.double(), exact.jac(0.0, y), 1e-5)
    assert torch.equal(exact.to(torch.float32)(0.0, y.float()), f)


@every_problem
def test_every_tensor_goes_to_the_device(name):
    problem = problems.get(name, device="meta")
    assert {
        tensor.device.type
        for tensor in (problem.y0, *problem.field.parameters(), *problem.field.buffers())
    } == {"meta"}
    assert problem.field(0.0, problem.y0).shape == problem.y0.shape
    assert problem.field.jac(0.0, problem.y0).shape == 2 * problem.y0.shape


@every_problem
def test_compiles_without_a_graph_break(name):
    field = moderate(name)
    for y in (states(name), states(name, 3)):
        assert_close(torch.compile(field, backend="eager", fullgraph=True)(0.0, y), field(0.0, y))
    torch.compiler.reset()


@every_problem
def test_copies_and_checkpoints_carry_the_constants_only(name):
    field = problems.get(name).field
    assert set(field.state_dict()) == {"k"}
    with torch.no_grad():
        field.k *= 2
    restored = problems.get(name).field
    restored.load_state_dict(field.state_dict())
    y = states(name)
    for other in (copy.deepcopy(field), pickle.loads(pickle.dumps(field)), restored):
        assert torch.equal(other(0.0, y), field(0.0, y))


def test_names():
    assert set(NAMES) >= {*REFERENCED, "lorenz", "lotka_volterra", "spiral"}
    assert tuple(sorted(NAMES)) == NAMES
    assert all(problems.get(name).stiff for name in REFERENCED)
    assert not any(problems.get(name).stiff for name in ("lorenz", "lotka_volterra", "spiral"))


@every_problem
def test_problem_is_complete(name):
    problem = problems.get(name)
    assert problem.name == name
    assert len(problem.source) > 40
    assert "dt =" in type(problem.field).__doc__
    assert problem.parameters == problem.field.parameter_names
    assert problem.field(0.0, problem.y0).isfinite().all()
    assert problem.tspan[0] < problem.tspan[1]


@every_problem
def test_each_call_makes_a_fresh_field(name):
    first, second = problems.get(name), problems.get(name)
    assert not {id(tensor) for tensor in first.field.parameters()} & {
        id(tensor) for tensor in second.field.parameters()
    }
    assert first.y0.data_ptr() != second.y0.data_ptr()


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ROBERTSON", "robertson"),
        ("Van der Pol", "vanderpol"),
        ("Lotka-Volterra", "lotka_volterra"),
    ],
)
def test_case_and_punctuation_do_not_matter(spelling, name):
    assert problems.get(spelling).name == name


def test_unknown_names_come_with_a_remedy():
    with pytest.raises(ValueError, match=r"'robinson': did you mean 'robertson'"):
        problems.get("robinson")
    with pytest.raises(ValueError, match=r"choose one of brusselator, hires, lorenz"):
        problems.get("???")


def test_problem_refuses_what_does_not_fit():
    problem = problems.get("robertson")
    with pytest.raises(ValueError, match="2 atol for 3 components"):
        replace(problem, atol=(1e-6, 1e-6))
    with pytest.raises(ValueError, match="give one state"):
        replace(problem, y0=problem.y0.expand(4, 3))
    with pytest.raises(FrozenInstanceError):
        problem.rtol = 1e-3
