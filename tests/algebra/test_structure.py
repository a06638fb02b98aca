"""Sparse, banded and matrix-free Jacobians: each gives the dense result, forward and back, or a
sentence."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
import torch

from pynode import Banded, Krylov, Sparse, SplitField, problems, solve
from pynode.algebra.colouring import colour_columns
from pynode.algebra.gmres import gmres
from pynode.algebra.pattern import Pattern, detect
from pynode.algebra.structure import DENSE_UP_TO
from pynode.core.problem import ODEProblem
from pynode.core.vector_field import VectorField
from pynode.methods import QNDF, KenCarp4, Rodas5P
from pynode.methods.registry import get
from pynode.problems.brusselator import brusselator
from tests.support.cases import diffusion_chain, tensor

N = 24


def two_chains(t, y):
    return {"a": diffusion_chain(t, y["a"]), "b": diffusion_chain(t, y["b"], 1.0)}


def conserved(t, y):
    """A chain whose first row is dense: its columns need N colours, its rows three."""
    out = diffusion_chain(t, y)
    return torch.cat((-(y * y).sum()[None], out[1:]))


def start(n=N):
    return torch.linspace(0.1, 1.0, n, dtype=torch.float64)


def detected(f, y0, t=0.0):
    """The pattern of f near y0 as a set of pairs."""
    problem = ODEProblem(f, y0, (t, t + 1))
    found = detect(VectorField(problem, problem.layout(), t), t, y0)
    return set(zip(found.rows.tolist(), found.cols.tolist(), strict=True))


STRUCTURES = {
    "sparse": lambda: Sparse(),
    "pattern": lambda: Sparse(
        scipy.sparse.diags_array([1.0, 1.0, 1.0], offsets=[-1, 0, 1], shape=(N, N))
    ),
    "banded": lambda: Banded(1, 1),
    "krylov": lambda: Krylov(),
}
CASES = [
    (method, name)
    for method in ("QNDF", "FBDF", "Rodas5P", "Rosenbrock23", "TRBDF2", "KenCarp47")
    for name in STRUCTURES
    if name != "krylov" or not method.startswith("Ro")
]


@pytest.mark.parametrize("method, name", CASES)
def test_same_as_dense(method, name):
    with torch.no_grad():
        dense, other = (
            solve(
                diffusion_chain,
                start(),
                [0.0, 0.3, 1.0],
                method=get(method, jacobian=structure),
                rtol=1e-5,
                atol=1e-8,
            )
            for structure in ("dense", STRUCTURES[name]())
        )
    assert float((dense.y - other.y).abs().max()) < (1e-5 if name == "krylov" else 1e-12)
    assert (other.stats.njvp > 0) == (name == "krylov")


@pytest.mark.parametrize("method, name", CASES)
def test_gradient(method, name):
    """The discrete adjoint against the graph of the same steps; Rosenbrock's against that of the
    dense ones."""
    found = {}
    for adjoint in ("direct", "discrete"):
        rate = tensor(20.0, requires_grad=True)
        y0 = start().requires_grad_()
        structure = (
            STRUCTURES[name]() if adjoint == "discrete" or not method.startswith("Ro") else "dense"
        )
        ys = solve(
            lambda t, y, rate=rate: diffusion_chain(t, y, rate),
            y0,
            [0.0, 0.3, 0.5],
            method=get(method, jacobian=structure),
            rtol=1e-4,
            atol=1e-7,
            adjoint=adjoint,
        ).y
        found[adjoint] = torch.autograd.grad((ys[1:] * torch.arange(N)).sum(), (rate, y0))
    for direct, discrete in zip(found["direct"], found["discrete"], strict=True):
        bound = (1e-7 if name == "krylov" else 1e-10) * float(direct.abs().max())
        assert float((direct - discrete).abs().max()) < bound


@pytest.mark.parametrize("name", STRUCTURES)
def test_split_field_with_a_structure(name):
    """The structure is that of the implicit part: diffusion; the growth is taken explicitly and
    couples as it likes."""
    found = {}
    for structure in ("dense", STRUCTURES[name]()):
        rate, force = tensor(20.0, requires_grad=True), tensor(0.3, requires_grad=True)
        y0 = start().requires_grad_()

        def growth(t, y, force=force):
            return y * (1 - y) * torch.sin(t + y) - force * y.mean()

        f = SplitField(
            lambda t, y, rate=rate: diffusion_chain(t, y, rate) - y * (1 - y) * torch.sin(t + y),
            growth,
        )
        ys = solve(
            f, y0, [0.0, 0.3, 0.5], method=KenCarp4(jacobian=structure), rtol=1e-4, atol=1e-7
        ).y
        grads = torch.autograd.grad((ys[1:] * torch.arange(N)).sum(), (rate, force, y0))
        found[structure == "dense"] = (ys.detach(), *grads)
    for one, other in zip(found[True], found[False], strict=True):
        assert float((one - other).abs().max()) < (1e-5 if name == "krylov" else 1e-11) * float(
            one.abs().max()
        )


def test_detection_is_exact():
    """Every entry and no other: on a grid, from a state with zeros, with a dense row, and in a
    larger random pattern."""
    problem = brusselator(size=8)
    pattern = Pattern.of(problem.field.pattern(), 128)
    assert detected(problem.field, problem.y0) == set(
        zip(pattern.rows.tolist(), pattern.cols.tolist(), strict=True)
    )
    cyclic = {(i, j % 50) for i in range(50) for j in (i, i - 1)}
    assert detected(lambda t, y: y * y.roll(1), torch.zeros(50).double()) == cyclic
    expected = {(0, j) for j in range(N)} | {
        (i, j) for i in range(1, N) for j in (i - 1, i, i + 1) if 0 <= j < N
    }
    assert detected(conserved, start()) == expected
    random = scipy.sparse.random_array(
        (700, 700), density=0.004, random_state=np.random.default_rng(3)
    ).tocoo()
    matrix = torch.sparse_coo_tensor(
        np.stack(random.coords), random.data, (700, 700), check_invariants=True
    ).double()
    wanted = set(zip(*(x.tolist() for x in random.coords), strict=True))
    assert detected(lambda t, y: torch.sin(matrix @ y), torch.rand(700).double()) == wanted


def test_colouring_is_valid():
    """No row has two columns of one colour; a band takes as many colours as it is wide."""
    random = scipy.sparse.random_array(
        (300, 300), density=0.02, random_state=np.random.default_rng(4)
    ).tocoo()
    grid = [x.numpy() for x in brusselator(size=16).field.pattern().indices()]
    for rows, cols, n in ((*random.coords, 300), (*grid, 512)):
        colours = colour_columns(rows, cols, n)
        assert len(set(zip(rows.tolist(), colours[cols].tolist(), strict=True))) == len(rows)
    band = Pattern.band(40, 2, 1)
    assert colour_columns(band.rows, band.cols, 40).max() + 1 == 4


def test_dense_row_takes_row_colours():
    """With a conservation law among the equations rows are coloured, and the result is the dense
    one."""
    structure = Sparse()
    with torch.no_grad():
        found = solve(conserved, start(), [0.0, 0.1], method=QNDF(jacobian=structure)).y[-1]
        dense = solve(conserved, start(), [0.0, 0.1], method="qndf").y[-1]
    assert structure._plan.transposed and structure._plan.colours <= 5
    assert torch.allclose(found, dense, rtol=1e-10)


def test_detected_pattern_grows():
    """A coupling that appears later, in a branch that was not taken at the start, is found when it
    matters."""

    def f(t, y):
        return torch.where(t > 0.5, 50 * (y.roll(3, -1) - y), -y)

    structure = Sparse()
    with torch.no_grad():
        found = solve(f, start(), [0.0, 1.0], max_step=0.1, method=QNDF(jacobian=structure)).y[-1]
        dense = solve(f, start(), [0.0, 1.0], max_step=0.1, method="qndf").y[-1]
    assert len(structure._plan.pattern.rows) == 2 * N
    assert torch.allclose(found, dense, rtol=1e-8)


def test_float32_and_nested_states():
    y0 = {"a": start(12).float(), "b": start(12).float()}
    with torch.no_grad():
        for structure in ("sparse", Banded(1, 1), "krylov"):
            found = solve(
                two_chains,
                y0,
                [0.0, 0.5],
                rtol=1e-3,
                atol=1e-5,
                method=QNDF(jacobian=structure),
            ).y
            dense = solve(
                two_chains,
                y0,
                [0.0, 0.5],
                rtol=1e-3,
                atol=1e-5,
            ).y
            assert found["b"].dtype == torch.float32
            assert torch.allclose(found["b"], dense["b"], rtol=5e-3)


@pytest.mark.parametrize("structure", ["sparse", "krylov", "preconditioned"])
def test_brusselator(structure):
    """On a grid of 16 x 16 all paths agree with the dense one to a few times the tolerance."""
    problem = problems.get("brusselator")
    structure = Krylov(problem.field.precond) if structure == "preconditioned" else structure
    with torch.no_grad():
        found = solve(
            problem.field,
            problem.y0,
            (0.0, 0.2),
            rtol=1e-5,
            atol=1e-6,
            method=QNDF(jacobian=structure),
        )
        dense = solve(
            problem.field, problem.y0, (0.0, 0.2), rtol=1e-5, atol=1e-6, jac=problem.field.jac
        )
    assert float((found.y - dense.y).abs().max()) < 5e-5


def test_preconditioner_saves_products():
    problem = brusselator(size=16)
    with torch.no_grad():
        plain, helped = (
            solve(
                problem.field,
                problem.y0,
                (0.0, 1.0),
                rtol=1e-5,
                atol=1e-6,
                method=QNDF(jacobian=Krylov(p)),
            ).stats.njvp
            for p in (None, problem.field.precond)
        )
    assert helped < 0.85 * plain


def test_preconditioned_gradient():
    """The transpose of the preconditioner is taken by autograd; without a graph the gradient is the
    same."""
    problem, grads = brusselator(size=6), []
    for precond in (
        problem.field.precond,
        lambda t, y, c: lambda v: problem.field.precond(t, y, c)(v.detach()),
        None,
    ):
        y = solve(
            problem.field, problem.y0, (0.0, 0.1), rtol=1e-6, method=QNDF(jacobian=Krylov(precond))
        ).y[-1]
        grads.append(torch.autograd.grad(y.square().sum(), problem.field.k)[0])
    assert torch.allclose(grads[0], grads[1], rtol=1e-8)
    assert torch.allclose(grads[0], grads[2], rtol=1e-4)


def test_gmres():
    """Restarted or not it meets the tolerance it reports, and ends at an exact solution."""
    matrix = torch.eye(30, dtype=torch.float64) * 3 + 0.3 * torch.randn(30, 30, dtype=torch.float64)
    b = torch.randn(30, dtype=torch.float64)
    for restart in (5, 40):
        x, residual = gmres(lambda v: matrix @ v, b, 1e-10, restart, 50)
        assert residual <= 1e-10 and float((b - matrix @ x).norm()) < 2e-10
    x, residual = gmres(lambda v: 2 * v, b, 0.0, 10, 3)
    assert torch.allclose(x, b / 2) and residual < 1e-12
    assert float(gmres(lambda v: v, torch.zeros(30), 1e-10, 10, 3)[0].norm()) == 0


BAD = [
    (
        {"method": QNDF(jacobian="triangular")},
        "unknown structure 'triangular': choose 'dense', 'sparse', 'krylov'",
    ),
    ({"method": QNDF(jacobian="banded")}, r"pass jacobian=pynode.Banded\(lower, upper\)"),
    (
        {"method": QNDF(jacobian=torch.ones(3, 3))},
        r"the sparsity pattern of 24 states must be \(24, 24\), not \(3, 3\)",
    ),
    ({"method": QNDF(jacobian=torch.eye(N))}, "the sparsity pattern lacks an entry in row"),
    (
        {"method": QNDF(jacobian=Banded(1, 0))},
        "has an entry outside the band of 1 diagonals below and 0 above",
    ),
    (
        {"method": Rodas5P(jacobian=Krylov())},
        "Rodas5P works with dense, sparse, banded .* W-method",
    ),
    ({"method": QNDF(jacobian="sparse"), "jac": lambda t, y: torch.eye(N)}, "remove one of them"),
    (
        {"method": QNDF(jacobian=Krylov(lambda t, y, c: lambda v: v * float("nan")))},
        "the preconditioner returned NaN",
    ),
    (
        {"method": QNDF(jacobian=Krylov(lambda t, y, c: lambda v: v[:2]))},
        r"returned \(2,\) for a vector of shape \(24,\)",
    ),
    (
        {"method": QNDF(jacobian=Banded(1, 1)), "mass": torch.ones(N, N)},
        "mass has entries outside the band",
    ),
]


@pytest.mark.parametrize("changes, sentence", BAD)
def test_sentences(changes, sentence):
    with torch.no_grad(), pytest.raises(ValueError, match=sentence):
        solve(diffusion_chain, start(), [0.0, 1.0], **changes)


def test_large_dense_is_refused():
    """Before anything is allocated, with the three ways out."""
    with (
        torch.no_grad(),
        pytest.raises(ValueError, match=r"GB.*jacobian='sparse'.*Banded.*jacobian='krylov'"),
    ):
        solve(lambda t, y: -y, torch.ones(DENSE_UP_TO + 1), [0.0, 1.0], method="QNDF")


def test_missing_scipy_is_told():
    code = (
        "import sys, torch, pynode\nsys.modules['scipy'] = None\ntry: pynode.solve(lambda t, y: -y,"
        " torch.ones(3), [0.0, 1.0], method=pynode.QNDF(jacobian='sparse'))"
        "\nexcept ImportError as error: print(error)\ntry: pynode.odeint(lambda t, y: -y,"
        " torch.ones(3), torch.arange(2.0), method='scipy_solver')"
        "\nexcept ImportError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert (
        "sparse and banded Jacobians need SciPy: pip install 'torch-stiff-ode[scipy]'"
        in done.stdout
    )
    assert "'scipy_solver' needs SciPy: pip install 'torch-stiff-ode[scipy]'" in done.stdout
