"""pynode: stiff and non-stiff neural differential equations in PyTorch, with the right gradient."""

from .adjoints.backsolve import BacksolveAdjoint
from .adjoints.discrete import DiscreteAdjoint
from .adjoints.gauss import GaussAdjoint, GaussKronrodAdjoint, QuadratureAdjoint
from .adjoints.interpolating import InterpolatingAdjoint
from .algebra.structure import Banded, Dense, Krylov, Sparse
from .check import GradientCheck, check_gradients
from .events import Event, EventRecord, PresetTimes
from .problem import ODEProblem
from .solution import Solution
from .solve import solve
from .split import SplitField
from .status import RejectStep, SolveError, Status

__version__ = "0.1.0"

__all__ = [
    "BacksolveAdjoint", "Banded", "Dense", "DiscreteAdjoint", "Event", "EventRecord", "GaussAdjoint", "GaussKronrodAdjoint",
    "GradientCheck", "InterpolatingAdjoint", "Krylov", "ODEProblem", "PresetTimes", "QuadratureAdjoint", "RejectStep",
    "Solution", "SolveError", "Sparse", "SplitField", "Status", "__version__", "check_gradients", "solve",
]
