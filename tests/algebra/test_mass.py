"""Mass matrices, singular ones included: Robertson's problem as a differential-algebraic system,
gradients, sentences."""

import pytest
import torch

from pynode import ODEProblem, SplitField, solve
from pynode.methods import registry
from tests.support.cases import METHODS as REGISTRY
from tests.support.cases import diffusion_chain, smooth_exact, tensor
from tests.support.refdata import load

ATOL = tensor(1e-8, 1e-12, 1e-8)
ALGEBRAIC = tensor(1.0, 1.0, 0.0)
RADAU = ["RadauIIA3", "RadauIIA5", "RadauIIA9"]
DIRK = ["ImplicitEuler", "SDIRK2", "TRBDF2", "Kvaerno3", "Kvaerno5", "KenCarp4", "KenCarp47"]
# SDIRK2 and ImplicitEuler need thousands of steps at the tolerance of the long solve.
METHODS = ["QNDF", "FBDF", "Rodas5P", "Rodas4", "Rodas3P", *RADAU, *DIRK[2:]]
# Steps over a span of one at which the leading term rules and rounding does not, by order.
STEPS = {1: 64, 2: 32, 3: 32, 4: 16, 5: 8, 9: 4}


class RobertsonDAE(torch.nn.Module):
    """Robertson's reaction with conservation instead of the third equation: 0 = A + B + C - 1."""

    def __init__(self):
        super().__init__()
        self.k = torch.nn.Parameter(tensor(0.04, 3e7, 1e4))

    def forward(self, t, y):
        a, b, c = y.unbind(-1)
        first, second, third = self.k[0] * a, self.k[1] * b * b, self.k[2] * b * c
        return torch.stack((third - first, first - third - second, a + b + c - 1), -1)


@pytest.mark.parametrize("method", METHODS)
def test_robertson_as_dae(method):
    """Within 1e-5 of the reference of the ordinary system, relative to each component's largest
    value."""
    data = load("robertson")
    with torch.no_grad():
        solution = solve(
            RobertsonDAE(),
            data["y0"],
            [data["t0"], *data["t"].tolist()],
            method=method,
            rtol=1e-6,
            atol=ATOL,
            mass=ALGEBRAIC,
        )
    errors = (solution.y[1:] - data["y"]).abs() / data["y"].abs().amax(0)
    assert float(errors.max()) < 1e-5
    assert float((solution.y.sum(1) - 1).abs().max()) < 1e-9


def test_rosenbrock23_on_a_dae():
    """Of order 2 it needs many steps at 1e-6, so only the transient, to 40 s."""
    system = (RobertsonDAE(), tensor(1.0, 0.0, 0.0), [0.0, 40.0])
    with torch.no_grad():
        exact = solve(*system, method="Rodas5P", rtol=1e-9, atol=1e-3 * ATOL, mass=ALGEBRAIC).y[-1]
        found = solve(*system, method="Rosenbrock23", rtol=1e-5, atol=ATOL, mass=ALGEBRAIC).y[-1]
    assert float(((found - exact) / exact).abs().max()) < 1e-4


def turned(n, regular):
    """(an orthogonal matrix Q (n, n), M = Q diag(1 .. 1, 0 .. 0) Q^T of rank `regular`)."""
    turn = torch.linalg.qr(
        torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )[0]
    return turn, turn[:, :regular] @ turn[:, :regular].T


@pytest.mark.parametrize("method", [*RADAU, *DIRK])
def test_order_on_a_dae(method):
    """The order of the method in all components, time-dependent and coupled; 0 = a b - z is the
    algebraic equation.

    Between the ends of a step the algebraic component has the order of the stages, which is below
    that of the dense output of some methods, by one at most.
    """
    turn, mass = turned(3, 2)

    def field(t, y):
        a, b, z = y
        return turn @ torch.stack(
            (z, torch.exp(2 * torch.sin(t)) - a * a - torch.sin(t), a * b - z)
        )

    def exact(t):
        ab = smooth_exact(t)
        return torch.cat((ab, ab.prod(-1, keepdim=True)), -1)

    # M y' in the turned frame: Q diag Q^T y' = Q (...), so that y itself is turned too.
    def rotated(t, y):
        return field(t, turn.T @ y)

    order, errors, between = registry.get(method).order, [], []
    for count in (STEPS[order], 2 * STEPS[order]):
        options = {"method": method, "step_size": 1 / count, "mass": mass, "dense": True}
        y = solve(rotated, turn @ exact(0.0), [0.0, 1.0], **options).y[-1]
        errors.append(turn.T @ y - exact(1.0))
        one = solve(rotated, turn @ exact(0.3), [0.3, 0.3 + 1 / count], **options)
        times = 0.3 + tensor(0.3, 0.6) / count
        between.append((one(times) @ turn - exact(times)).norm(dim=1))
    found = torch.log2(errors[0].norm() / errors[1].norm())
    assert float(found) > order - 0.3 and float(errors[1].norm()) > 1e-15
    dense_order = registry.get(method).tableau.dense_order
    assert (torch.log2(between[0] / between[1]) - 1 > dense_order - 1.2).all()


@pytest.mark.parametrize("method", DIRK)
def test_dense_output_of_a_dae_leaves_the_undetermined_slope_out(method):
    """An explicit first stage has no slope of the algebraic components; on differential ones the
    order stays."""
    taken = registry.get(method)
    weights = taken.dense_weights(mass=True)
    assert abs(taken._first_slope_weight(weights)).max() < 1e-12
    ends, plain = weights.sum(axis=1), taken.tableau.dense_weights.sum(axis=1)
    assert ends == pytest.approx(plain, abs=1e-12)


@pytest.mark.parametrize("method", [*RADAU, "TRBDF2", "KenCarp4"])
def test_split_fields_and_fixed_steps_with_a_mass(method):
    """A split field is the sum of its parts; fixed steps of a second, which the transient asks more
    of than a kept Jacobian."""
    field = RobertsonDAE()
    split = SplitField(lambda t, y: 0.5 * field(t, y), lambda t, y: 0.5 * field(t, y))
    options = {"method": method, "step_size": 1.0, "mass": ALGEBRAIC}
    with torch.no_grad():
        one, other = (
            solve(f, tensor(1.0, 0.0, 0.0), [0.0, 10.0], **options).y[-1] for f in (field, split)
        )
    assert torch.allclose(one, other, rtol=1e-9)
    assert abs(float(one.sum()) - 1) < 1e-10


@pytest.mark.parametrize(
    "method", ["QNDF", "FBDF", "Rodas5P", "Rosenbrock23", "RadauIIA3", "RadauIIA5", *DIRK[1:]]
)
def test_regular_mass_is_division(method):
    """M y' = f with a regular M, as a matrix and as a diagonal, solves y' = M^-1 f."""
    rate, y0 = tensor(5.0, 0.7), torch.rand(6, dtype=torch.float64)
    diagonal = 1 + torch.rand(6, dtype=torch.float64)
    full = torch.diag(diagonal) + 0.2 * torch.diag(torch.ones(5, dtype=torch.float64), 1)
    for mass, matrix in ((diagonal, torch.diag(diagonal)), (full, full)):
        inverse = torch.linalg.inv(matrix)

        def divided(t, y, inverse=inverse):
            return inverse @ diffusion_chain(t, y, *rate)

        with torch.no_grad():
            found = solve(
                lambda t, y: diffusion_chain(t, y, *rate), y0, [0.0, 1.0], method=method, mass=mass
            ).y[-1]
            wanted = solve(divided, y0, [0.0, 1.0], method=method, rtol=1e-8, atol=1e-11).y[-1]
        assert torch.allclose(found, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("method", ["QNDF", "FBDF", "Rodas5P", *RADAU, *DIRK])
@pytest.mark.parametrize("kind", ["diagonal", "matrix", "asymmetric"])
def test_gradient_through_a_mass(method, kind):
    """The discrete adjoint is the graph of the steps, initial values made consistent included. The
    first two masses are singular; the third tells M from its transpose."""
    mass = turned(6, 5)[1]
    if kind == "diagonal":
        mass = torch.ones(6, dtype=torch.float64)
        mass[4] = 0
    elif kind == "asymmetric":
        mass = torch.eye(6, dtype=torch.float64) + 0.5 * torch.diag(
            torch.ones(5, dtype=torch.float64), 1
        )
    rate = tensor(5.0, 0.7, requires_grad=True)
    y0 = torch.rand(6, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 6, dtype=torch.float64)
    found = {}
    for adjoint in ("direct", "discrete"):
        ys = solve(
            lambda t, y: diffusion_chain(t, y, *rate),
            y0,
            [0.0, 0.3, 1.0],
            method=method,
            mass=mass,
            adjoint=adjoint,
            consistent="solve",
            rtol=1e-4,
            atol=1e-6,
        ).y
        found[adjoint] = torch.autograd.grad((ys * weights).sum(), (rate, y0))
    for one, other in zip(found["direct"], found["discrete"], strict=True):
        assert float((one - other).abs().max()) < 1e-10 * float(one.abs().max())


@pytest.mark.parametrize("method", ["RadauIIA5", "TRBDF2", "Kvaerno5"])
def test_gradient_by_differences(method):
    """Fixed steps and a singular matrix, the output inside a step included: central differences in
    float64."""
    mass = turned(4, 3)[1]
    rate, y0 = tensor(5.0, 0.7, requires_grad=True), tensor(0.9, 0.4, 0.6, 0.2, requires_grad=True)

    def outputs(rate, y0):
        return solve(
            lambda t, y: diffusion_chain(t, y, *rate),
            y0,
            [0.0, 0.33, 1.0],
            method=method,
            mass=mass,
            step_size=0.25,
            consistent="solve",
            params=[rate],
        ).y[1:]

    assert torch.autograd.gradcheck(outputs, (rate, y0), eps=1e-5, atol=1e-7, rtol=1e-6)


def test_gradient_of_robertson_dae():
    """Against the sensitivities of the ordinary system: p dy/dp of every constant at 40 s and
    later."""
    data = load("robertson")
    index = int((data["t"] - 40.0).abs().argmin())
    field = RobertsonDAE()
    ys = solve(
        field,
        data["y0"],
        [data["t0"], float(data["t"][index])],
        rtol=1e-8,
        atol=1e-2 * ATOL,
        mass=ALGEBRAIC,
    ).y[-1]
    for component in range(3):
        (grad,) = torch.autograd.grad(ys[component], field.k, retain_graph=True)
        for i, name in enumerate(data["parameters"]):
            wanted = data["sensitivity"][name][index, component]
            assert float((grad[i] * field.k[i] - wanted).detach().abs()) < 1e-4 * float(
                ys[component].detach().abs()
            )


def test_consistent_initial_values():
    """Algebraic components are solved for, differential ones stay; an ODEProblem carries the mass
    matrix too."""
    y0 = tensor(0.9, 1e-5, 0.5)
    with torch.no_grad():
        solution = solve(
            ODEProblem(RobertsonDAE(), y0, (0.0, 1.0), mass=ALGEBRAIC),
            atol=ATOL,
            consistent="solve",
        )
    assert torch.allclose(solution.y[0], tensor(0.9, 1e-5, 0.1 - 1e-5), rtol=1e-10)


def index_three(t, y):
    """The third component is fixed only by differentiating y_1 = sin t twice."""
    return torch.stack((y[1], y[2], y[0] - torch.sin(t)))


def problem(**changes):
    """Arguments of a solve of Robertson's system with some of them changed."""
    return {
        "f": RobertsonDAE(),
        "y0": tensor(1.0, 0.0, 0.0),
        "t": (0.0, 1.0),
        "mass": ALGEBRAIC,
        **changes,
    }


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (
            {"mass": torch.ones(4)},
            r"mass has shape \(4,\); for 3 states it must be a matrix \(3, 3\), or a vector",
        ),
        ({"mass": torch.ones(3, 2)}, r"mass has shape \(3, 2\)"),
        ({"mass": torch.zeros(3)}, "mass is zero"),
        ({"mass": torch.tensor([1.0, float("nan"), 0.0])}, "mass holds NaN"),
        ({"mass": torch.ones(3, requires_grad=True)}, "treats M as constant"),
        ({"y0": tensor(1.0, 0.0, 0.1)}, r"not consistent: .* but f\[2\] = 0.1 at y0"),
        ({"consistent": "maybe"}, "consistent must be 'check' or 'solve'"),
        ({"method": "Tsit5"}, "Tsit5 cannot solve M y' = f with a mass matrix: use 'qndf'"),
        (
            {"method": "Trapezoid"},
            "Trapezoid cannot solve M y' = f .* use 'qndf', 'rodas5p' or 'radauiia5'",
        ),
        ({"f": index_three, "y0": tensor(0.0, 0.0, 0.0)}, "index is above 1"),
    ],
)
def test_sentences(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        solve(**problem(**changes))


@pytest.mark.parametrize("method", REGISTRY)
def test_every_method_takes_a_mass_or_says_what_does(method):
    """y' = z, 0 = y + z in single precision, backwards; explicit methods and those that are not
    L-stable refuse."""
    arguments = (
        lambda t, y: torch.stack((y[1], y[0] + y[1])),
        torch.tensor([1.0, -1.0]),
        [1.0, 0.0],
    )
    options = {"method": method, "mass": [1.0, 0.0], "rtol": 1e-3, "atol": 1e-5}
    if registry.get(method).takes_mass:
        y = solve(*arguments, **options).y[-1].double()
        assert torch.allclose(y, tensor(1.0, -1.0) * torch.e, rtol=2e-2)
    else:
        with pytest.raises(
            ValueError,
            match=r"cannot solve M y' = f with a mass matrix: use 'qndf', 'rodas5p' or 'radauiia5'",
        ):
            solve(*arguments, **options)


def test_mass_of_another_kind():
    with pytest.raises(TypeError, match="mass is a str"):
        solve(**problem(mass="diagonal"))
