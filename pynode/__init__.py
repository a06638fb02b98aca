"""pynode: stiff and non-stiff neural differential equations in PyTorch, with the right gradient."""

import importlib

from . import methods
from .adjoints.continuous.backsolve import BacksolveAdjoint
from .adjoints.continuous.gauss import GaussAdjoint, GaussKronrodAdjoint, QuadratureAdjoint
from .adjoints.continuous.interpolating import InterpolatingAdjoint
from .adjoints.discrete.adjoint import DiscreteAdjoint
from .adjoints.forward import ForwardSensitivity
from .algebra.structure import Banded, Dense, Krylov, Sparse
from .backends.registry import JuliaBackend, NativeBackend, TorchBackend
from .check import GradientCheck, check_gradients
from .core.events import Event, EventRecord, PresetTimes
from .core.problem import ODEProblem
from .core.solution import BatchSolution, Solution
from .core.split_field import SplitField
from .core.status import RejectStep, SolveError, Status
from .core.views.files import load
from .failure import FailureReport
from .solve import solve
from .steady_state import SteadyState, SteadyStateError, steady_state

__version__ = "0.1.0"

__all__ = [
    "BacksolveAdjoint",
    "Banded",
    "BatchSolution",
    "Dense",
    "DiscreteAdjoint",
    "Event",
    "EventRecord",
    "FailureReport",
    "ForwardSensitivity",
    "GaussAdjoint",
    "GaussKronrodAdjoint",
    "GradientCheck",
    "InterpolatingAdjoint",
    "JuliaBackend",
    "Krylov",
    "NativeBackend",
    "ODEProblem",
    "PresetTimes",
    "QuadratureAdjoint",
    "RejectStep",
    "Solution",
    "SolveError",
    "Sparse",
    "SplitField",
    "Status",
    "SteadyState",
    "SteadyStateError",
    "TorchBackend",
    "__version__",
    "check_gradients",
    "crosscheck",
    "diagnose",
    "load",
    "odeint",
    "odeint_adjoint",
    "odeint_dense",
    "odeint_event",
    "solve",
    "steady_state",
]

# Loaded at the first use: name -> (module, its attribute, or None for the module itself).
_MODULES = (
    "compare",
    "compat",
    "data",
    "diagnosis",
    "fit",
    "models",
    "nn",
    "problems",
    "sde",
    "train",
)
_LAZY = {
    **{name: (f"pynode.{name}", None) for name in _MODULES},
    "julia": ("pynode.backends.julia.api", None),
    "crosscheck": ("pynode.compare", "crosscheck"),
    "diagnose": ("pynode.diagnosis", "diagnose"),
    "odeint": ("pynode.compat.odeint", "odeint"),
    "odeint_adjoint": ("pynode.compat.adjoint", "odeint_adjoint"),
    "odeint_dense": ("pynode.compat.odeint", "odeint_dense"),
    "odeint_event": ("pynode.compat.odeint", "odeint_event"),
}


def __getattr__(name):
    if name in _LAZY:
        module, attribute = _LAZY[name]
        loaded = importlib.import_module(module)
        if attribute is None:
            return loaded
        return getattr(loaded, attribute)
    if name in methods.__dir__():
        return getattr(methods, name)
    raise AttributeError(f"module 'pynode' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_LAZY, *methods.__dir__()})
