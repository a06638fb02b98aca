"""Adjoints that solve a differential equation backwards: against the discrete one as tolerances
fall, and their quadratures."""

import warnings

import pytest
import torch

from pynode import Event, solve
from pynode.adjoints import registry
from pynode.adjoints.continuous import gauss_kronrod, quadrature
from pynode.adjoints.continuous.backsolve import BacksolveAdjoint
from pynode.adjoints.continuous.base import Continuous
from pynode.adjoints.continuous.gauss import GaussAdjoint, GaussKronrodAdjoint, QuadratureAdjoint
from pynode.adjoints.continuous.interpolating import InterpolatingAdjoint
from pynode.adjoints.selection import choose
from pynode.methods import QNDF
from pynode.methods import registry as methods
from tests.support.cases import Forced, field_of, leaf, tensor
from tests.support.gradients import distance, weighted_gradients

CLASSES = [c for c in registry.CLASSES if issubclass(c, Continuous)]
every_adjoint = pytest.mark.parametrize("adjoint", CLASSES, ids=lambda c: c.name)
STIFF = [c for c in CLASSES if c is not BacksolveAdjoint]
every_stiff_adjoint = pytest.mark.parametrize("adjoint", STIFF, ids=lambda c: c.name)


def against_discrete(inputs, f, y0, t, adjoint, **options):
    expected, _ = weighted_gradients(inputs, f, y0, t, "discrete", **options)
    found, solution = weighted_gradients(inputs, f, y0, t, adjoint, **options)
    return distance(found, expected), solution


def test_all_names_are_known():
    names = [
        "DiscreteAdjoint",
        "BacksolveAdjoint",
        "InterpolatingAdjoint",
        "GaussAdjoint",
        "GaussKronrodAdjoint",
    ]
    assert {*names, "QuadratureAdjoint"} <= set(registry.names())
    for short, c in (
        ("gauss", GaussAdjoint),
        ("gauss_kronrod", GaussKronrodAdjoint),
        ("QUADRATURE", QuadratureAdjoint),
    ):
        assert isinstance(registry.get(short), c)


@pytest.mark.parametrize(
    ("adjoint", "method"),
    [
        *((c, m) for c in CLASSES for m in ("Tsit5", "FBDF")),
        (GaussAdjoint, "Rodas5P"),
        (GaussAdjoint, "AutoTsit5(Rodas5P())"),
    ],
)
def test_agreement_with_discrete(adjoint, method):
    """To about the tolerance, and better with it; outputs inside the span, f depends on t."""
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    errors = []
    for rtol in (1e-4, 1e-7):
        error, solution = against_discrete(
            [y0, *f.parameters()],
            f,
            y0,
            [0.3, 0.7, 2.0],
            adjoint(),
            method=method,
            rtol=rtol,
            atol=rtol,
        )
        errors.append(error)
        assert solution.stats.backward_accepted > 0 and solution.stats.backward_nvjp > 0
    assert errors[1] < (5e-5 if method == "FBDF" else 2e-6)
    assert errors[1] < errors[0] / 20


@every_adjoint
def test_backwards_in_time(adjoint):
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    error, _ = against_discrete(
        [y0, *f.parameters()],
        f,
        y0,
        [2.0, 1.1, 0.3],
        adjoint(),
        method="Tsit5",
        rtol=1e-8,
        atol=1e-8,
    )
    assert error < 1e-6


FAMILIES = ["Rodas5P", "RadauIIA5", "KenCarp4", "FBDF", "AutoTsit5(Rodas5P())"]


@pytest.mark.parametrize(
    ("adjoint", "reverse"),
    [*((GaussAdjoint, m) for m in FAMILIES), *((c, "RadauIIA9") for c in STIFF)],
)
def test_reverse_solvers_of_every_family_on_a_stiff_problem(adjoint, reverse):
    """A fast component on the parabola of a slow one: the cotangents have a layer behind each
    output."""
    k, y0 = leaf(tensor(2000.0, 0.5, 0.7)), leaf(tensor(1.0, 0.7))

    def f(t, y):
        return torch.stack((k[0] * (y[1] ** 2 * torch.cos(t) - y[0]), k[2] * y[0] - k[1] * y[1]))

    options = {"method": "Rodas5P", "rtol": 1e-7, "atol": 1e-7}
    error, solution = against_discrete([y0, k], f, y0, [0.0, 0.5, 1.0], adjoint(reverse), **options)
    assert error < (2e-3 if reverse == "FBDF" else 2e-5)
    assert solution.stats.backward_accepted < 3000


@every_adjoint
def test_events_args_and_output_times(adjoint):
    """What joins the segments of a solve is not the adjoint's concern: a bounce, its time, tensors
    in args, times."""
    g, y0, t = leaf(tensor(9.8)), leaf(tensor(1.0, 0.0)), leaf(tensor(0.0, 0.3, 0.9))

    def fall(t, y, g):
        return torch.stack((y[1], -g[0] - 0.1 * y[1]))

    bounce = Event(
        lambda t, y, g: y[0],
        direction=-1,
        reset=lambda t, y, g: torch.stack((0 * y[0], -0.8 * y[1])),
    )
    error, solution = against_discrete(
        [y0, g, t],
        fall,
        y0,
        t,
        adjoint(),
        args=(g,),
        events=bounce,
        method="Tsit5",
        rtol=1e-8,
        atol=1e-8,
    )
    assert len(solution.events) == 1 and error < 1e-6


@pytest.mark.parametrize(
    ("adjoint", "diagonal"),
    [*((c, False) for c in CLASSES), (GaussAdjoint, True), (BacksolveAdjoint, True)],
)
def test_regular_mass(adjoint, diagonal):
    mass = (
        tensor(2.0, 0.5, 3.0)
        if diagonal
        else tensor([2.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.1, 0.0, 3.0])
    )
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    error, _ = against_discrete(
        [y0, *f.parameters()],
        f,
        y0,
        [0.0, 0.5, 2.0],
        adjoint(),
        method="Rodas5P",
        mass=mass,
        rtol=1e-7,
        atol=1e-7,
    )
    assert error < 1e-6


@every_adjoint
def test_structures_single_precision_and_dense_output(adjoint):
    f, y0 = Forced(dtype=torch.float32), torch.tensor([[1.0, -0.5, 0.3]], requires_grad=True)

    def run(adjoint):
        solution = solve(
            f, y0, [0.0, 1.0], method="Tsit5", rtol=1e-5, atol=1e-6, adjoint=adjoint, dense=True
        )
        return torch.autograd.grad(
            solution(0.4).sum() + solution.y[-1].sum(), [y0, *f.parameters()]
        )

    found, expected = run(adjoint()), run("discrete")
    assert found[0].shape == y0.shape and found[0].dtype == torch.float32
    assert distance(found, expected) < 1e-3


@every_adjoint
def test_what_has_no_gradient(adjoint):
    """Frozen and unused parameters, a solve without parameters, outputs that do not enter the loss,
    f without a graph."""
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    f.b.requires_grad_(False)
    f.unused = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    y = solve(f, y0, [0.0, 0.5, 1.0], method="Tsit5", adjoint=adjoint()).y
    y[1].sum().backward()
    assert (
        f.b.grad is None
        and f.W.grad.abs().max() > 0
        and (f.unused.grad is None or not f.unused.grad.any())
    )
    alone = torch.autograd.grad(
        solve(lambda t, y: -y, y0, [0.0, 1.0], method="Tsit5", adjoint=adjoint()).y[-1].sum(), y0
    )[0]
    torch.testing.assert_close(alone, torch.full_like(y0, -1.0).exp(), rtol=1e-5, atol=0)
    start = torch.autograd.grad(
        solve(f, y0, [0.0, 1.0], method="Tsit5", adjoint=adjoint()).y[0].sum(), y0
    )[0]
    torch.testing.assert_close(start, torch.ones_like(y0))
    flat = solve(
        lambda t, y: torch.ones_like(y).detach(),
        y0,
        [0.0, 1.0],
        method="Rodas5P",
        adjoint=adjoint(),
    ).y[-1]
    torch.testing.assert_close(torch.autograd.grad(flat.sum(), y0)[0], torch.ones_like(y0))


@pytest.mark.parametrize("adjoint", [GaussAdjoint, QuadratureAdjoint], ids=lambda c: c.name)
def test_parameters_of_an_input_faster_than_the_cotangents(adjoint):
    """lambda is smooth, the states follow p sin(60 t): steps of the reverse solve alone would miss
    what p does."""
    p, y0 = leaf(tensor(0.7)), leaf(tensor(1.0))
    error, solution = against_discrete(
        [p],
        lambda t, y: -0.1 * y + p * torch.sin(60 * t) ** 2,
        y0,
        [0.0, 1.0],
        adjoint(),
        method="DP8",
        rtol=1e-8,
        atol=1e-8,
    )
    assert solution.stats.backward_accepted < solution.stats.accepted and error < 1e-6


@pytest.mark.parametrize("adjoint", [GaussKronrodAdjoint, QuadratureAdjoint], ids=lambda c: c.name)
def test_quadrature_refines_where_the_parameters_enter_roughly(adjoint):
    """A parameter that acts in a window of 1e-3, on states that hardly feel it: the estimate sees
    it, and bisects."""
    p, y0 = leaf(tensor(1.0)), tensor(1.0)

    def f(t, y):
        return -y + p * torch.exp(-(((t - 0.4) / 1e-3) ** 2))

    def run(made):
        solution = solve(f, y0, [0.0, 1.0], method="RK4", step_size=0.05, adjoint=made)
        return torch.autograd.grad(solution.y[-1].sum(), p)[0].item(), solution.stats

    found, stats = run(adjoint(rtol=1e-8))
    exact = 1e-3 * torch.pi**0.5 * torch.exp(tensor(-0.6 + 2.5e-7)).item()
    assert found == pytest.approx(exact, rel=1e-6) and 0 < stats.backward_quadrature < 1e-6
    assert run(GaussAdjoint(rtol=1e-8))[0] != pytest.approx(exact, rel=1e-2)


def test_rules_are_exact_for_polynomials():
    nodes, weights, coarse = gauss_kronrod.rule()
    for degree in range(12):
        assert (weights @ nodes**degree).item() == pytest.approx(1 / (degree + 1), rel=1e-13)
        if degree < 6:
            assert (coarse @ nodes**degree).item() == pytest.approx(1 / (degree + 1), rel=1e-13)
    nodes, weights = quadrature.gauss(4)
    assert all(
        (weights @ nodes**d).item() == pytest.approx(1 / (d + 1), rel=1e-13) for d in range(8)
    )


def test_a_parameter_vector_enters_no_jacobian():
    """The work of a stiff reverse solve does not depend on p: as many Jacobians, factorisations and
    steps, but for the rounding of the sum."""
    counts = []
    for width in (1, 200):
        p, y0 = leaf(torch.full((width,), 1.0 / width, dtype=torch.float64)), leaf(tensor(1.0, 0.5))
        solution = weighted_gradients(
            [y0, p], lambda t, y, p=p: -50 * p.sum() * y, y0, [0.0, 1.0], "gauss", method="FBDF"
        )[1]
        stats = solution.stats
        counts.append((stats.backward_njac, stats.backward_nlu, stats.backward_accepted))
    for one, many in zip(*counts, strict=True):
        assert abs(one - many) <= 0.2 * one + 1


@pytest.mark.parametrize("adjoint", [InterpolatingAdjoint, BacksolveAdjoint], ids=lambda c: c.name)
def test_seminorm_takes_no_more_steps(adjoint):
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    steps = []
    for seminorm in (False, True):
        made = adjoint(seminorm=seminorm, rtol=1e-6, atol=1e-9)
        found, solution = weighted_gradients(
            [y0, *f.parameters()], f, y0, [0.0, 2.0], made, method="Tsit5", rtol=1e-9, atol=1e-9
        )
        steps.append(solution.stats.backward_accepted + solution.stats.backward_rejected)
    assert steps[1] <= steps[0]
    assert (
        distance(
            found,
            weighted_gradients(
                [y0, *f.parameters()], f, y0, [0.0, 2.0], "discrete", method="Tsit5"
            )[0],
        )
        < 1e-4
    )


def test_backsolve_reports_its_drift():
    """A decay of 12 over the span: allowed, but the states on the way back are off by its factor;
    restarts help."""
    f, y0 = (lambda t, y: -12.0 * (y - torch.cos(t))), leaf(tensor(1.3))
    options = {"method": "Tsit5", "rtol": 1e-6, "atol": 1e-6}
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    with pytest.warns(RuntimeWarning, match="reversed states differ"):
        drifting = weighted_gradients(
            [y0], f, y0, t, BacksolveAdjoint(checkpoints=False), **options
        )[1].stats.backward_drift
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = weighted_gradients([y0], f, y0, t, BacksolveAdjoint(), **options)[1]
    assert drifting > 1e3 > solution.stats.backward_drift > 0
    # Outputs are all that is kept.
    assert not solution._trajectory.steps and not solution._trajectory.polynomials


BAD = {
    "method": ({"method": "tsit6"}, "did you mean"),
    "separable": ({"method": "VelocityVerlet"}, "separable"),
    "rtol": ({"rtol": -1.0}, "rtol of .* must be a positive number"),
    "atol": ({"atol": "tight"}, "atol of .* must be a positive number"),
}


@every_adjoint
@pytest.mark.parametrize("case", BAD)
def test_bad_options(adjoint, case):
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        adjoint(**options)


def test_more_bad_options():
    with pytest.raises(ValueError, match="nodes must be a number from 1 to 20"):
        GaussAdjoint(nodes=0)
    with pytest.raises(ValueError, match="quadrature_rtol"):
        QuadratureAdjoint(quadrature_rtol=0.0)
    with pytest.raises(ValueError, match="explicit reverse solver"):
        BacksolveAdjoint(method="Rodas5P")


@every_stiff_adjoint
def test_what_is_refused(adjoint):
    y0 = leaf(tensor(1.0, 1.0))
    with pytest.raises(ValueError, match=r"singular mass matrix.*discrete"):
        solve(
            lambda t, y: torch.stack((-y[0], y[0] - y[1])),
            y0,
            [0.0, 1.0],
            method="QNDF",
            mass=[1.0, 0.0],
            adjoint=adjoint(),
        )
    with pytest.raises(ValueError, match=r"dense Jacobians.*discrete"):
        solve(lambda t, y: -y, y0, [0.0, 1.0], method=QNDF(jacobian="krylov"), adjoint=adjoint())
    for start in (y0, y0.detach()):  # no gradient is asked for, nothing to refuse
        with torch.set_grad_enabled(start is not y0):
            options = {"method": QNDF(jacobian="krylov"), "adjoint": adjoint()}
            assert solve(lambda t, y: -y, start, [0.0, 1.0], **options).success


@every_adjoint
def test_a_loss_that_is_nan_gives_nan(adjoint):
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    y = solve(f, y0, [0.0, 1.0], method="Tsit5", adjoint=adjoint()).y
    assert all(
        g.isnan().all()
        for g in torch.autograd.grad(y[-1].sum() * float("nan"), [y0, *f.parameters()])
    )


def test_auto_says_what_it_chose():
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    solution = solve(f, y0, [0.0, 1.0], method="FBDF")
    assert (
        solution.adjoint == "DiscreteAdjoint"
        and "3 states and 13 parameters" in solution.adjoint_choice
    )
    named = solve(f, y0, [0.0, 1.0], method="FBDF", adjoint="gauss")
    assert named.adjoint == "GaussAdjoint" and named.adjoint_choice == ""
    assert solve(f, y0, [0.0, 1.0], method="Tsit5", adjoint="direct").adjoint == "direct"


@pytest.mark.parametrize(
    "method", ["Tsit5", "Rodas5P", "FBDF", "AutoTsit5(Rodas5P())", "AdamsPECE"]
)
def test_auto_takes_checkpoints_for_large_states(method, monkeypatch):
    monkeypatch.setattr("pynode.adjoints.selection.free_bytes", lambda device: 3e9)
    for size, large in ((1000, False), (5_000_000, True)):
        field = field_of(lambda t, y: -y, torch.ones(size, dtype=torch.float64))
        made, why = choose(field, methods.get(method))
        assert (made.max_memory is not None) == large == ("checkpoints" in why)
        # The memory holds a state, and a step, of this size.
        made.record(field, methods.get(method), None)


@every_adjoint
def test_a_reverse_solve_that_fails_says_so(adjoint):
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    y = solve(
        f, y0, [0.0, 2.0], method="Tsit5", rtol=1e-3, max_steps=30, adjoint=adjoint(rtol=1e-11)
    ).y
    with pytest.raises(
        RuntimeError,
        match=r"reverse solve of .* failed at t = .*limit on the number of steps.*discrete",
    ):
        y.sum().backward()
