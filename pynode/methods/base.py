"""What every method offers the integrator. Everything is pure: state goes in, state comes out.

1. ``init(field, t, y, h, tol)`` makes the state before the first step.
2. ``step(field, t, y, h, state, tol)`` tries one step from t to t + h and returns a Step, accepted
  or not.
3. ``polynomial(field, step)`` gives the dense output of an accepted step: coefficients of the
  powers of theta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

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

    def __init__(self, t, h, start, y, ratio, factor, state, tape=None, failure=None) -> None:
        self.t = t
        self.h = h
        self.start = start
        self.y = y
        self.ratio = ratio
        self.factor = factor
        self.state = state
        self.tape = tape
        self.failure = failure
        self.method: Any = None
        self.before: Any = None
        self.accepted = failure is None and ratio <= 1.0

    @classmethod
    def failed(cls, t, h, factor, state, failure=Status.NONFINITE):
        return cls(t, h, None, None, float("inf"), factor, state, failure=failure)


@dataclass(frozen=True, repr=False)
class Method:
    """A method with its options. Each method is a class by its SciML name; ``QNDF()`` is the method
    with the default options.

    name, order (of the solution that is carried on), reference: of the class. family: what the
    class is one of, as a user would call it. implicit: whether it needs a Jacobian. error_order:
    order of the error estimate plus one, the exponent of step-size control. separable: whether it
    is for systems (q, p) with dq/dt = v(t, p) and dp/dt = a(t, q) alone. carried: fields of its
    state through which derivatives flow, of methods whose gradient takes every step again. taped:
    whether the gradient needs more of a recorded step than where it starts and ends; memory: how
    many vectors (n,) are kept at most of a point from which it can go on, and of a recorded step.
    structures: names of the structures of the Jacobian that it can use (algebra/structure.py);
    takes_mass: whether it solves M y' = f with a constant, possibly singular M.

    jacobian: how the Jacobian is made and solved with, an option of implicit methods. compile: an
    option of the families whose steps can be compiled as a whole.
    """

    implicit = False
    separable = False
    carried: ClassVar[tuple[str, ...]] = ()
    taped = True
    memory = (2, 4)
    structures: ClassVar[tuple[str, ...]] = ("dense",)
    takes_mass = False
    evaluations_a_step = math.inf  # that max_steps allows on average where max_nfe is None
    if TYPE_CHECKING:
        # A class has them as attributes, properties or fields.
        @property
        def name(self) -> str: ...
        @property
        def order(self) -> int: ...
        @property
        def reference(self) -> str: ...
        @property
        def family(self) -> str: ...
        @property
        def adaptive(self) -> bool: ...
        @property
        def jacobian(self) -> Any: ...
        @property
        def compile(self) -> bool | str: ...
    else:
        jacobian = "dense"
        compile = False

    def __repr__(self) -> str:
        """The call that makes the method: options at their defaults are left out."""
        options = (
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)
            if f.repr and getattr(self, f.name) != f.default
        )
        return f"{type(self).__name__}({', '.join(options)})"

    @property
    def error_order(self) -> int:
        return self.order

    @property
    def compiler(self) -> str | None:
        """The backend of torch.compile for whole steps, None where steps are not compiled."""
        if not self.compile:
            return None
        if self.compile is True:
            return "inductor"
        return self.compile

    def check_dtype(self, dtype: torch.dtype) -> None:
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


@dataclass(frozen=True, kw_only=True, repr=False)
class Controlled(Method):
    """A method that leaves the choice of its steps to a controller, or takes steps of a fixed size.

    controller: 'I', 'PI' or 'PID', or a Controller. adaptive: whether errors are controlled; False
    for steps of a fixed size.
    """

    controller: Controller | str = Controller("PI")
    adaptive: bool = field(default=True, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.controller, str):
            object.__setattr__(self, "controller", Controller(self.controller))

    def fixed(self) -> Method:
        return replace(self, adaptive=False)


@dataclass(frozen=True, repr=False)
class OneStep(Method):
    """A method that runs a tableau. Each tableau makes a class of its own, ``of_tableau``."""

    tableau: ClassVar[Any]

    @classmethod
    def of(cls, tableau: Any, **attributes: Any) -> OneStep:
        """The method of this family that runs a tableau, with the default options."""
        return of_tableau(cls, tableau, **attributes)()

    def __reduce__(self):
        """By the tableau: the class may have been made at run time."""
        options = {f.name: getattr(self, f.name) for f in fields(self)}
        family, attributes = type(self).made_of
        return _restored, (family, self.tableau, attributes, options)

    @property
    def memory(self):
        return 4, self.tableau.stages + 2

    @property
    def error_order(self) -> int:
        return min(self.order, self.tableau.embedded_order) + 1

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


_CLASSES: dict[tuple, type[OneStep]] = {}


def of_tableau(family: type[OneStep], tableau: Any, **attributes: Any) -> type[OneStep]:
    """The class of the method that runs a tableau, a subclass of its family by the tableau's name.

    attributes: further ones of the class. There is one class a tableau.
    """
    key = (family, tableau, *attributes.items())
    if key not in _CLASSES:
        _CLASSES[key] = type(
            tableau.name,
            (family,),
            {
                "__doc__": f"{tableau.name}, order {tableau.order}: {tableau.reference}.",
                "__module__": "pynode.methods",
                "name": tableau.name,
                "order": tableau.order,
                "reference": tableau.reference,
                "tableau": tableau,
                "made_of": (family, attributes),
                **attributes,
            },
        )
    return _CLASSES[key]


def _restored(family: type[OneStep], tableau: Any, attributes: dict, options: dict) -> OneStep:
    return of_tableau(family, tableau, **attributes)(**options)


class ByFamily:
    """What belongs to a family of methods, found by the class of a method or the nearest of its
    parents. A family registers beside its class, so that nobody edits a list elsewhere."""

    def __init__(self) -> None:
        self._entries: dict[type, Any] = {}

    def register(self, family: type):
        """A decorator: what it decorates belongs to the family."""

        def decorate(entry):
            self._entries[family] = entry
            return entry

        return decorate

    def get(self, method: Method):
        """The entry of the method's family, None where there is none."""
        for parent in type(method).__mro__:
            if parent in self._entries:
                return self._entries[parent]
        return None
