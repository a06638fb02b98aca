"""The hooks that Julia calls, without Julia: what they read and write in the shared buffers."""

import ctypes
import math
import signal
from types import SimpleNamespace

import pytest
import torch

from pynode import Banded, Krylov, RejectStep, Sparse, Status
from pynode.backends.julia import algorithms
from pynode.backends.julia.field import FAILED, GO_ON, STOP, ForeignField
from pynode.backends.julia.matrix import matrix_of
from pynode.core.problem import ODEProblem
from pynode.core.stop_conditions import Limits
from pynode.core.vector_field import VectorField
from tests.support.cases import Forced, field_of, tensor

START = tensor(1.0, -0.5, 0.3)
HOOKS = ("f", "vjp", "vjp_p", "jvp", "jac", "tgrad", "domain", "step")


def foreign(field, span=(0.0, 1.0), method="Rodas5P", **options):
    return ForeignField(field, algorithms.get(method), *span, START, **options)


def hook_of(field, name):
    """A hook by its address in the request."""
    return ctypes.PYFUNCTYPE(ctypes.c_int)(getattr(field.request, name))


def ask(field, name, t=0.3):
    """Call a hook at (t, START), as Julia does."""
    field.y.copy_(START)
    field.t.fill_(t)
    field.v.copy_(tensor(0.2, -1.0, 0.7))
    return hook_of(field, name)()


def solve(field, name):
    """A solve in which Julia asks one hook and stops where it fails."""
    entries = SimpleNamespace(forward=lambda request: ask(field, name) == GO_ON)
    return field.solve(entries, math.inf, None)


@pytest.mark.parametrize("span", [(0.0, 1.0), (1.0, 0.0)], ids=["forward", "backward"])
def test_values_and_derivatives(span):
    """Back in time all but df/dt change their sign."""
    f = Forced()
    field = field_of(f, START)
    julia = foreign(field, span)
    t, y = tensor(0.3).squeeze().requires_grad_(), START.clone().requires_grad_()
    sign = math.copysign(1.0, span[1] - span[0])
    for name in HOOKS[:6]:
        assert ask(julia, name) == GO_ON, julia.error
    out = f(t, y)
    jac, slope = torch.autograd.functional.jacobian(lambda y, t: f(t, y), (y, t))
    products = torch.autograd.grad(out, field.parameters, sign * julia.v)
    wanted = {
        "dy": sign * out,
        "jtv": sign * julia.v @ jac,
        "jv": sign * jac @ julia.v,
        "J": sign * jac.T.reshape(-1),
        "dT": slope,
        "ptv": torch.cat([product.reshape(-1) for product in products]),
    }
    for name, value in wanted.items():
        assert torch.allclose(getattr(julia, name), value), name


def test_what_f_does_not_depend_on_is_zero():
    unused = torch.ones(2, dtype=torch.float64, requires_grad=True)
    problem = ODEProblem(lambda t, y, p: torch.ones_like(y), START, (0.0, 1.0), args=(unused,))
    field = VectorField(problem, problem.layout(), 0.0, [unused])
    julia = foreign(field)
    for name, buffer in (("vjp", julia.jtv), ("vjp_p", julia.ptv), ("tgrad", julia.dT)):
        buffer.fill_(math.nan)
        assert ask(julia, name) == GO_ON and buffer.tolist() == [0.0] * len(buffer), name


@pytest.mark.parametrize("structure", [Sparse(), Banded(0, 1)], ids=["sparse", "banded"])
def test_compressed_columns(structure):
    """The pattern has the whole diagonal, where the Jacobian may have none."""

    def f(t, y):
        return torch.cat((y[1:] ** 2, 0 * y[:1]))

    field = field_of(f, START)
    field.structure = structure
    matrix = matrix_of(field, 0.0, START)
    starts, rows = (part - 1 for part in matrix.pattern)
    values, dense = matrix(0.0, START), torch.zeros(3, 3, dtype=torch.float64)
    for column in range(3):
        entries = slice(int(starts[column]), int(starts[column + 1]))
        assert column in rows[entries]
        dense[rows[entries], column] = values[entries]
    assert torch.equal(dense, torch.autograd.functional.jacobian(lambda y: f(None, y), START))
    assert matrix.size == len(values) == len(rows)


def test_a_matrix_free_field_has_no_jacobian():
    field = field_of(Forced(), START)
    field.structure = Krylov()
    julia = foreign(field)
    assert julia.matrix is None and not julia.request.jac


def test_a_refused_state_is_marked():
    """And ends the solve where no step can be tried again."""
    refusing = []

    def f(t, y):
        if refusing:
            raise RejectStep
        return -y

    for span in ((0.0, 1.0), (1.0, 0.0)):
        refusing.clear()
        julia, final = (foreign(field_of(f, START), span, final=final) for final in (False, True))
        refusing.append(True)
        assert ask(julia, "f") == GO_ON and julia.dy.tolist() == [0.0] * 3
        assert julia.times[2] == 1.0 and julia.refusal == 0.3
        assert ask(julia, "jac") == FAILED  # no derivative can stand in for the right one
        for other, name in ((julia, "jac"), (final, "f")):
            assert not solve(other, name) and other.status is Status.DOMAIN


def test_an_exception_does_not_cross_the_boundary():
    """The solve raises it, when Julia has ended."""

    class Mine(Exception):
        pass

    failing = []

    def f(t, y):
        if failing:
            raise Mine
        return -y

    julia = foreign(field_of(f, START))
    assert solve(julia, "f")
    failing.append(True)
    with pytest.raises(Mine):
        solve(julia, "f")
    failing.clear()
    assert solve(julia, "f")


def test_limits_stop_between_steps():
    field = field_of(lambda t, y: -y, START)
    limits = Limits(
        field.layout,
        field.stats,
        callback=lambda t, y, stats: t > 0.4,
        domain=lambda t, y: bool(y[0] > 2.0),
    )
    julia = foreign(field, limits=limits)
    assert ask(julia, "domain") == STOP and julia.refused
    for end, answer in ((0.4, GO_ON), (0.5, STOP)):
        julia.times[:2] = tensor(0.3, end)
        assert ask(julia, "step") == answer
    assert julia.status is Status.CALLBACK and field.stats.accepted == 2


@pytest.mark.parametrize("start", [0.0, 1.0, 1.7e9])
@pytest.mark.parametrize("direction", [1.0, -1.0], ids=["forward", "backward"])
def test_times_of_julia(start, direction):
    """They run forward, and from 0 where the span is short beside its start."""
    end = start + 0.5 * direction
    julia = foreign(field_of(lambda t, y: -y, START), (start, end))
    times = [julia.timer.inner(t) for t in (start, end)]
    assert times[1] - times[0] == 0.5
    assert [julia.timer.outer(s) for s in times] == [start, end]
    assert julia.timer.origin == (start if start else 0.0)


def test_a_signal_where_a_hook_begins():
    """Its exception is kept, though Python runs handlers before the first statement of a
    function. No Python runs between the signal and the hook."""
    julia = foreign(field_of(Forced(), START))
    interrupt = ctypes.PYFUNCTYPE(None)(("PyErr_SetInterrupt", ctypes.pythonapi))
    call = ctypes._CFuncPtr.__call__
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for name in ("f", "vjp"):
            answers = list(map(call, (interrupt, hook_of(julia, name))))
            assert answers[1] == FAILED and isinstance(julia.error, KeyboardInterrupt)
            assert ask(julia, name) == GO_ON
    finally:
        signal.signal(signal.SIGINT, before)
