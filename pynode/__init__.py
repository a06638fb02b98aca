"""pynode: stiff and non-stiff neural differential equations in PyTorch, with the right gradient."""

from .problem import ODEProblem
from .solution import Solution
from .solve import solve
from .split import SplitField
from .status import SolveError, Status

__version__ = "0.1.0"

__all__ = ["ODEProblem", "Solution", "SolveError", "SplitField", "Status", "solve", "__version__"]
