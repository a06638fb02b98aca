"""The native engine against the references: states, sensitivities and differences."""

import pytest
import torch

from pynode import problems, solve
from tests.support.cases import Forced, leaf, tensor
from tests.support.gradients import as_function
from tests.support.refdata import load, sensitivity, thinned, tolerances

# As tests/methods/test_methods_reference.py has them for the torch engine.
BOUNDS = {
    "robertson": 1e-5,
    "hires": 1e-5,
    "pollution": 4e-6,
    "vanderpol": 1.5e-3,
    "oregonator": 1e-3,
}
METHODS = ("Rodas5P", "QNDF", "FBDF", "Kvaerno5", "KenCarp47", "RadauIIA5", "RadauIIA9")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", BOUNDS)
def test_states(name, method):
    problem = problems.get(name)
    data = load(name)
    times = torch.cat((torch.tensor([data["t0"]], dtype=torch.float64), data["t"]))
    with torch.no_grad():
        solution = solve(
            problem.field,
            data["y0"],
            times,
            method=method,
            rtol=1e-6,
            atol=problem.atol,
            backend="native",
        )
    error = (solution.y[1:] - data["y"]).abs() / data["y"].abs().amax(0)
    assert float(error.max()) <= BOUNDS[name]


@pytest.mark.parametrize(
    ("method", "adjoint"),
    [
        ("Rodas5P", "discrete"),
        ("QNDF", "discrete"),
        ("Rodas5P", "forward"),
        ("QNDF", "forward"),
        ("Kvaerno5", "forward"),
        ("RadauIIA5", "forward"),
    ],
)
@pytest.mark.parametrize(
    ("name", "allowed"), [("robertson", 1e-5), ("hires", 1e-5), ("pollution", 1e-5)]
)
def test_sensitivities(name, method, adjoint, allowed):
    """In every rate constant, of all components, relative to the largest of each component."""
    problem = problems.get(name)
    reference, scale = thinned(load(name), 25)
    times = torch.cat((torch.tensor([reference["t0"]], dtype=torch.float64), reference["t"]))
    k = problem.field.k
    y = solve(
        problem.field,
        problem.y0,
        times,
        method=method,
        adjoint=adjoint,
        backend="native",
        **tolerances(problem, 1e-9),
    ).y[1:]
    rows = [
        torch.stack([torch.autograd.grad(v, k, retain_graph=True)[0] for v in state]) for state in y
    ]
    found = torch.stack(rows) * k.detach()
    error = (found - sensitivity(reference, problem)).abs() / scale
    assert float(error.max()) <= allowed


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "SDIRK2"])
def test_gradcheck_on_fixed_steps(method):
    f = Forced()
    run = as_function(f, method, step_size=0.25, backend="native")
    inputs = [
        leaf(tensor(1.0, -0.5, 0.3)),
        tensor(0.0, 0.33, 1.0),
        *[leaf(p) for p in f.parameters()],
    ]
    assert torch.autograd.gradcheck(run, inputs, rtol=1e-6, atol=1e-7)
