"""What every method offers the integrator. Everything is pure: state goes in, state comes out.

1. ``init(field, t, y, h, tol)`` makes the state before the first step.
2. ``step(field, t, y, h, state, tol)`` tries one step from t to t + h and returns a Step, accepted
  or not.
3. ``polynomial(field, step)`` gives the dense output of an accepted step: coefficients of the
  powers of theta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from ..algebra.combine import as_stage_tensor
from ..core.status import Status
from ..core.step_control import Controller
from ..core.torch_context import check_solvable


class Step:
    """One attempted step from t to t + h.

    y: (n,) state at t + h; ratio: scaled error, accepted where it is at most 1; factor: proposal
    for the next h; state: to go on with, or to try again with; tape: what dense output and gradient
    need beside t, h and the start. failure: why the step could not even be completed, None
    otherwise. method: which method took it, where several take turns; before: (method, state,
    tolerance) that it began with, kept by methods whose gradient takes the step again
    (adjoints/discrete/step_by_step.py).
    """

    __slots__ = (
        "accepted",
        "before",
        "factor",
        "failure",
        "h",
        "method",
        "ratio",
        "start",
        "state",
        "t",
        "tape",
        "y",
    )

    def __init__(self, t, h, start, y, ratio, factor, state, tape=None, failure=None):
        self.t = t
        self.h = h
        self.start = start
        self.y = y
        self.ratio = ratio
        self.factor = factor
        self.state = state
        self.tape = tape
        self.failure = failure
        self.method = self.before = None
        self.accepted = failure is None and ratio <= 1.0

    @classmethod
    def failed(cls, t, h, factor, state, failure=Status.NONFINITE):
        return cls(t, h, None, None, float("inf"), factor, state, failure=failure)


@dataclass(frozen=True)
class Method:
    """A method by its SciML name. order: of the solution that is carried on; implicit: whether it
    needs a Jacobian.

    error_order: order of the error estimate plus one, the exponent of step-size control. separable:
    whether it is for systems (q, p) with dq/dt = v(t, p) and dp/dt = a(t, q) alone. carried: fields
    of its state through which derivatives flow, of methods whose gradient takes every step again.
    taped: whether the gradient needs more of a recorded step than where it starts and ends; memory:
    how many vectors (n,) are kept at most of a point from which it can go on, and of a recorded
    step. structures: names of the structures of the Jacobian that it can use
    (algebra/structure.py); takes_mass: whether it solves M y' = f with a constant, possibly
    singular M.
    """

    name: str
    order: int
    reference: str
    implicit = False
    separable = False
    carried: ClassVar[tuple[str, ...]] = ()
    taped = True
    memory = (2, 4)
    structures: ClassVar[tuple[str, ...]] = ("dense",)
    takes_mass = False
    evaluations_a_step = math.inf  # that max_steps allows on average where max_nfe is None

    @property
    def error_order(self) -> int:
        return self.order

    def check_dtype(self, dtype):
        """TypeError where the method solves linear systems and torch has no solver for the state's
        dtype."""
        if self.implicit:
            check_solvable(dtype, self.name, "or take an explicit method such as 'tsit5'")

    def trim_tape(self, tape):
        """What the gradient needs of the tape of an accepted step; None where it takes the step
        from its start anew."""
        return tape

    def compress_state(self, state):
        """The state without what ``restore_state`` can make again: to be kept for long."""
        return state

    def restore_state(self, state):
        """The state that was compressed, the same in every digit."""
        return state

    def fixed(self) -> Method:
        """The same method without error control; ValueError where it cannot do without."""
        raise ValueError(
            f"{self.name} chooses its own steps: leave step_size away, or bound the steps by"
            " max_step"
        )

    def controlled(self, kind: str) -> Method:
        """The same method under another step-size controller; ValueError where it has its own."""
        raise ValueError(f"{self.name} chooses its order and step together: leave controller away")


@dataclass(frozen=True)
class OneStep(Method):
    """A method that runs a tableau and leaves the choice of steps to a controller."""

    tableau: Any = None
    controller: Controller = Controller("PI")
    adaptive: bool = True

    @classmethod
    def of(cls, tableau):
        return cls(tableau.name, tableau.order, tableau.reference, tableau)

    @property
    def memory(self):
        return 4, self.tableau.stages + 2

    @property
    def error_order(self) -> int:
        return min(self.order, self.tableau.embedded_order) + 1

    def fixed(self):
        return replace(self, adaptive=False)

    def controlled(self, kind):
        return replace(self, controller=Controller(kind))

    def stages(self, field, step):
        """Slopes of all stages of an accepted step that its dense output needs: list of (n,), or
        (s, n) of a compiled step."""
        return step.tape

    def dense_weights(self, mass):
        """(stages, degree) weights of the stages in the continuous extension; mass: that of the
        field or None."""
        return self.tableau.dense_weights

    def polynomial(self, field, step):
        """(degree + 1, n) coefficients of the powers of theta on the step."""
        ks = as_stage_tensor(self.stages(field, step))
        weights = torch.as_tensor(
            self.dense_weights(field.mass).T * step.h, dtype=ks.dtype, device=ks.device
        )
        return torch.cat((step.start.unsqueeze(0), weights @ ks))
