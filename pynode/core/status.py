"""The ways a solve can end, each with one sentence and one remedy."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from .explained import ExplainedError

if TYPE_CHECKING:
    from ..failure.report import FailureReport
    from .solution import BatchSolution, Solution


class Status(Enum):
    """The end of a solve. ``value`` is (what happened, what to do about it)."""

    SUCCESS = ("the solve reached the end of the time span", "nothing to do")
    MAX_STEPS = (
        "the limit on the number of steps was reached",
        (
            "raise max_steps, or loosen rtol and atol; tiny steps come from a stiff problem under"
            " an explicit method (use 'qndf', 'fbdf' or 'rodas5p') or from a vector field with"
            " jumps or kinks"
        ),
    )
    MAX_EVALUATIONS = (
        "the limit on evaluations of the vector field was reached",
        (
            "raise max_nfe, or loosen rtol and atol; an explicit method spends them on a stiff"
            " problem, where 'qndf', 'fbdf' or 'rodas5p' need few"
        ),
    )
    STEP_TOO_SMALL = (
        "the step size fell below what floating point can resolve at this time",
        (
            "the solution probably blows up or jumps here: end the time span earlier, check the"
            " vector field, or loosen rtol and atol if they are below what the dtype can deliver"
        ),
    )
    MIN_STEP = (
        "the error test asks for a step below min_step",
        "lower min_step, or loosen rtol and atol",
    )
    NONFINITE = (
        "the vector field returned NaN or infinity, also with ever smaller steps",
        (
            "check the vector field for divisions, logarithms or roots of states that can become"
            " negative; scale the states, or bound the parameters"
        ),
    )
    DIVERGED = (
        "the state is no longer finite after steps of fixed size",
        (
            "use smaller steps, or, if the problem is stiff, an implicit method ('implicitem' for"
            " the drift of a stochastic equation); or remove step_size, so that the solver adapts"
            " the steps to the error"
        ),
    )
    NEWTON = (
        "Newton's iteration did not converge, also with ever smaller steps",
        (
            "check the Jacobian if you gave one, and the vector field for kinks or jumps; or use a"
            " Rosenbrock method ('rodas5p'), which does not iterate"
        ),
    )
    EVENT = ("a terminal event stopped the solve", "nothing to do")
    CALLBACK = ("the callback stopped the solve", "nothing to do")
    MAX_EVENTS = (
        (
            "an event occurred more often than its max_events allows, or again and again without"
            " time passing"
        ),
        (
            "raise max_events; where events pile up at one time, as for a ball that comes to rest,"
            " end the solve before it with a terminal event, or let reset put the system to rest"
        ),
    )
    CASCADE = (
        (
            "events fire one another at one time without end: the reset of one makes the condition"
            " of the next one true"
        ),
        (
            "give max_events or terminal to one of them, or let a reset leave the other conditions"
            " on their sides of zero"
        ),
    )
    MAX_SECONDS = (
        "the limit on wall-clock time was reached",
        (
            "raise max_seconds, loosen rtol and atol, or use an implicit method such as 'fbdf' if"
            " the steps are tiny"
        ),
    )
    DOMAIN = (
        (
            "every step leaves the domain of the state (nonnegative, domain, or RejectStep from f),"
            " also the smallest"
        ),
        (
            "check that the exact solution stays inside and that y0 and resets lie inside; allow an"
            " overshoot of the size of atol, for instance domain=lambda t, y: bool((y >"
            " -1e-9).all()), or lower atol"
        ),
    )

    def __reduce_ex__(self, protocol: Any) -> tuple:
        """Pickle by name, because the sentences may change from version to version."""
        return getattr, (Status, self.name)

    @property
    def success(self) -> bool:
        """Whether the solve ended as intended."""
        return self in (Status.SUCCESS, Status.EVENT, Status.CALLBACK)

    @property
    def sentence(self) -> str:
        """What happened."""
        return self.value[0]

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return self.value[1]


class RejectStep(Exception):
    """A vector field raises it for a state that makes no sense. The solver then tries a smaller
    step."""


class Exhausted(Exception):
    """A limit was reached inside a step. status: how the solve ends. The integrator drops the
    step."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.sentence)
        self.status = status


class SolveError(ExplainedError):
    """A solve failed. ``solution`` is the result up to that time, ``status`` says why it ended.

    Pass ``throw=False`` to ``solve`` to receive the partial solution instead of this error.
    """

    def __init__(self, solution: Solution | BatchSolution) -> None:
        super().__init__(solution.message)
        self.solution = solution
        self.status = solution.status

    def __reduce__(self) -> tuple:
        # By default pickle makes an exception from its message.
        return type(self), (self.solution,), vars(self)

    def report(self) -> FailureReport:
        """A page on the cause, with the last steps, the components that dominate the error, and
        what to try next.

        print(error.report()) shows it. It is a FailureReport with the same facts in its fields.
        """
        return self.solution.report()
