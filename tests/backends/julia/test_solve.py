"""The Julia engine on a real Julia: the contract of the torch engine, kept by SciML's solvers."""

import math
import warnings

import pytest
import torch

from pynode import Event, JuliaBackend, PresetTimes, Status, problems, solve
from pynode.methods import FBDF, QNDF
from tests.support.cases import Forced, smooth, smooth_exact, tensor
from tests.support.juliacase import julia, needs
from tests.support.refdata import load

METHODS = [
    "FBDF",
    "QNDF",
    "Rosenbrock23",
    "Rodas4",
    "Rodas5P",
    "KenCarp4",
    "KenCarp47",
    "TRBDF2",
    "Kvaerno5",
    "RadauIIA5",
    "Tsit5",
    "Vern7",
    "Vern9",
    "AutoTsit5(Rodas5P())",
]
FAMILIES = ["FBDF", "Rodas5P", "Tsit5"]


@pytest.mark.parametrize("method", METHODS)
def test_methods(method):
    """A problem that depends on t, to its closed form; outputs inside the steps."""
    if method.startswith("Radau"):
        needs("radau")
    times = [0.1, 0.37, 1.0, 2.5]
    with torch.no_grad():
        solution = julia(smooth, smooth_exact(0.1), times, method=method, rtol=1e-6, atol=1e-8)
    low = method in ("Rosenbrock23", "TRBDF2", "KenCarp47")
    assert (solution.y - smooth_exact(times)).abs().max() < (1e-3 if low else 1e-4)
    stats = solution.stats
    assert (
        solution.status is Status.SUCCESS
        and solution.method == method
        and stats.accepted > 3
        and stats.nfe > stats.accepted
    )
    implicit = method not in ("Tsit5", "Vern7", "Vern9") and not method.startswith("Auto")
    assert (stats.njac > 0) == (stats.nlu > 0) == implicit


@pytest.mark.parametrize("method", FAMILIES)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_dense_output(method, backward):
    """One polynomial a step, sampled from SciML's interpolant; both directions of time."""
    span = [2.5, 0.1] if backward else [0.1, 2.5]
    with torch.no_grad():
        solution = julia(
            smooth, smooth_exact(span[0]), span, method=method, rtol=1e-8, atol=1e-9, dense=True
        )
        times = torch.linspace(0.1, 2.5, 41, dtype=torch.float64)
        assert (solution(times) - smooth_exact(times)).abs().max() < 1e-5
        slopes = torch.stack((times.cos() * times.sin().exp(), -times.sin()), dim=1)
        # BDF begins with order 1.
        assert (solution.derivative(times) - slopes)[3:-3].abs().max() < 1e-3


def test_structured_states_and_float32():
    def f(t, y):
        return {"a": -y["b"], "b": (y["a"] - 0 * t,)[0]}

    y0 = {"a": torch.ones(2, 1), "b": torch.zeros(2, 1)}
    with torch.no_grad():
        y = julia(f, y0, [0.0, math.pi / 2], method="Tsit5", rtol=1e-5, atol=1e-6).y
    assert y["a"].dtype == torch.float32 and y["a"].shape == (2, 2, 1)
    assert y["b"][-1].sub(1).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("name", "method"), [("robertson", "FBDF"), ("robertson", "Rodas5P"), ("hires", "FBDF")]
)
def test_trajectories_of_the_reference(name, method):
    problem, reference = problems.get(name), load(name)
    times = torch.cat((torch.tensor([reference["t0"]], dtype=torch.float64), reference["t"]))
    atol = torch.as_tensor(problem.atol, dtype=torch.float64) * 1e-2
    with torch.no_grad():
        y = julia(problem.field, problem.y0, times, method=method, rtol=1e-8, atol=atol).y[1:]
    assert ((y - reference["y"]).abs() / reference["y"].abs().amax(0)).max() <= 1e-6


def test_preset_times_and_terminal_events():
    doses = PresetTimes([1.0, 2.0], lambda t, y: y + 1.0)
    with torch.no_grad():
        y = julia(
            lambda t, y: -y,
            tensor(1.0),
            [0.0, 2.5],
            method="Tsit5",
            events=doses,
            rtol=1e-9,
            atol=1e-11,
        ).y[-1]
    assert abs(float(y) - (math.exp(-2.5) + math.exp(-1.5) + math.exp(-0.5))) < 1e-7
    low = Event(lambda t, y: y[0] - 0.5, terminal=True)
    with torch.no_grad():
        solution = julia(
            lambda t, y: -y,
            tensor(1.0),
            [0.0, 5.0],
            method="Rodas5P",
            events=low,
            rtol=1e-9,
            atol=1e-11,
        )
    assert solution.status is Status.EVENT and abs(float(solution.events[0].t) - math.log(2)) < 1e-8


@pytest.mark.parametrize("structure", ["sparse", "krylov"])
def test_structure(structure):
    """Diffusion on a ring of 200 points, by a coloured sparse Jacobian and by GMRES; back in time
    too."""
    n = 200

    def f(t, y):
        left = torch.cat((y[1:], y[:1]))
        return 50.0 * (left - 2 * y + torch.cat((y[-1:], y[:-1]))) + torch.sin(t) * y

    y0 = torch.sin(torch.linspace(0, 6.28, n, dtype=torch.float64))
    with torch.no_grad():
        expected = solve(
            f, y0, [0.0, 1.0], method=QNDF(jacobian="sparse"), rtol=1e-8, atol=1e-10
        ).y[-1]
        solution = julia(f, y0, [0.0, 1.0], method=FBDF(jacobian=structure), rtol=1e-7, atol=1e-9)
        back = julia(
            lambda t, y: -f(-t, y),
            y0,
            [0.0, -1.0],
            method=FBDF(jacobian=structure),
            rtol=1e-7,
            atol=1e-9,
        )
    assert torch.equal(solution.y, back.y) and solution.stats == back.stats
    assert (solution.y[-1] - expected).abs().max() < 1e-5
    assert solution.stats.njvp > 0 if structure == "krylov" else solution.stats.njac > 0


def test_mass_matrix():
    """Robertson's reaction with its conservation law as an algebraic equation."""
    reference = load("robertson")

    def f(t, y):
        a, b, c = y
        return torch.stack(
            (-0.04 * a + 1e4 * b * c, 0.04 * a - 1e4 * b * c - 3e7 * b * b, a + b + c - 1)
        )

    times = torch.cat((torch.tensor([reference["t0"]], dtype=torch.float64), reference["t"]))
    with torch.no_grad():
        atol = tensor(1e-8, 1e-12, 1e-8)
        y = julia(
            f,
            tensor(1.0, 0.0, 0.0),
            times,
            method="Rodas5P",
            rtol=1e-6,
            atol=atol,
            mass=[1.0, 1.0, 0.0],
        ).y
    assert ((y[1:] - reference["y"]).abs() / reference["y"].abs().amax(0)).max() < 1e-4


@pytest.mark.parametrize("method", ["Rodas5P", "QNDF"])
def test_an_asymmetric_mass_matrix(method):
    """M, not its transpose: M y' = f is y' = M^-1 f."""
    mass, rates = (
        torch.eye(3, dtype=torch.float64) + torch.diag(tensor(0.5, -0.3), 1),
        tensor(1.0, 5.0, 40.0),
    )
    y0, inverse = tensor(1.0, 0.5, -0.2), torch.linalg.inv(mass)
    with torch.no_grad():
        found = julia(
            lambda t, y: -rates * y, y0, [0.0, 1.0], method=method, mass=mass, rtol=1e-8, atol=1e-10
        ).y[-1]
        expected = torch.linalg.matrix_exp(-inverse @ torch.diag(rates)) @ y0
        for other, sentence in (
            ("ABDF2", "cannot solve M y' = f"),
            ("Rosenbrock23", "takes diagonal mass matrices alone"),
        ):
            with pytest.raises(ValueError, match=sentence):
                julia(lambda t, y: -y, y0, [0.0, 1.0], method=other, mass=mass)
    assert (found - expected).abs().max() < 1e-7


def test_fixed_steps_and_stops():
    with torch.no_grad():
        errors = [
            abs(
                float(
                    julia(lambda t, y: -y, tensor(1.0), [0.0, 1.0], method="Tsit5", step_size=h).y[
                        -1
                    ]
                )
                - math.exp(-1)
            )
            for h in (0.1, 0.05)
        ]
    assert 4.5 < math.log2(errors[0] / errors[1]) < 5.5


def test_a_jacobian_grows_old():
    """It serves 50 steps at most, which saves calls of f."""
    problem = problems.get("robertson")
    with torch.no_grad():
        stats = julia(
            problem.field, problem.y0, [0.0, 1e5], method="FBDF", rtol=1e-6, atol=1e-10
        ).stats
    assert stats.njac >= stats.accepted / 51


def test_auto_names_what_it_chose():
    with torch.no_grad():
        problem = problems.get("robertson")
        span = problem.y0, [0.0, 100.0]
        solution, expected = (
            julia(problem.field, *span, method="auto"),
            solve(problem.field, *span, method="auto"),
        )
    assert solution.method == expected.method and expected.choice.startswith(solution.choice)


def test_changes_of_method_are_counted():
    """Van der Pol's oscillator: slow and stiff, then fast. A problem that is never stiff has
    none."""
    problem, name = problems.get("vanderpol"), "AutoTsit5(Rodas5P())"
    with torch.no_grad():
        stiff, own = (
            solve(problem.field, problem.y0, [0.0, 1.5e3], method=name, backend=b)
            for b in ("julia", "torch")
        )
        easy = julia(smooth, smooth_exact(0.0), [0.0, 1.0], method=name)
    assert stiff.stats.switches >= 1 and own.stats.switches >= 1 and easy.stats.switches == 0


def test_algorithm_objects_are_methods():
    """What diffeqpy hands out, such as de.Rodas5P(): a Julia object with SciML's own defaults."""
    from pynode.backends.julia.runtime import start

    algorithm = start().main.seval(
        "import OrdinaryDiffEqRosenbrock; OrdinaryDiffEqRosenbrock.Rodas5P()"
    )
    with torch.no_grad():
        solution = solve(
            smooth, smooth_exact(0.0), [0.0, 1.0], method=algorithm, rtol=1e-7, atol=1e-9
        )
    assert solution.method == "Rodas5P" and (solution.y[-1] - smooth_exact(1.0)).abs().max() < 1e-5


def test_julia_only_methods_need_no_backend():
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = solve(
            smooth, smooth_exact(0.0), [0.0, 1.0], method="Vern9", rtol=1e-9, atol=1e-11
        )
    assert solution.method == "Vern9" and (solution.y[-1] - smooth_exact(1.0)).abs().max() < 1e-8


def test_batches_are_one_system_of_blocks():
    """Rows that differ in stiffness. With Python functions a false claim is an error; native
    ones have the pattern of f itself."""
    rates = tensor(1.0, 10.0, 300.0).unsqueeze(1)

    def f(t, y):
        return -rates * torch.stack((y[:, 0] - torch.cos(t), y[:, 1] - y[:, 0] ** 2), dim=1)

    y0 = torch.ones(3, 2, dtype=torch.float64)
    with torch.no_grad():
        solution = julia(f, y0, [0.0, 0.5, 2.0], method="FBDF", batched=True, rtol=1e-8, atol=1e-10)
        expected = solve(f, y0, [0.0, 0.5, 2.0], method="Rodas5P", rtol=1e-10, atol=1e-12).y
    assert (solution.y - expected).abs().max() < 1e-6

    def coupled(t, y):
        return -y + y.roll(1, 0)

    options = {"method": "FBDF", "batched": True}
    python = JuliaBackend(hooks="python")
    with pytest.raises(ValueError, match="pattern lacks an entry"), torch.no_grad():
        solve(coupled, y0, [0.0, 1.0], backend=python, **options)
    different = torch.arange(6, dtype=torch.float64).reshape(3, 2)
    with torch.no_grad():
        found = julia(coupled, different, [0.0, 1.0], rtol=1e-8, atol=1e-10, **options).y
        expected = solve(coupled, different, [0.0, 1.0], method="Rodas5P", rtol=1e-10).y
    assert (found[-1] - expected[-1]).abs().max() < 1e-6


def test_compare_and_train(tmp_path):
    """The other doors to solve: comparison of both engines, a module, and a training run."""
    from pynode.compare import compare
    from pynode.data import read
    from pynode.nn import NeuralODE
    from pynode.train import Options, fit

    found = compare("spiral", ["tsit5", "julia:Tsit5"], rtols=[1e-6])
    assert [row.method for row in found.rows] == ["Tsit5", "julia:Tsit5"] and all(
        row.error < 1e-4 for row in found.rows
    )
    model = NeuralODE(Forced(), [0.0, 1.0], method="FBDF", backend="julia", adjoint="NativeGauss")
    model(tensor(1.0, -0.5, 0.3)).sum().backward()
    assert model.field.W.grad.abs().max() > 0 and model.stats.backward_nvjp > 0
    times = torch.linspace(0, 2, 9, dtype=torch.float64)
    lines = [f"{t},{math.exp(-t)},{1 - math.exp(-t)}" for t in times.tolist()]
    (tmp_path / "data.csv").write_text("\n".join(["time,a,b", *lines]) + "\n")
    options = Options(
        hidden=(4,), epochs=2, warm_start=20, candidates=1, backend="julia", method="Rodas5P"
    )
    run = fit(read(tmp_path / "data.csv"), options, tmp_path / "out")
    assert len(run.history) >= 1 and math.isfinite(run.best)
