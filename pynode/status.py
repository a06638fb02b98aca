"""How a solve ended: one sentence, and one remedy, for each way."""

from __future__ import annotations

from enum import Enum


class Status(Enum):
    """The end of a solve. ``value`` is (what happened, what to do about it)."""

    SUCCESS = ("the solve reached the end of the time span", "nothing to do")
    MAX_STEPS = (
        "the limit on the number of steps was reached",
        "raise max_steps, or loosen rtol and atol; tiny steps come from a stiff problem under an explicit method "
        "(use 'qndf', 'fbdf' or 'rodas5p') or from a vector field with jumps or kinks",
    )
    MAX_EVALUATIONS = (
        "the limit on evaluations of the vector field was reached",
        "raise max_nfe, or loosen rtol and atol; an explicit method spends them on a stiff problem, where 'qndf', 'fbdf' "
        "or 'rodas5p' need few",
    )
    STEP_TOO_SMALL = (
        "the step size fell below what floating point can resolve at this time",
        "the solution probably blows up or jumps here: end the time span earlier, check the vector field, "
        "or loosen rtol and atol if they are below what the dtype can deliver",
    )
    MIN_STEP = ("the error test asks for a step below min_step", "lower min_step, or loosen rtol and atol")
    NONFINITE = (
        "the vector field returned NaN or infinity, also with ever smaller steps",
        "check the vector field for divisions, logarithms or roots of states that can become negative; "
        "scale the states, or bound the parameters",
    )
    NEWTON = (
        "Newton's iteration did not converge, also with ever smaller steps",
        "check the Jacobian if you gave one, and the vector field for kinks or jumps; or use a Rosenbrock method "
        "('rodas5p'), which does not iterate",
    )

    @property
    def sentence(self) -> str:
        return self.value[0]

    @property
    def remedy(self) -> str:
        return self.value[1]


class SolveError(RuntimeError):
    """A solve that ended before its time. ``solution`` is what was computed until then, ``status`` why it ended.

    Pass ``throw=False`` to ``solve`` to receive the partial solution instead of this error.
    """

    def __init__(self, solution):
        super().__init__(solution.message)
        self.solution = solution
        self.status = solution.status
