"""pynode: stiff and non-stiff neural differential equations in PyTorch, with the right gradient."""

import importlib
from typing import TYPE_CHECKING, Any

from .core.lazy import lazily

if TYPE_CHECKING:
    from .adjoints.continuous.backsolve import BacksolveAdjoint
    from .adjoints.continuous.gauss import GaussAdjoint, GaussKronrodAdjoint, QuadratureAdjoint
    from .adjoints.continuous.interpolating import InterpolatingAdjoint
    from .adjoints.discrete.adjoint import DiscreteAdjoint
    from .adjoints.forward import ForwardSensitivity
    from .algebra.structure import Banded, Dense, Krylov, Sparse
    from .backends.registry import JuliaBackend, NativeBackend, TorchBackend
    from .check import GradientCheck, check_gradients
    from .compare import crosscheck
    from .compat.adjoint import odeint_adjoint
    from .compat.odeint import odeint, odeint_dense, odeint_event
    from .core.events import Event, EventRecord, PresetTimes
    from .core.problem import ODEProblem
    from .core.solution import BatchSolution, Solution
    from .core.split_field import SplitField
    from .core.status import RejectStep, SolveError, Status
    from .core.views.load import load
    from .diagnosis import diagnose
    from .equilibrium import SteadyState, SteadyStateError, steady_state
    from .failure import FailureReport
    from .integrate import solve

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

# Everything is loaded at its first use, because the command line must not wait for torch where it
# only prints help.
_ROOMS = (
    "compare",
    "compat",
    "data",
    "diagnosis",
    "fit",
    "methods",
    "models",
    "nn",
    "problems",
    "sde",
    "train",
)
# Where each name stands.
_PLACES = {
    "adjoints.continuous.backsolve": ("BacksolveAdjoint",),
    "adjoints.continuous.gauss": ("GaussAdjoint", "GaussKronrodAdjoint", "QuadratureAdjoint"),
    "adjoints.continuous.interpolating": ("InterpolatingAdjoint",),
    "adjoints.discrete.adjoint": ("DiscreteAdjoint",),
    "adjoints.forward": ("ForwardSensitivity",),
    "algebra.structure": ("Banded", "Dense", "Krylov", "Sparse"),
    "backends.registry": ("JuliaBackend", "NativeBackend", "TorchBackend"),
    "check": ("GradientCheck", "check_gradients"),
    "compare": ("crosscheck",),
    "compat.adjoint": ("odeint_adjoint",),
    "compat.odeint": ("odeint", "odeint_dense", "odeint_event"),
    "core.events": ("Event", "EventRecord", "PresetTimes"),
    "core.problem": ("ODEProblem",),
    "core.solution": ("BatchSolution", "Solution"),
    "core.split_field": ("SplitField",),
    "core.status": ("RejectStep", "SolveError", "Status"),
    "core.views.load": ("load",),
    "diagnosis": ("diagnose",),
    "equilibrium": ("SteadyState", "SteadyStateError", "steady_state"),
    "failure": ("FailureReport",),
    "integrate": ("solve",),
}
_LOAD, _LISTED = lazily(__name__, _PLACES)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"pynode.{name}")
    if name == "julia":
        return importlib.import_module("pynode.backends.julia.api")
    if name[:1].isupper() and name in dir(importlib.import_module("pynode.methods")):
        found = getattr(importlib.import_module("pynode.methods"), name)
        globals()[name] = found
        return found
    return _LOAD(name)


def __dir__() -> list[str]:
    methods = importlib.import_module("pynode.methods")
    return sorted({*_LISTED(), *_ROOMS, "julia", *dir(methods)})
