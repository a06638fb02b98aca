"""Mass matrices in the native engine: the steps, states and gradients of the torch engine, with
regular and singular M, diagonal and full."""

import pytest
import torch

from pynode import DiscreteAdjoint, Event, PresetTimes, solve
from pynode.backends.native.elimination import DENSE, plan_of
from pynode.backends.native.families import FAMILIES
from pynode.methods import registry
from tests.support.cases import METHODS as REGISTRY
from tests.support.cases import tensor
from tests.support.mass_matrices import Coupled, chain_with_constraints, masses
from tests.support.refdata import load

METHODS = [
    name
    for name in REGISTRY
    if registry.get(name).takes_mass and FAMILIES.get(registry.get(name)) is not None
]
# One method of each family: with an explicit first stage and without.
FAMILY = ["Rodas5P", "RadauIIA5", "KenCarp4", "SDIRK2", "QNDF", "FBDF"]
KINDS = ["regular", "diagonal", "singular"]
TIMES = [0.0, 0.3, 1.0, 2.0]
OPTIONS = {"rtol": 1e-6, "atol": 1e-8, "consistent": "solve"}


def solved(kind, method, backend, adjoint="discrete", times=TIMES, **options):
    """(Solution, the tensors to differentiate in) of ``Coupled`` with a matrix of this kind."""
    turn, mass = masses()[kind]
    field = Coupled(turn)
    y0 = (turn @ tensor(1.0, 0.5, 0.4, 0.9)).requires_grad_()
    settings = {**OPTIONS, "method": method, "mass": mass, **options}
    solution = solve(field, y0, times, backend=backend, adjoint=adjoint, **settings)
    return solution, [y0, *field.parameters()]


def gradients(solution, inputs, **options):
    weights = torch.linspace(1, 2, solution.y.numel(), dtype=torch.float64)
    return torch.autograd.grad((weights * solution.y.flatten()).sum(), inputs, **options)


def assert_close(found, wanted, rtol):
    """Equal to a fraction of the largest number of each tensor."""
    for one, other in zip(found, wanted, strict=True):
        assert float((one - other).abs().max()) <= rtol * float(other.abs().max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_steps_states_and_gradients_of_the_torch_engine(method, kind):
    options = {}
    if registry.get(method).order < 3:
        options = {"rtol": 1e-4, "atol": 1e-6}
    found, inputs = solved(kind, method, "native", **options)
    wanted, others = solved(kind, method, "torch", **options)
    assert found.backend == "native"
    # Rounding can change the decision about a step.
    assert found.stats.accepted == pytest.approx(wanted.stats.accepted, abs=1)
    assert found.stats.rejected == pytest.approx(wanted.stats.rejected, abs=1)
    assert_close([found.y.detach()], [wanted.y.detach()], 1e-8)
    # A singular M leaves rounding errors over the step in the gradients of many small steps.
    assert_close(gradients(found, inputs), gradients(wanted, others), 1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", FAMILY)
def test_derivatives(method, kind):
    """Forward sensitivities and checkpoints give the discrete adjoint, and second derivatives are
    those of the torch engine."""
    solution, inputs = solved(kind, method, "native")
    exact = gradients(solution, inputs)
    assert_close(gradients(*solved(kind, method, "native", "forward")), exact, 1e-8)
    repeated = gradients(*solved(kind, method, "native", DiscreteAdjoint(checkpoints=3)))
    assert all(torch.equal(one, other) for one, other in zip(repeated, exact, strict=True))
    second = []
    for backend in ("native", "torch"):
        solution, inputs = solved(
            kind, method, backend, times=[0.0, 0.3, 0.5], rtol=1e-3, atol=1e-4
        )
        first = gradients(solution, inputs, create_graph=True)
        second.append(torch.autograd.grad(sum(part.sum() for part in first), inputs))
    assert_close(*second, 1e-7)


@pytest.mark.parametrize("method", FAMILY)
def test_gradient_by_differences(method):
    """Against differences of the solution itself, to the accuracy of both."""
    options = {"rtol": 1e-10, "atol": 1e-12}
    if registry.get(method).order < 3:
        options = {"step_size": 0.01}
    turn, mass = masses()["singular"]
    field = Coupled(turn)
    start = turn @ tensor(1.0, 0.5, 0.4, 0.9)

    def last():
        settings = {**OPTIONS, "mass": mass, "method": method, "backend": "native", **options}
        return solve(field, start, [0.0, 1.0], **settings).y[-1].sum()

    last().backward()
    wanted = torch.zeros(3, dtype=torch.float64)
    with torch.no_grad():
        for i in range(3):
            for sign in (1.0, -1.0):
                field.p[i] += sign * 1e-4
                wanted[i] += sign * last() / 2e-4
                field.p[i] -= sign * 1e-4
    assert_close([field.p.grad], [wanted], 1e-5)


@pytest.mark.parametrize("method", ["Rodas5P", "Rodas4", "RadauIIA3", "RadauIIA5", "TRBDF2"])
def test_order_on_a_dae_that_depends_on_time(method):
    """a' = cos(t) + z - 1, 0 = 1 + sin(t) - a - (z - 1): a = sin(t), z = 1."""

    def f(t, y):
        a, z = y
        return torch.stack((torch.cos(t) + z - 1, 1 + torch.sin(t) - a + (z - 1) ** 3 - z))

    order = registry.get(method).order
    steps = {2: 32, 3: 32, 4: 16, 5: 8}[order]
    errors = []
    for count in (steps, 2 * steps):
        y = solve(
            f,
            tensor(0.5, 1.0) * tensor(0.0, 1.0),
            [0.0, 1.0],
            method=method,
            mass=tensor(1.0, 0.0),
            step_size=1 / count,
            backend="native",
        ).y[-1]
        errors.append((y - tensor(torch.sin(tensor(1.0)).item(), 1.0)).norm())
    assert float(torch.log2(errors[0] / errors[1])) > order - 0.5


@pytest.mark.parametrize("method", ["QNDF", "FBDF", "Rodas5P", "Rodas4", "RadauIIA5", "KenCarp47"])
def test_robertson_as_a_dae(method):
    """Within 1e-5 of the reference of the ordinary system, over eleven decades of time."""

    def f(t, y):
        a, b, c = y
        first, second, third = 0.04 * a, 3e7 * b * b, 1e4 * b * c
        return torch.stack((third - first, first - third - second, a + b + c - 1))

    data = load("robertson")
    solution = solve(
        f,
        data["y0"],
        [data["t0"], *data["t"].tolist()],
        method=method,
        rtol=1e-6,
        atol=tensor(1e-8, 1e-12, 1e-8),
        mass=tensor(1.0, 1.0, 0.0),
        backend="native",
    )
    errors = (solution.y[1:] - data["y"]).abs() / data["y"].abs().amax(0)
    assert float(errors.max()) < 1e-5


@pytest.mark.parametrize("method", ["Rodas5P", "KenCarp4", "QNDF"])
@pytest.mark.parametrize("free", [False, True])
def test_sparse_elimination(method, free):
    """free: algebraic equations without their own unknown, so that M - c J has zeros on its
    diagonal."""
    f, y0, mass = chain_with_constraints(16, free)
    pattern = torch.func.jacrev(lambda y: f(tensor(0.1), y))(y0 + 0.1) != 0
    rows, columns = pattern.nonzero().T.contiguous().numpy()
    empty = frozenset(range(16, 32))
    assert plan_of(32, rows, columns, empty) is not DENSE
    states = []
    for backend in ("native", "torch"):
        start = y0.clone().requires_grad_()
        options = {"mass": mass, "method": method, "backend": backend}
        y = solve(f, start, [0.0, 0.5, 1.0], **options).y
        states.append((y.detach(), *torch.autograd.grad(y.square().sum(), start)))
    assert_close(*states, 1e-8)


@pytest.mark.parametrize("method", ["Rodas5P", "QNDF", "RadauIIA5"])
def test_events_presets_and_jumps(method):
    """Behind each of them the algebraic components satisfy their equations again."""

    def f(t, y):
        a, z = y
        return torch.stack((-z, 2 * a + torch.where(t < 0.6, 0.0, 1.0) - z))

    kick = Event(lambda t, y: y[0] - 0.7, reset=lambda t, y: y * tensor(1.5, 1.0), name="kick")
    dose = PresetTimes([0.9], reset=lambda t, y: y + tensor(1.0, 0.0), name="dose")
    results = []
    for backend in ("native", "torch"):
        y0 = tensor(1.0, 2.0).requires_grad_()
        solution = solve(
            f,
            y0,
            [0.0, 0.5, 0.75, 1.5],
            mass=tensor(1.0, 0.0),
            method=method,
            events=[kick, dose],
            jumps=[0.6],
            backend=backend,
            **OPTIONS,
        )
        assert {event.name for event in solution.events} == {"kick", "dose"}
        results.append((solution.y.detach(), *torch.autograd.grad(solution.y.sum(), y0)))
    assert_close(*results, 1e-7)
    states = results[0][0]
    forcing = tensor(0.0, 0.0, 1.0, 1.0)
    assert torch.allclose(states[:, 1], 2 * states[:, 0] + forcing, rtol=1e-6)


@pytest.mark.parametrize("method", FAMILY)
def test_dense_output_and_time_backwards(method):
    between = []
    for backend in ("native", "torch"):
        solution, _ = solved("singular", method, backend, times=[2.0, 0.5], dense=True)
        between.append(solution(tensor(1.7, 0.9)).detach())
    assert_close(between[:1], between[1:], 1e-7)


def test_choice_of_a_method():
    solution, _ = solved("singular", "auto", "native")
    assert (solution.method, solution.backend) == ("Rodas5P", "native")
    f, y0, mass = chain_with_constraints(60, False)
    assert solve(f, y0, [0.0, 0.1], mass=mass, backend="native").method == "QNDF"


@pytest.mark.parametrize("method", ["Rodas5P", "QNDF"])
def test_single_precision(method):
    turn, mass = masses()["diagonal"]
    start = tensor(1.0, 0.5, 0.4, 0.9).float()
    options = {"method": method, "mass": mass, "rtol": 1e-4, "atol": 1e-5}
    options["consistent"] = "solve"
    found = solve(Coupled(turn).float(), start, [0.0, 1.0], backend="native", **options).y[-1]
    exact, _ = solved("diagonal", "Rodas5P", "native", times=[0.0, 1.0])
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), exact.y[-1].detach(), atol=2e-3)


def test_a_mass_matrix_with_a_gradient_is_refused():
    mass = torch.eye(2, dtype=torch.float64).requires_grad_()
    with pytest.raises(ValueError, match="constant"):
        solve(lambda t, y: -y, torch.ones(2, dtype=torch.float64), [0, 1], mass=mass)
