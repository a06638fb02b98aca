"""Whole steps compiled: the same states and gradients, fewer launches, and what is refused."""

import copy
import math
import shutil

import pytest
import torch

import pynode
from pynode import DiscreteAdjoint, Status, solve
from pynode.algebra.linear import gauss_jordan
from pynode.methods import BS3, RK4, Rodas5P, Rosenbrock23, Tsit5, registry
from pynode.methods.compiled import compiled_functions
from pynode.methods.compiled.lookahead import COUNT
from pynode.problems import get
from tests.support.cases import tensor
from tests.support.compiledcase import TIMES, TRACED, Field


def both(field, method, y0=(1.0, -0.5), backend=TRACED, **options):
    """(solution, gradients) as it stands, and compiled."""
    found = []
    for chosen in (False, backend):
        start = tensor(*y0).requires_grad_()
        solution = solve(
            field,
            start,
            TIMES,
            method=registry.get(method, compile=chosen),
            rtol=1e-6,
            atol=1e-8,
            **options,
        )
        inputs = [start, *field.parameters()]
        found.append((solution, torch.autograd.grad(solution.y.square().sum(), inputs)))
    return found


@pytest.mark.parametrize("method", ["BS3", "Tsit5", "Vern7", "Rosenbrock23", "Rodas5P"])
def test_the_same_steps_and_gradients(method):
    (plain, expected), (compiled, found) = both(Field(), method)
    assert torch.allclose(compiled.y, plain.y, rtol=0, atol=1e-12)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)
    for name in ("accepted", "rejected", "njac", "nlu", "nsolve", "backward_nfe"):
        assert getattr(compiled.stats, name) == getattr(plain.stats, name)
    # What it costs to find out whether f broadcasts.
    assert 0 <= plain.stats.nfe - compiled.stats.nfe <= 12


@pytest.mark.parametrize(
    "options, method",
    [
        ({}, "tsit5"),
        ({}, "BS3"),
        ({"first_step": 1.0}, "tsit5"),
        ({"tstops": [0.2, 0.33, 0.7]}, "tsit5"),
        ({"max_step": 0.01}, "tsit5"),
        ({}, Tsit5(controller="PID")),
        ({"first_step": 1.0}, "rosenbrock23"),
        ({}, Rodas5P(controller="I")),
        ({"step_size": 0.01}, "rk4"),
        ({"step_size": 0.013}, "rk4"),
    ],
)
def test_steps_are_taken_ahead(options, method):
    """Rejections, stops, bounds, controllers and the sizes of all steps are foreseen: no call is in
    vain."""
    field = Field()
    (plain, _), (compiled, _) = both(field, method, **options)
    assert torch.allclose(compiled.y, plain.y, rtol=0, atol=1e-12)
    assert compiled.stats.rejected == plain.stats.rejected and (
        options.get("first_step") is None
    ) != bool(plain.stats.rejected)
    known = math.ceil((compiled.stats.accepted + compiled.stats.rejected) / COUNT)
    # A second stop within the same call is not foreseen.
    (function,) = compiled_functions(field)
    assert known <= function.calls <= known + ("tstops" in options)


def test_backward_in_time_and_in_single_precision():
    field = Field()
    plain, compiled = (
        solve(field, tensor(1.0, -0.5), [1.0, 0.9, 0.8], method=Tsit5(compile=c), dense=True)
        for c in (False, TRACED)
    )
    assert torch.allclose(compiled.y, plain.y, rtol=1e-12) and torch.allclose(
        compiled(0.85), plain(0.85), rtol=1e-12
    )
    field, start = field.float(), torch.tensor([1.0, -0.5])
    plain, compiled = (
        solve(field, start, TIMES, method=Tsit5(compile=c), rtol=1e-4) for c in (False, TRACED)
    )
    assert compiled.y.dtype == torch.float32 and torch.allclose(compiled.y, plain.y, atol=1e-6)


def test_what_changes_a_solve_on_its_way_is_seen():
    """An event's new state, a refused domain, and a callback that changes the field."""
    field = Field()
    jump = pynode.Event(lambda t, y: y[1] + 0.2, reset=lambda t, y: y + 1.0)
    plain, compiled = (
        solve(field, tensor(1.0, -0.5), TIMES, method=Tsit5(compile=c), events=[jump])
        for c in (False, TRACED)
    )
    assert len(plain.events) == len(compiled.events) > 0 and torch.allclose(
        compiled.y, plain.y, rtol=0, atol=1e-10
    )
    # Where the next step, of the same size, was taken ahead without it.
    dose = pynode.PresetTimes([0.5], lambda t, y: y + 1.0)
    plain, compiled = (
        solve(field, tensor(1.0, -0.5), TIMES, method=RK4(compile=c), step_size=0.02, events=[dose])
        for c in (False, TRACED)
    )
    assert torch.allclose(compiled.y, plain.y, rtol=0, atol=1e-10)
    plain, compiled = (
        solve(
            field,
            tensor(1.0, -0.5),
            TIMES,
            method=Tsit5(compile=c),
            domain=lambda t, y: bool(y[1] < -0.1),
            throw=False,
        )
        for c in (False, TRACED)
    )
    assert (
        compiled.status == plain.status is Status.DOMAIN
        and abs(compiled.stats.rejected - plain.stats.rejected) < 15
    )

    def sudden(t, y, stats):
        with torch.no_grad():
            field.net[0].weight.add_(0.01)

    kept = copy.deepcopy(field.state_dict())
    ends = []
    for chosen in (False, TRACED):
        field.load_state_dict(kept)
        with torch.no_grad():
            ends.append(
                solve(
                    field, tensor(1.0, -0.5), TIMES, method=Tsit5(compile=chosen), callback=sudden
                ).y[-1]
            )
    assert torch.allclose(*ends, rtol=0, atol=1e-9)


def test_the_first_solve_of_a_process():
    """Nothing about the tableau is known yet."""
    for name in ("fsal", "c_dense"):
        registry.get("BS3").tableau.__dict__.pop(name, None)
    assert solve(
        Field(), tensor(1.0, -0.5), TIMES, method=BS3(compile=TRACED), rtol=1e-2
    ).stats.accepted


def test_gauss_jordan():
    """Beside LAPACK, with rows to exchange and badly scaled ones; of a singular matrix nothing
    finite."""
    torch.manual_seed(0)
    for n in (1, 2, 3, 8):
        eye, scales = torch.eye(n).double(), torch.logspace(-9, 9, n).double()
        for matrix in (torch.randn(n, n).double(), eye.flip(0), scales.diag().flip(0)):
            assert torch.allclose(gauss_jordan(matrix) @ matrix, eye, atol=1e-12)
    assert not torch.isfinite(gauss_jordan(tensor(1.0, 2.0, 2.0, 4.0).view(2, 2))).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: CUDA graphs cannot be recorded")
@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_cuda_graphs(method):
    field, start = Field().cuda(), tensor(1.0, -0.5).cuda()
    plain, compiled = (
        solve(field, start, TIMES, method=registry.get(method, compile=c)) for c in (False, True)
    )
    assert torch.allclose(compiled.y, plain.y, rtol=0, atol=1e-10)


def test_checkpoints_take_compiled_steps_again():
    (_, expected), (_, found) = both(Field(), "tsit5", adjoint=DiscreteAdjoint(checkpoints=3))
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"method": Rodas5P(compile=TRACED, jacobian="sparse")}, "small dense systems"),
        ({"mass": tensor(1.0, 1.0)}, "small dense systems"),
        ({"jac": lambda t, y: -torch.eye(2)}, "small dense systems"),
        ({"backend": "julia"}, "torch engine"),
    ],
)
def test_refusals(options, says):
    with pytest.raises(ValueError, match=says):
        solve(Field(), tensor(1.0, -0.5), TIMES, **{"method": Rodas5P(compile=TRACED), **options})


@pytest.mark.parametrize("method", ["qndf", "kvaerno5", "radauiia5", "autotsit5"])
def test_families_that_branch_are_not_compiled(method):
    with pytest.raises(TypeError, match="has no option 'compile'"):
        registry.get(method, compile=True)


@pytest.mark.skipif(
    shutil.which("c++") is None and shutil.which("g++") is None,
    reason="no C++ compiler, which inductor needs",
)
def test_by_inductor():
    """The backend that pays, on a stiff problem."""
    problem = get("robertson")
    options = {"rtol": 1e-4, "atol": 1e-8}
    ends = [
        solve(problem.field, problem.y0, [0.0, 100.0], method=Rosenbrock23(compile=c), **options).y[
            -1
        ]
        for c in (False, True)
    ]
    assert torch.allclose(*ends, rtol=1e-10)


def test_a_compiler_that_errs_is_found_out():
    """One that doubles what it gets: such steps never reach anybody."""

    def wrong(graph, inputs):
        return lambda *given: [None if out is None else 2 * out for out in graph.forward(*given)]

    with pytest.raises(ValueError, match=r"makes wrong steps on this field"):
        solve(Field(), tensor(1.0, -0.5), TIMES, method=Tsit5(compile=wrong))


def test_every_method_of_the_families_has_plain_numbers():
    for name in registry.names():
        method = registry.get(name)
        if type(method).__name__ == "RosenbrockMethod":
            gamma, nodes, drifts = method.numbers
            assert (
                gamma == float(method.tableau.gamma)
                and len(nodes) == len(drifts) == method.tableau.stages
            )
