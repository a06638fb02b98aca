"""Gradients through solves on a real Julia: adjoints by name, events, memory."""

import gc
import math

import pytest
import torch

from pynode import Event, JuliaBackend, problems, solve
from pynode.methods import Rodas5P
from tests.support.cases import Forced, leaf, tensor
from tests.support.juliacase import julia, needs
from tests.support.refdata import load, scaled_gradients, sensitivity, sensitivity_scale

ADJOINTS = ["gauss", "GaussKronrod", "quadrature", "NativeGauss"]
WITHOUT = ("gauss", "NativeGauss")  # what runs without SciMLSensitivity, too


@pytest.mark.parametrize(("name", "every"), [("robertson", 8), ("hires", 20)])
def test_sensitivities_of_the_reference(name, every):
    problem, reference = problems.get(name), load(name)
    scale = sensitivity_scale(reference)
    keep = list(range(len(reference["t"]) - 1, -1, -every))[:2][::-1]
    times = torch.cat((torch.tensor([reference["t0"]], dtype=torch.float64), reference["t"][keep]))
    atol = torch.as_tensor(problem.atol, dtype=torch.float64) * 1e-3
    y = julia(
        problem.field,
        problem.y0,
        times,
        method="Rodas5P",
        rtol=1e-9,
        atol=atol,
        adjoint="NativeGauss",
    ).y[1:]
    components = slice(None) if name == "robertson" else slice(0, 8, 3)
    found = scaled_gradients(problem, y[:, components])
    expected = sensitivity(reference, problem)[keep][:, components]
    assert ((found - expected).abs() / scale[components]).max() <= 1e-5


@pytest.mark.parametrize("hooks", ["native", "python"])
def test_components_of_very_different_size(hooks):
    """Pollution's species range from 4e-18 to 0.3. Each is divided by its own size, so that their
    cotangents range over 17 orders: one atol for all lost the gradient altogether."""
    problem = problems.get("pollution")
    found = {}
    for backend in (JuliaBackend(hooks=hooks), "torch"):
        start = leaf(problem.y0.clone())
        y = solve(
            problem.field,
            start,
            problem.tspan,
            method="Rodas5P",
            rtol=1e-6,
            atol=problem.atol,
            backend=backend,
        ).y[-1]
        loss = (y / y.detach().abs()).square().sum()
        (found[backend],) = torch.autograd.grad(loss, start)
    ours, torchs = found.values()
    assert (ours - torchs).abs().max() <= 1e-3 * torchs.abs().max()


@pytest.mark.parametrize("adjoint", ADJOINTS)
@pytest.mark.parametrize("method", ["FBDF", "Rodas5P"])
def test_adjoints(adjoint, method):
    """Against the discrete adjoint of the torch engine at the same tolerance; y0, parameters and
    times."""
    if adjoint not in WITHOUT:
        needs("sensitivity")
    f, found = Forced(), {}
    for backend in ("torch", "julia"):
        y0, t = leaf(tensor(1.0, -0.5, 0.3)), leaf(tensor(0.3, 0.7, 2.0))
        chosen = adjoint if backend == "julia" else "discrete"
        solution = solve(
            f, y0, t, method=method, rtol=1e-9, atol=1e-10, backend=backend, adjoint=chosen
        )
        weights = torch.randn(
            solution.y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        )
        found[backend] = torch.autograd.grad((weights * solution.y).sum(), [y0, t, *f.parameters()])
    assert solution.stats.backward_nvjp > 0
    for a, b in zip(found["julia"], found["torch"], strict=True):
        assert (a - b).abs().max() <= 2e-6 * b.abs().max()


def test_a_gradient_through_a_mass_matrix():
    """One with an inverse, of which neither the transpose nor the diagonal would do."""
    mass = torch.diag(tensor(2.0, 1.0, 0.5)) + torch.diag(tensor(0.5, -0.3), 1)
    f, found = Forced(), {}
    for backend, adjoint in (("torch", "discrete"), ("julia", "NativeGauss")):
        y0 = leaf(tensor(1.0, -0.5, 0.3))
        options = {
            "method": "Rodas5P",
            "mass": mass,
            "rtol": 1e-9,
            "atol": 1e-11,
            "backend": backend,
            "adjoint": adjoint,
        }
        y = solve(f, y0, [0.0, 0.4, 1.0], **options).y
        found[backend] = torch.autograd.grad((y[1:] * torch.arange(3)).sum(), [y0, *f.parameters()])
    for a, b in zip(found["julia"], found["torch"], strict=True):
        assert (a - b).abs().max() <= 1e-7 * b.abs().max()


@pytest.mark.parametrize("adjoint", ["interpolating", "backsolve"])
def test_joint_adjoints_of_an_explicit_method(adjoint):
    needs("sensitivity")
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    inputs = [y0, *f.parameters()]
    expected = torch.autograd.grad(
        solve(f, y0, [0.0, 2.0], method="Tsit5", rtol=1e-9, atol=1e-10).y[-1].sum(), inputs
    )
    y = julia(f, y0, [0.0, 2.0], method="Tsit5", rtol=1e-9, atol=1e-10, adjoint=adjoint).y
    for a, b in zip(torch.autograd.grad(y[-1].sum(), inputs), expected, strict=True):
        assert (a - b).abs().max() <= 1e-6 * b.abs().max()


def test_traps_are_refused():
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    from pynode.adjoints.julia import JuliaAdjoint

    with pytest.raises(ValueError, match="implicit reverse solver"):
        julia(f, y0, [0.0, 1.0], method="FBDF", adjoint="interpolating")
    with pytest.raises(ValueError, match="loses accuracy as the reverse solver"):
        julia(f, y0, [0.0, 1.0], method="FBDF", adjoint=JuliaAdjoint("GaussAdjoint", method="FBDF"))
    with pytest.raises(ValueError, match="has no adjoint 'discrete'"):
        julia(f, y0, [0.0, 1.0], method="FBDF", adjoint="discrete")
    with pytest.raises(ValueError, match="only adjoint='NativeGauss' differentiates"):
        julia(f, y0, [0.0, 1.0], method="Rodas5P", mass=[1.0, 2.0, 3.0], adjoint="gauss")
    with pytest.raises(ValueError, match="the matrix needs an inverse"):
        julia(
            lambda t, y: 0.3 - y,
            y0,
            [0.0, 1.0],
            method="Rodas5P",
            mass=[1.0, 2.0, 0.0],
            adjoint="NativeGauss",
        )
    for kvaerno in ({"method": "Kvaerno5"}, {"checkpoints": True}):
        with pytest.raises(ValueError, match="Kvaerno methods lose orders"):
            julia(
                f,
                y0,
                [0.0, 1.0],
                method="Kvaerno3",
                adjoint=JuliaAdjoint("GaussAdjoint", **kvaerno),
            )
    with pytest.raises(ValueError, match="SciML has no method"):
        julia(f, y0, [0.0, 1.0], method="velocityverlet")


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P"])
def test_gradients_of_a_solve_back_in_time(method):
    """Time runs forward in Julia all the same."""
    f, found = Forced(), []
    for backend, adjoint in (("torch", "discrete"), ("julia", "NativeGauss")):
        y0, t = leaf(tensor(1.0, -0.5, 0.3)), leaf(tensor(2.0, 0.7, 0.3))
        y = solve(
            f, y0, t, method=method, rtol=1e-9, atol=1e-11, backend=backend, adjoint=adjoint
        ).y
        found.append(torch.autograd.grad((y * y).sum(), [y0, t, *f.parameters()]))
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= 1e-6 * b.abs().max()


def test_gradient_where_nothing_depends_on_parameters():
    y0 = leaf(tensor(1.0, 2.0))
    y = julia(
        lambda t, y: -y,
        y0,
        [0.0, 1.0],
        method="Rodas5P",
        rtol=1e-9,
        atol=1e-11,
        adjoint="NativeGauss",
    ).y
    (found,) = torch.autograd.grad(y[-1].sum(), y0)
    assert (found - math.exp(-1)).abs().max() < 1e-8


@pytest.mark.parametrize("method", ["Tsit5", "FBDF"])
def test_bouncing_ball(method):
    """Events with resets: the times of the bounces, and the gradient of the height through three of
    them."""
    g, height, rebound = 9.81, leaf(torch.tensor(2.0).double()), leaf(torch.tensor(0.8).double())

    def fall(t, y):
        return torch.stack((y[1], -g + 0 * y[1]))

    ground = Event(
        lambda t, y: y[0], direction=-1, reset=lambda t, y: torch.stack((0 * y[0], -rebound * y[1]))
    )
    y0 = torch.stack((height, 0 * height))
    solution = julia(fall, y0, [0.0, 2.5], method=method, events=ground, rtol=1e-9, atol=1e-11)
    first = (2 * height / g).sqrt()
    expected = [first * (1 + 2 * sum(rebound**k for k in range(1, i + 1))) for i in range(3)]
    assert len(solution.events) >= 3
    for record, time in zip(solution.events, expected):
        assert abs(float(record.t) - float(time)) < 1e-7
    found = torch.autograd.grad(solution.events[2].t, (height, rebound))
    for a, b in zip(found, torch.autograd.grad(expected[2], (height, rebound))):
        assert abs(float(a) - float(b)) < 1e-5


def test_gradient_at_a_terminal_event():
    rate, y0 = leaf(tensor(1.3)), tensor(1.0)
    low = Event(lambda t, y: y[0] - 0.5, terminal=True)
    solution = julia(
        lambda t, y: -rate * y, y0, [0.0, 5.0], method="Rodas5P", events=low, rtol=1e-9, atol=1e-11
    )
    (found,) = torch.autograd.grad(solution.events[0].t, rate)
    assert abs(float(found) + math.log(2) / 1.3**2) < 1e-7


def test_memory_does_not_grow():
    """Forward and backward, again and again; what a hundred leave is left once."""
    import resource

    f = Forced()

    def iterations(count):
        for _ in range(count):
            y = julia(
                f,
                tensor(1.0, -0.5, 0.3),
                [0.0, 1.0],
                method="Rodas5P",
                rtol=1e-4,
                atol=1e-6,
                adjoint="NativeGauss",
            ).y
            torch.autograd.grad(y[-1].sum(), list(f.parameters()))
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before = iterations(100)
    assert iterations(200) - before < 40


def test_crosscheck():
    from pynode import crosscheck

    report = crosscheck(
        "robertson",
        t=[0.0, 1.0, 100.0],
        method="Rodas5P",
        rtol=1e-7,
        adjoint="NativeGauss",
        bound=1e-4,
    )
    assert report.ok and {row.quantity for row in report.rows} == {
        "y",
        "gradient in y0",
        "gradient in k",
    }
    assert "agree" in str(report) and "Rodas5P" in str(report)
    apart = crosscheck(
        "robertson", t=[0.0, 1.0, 100.0], method="FBDF", rtol=1e-4, gradients=False, bound=1e-15
    )
    assert not apart.ok and "DIFFER" in str(apart)


@pytest.mark.parametrize("adjoint", ["gauss", "NativeGauss"])
def test_sparse_jacobians_in_both_directions(adjoint):
    """Few entries, none of them where a dense matrix would have its first ones: the reverse solve
    must place them."""
    rate, n = leaf(tensor(2.0, 30.0)), 6

    def f(t, y):
        return -rate[1] * (y - y.roll(2) ** 2) + rate[0] * torch.cos(t)

    y0, found = leaf(torch.linspace(0.2, 1.0, n, dtype=torch.float64)), {}
    for backend, chosen, structure in (
        ("torch", "discrete", "dense"),
        ("julia", adjoint, "sparse"),
    ):
        options = {"backend": backend, "adjoint": chosen, "params": [rate]}
        method = Rodas5P(jacobian=structure)
        y = solve(f, y0, [0.0, 0.4, 1.0], method=method, rtol=1e-8, atol=1e-10, **options).y
        found[backend] = torch.autograd.grad((y[1:] * torch.arange(n)).sum(), (y0, rate))
    for a, b in zip(found["julia"], found["torch"], strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()
