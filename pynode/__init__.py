"""pynode: stiff and non-stiff neural differential equations in PyTorch, with the right gradient."""

from .adjoints.discrete import DiscreteAdjoint
from .algebra.structure import Banded, Dense, Krylov, Sparse
from .events import Event, EventRecord, PresetTimes
from .problem import ODEProblem
from .solution import Solution
from .solve import solve
from .split import SplitField
from .status import RejectStep, SolveError, Status

__version__ = "0.1.0"

__all__ = [
    "Banded", "Dense", "DiscreteAdjoint", "Event", "EventRecord", "Krylov", "ODEProblem", "PresetTimes", "RejectStep",
    "Solution", "SolveError", "Sparse", "SplitField", "Status", "__version__", "solve",
]
