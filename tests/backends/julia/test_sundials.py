"""CVODE and ARKODE of Sundials through Julia: what is said where it is not installed, and its
contract where it is."""

import math

import pytest
import torch

import pynode
from pynode import Event, RejectStep, Status, problems, solve
from pynode.backends.julia.runtime import Runtime, start
from tests.support.cases import Forced, leaf, smooth, smooth_exact, tensor
from tests.support.juliacase import julia, needs, next_solve_works
from tests.support.orders import observed
from tests.support.refdata import load

OPTIONS = {"method": "CVODE_BDF", "rtol": 1e-8, "atol": 1e-10}


@pytest.fixture
def sundials():
    needs("sundials")


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ("CVODE_BDF", "Sundials"),
        ("ARKODE", "Sundials"),
        ("ETDRK4", "OrdinaryDiffEqExponentialRK"),
        ("RadauIIA5", "OrdinaryDiffEqFIRK"),
    ],
)
def test_without_the_package_a_sentence_with_the_remedy(monkeypatch, method, package):
    monkeypatch.setattr(Runtime, "loads", lambda self, name: False)
    monkeypatch.setattr(start(), "_algorithms", {})
    with pytest.raises(
        pynode.julia.JuliaUnavailable,
        match=f"{method} needs the Julia package {package}: pynode julia install --",
    ):
        step = 0.1 if method == "ETDRK4" else None
        julia(smooth, smooth_exact(0.0), [0.0, 1.0], method=method, rtol=1e-6, step_size=step)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"step_size": 0.1}, "leave out step_size, or choose FBDF"),
        ({"nonnegative": True}, "leave out nonnegative and domain"),
        ({"mass": [1.0, 2.0]}, "cannot solve M y' = f"),
    ],
)
def test_what_sundials_does_not_offer_is_said(options, sentence):
    with pytest.raises(ValueError, match=sentence), torch.no_grad():
        julia(lambda t, y: -y, tensor(1.0, 2.0), [0.0, 1.0], **OPTIONS, **options)


def test_sundials_computes_in_float64():
    with pytest.raises(ValueError, match=r"pass y0\.double\(\)"), torch.no_grad():
        julia(lambda t, y: -y, torch.ones(2), [0.0, 1.0], method="CVODE_BDF", rtol=1e-4)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_outputs_and_polynomials(sundials, backward):
    times = [2.5, 1.0, 0.37, 0.1] if backward else [0.1, 0.37, 1.0, 2.5]
    with torch.no_grad():
        solution = julia(smooth, smooth_exact(times[0]), times, dense=True, **OPTIONS)
        plain = julia(smooth, smooth_exact(times[0]), times, **OPTIONS)
    for y in (solution.y, plain.y):
        assert (y - smooth_exact(times)).abs().max() < 1e-6
    inside = torch.linspace(0.1, 2.5, 41, dtype=torch.float64)
    assert (solution(inside) - smooth_exact(inside)).abs().max() < 1e-5
    stats = plain.stats
    assert plain.method == "CVODE_BDF" and stats.accepted > 20 and stats.nfe > stats.accepted
    assert stats.njac > 0 and stats.nlu > 0 and stats.nsolve > stats.accepted


def heat(t, y):
    """Diffusion with a reaction and a source that depends on time, (12,)."""
    left = torch.cat((y[:1] * 0, y[:-1]))
    right = torch.cat((y[1:], y[:1] * 0))
    return 100 * (left - 2 * y + right) + y**2 * (1 - y) + torch.sin(3 * t)


@pytest.mark.parametrize("method", ["CVODE_BDF", "ARKODE"])
@pytest.mark.parametrize("jacobian", ["dense", "sparse", "krylov"])
def test_linear_solvers(sundials, method, jacobian):
    """Elimination of a dense and of a sparse matrix (KLU), and GMRES."""
    y0 = torch.linspace(0.2, 1.0, 12, dtype=torch.float64)
    chosen = pynode.julia.method(method, jacobian=jacobian)
    with torch.no_grad():
        expected = solve(heat, y0, [0.0, 0.5, 1.0], method="FBDF", rtol=1e-10, atol=1e-12).y
        found = julia(heat, y0, [0.0, 0.5, 1.0], method=chosen, rtol=1e-8, atol=1e-10)
    assert (found.y - expected).abs().max() < 1e-6
    assert (found.stats.njac > 0) == (jacobian != "krylov")
    # ARKODE's GMRES takes differences of f.
    assert (found.stats.njvp > 0) == (jacobian == "krylov" and method == "CVODE_BDF")


def test_order_of_arkode_on_a_problem_that_depends_on_time(sundials):
    """Tolerances that every step passes, and Newton's iteration far below its error."""
    method = start().main.seval(
        "Sundials.ARKODE(max_nonlinear_iters = 20, nonlinear_convergence_coefficient = 1e-9)"
    )
    errors = []
    for count in (8, 16):
        options = {"first_step": 1 / count, "max_step": 1 / count, "rtol": 1e-2, "atol": 1e-2}
        with torch.no_grad():
            found = julia(
                smooth, smooth_exact(0.0), [0.0, 1.0], method=method, tstops=[1.0], **options
            )
        errors.append(float((found.y[-1] - smooth_exact(1.0)).norm()))
    assert observed(errors) == pytest.approx(4, abs=0.35)


@pytest.mark.parametrize("method", ["CVODE_BDF", "ARKODE"])
def test_the_error_follows_the_tolerance(sundials, method):
    for rtol in (1e-4, 1e-6, 1e-8):
        with torch.no_grad():
            found = julia(
                smooth, smooth_exact(0.0), [0.0, 3.0], method=method, rtol=rtol, atol=rtol
            )
        assert float((found.y[-1] - smooth_exact(3.0)).abs().max()) < 300 * rtol


def test_robertson_to_the_reference(sundials):
    problem, reference = problems.get("robertson"), load("robertson")
    times = torch.cat((torch.tensor([reference["t0"]], dtype=torch.float64), reference["t"]))
    atol = torch.as_tensor(problem.atol, dtype=torch.float64) * 1e-2
    with torch.no_grad():
        y = julia(problem.field, problem.y0, times, method="cvode_bdf", rtol=1e-8, atol=atol).y[1:]
    assert ((y - reference["y"]).abs() / reference["y"].abs().amax(0)).max() <= 1e-5


def test_events_and_limits(sundials):
    half = Event(lambda t, y: y[0] - 0.5, terminal=True)
    with torch.no_grad():
        solution = julia(lambda t, y: -y, tensor(1.0), [0.0, 5.0], events=half, **OPTIONS)
        assert (
            solution.status is Status.EVENT
            and abs(float(solution.events[0].t) - math.log(2)) < 1e-6
        )
        for limit, status in (
            ({"max_nfe": 60}, Status.MAX_EVALUATIONS),
            ({"max_steps": 30}, Status.MAX_STEPS),
        ):
            times = torch.linspace(0, 9, 901, dtype=torch.float64)
            part = julia(smooth, smooth_exact(0.0), times, throw=False, **OPTIONS, **limit)
            assert part.status is status and 1 < len(part.t) < 900
            assert (part.y - smooth_exact(part.t)).abs().max() < 1e-5

        def refuses(t, y):
            if float(t) > 0.5:
                raise RejectStep
            return -y

        part = julia(refuses, tensor(1.0), [0.0, 0.2, 1.0], throw=False, **OPTIONS)
    assert part.status is Status.DOMAIN and len(part.t) == 2
    next_solve_works()


def test_gradients(sundials):
    f, found = Forced(), []
    own = {"backend": "julia", "method": "CVODE_BDF", "adjoint": "NativeGauss"}
    for options in ({"backend": "torch", "method": "FBDF"}, own):
        y0 = leaf(tensor(1.0, -0.5, 0.3))
        y = solve(f, y0, [0.3, 0.7, 2.0], rtol=1e-9, atol=1e-11, **options).y
        found.append(torch.autograd.grad((y * y).sum(), [y0, *f.parameters()]))
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_objects(sundials):
    """de.CVODE_BDF() of diffeqpy, and one with options of its own."""
    for text in ("Sundials.CVODE_BDF()", "Sundials.CVODE_BDF(max_order = 3)"):
        with torch.no_grad():
            y = solve(
                smooth,
                smooth_exact(0.0),
                [0.0, 1.0],
                method=start().main.seval(text),
                rtol=1e-8,
                atol=1e-10,
            )
        assert y.method == "CVODE_BDF" and (y.y[-1] - smooth_exact(1.0)).abs().max() < 1e-5
