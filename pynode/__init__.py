"""pynode: stiff and non-stiff neural differential equations in PyTorch, with the right gradient."""

import importlib

from .algebra.structure import Banded, Dense, Krylov, Sparse
from .events import Event, EventRecord, PresetTimes
from .problem import ODEProblem
from .solution import Solution
from .solve import solve
from .split import SplitField
from .status import RejectStep, SolveError, Status

__version__ = "0.1.0"

__all__ = [
    "Banded", "Dense", "Event", "EventRecord", "Krylov", "ODEProblem", "PresetTimes", "RejectStep", "Solution",
    "SolveError", "Sparse", "SplitField", "Status", "__version__", "solve",
]


def __getattr__(name):
    """pynode.julia, imported where it is asked for."""
    if name == "julia":
        return importlib.import_module(".julia", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
