"""The classes of the package fit the protocols that describe them (pynode/core/protocols.py)."""

import pytest
import torch

from pynode import Event
from pynode.adjoints import registry as adjoints
from pynode.adjoints.continuous.quadrature import CellObserver
from pynode.backends.native.engine import NativeBackend
from pynode.backends.registry import JuliaBackend, TorchBackend
from pynode.backends.torch.event_detection import EventDetector
from pynode.core import protocols
from pynode.core.norm import GroupTolerance, RowTolerance, Tolerance
from pynode.core.problem import ODEProblem
from pynode.core.vector_field import VectorField
from pynode.failure.rerun import WatchedTolerance
from pynode.methods import registry

START = torch.ones(2, dtype=torch.float64)


def field():
    problem = ODEProblem(lambda t, y: -y, START, (0.0, 1.0))
    return VectorField(problem, problem.layout(), 0.0)


def tolerance():
    return Tolerance(1e-6, torch.tensor(1e-9, dtype=torch.float64), 2)


@pytest.mark.parametrize("name", registry.names())
def test_methods(name):
    method = registry.get(name)
    assert isinstance(method, protocols.Method)


@pytest.mark.parametrize("kind", adjoints.CLASSES, ids=lambda kind: kind.name)
def test_adjoints(kind):
    assert isinstance(kind(), protocols.Adjoint)


@pytest.mark.parametrize(
    "backend",
    [TorchBackend, NativeBackend, JuliaBackend()],
    ids=["torch", "native", "julia"],
)
def test_backends(backend):
    assert isinstance(backend, protocols.Backend)


def test_fields():
    assert isinstance(field(), protocols.VectorField)


def test_tolerances():
    rows = RowTolerance(1e-6, torch.tensor(1e-9, dtype=torch.float64), 2)
    groups = GroupTolerance(1e-6, torch.tensor(1e-9, dtype=torch.float64), [1, 1])
    for tol in (tolerance(), rows, groups, WatchedTolerance(tolerance())):
        assert isinstance(tol, protocols.Tolerance)


def test_observers():
    detector = EventDetector([Event(lambda t, y: y[0] - 0.5)], field(), [0])
    detector.begin(0.0, START)
    assert isinstance(detector, protocols.StepObserver)
    assert isinstance(CellObserver(None, None, 1), protocols.StepObserver)


def test_a_step_fits_and_a_number_does_not():
    system = field()
    tol = tolerance()
    method = registry.get("tsit5")
    state = method.init(system, 0.0, START, -START, 0.1, tol)
    assert isinstance(method.step(system, 0.0, START, 0.1, state, tol), protocols.Step)
    for protocol in (protocols.Step, protocols.Method, protocols.Backend, protocols.Adjoint):
        assert not isinstance(1.0, protocol)
