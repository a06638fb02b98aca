"""The Julia engine on a real Julia: the contract of the torch engine, kept by SciML's solvers.

Run it with a Julia that has the solvers: PYTHON_JULIACALL_EXE and PYTHON_JULIACALL_PROJECT, `pynode julia use`, or
`pynode julia install`. The first solve by each method compiles it, which takes seconds.
"""

import gc
import math
import os
import signal
import threading
import warnings

import pytest
import torch
from cases import Forced, smooth, smooth_exact, tensor
from refdata import load
from test_refdata import scaled_gradients, sensitivity, sensitivity_scale

from pynode import Event, PresetTimes, RejectStep, SolveError, Status, problems, solve
from pynode.backends.julia.locate import locate

FOUND = locate()
if not FOUND.ready:
    pytest.skip(f"no Julia: {FOUND.problem}", allow_module_level=True)

METHODS = [
    "FBDF", "QNDF", "Rosenbrock23", "Rodas4", "Rodas5P", "KenCarp4", "KenCarp47", "TRBDF2", "Kvaerno5", "RadauIIA5", "Tsit5",
    "Vern7", "Vern9", "AutoTsit5(Rodas5P())",
]
FAMILIES = ["FBDF", "Rodas5P", "Tsit5"]
ADJOINTS = ["gauss", "GaussKronrod", "quadrature", "NativeGauss"]


def leaf(value):
    return value.detach().clone().requires_grad_()


def julia(f, y0, t, **options):
    return solve(f, y0, t, backend="julia", **options)


@pytest.mark.parametrize("method", METHODS)
def test_methods(method):
    """A problem that depends on t, to its closed form; outputs inside the steps."""
    times = [0.1, 0.37, 1.0, 2.5]
    with torch.no_grad():
        solution = julia(smooth, smooth_exact(0.1), times, method=method, rtol=1e-6, atol=1e-8)
    low = method in ("Rosenbrock23", "TRBDF2", "KenCarp47")
    assert (solution.y - smooth_exact(times)).abs().max() < (1e-3 if low else 1e-4)
    stats = solution.stats
    assert solution.status is Status.SUCCESS and solution.method == method and stats.accepted > 3 and stats.nfe > stats.accepted
    implicit = method not in ("Tsit5", "Vern7", "Vern9") and not method.startswith("Auto")
    assert (stats.njac > 0) == (stats.nlu > 0) == implicit


@pytest.mark.parametrize("method", FAMILIES)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_dense_output(method, backward):
    """One polynomial a step, sampled from SciML's interpolant; both directions of time."""
    span = [2.5, 0.1] if backward else [0.1, 2.5]
    with torch.no_grad():
        solution = julia(smooth, smooth_exact(span[0]), span, method=method, rtol=1e-8, atol=1e-9, dense=True)
        times = torch.linspace(0.1, 2.5, 41, dtype=torch.float64)
        assert (solution(times) - smooth_exact(times)).abs().max() < 1e-5
        slopes = torch.stack((times.cos() * times.sin().exp(), -times.sin()), dim=1)
        # BDF begins with order 1.
        assert (solution.derivative(times) - slopes)[3:-3].abs().max() < 1e-3


def test_structured_states_and_float32():
    def f(t, y):
        return {"a": -y["b"], "b": (y["a"] - 0 * t, )[0]}

    y0 = {"a": torch.ones(2, 1), "b": torch.zeros(2, 1)}
    with torch.no_grad():
        y = julia(f, y0, [0.0, math.pi / 2], method="Tsit5", rtol=1e-5, atol=1e-6).y
    assert y["a"].dtype == torch.float32 and y["a"].shape == (2, 2, 1)
    assert y["b"][-1].sub(1).abs().max() < 1e-4


@pytest.mark.parametrize(("name", "method"), [("robertson", "FBDF"), ("robertson", "Rodas5P"), ("hires", "FBDF")])
def test_trajectories_of_the_reference(name, method):
    problem, reference = problems.get(name), load(name)
    times = torch.cat((torch.tensor([reference["t0"]], dtype=torch.float64), reference["t"]))
    atol = torch.as_tensor(problem.atol, dtype=torch.float64) * 1e-2
    with torch.no_grad():
        y = julia(problem.field, problem.y0, times, method=method, rtol=1e-8, atol=atol).y[1:]
    assert ((y - reference["y"]).abs() / reference["y"].abs().amax(0)).max() <= 1e-6


@pytest.mark.parametrize(("name", "every"), [("robertson", 8), ("hires", 20)])
def test_sensitivities_of_the_reference(name, every):
    problem, reference = problems.get(name), load(name)
    scale = sensitivity_scale(reference)
    keep = list(range(len(reference["t"]) - 1, -1, -every))[:2][::-1]
    times = torch.cat((torch.tensor([reference["t0"]], dtype=torch.float64), reference["t"][keep]))
    atol = torch.as_tensor(problem.atol, dtype=torch.float64) * 1e-3
    y = julia(problem.field, problem.y0, times, method="Rodas5P", rtol=1e-9, atol=atol, adjoint="NativeGauss").y[1:]
    components = slice(None) if name == "robertson" else slice(0, 8, 3)
    found = scaled_gradients(problem, y[:, components])
    expected = sensitivity(reference, problem)[keep][:, components]
    assert ((found - expected).abs() / scale[components]).max() <= 1e-5


@pytest.mark.parametrize("adjoint", ADJOINTS)
@pytest.mark.parametrize("method", ["FBDF", "Rodas5P"])
def test_adjoints(adjoint, method):
    """Against the discrete adjoint of the torch engine at the same tolerance; y0, parameters and times."""
    f, found = Forced(), {}
    for backend in ("torch", "julia"):
        y0, t = leaf(tensor(1.0, -0.5, 0.3)), leaf(tensor(0.3, 0.7, 2.0))
        chosen = adjoint if backend == "julia" else "discrete"
        solution = solve(f, y0, t, method=method, rtol=1e-9, atol=1e-10, backend=backend, adjoint=chosen)
        weights = torch.randn(solution.y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        found[backend] = torch.autograd.grad((weights * solution.y).sum(), [y0, t, *f.parameters()])
    assert solution.stats.backward_nvjp > 0
    for a, b in zip(found["julia"], found["torch"], strict=True):
        assert (a - b).abs().max() <= 2e-6 * b.abs().max()


@pytest.mark.parametrize("adjoint", ["interpolating", "backsolve"])
def test_joint_adjoints_of_an_explicit_method(adjoint):
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    inputs = [y0, *f.parameters()]
    expected = torch.autograd.grad(solve(f, y0, [0.0, 2.0], method="Tsit5", rtol=1e-9, atol=1e-10).y[-1].sum(), inputs)
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
    with pytest.raises(ValueError, match="SciML has no method"):
        julia(f, y0, [0.0, 1.0], method="velocityverlet")


def test_gradient_where_nothing_depends_on_parameters():
    y0 = leaf(tensor(1.0, 2.0))
    y = julia(lambda t, y: -y, y0, [0.0, 1.0], method="Rodas5P", rtol=1e-9, atol=1e-11, adjoint="NativeGauss").y
    (found,) = torch.autograd.grad(y[-1].sum(), y0)
    assert (found - math.exp(-1)).abs().max() < 1e-8


@pytest.mark.parametrize("method", ["Tsit5", "FBDF"])
def test_bouncing_ball(method):
    """Events with resets: the times of the bounces, and the gradient of the height through three of them."""
    g, height, rebound = 9.81, leaf(torch.tensor(2.0).double()), leaf(torch.tensor(0.8).double())

    def fall(t, y):
        return torch.stack((y[1], -g + 0 * y[1]))

    ground = Event(lambda t, y: y[0], direction=-1, reset=lambda t, y: torch.stack((0 * y[0], -rebound * y[1])))
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


def test_preset_times_and_terminal_events():
    doses = PresetTimes([1.0, 2.0], lambda t, y: y + 1.0)
    with torch.no_grad():
        y = julia(lambda t, y: -y, tensor(1.0), [0.0, 2.5], method="Tsit5", events=doses, rtol=1e-9, atol=1e-11).y[-1]
    assert abs(float(y) - (math.exp(-2.5) + math.exp(-1.5) + math.exp(-0.5))) < 1e-7
    low = Event(lambda t, y: y[0] - 0.5, terminal=True)
    with torch.no_grad():
        solution = julia(lambda t, y: -y, tensor(1.0), [0.0, 5.0], method="Rodas5P", events=low, rtol=1e-9, atol=1e-11)
    assert solution.status is Status.EVENT and abs(float(solution.events[0].t) - math.log(2)) < 1e-8


def test_gradient_at_a_terminal_event():
    rate, y0 = leaf(tensor(1.3)), tensor(1.0)
    low = Event(lambda t, y: y[0] - 0.5, terminal=True)
    solution = julia(lambda t, y: -rate * y, y0, [0.0, 5.0], method="Rodas5P", events=low, rtol=1e-9, atol=1e-11)
    (found,) = torch.autograd.grad(solution.events[0].t, rate)
    assert abs(float(found) + math.log(2) / 1.3**2) < 1e-7


@pytest.mark.parametrize("structure", ["sparse", "krylov"])
def test_structure(structure):
    """Diffusion on a line of 200 points, by a coloured sparse Jacobian and by GMRES."""
    n = 200

    def f(t, y):
        left = torch.cat((y[1:], y[:1]))
        return 50.0 * (left - 2 * y + torch.cat((y[-1:], y[:-1]))) + torch.sin(t) * y

    y0 = torch.sin(torch.linspace(0, 6.28, n, dtype=torch.float64))
    with torch.no_grad():
        expected = solve(f, y0, [0.0, 1.0], method="QNDF", rtol=1e-8, atol=1e-10, structure="sparse").y[-1]
        solution = julia(f, y0, [0.0, 1.0], method="FBDF", rtol=1e-7, atol=1e-9, structure=structure)
    assert (solution.y[-1] - expected).abs().max() < 1e-5
    assert solution.stats.njvp > 0 if structure == "krylov" else solution.stats.njac > 0


def test_mass_matrix():
    """Robertson's reaction with its conservation law as an algebraic equation."""
    reference = load("robertson")

    def f(t, y):
        a, b, c = y
        return torch.stack((-0.04 * a + 1e4 * b * c, 0.04 * a - 1e4 * b * c - 3e7 * b * b, a + b + c - 1))

    times = torch.cat((torch.tensor([reference["t0"]], dtype=torch.float64), reference["t"]))
    with torch.no_grad():
        atol = tensor(1e-8, 1e-12, 1e-8)
        y = julia(f, tensor(1.0, 0.0, 0.0), times, method="Rodas5P", rtol=1e-6, atol=atol, mass=[1.0, 1.0, 0.0]).y
    assert ((y[1:] - reference["y"]).abs() / reference["y"].abs().amax(0)).max() < 1e-4


def next_solve_works():
    with torch.no_grad():
        y = julia(lambda t, y: -y, tensor(1.0), [0.0, 1.0], method="FBDF", rtol=1e-6).y[-1]
    assert abs(float(y) - math.exp(-1)) < 1e-4


class Faulty:
    """-y, until it is asked after a time; then what the test wants."""

    def __init__(self, fault):
        self.fault = fault

    def __call__(self, t, y):
        return self.fault(y) if float(t) > 0.5 else -y


def test_an_exception_in_the_field_comes_back_as_itself():
    class Mine(Exception):
        pass

    def fault(y):
        raise Mine("at half past")

    with pytest.raises(Mine, match="at half past"), torch.no_grad():
        julia(Faulty(fault), tensor(1.0), [0.0, 1.0], method="FBDF")
    next_solve_works()


def test_an_exception_in_the_backward_pass():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return -y

        @staticmethod
        def backward(ctx, g):
            raise ZeroDivisionError("in the backward pass")

    y0 = leaf(tensor(1.0))
    y = julia(lambda t, y: Once.apply(y), y0, [0.0, 1.0], method="Tsit5", adjoint="NativeGauss").y
    with pytest.raises(ZeroDivisionError, match="in the backward pass"):
        y[-1].backward()
    next_solve_works()


def test_nan_in_the_field_is_a_status():
    with torch.no_grad():
        solution = julia(Faulty(lambda y: y * math.nan), tensor(1.0), [0.0, 0.3, 1.0], method="FBDF", throw=False)
    assert solution.status is Status.NONFINITE and len(solution.y) == 2
    with pytest.raises(SolveError, match="What to do"), torch.no_grad():
        julia(Faulty(lambda y: y * math.nan), tensor(1.0), [0.0, 1.0], method="Rodas5P")
    next_solve_works()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal to send to oneself")
def test_ctrl_c_in_the_field():
    def fault(y):
        os.kill(os.getpid(), signal.SIGINT)
        return -y

    with pytest.raises(KeyboardInterrupt), torch.no_grad():
        julia(Faulty(fault), tensor(1.0), [0.0, 1.0], method="FBDF")
    next_solve_works()


def test_limits_and_domains():
    problem = problems.get("robertson")
    with torch.no_grad():
        few = julia(problem.field, problem.y0, [0.0, 1e4], method="Tsit5", max_steps=50, throw=False)
        assert few.status is Status.MAX_STEPS and few.stats.accepted + few.stats.rejected <= 51
        few = julia(problem.field, problem.y0, [0.0, 1e4], method="Tsit5", max_nfe=100, throw=False)
        assert few.status is Status.MAX_EVALUATIONS
        calls = []
        stopped = julia(
            lambda t, y: -y, tensor(1.0), [0.0, 9.0], method="Tsit5", callback=lambda t, y, stats: calls.append(t) or t > 1
        )
        assert stopped.status is Status.CALLBACK and calls == sorted(calls) and calls[-1] > 1
        root = julia(
            lambda t, y: -torch.sqrt(y) if float(y) >= 0 else reject(), tensor(1.0), [0.0, 1.9], method="Tsit5", rtol=1e-7
        )
        assert abs(float(root.y[-1]) - (1 - 0.95) ** 2) < 1e-5
        positive = julia(lambda t, y: -50 * y, tensor(1.0), [0.0, 5.0], method="Tsit5", rtol=1e-2, atol=1e-2, nonnegative=True)
        assert float(positive.y[-1]) >= 0


def reject():
    raise RejectStep


def test_fixed_steps_and_stops():
    with torch.no_grad():
        errors = [
            abs(float(julia(lambda t, y: -y, tensor(1.0), [0.0, 1.0], method="Tsit5", step_size=h).y[-1]) - math.exp(-1))
            for h in (0.1, 0.05)
        ]
    assert 4.5 < math.log2(errors[0] / errors[1]) < 5.5


def test_auto_names_what_it_chose():
    with torch.no_grad():
        problem = problems.get("robertson")
        span = problem.y0, [0.0, 100.0]
        solution, expected = julia(problem.field, *span, method="auto"), solve(problem.field, *span, method="auto")
    assert solution.method == expected.method and expected.choice.startswith(solution.choice)


def test_algorithm_objects_are_methods():
    """What diffeqpy hands out, such as de.Rodas5P(): a Julia object with SciML's own defaults."""
    from pynode.backends.julia.runtime import start

    algorithm = start().main.seval("import OrdinaryDiffEqRosenbrock; OrdinaryDiffEqRosenbrock.Rodas5P()")
    with torch.no_grad():
        solution = solve(smooth, smooth_exact(0.0), [0.0, 1.0], method=algorithm, rtol=1e-7, atol=1e-9)
    assert solution.method == "Rodas5P" and (solution.y[-1] - smooth_exact(1.0)).abs().max() < 1e-5


def test_julia_only_methods_need_no_backend():
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = solve(smooth, smooth_exact(0.0), [0.0, 1.0], method="Vern9", rtol=1e-9, atol=1e-11)
    assert solution.method == "Vern9" and (solution.y[-1] - smooth_exact(1.0)).abs().max() < 1e-8


def test_another_thread_is_told():
    next_solve_works()
    told = []

    def run():
        try:
            next_solve_works()
        except RuntimeError as error:
            told.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "same_thread" in told[0]


def test_memory_does_not_grow():
    """Forward and backward, again and again; what a hundred leave is left once."""
    import resource

    f = Forced()

    def iterations(count):
        for _ in range(count):
            y = julia(f, tensor(1.0, -0.5, 0.3), [0.0, 1.0], method="Rodas5P", rtol=1e-4, atol=1e-6, adjoint="NativeGauss").y
            torch.autograd.grad(y[-1].sum(), list(f.parameters()))
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before = iterations(100)
    assert iterations(200) - before < 40


def test_crosscheck():
    from pynode import crosscheck

    report = crosscheck("robertson", t=[0.0, 1.0, 100.0], method="Rodas5P", rtol=1e-7, adjoint="NativeGauss", bound=1e-4)
    assert report.ok and {row.quantity for row in report.rows} == {"y", "gradient in y0", "gradient in k"}
    assert "agree" in str(report) and "Rodas5P" in str(report)
    apart = crosscheck("robertson", t=[0.0, 1.0, 100.0], method="FBDF", rtol=1e-4, gradients=False, bound=1e-15)
    assert not apart.ok and "DIFFER" in str(apart)


def test_batches_are_one_system_of_blocks():
    """Rows that differ in stiffness; a claim that is false is an error."""
    rates = tensor(1.0, 10.0, 300.0).unsqueeze(1)

    def f(t, y):
        return -rates * torch.stack((y[:, 0] - torch.cos(t), y[:, 1] - y[:, 0] ** 2), dim=1)

    y0 = torch.ones(3, 2, dtype=torch.float64)
    with torch.no_grad():
        solution = julia(f, y0, [0.0, 0.5, 2.0], method="FBDF", batched=True, rtol=1e-8, atol=1e-10)
        expected = solve(f, y0, [0.0, 0.5, 2.0], method="Rodas5P", rtol=1e-10, atol=1e-12).y
    assert (solution.y - expected).abs().max() < 1e-6
    with pytest.raises(ValueError, match="pattern lacks an entry"), torch.no_grad():
        julia(lambda t, y: -y + y.roll(1, 0), y0, [0.0, 1.0], method="FBDF", batched=True)


def test_compare_and_train(tmp_path):
    """The other doors to solve: comparison of both engines, a module, and a training run."""
    from pynode.compare import compare
    from pynode.nn import NeuralODE
    from pynode.train import Options, fit, read_csv

    found = compare("spiral", ["tsit5", "julia:Tsit5"], rtols=[1e-6])
    assert [row.method for row in found.rows] == ["Tsit5", "julia:Tsit5"] and all(row.error < 1e-4 for row in found.rows)
    model = NeuralODE(Forced(), [0.0, 1.0], method="FBDF", backend="julia", adjoint="NativeGauss")
    model(tensor(1.0, -0.5, 0.3)).sum().backward()
    assert model.field.W.grad.abs().max() > 0 and model.stats.backward_nvjp > 0
    times = torch.linspace(0, 2, 9, dtype=torch.float64)
    lines = [f"{t},{math.exp(-t)},{1 - math.exp(-t)}" for t in times.tolist()]
    (tmp_path / "data.csv").write_text("\n".join(["time,a,b", *lines]) + "\n")
    options = Options(hidden=(4,), epochs=2, warm_start=20, candidates=1, backend="julia", method="Rodas5P")
    run = fit(read_csv(tmp_path / "data.csv"), options, tmp_path / "out")
    assert len(run.history) >= 1 and math.isfinite(run.best)
