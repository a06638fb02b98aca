"""Second derivatives through the discrete adjoint and through adjoint="direct", against differences
of gradients."""

import pytest
import torch

from pynode import Banded, DiscreteAdjoint, Event, PresetTimes, Sparse, problems, solve
from pynode.methods.registry import get
from tests.support.cases import EXPLICIT, METHODS, ONE_STEP, Forced, diffusion_chain, leaf, tensor
from tests.support.gradients import as_function
from tests.support.refdata import load

ADJOINTS = {
    "discrete": "discrete",
    "checkpoints": DiscreteAdjoint(checkpoints=2),
    "direct": "direct",
}
every_adjoint = pytest.mark.parametrize("adjoint", ADJOINTS.values(), ids=ADJOINTS)


def hessian_product(loss, inputs, vectors):
    """(first derivatives, second ones times vectors) of loss(*inputs)."""
    first = torch.autograd.grad(loss(*inputs), inputs, create_graph=True)
    product = sum((g * v).sum() for g, v in zip(first, vectors, strict=True))
    return first, torch.autograd.grad(product, inputs)


def check(loss, inputs, step=1e-5, tolerance=1e-6):
    """Hessian times random vectors against differences of the gradient, and against the gradient
    without a graph."""
    generator = torch.Generator().manual_seed(3)
    vectors = [
        torch.randn(x.shape, generator=generator, dtype=x.dtype) * x.detach().abs().clamp(min=1e-3)
        for x in inputs
    ]
    first, found = hessian_product(loss, inputs, vectors)
    ends = []
    for sign in (1, -1):
        moved = [leaf(x + sign * step * v) for x, v in zip(inputs, vectors, strict=True)]
        ends.append(torch.autograd.grad(loss(*moved), moved))
    plain = torch.autograd.grad(loss(*inputs), inputs)
    for x, g, p, h, a, b in zip(inputs, first, plain, found, *ends, strict=True):
        torch.testing.assert_close(g.detach(), p, rtol=1e-10, atol=1e-10 * float(p.abs().max()))
        expected = (a - b) / (2 * step)
        # Components of very different size: each in units of its own.
        scale = x.detach().abs().clamp(min=1e-3)
        assert expected.abs().max() > 0
        assert ((h - expected) * scale).abs().max() <= tolerance * (expected * scale).abs().max()


def loss_of(f, method, t=(0.0, 0.33, 1.0), **options):
    run = as_function(f, method, **options)
    return lambda y0, *parameters: (run(y0, list(t), *parameters) ** 3).sum()


def options_of(method):
    """On fixed steps differences are good to rounding; elsewhere the choice of steps is not
    smooth."""
    fixed = method in ONE_STEP or method == "RKC"
    return {"step_size": 0.5} if fixed else {"rtol": 1e-5, "atol": 1e-6}, 1e-6 if fixed else 2e-3


@pytest.mark.parametrize("method", METHODS)
def test_every_method(method):
    """y0 and parameters, f depends on t, outputs inside steps and at their ends."""
    f = Forced(2)
    options, tolerance = options_of(method)
    inputs = [leaf(tensor(1.0, -0.5)), *map(leaf, f.parameters())]
    check(
        loss_of(f, method, adjoint=DiscreteAdjoint(checkpoints=2), **options),
        inputs,
        1e-5,
        tolerance,
    )


@pytest.mark.parametrize("method", METHODS)
def test_discrete_is_direct(method):
    """The same steps, so that second derivatives agree to rounding."""
    f = Forced(2)
    options = {"step_size": 0.5} if method in ONE_STEP else {"rtol": 1e-4, "atol": 1e-5}
    inputs = [leaf(tensor(1.0, -0.5)), *map(leaf, f.parameters())]
    vectors = [torch.randn_like(x) for x in inputs]
    found, expected = (
        hessian_product(loss_of(f, method, adjoint=adjoint, **options), inputs, vectors)
        for adjoint in ("discrete", "direct")
    )
    for a, b in zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True):
        assert b.abs().max() > 0 and (a - b).abs().max() <= 1e-11 * b.abs().max()


@every_adjoint
@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "KenCarp4", "RadauIIA5"])
def test_gradgradcheck(method, adjoint):
    f = Forced(1)
    run = as_function(f, method, step_size=0.5, adjoint=adjoint)
    inputs = [leaf(tensor(0.7)), *map(leaf, f.parameters())]
    assert torch.autograd.gradgradcheck(
        lambda y0, *p: run(y0, [0.0, 0.3, 1.0], *p), inputs, rtol=1e-6, atol=1e-7
    )


@every_adjoint
@pytest.mark.parametrize("method", ["FBDF", "QNDF", "AdamsPECE", "RKC", "AutoTsit5(Rodas5P())"])
def test_gradgradcheck_of_an_adaptive_solve(method, adjoint):
    """The first step is given, for differences that do not see its choice."""
    f = Forced(1)
    run = as_function(f, method, rtol=1e-6, atol=1e-7, adjoint=adjoint, first_step=1e-3)
    inputs = [leaf(tensor(0.7)), leaf(f.rate)]
    run_some = lambda y0, rate: run(y0, [0.0, 0.5], f.W.detach(), f.b.detach(), rate)  # noqa: E731
    assert torch.autograd.gradgradcheck(run_some, inputs, eps=1e-3, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "rtol"), [("FBDF", 1e-9), ("Rodas5P", 1e-6), ("RadauIIA5", 1e-8)]
)
def test_hessian_product_of_a_stiff_problem(method, rtol):
    """Robertson's constants, which differ by eleven orders, at 40 s."""
    data = load("robertson")
    field = problems.get("robertson").field
    scale = tensor(1.0, 1e-4, 1.0)

    def loss(logs):
        k = torch.exp(logs)

        def f(t, y):
            return torch.func.functional_call(field, {names[0]: k}, (t, y))

        y = solve(
            f, data["y0"], [0.0, 40.0], method=method, rtol=rtol, atol=1e-5 * rtol, params=[k]
        ).y[-1]
        return ((y / scale) ** 2).sum()

    names = [name for name, _ in field.named_parameters()]
    assert len(names) == 1
    check(loss, [leaf(torch.log(next(field.parameters())))], 1e-3, 1e-3)


@pytest.mark.parametrize("structure", [Sparse(), Banded(1, 1)], ids=lambda s: s.name)
@pytest.mark.parametrize("method", ["QNDF", "Rodas5P"])
def test_structured_jacobians(method, structure):
    rate, y0 = leaf(tensor(20.0)[0]), leaf(torch.linspace(0.1, 1, 8, dtype=torch.float64))
    found = []
    for given in ("dense", structure):

        def loss(rate, y0, given=given):
            def f(t, y):
                return diffusion_chain(t, y, rate)

            y = solve(
                f,
                y0,
                [0.0, 0.3],
                method=get(method, jacobian=given),
                rtol=1e-4,
                atol=1e-6,
                params=[rate],
            ).y[-1]
            return (y**2).sum()

        found.append(hessian_product(loss, [rate, y0], [tensor(1.0)[0], torch.ones(8).double()])[1])
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= 1e-9 * b.abs().max()


@pytest.mark.parametrize("method", ["QNDF", "FBDF", "Rodas5P"])
def test_mass_matrix_with_consistent_start(method):
    def loss(rate, y0):
        def f(t, y):
            return torch.stack(
                (
                    -rate * y[0] * y[1],
                    y[0] - torch.cos(t) * y[1],
                    y[0] * y[1] + y[1] - 0.5 * y[2] - y[2] ** 3,
                )
            )

        y = solve(
            f,
            y0,
            [0.0, 0.4, 1.0],
            method=method,
            mass=tensor(1.0, 2.0, 0.0),
            consistent="solve",
            params=[rate],
            rtol=1e-8,
            atol=1e-10,
        ).y
        return (y**3).sum()

    check(loss, [leaf(tensor(3.0)[0]), leaf(tensor(1.0, 0.2, 0.7))], 1e-3, 1e-3)


@pytest.mark.parametrize("method", ["Tsit5", "FBDF"])
def test_tuple_states_args_and_dense_output(method):
    def loss(a, b, rate):
        def f(t, y, rate):
            return -rate * y[0] * y[1], torch.sin(t) * y[1] - y[0].sum() * torch.tanh(y[1])

        solution = solve(
            f,
            (a, b),
            [0.0, 0.5, 1.0],
            method=method,
            args=(rate,),
            dense=True,
            rtol=1e-8,
            atol=1e-9,
        )
        return (
            (solution.y[0] ** 2).sum() + (solution.y[1] ** 3).sum() + (solution(0.77)[1] ** 2).sum()
        )

    check(loss, [leaf(tensor(1.0, 0.4)), leaf(tensor(-0.5)[0]), leaf(tensor(0.8)[0])], 1e-3, 1e-3)


def test_gradient_penalty_trains():
    """The usual use: the norm of an input gradient in the loss."""
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    (slope,) = torch.autograd.grad(
        solve(f, y0, [0.0, 1.0], method="tsit5").y[-1].square().sum(), y0, create_graph=True
    )
    slope.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in f.parameters())


@pytest.mark.parametrize("method", EXPLICIT[:3])
def test_third_derivatives_are_refused(method):
    y0 = leaf(tensor(0.3))
    total = solve(lambda t, y: -(y**4), y0, [0.0, 1.0], method=method, step_size=0.25).y[-1].sum()
    (first,) = torch.autograd.grad(total, y0, create_graph=True)
    with pytest.raises(NotImplementedError, match="third derivatives"):
        torch.autograd.grad(first.sum(), y0, create_graph=True)


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "FBDF", "Kvaerno5", "RadauIIA5"])
def test_third_derivatives_by_direct(method):
    """Right by the methods that the refusal names; Newton's iteration has none, and says so."""
    y0 = leaf(tensor(0.3))
    ys = solve(
        lambda t, y: -(y**2), y0, [0.0, 1.0], method=method, adjoint="direct", rtol=1e-8, atol=1e-11
    ).y[-1]
    (first,) = torch.autograd.grad(ys.sum(), y0, create_graph=True)
    (plain,) = torch.autograd.grad(first.sum(), y0, retain_graph=True)
    torch.testing.assert_close(plain, -2 / (1 + y0.detach()) ** 3, rtol=1e-4, atol=0)
    if method not in ("Tsit5", "Rodas5P"):
        with pytest.raises(
            NotImplementedError,
            match=r"third derivatives.*Rosenbrock method \('tsit5', 'rodas5p'\)",
        ):
            torch.autograd.grad(first.sum(), y0, create_graph=True)
        return
    (second,) = torch.autograd.grad(first.sum(), y0, create_graph=True)
    (third,) = torch.autograd.grad(second.sum(), y0)
    torch.testing.assert_close(third, 6 / (1 + y0.detach()) ** 4, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "options, named",
    [
        ({"adjoint": "gauss"}, "GaussAdjoint"),
        ({"adjoint": "backsolve"}, "BacksolveAdjoint"),
        ({"adjoint": "forward"}, "ForwardSensitivity"),
        ({"batched": True}, "batched=True"),
    ],
)
def test_second_derivatives_that_are_not_there(options, named):
    y0 = leaf(tensor(0.3).unsqueeze(0))
    y = solve(lambda t, y: -(y**2), y0, [0.0, 1.0], method="tsit5", **options).y[-1]
    (first,) = torch.autograd.grad(y.sum(), y0, create_graph=True)
    with pytest.raises(
        NotImplementedError, match=f"{named} has only first derivatives: for second"
    ):
        torch.autograd.grad(first.sum(), y0)


def test_second_derivatives_in_times_and_events_are_refused():
    """Part of them would be missing."""
    y0, t = leaf(tensor(1.0)), leaf(tensor(0.5))
    y = solve(lambda t, y: -(y**2), y0, torch.cat((tensor(0.0), t)), method="tsit5").y[-1]
    (slope,) = torch.autograd.grad(y.sum(), t, create_graph=True)
    with pytest.raises(NotImplementedError, match="time"):
        torch.autograd.grad(slope.sum(), y0)
    low = Event(lambda t, y: y[0] - 0.8, terminal=True)
    when = solve(lambda t, y: -(y**2), y0, [0.0, 1.0], method="tsit5", events=low).events[0].t
    (slope,) = torch.autograd.grad(when, y0, create_graph=True)
    with pytest.raises(NotImplementedError, match="events"):
        torch.autograd.grad(slope.sum(), y0)


def test_second_derivatives_through_preset_resets():
    """Nothing is missing where the times of the resets are fixed."""

    def loss(rate, y0):
        push = PresetTimes([0.4], lambda t, y: y * y + rate)
        y = solve(
            lambda t, y: -rate * y**2,
            y0,
            [0.0, 1.0],
            method="tsit5",
            events=push,
            params=[rate],
            step_size=0.1,
        ).y
        return (y**3).sum()

    check(loss, [leaf(tensor(0.7)[0]), leaf(tensor(1.0, 0.5))])
