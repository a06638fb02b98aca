"""pynode: stiff and non-stiff neural differential equations in PyTorch, with the right gradient."""

from .events import Event, EventRecord, PresetTimes
from .problem import ODEProblem
from .solution import Solution
from .solve import solve
from .split import SplitField
from .status import RejectStep, SolveError, Status

__version__ = "0.1.0"

__all__ = [
    "Event", "EventRecord", "ODEProblem", "PresetTimes", "RejectStep", "Solution", "SolveError", "SplitField", "Status",
    "solve", "__version__",
]
