"""The interface of a method to the integrator. All functions are pure: state goes in, state comes
out.

1. ``init(field, t, y, h, tol)`` makes the state before the first step.
2. ``step(field, t, y, h, state, tol)`` tries one step from t to t + h and returns a Step, accepted
  or not.
3. ``polynomial(field, step)`` gives the dense output of an accepted step: coefficients of the
  powers of theta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ..algebra.combine import as_stage_tensor
from ..core import products
from ..core.status import Status
from ..core.step_control import Controller
from ..core.suggestions import SuggestsOptions
from ..core.torch_context import check_solvable
from ..core.transfer import constant

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ..algebra.mass import Mass
    from ..core.vector_field import VectorField

    Entry = TypeVar("Entry")


class Step:
    """One attempted step from t to t + h.

    y: (n,), the state at t + h. ratio: the scaled error; the step is accepted if it is at most 1.
    factor: h times this is the proposal for the next step. state: the state of the method for the
    next attempt. tape: what dense output and gradient need besides t, h and the start.
    failure: a Status if the step could not be completed, otherwise None. method: the method that
    took the step, if a solve uses several. before: (method, state, tolerance) at the start of the
    step. Methods whose gradient repeats the step keep it (adjoints/discrete/step_by_step.py).
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

    def __init__(
        self,
        t: float,
        h: float,
        start: Tensor | None,
        y: Tensor | None,
        ratio: float,
        factor: float,
        state: Any,
        tape: Any = None,
        failure: Status | None = None,
    ) -> None:
        self.t = t
        self.h = h
        self.start: Any = start
        self.y: Any = y
        self.ratio = ratio
        self.factor = factor
        self.state = state
        self.tape = tape
        self.failure = failure
        self.method: Any = None
        self.before: Any = None
        self.accepted = failure is None and ratio <= 1.0

    @classmethod
    def failed(
        cls, t: float, h: float, factor: float, state: Any, failure: Status = Status.NONFINITE
    ) -> Step:
        return cls(t, h, None, None, float("inf"), factor, state, failure=failure)

    @classmethod
    def refused(
        cls, t: float, h: float, start: Tensor, y: Tensor, ratio: float, factor: float, state: Any
    ) -> Step:
        """A step whose error is too large, or NaN."""
        if ratio > 1.0:
            return cls(t, h, start, y, ratio, factor, state)
        return cls.failed(t, h, factor, state)


@dataclass(frozen=True, repr=False)
class Method(SuggestsOptions):
    """A method with its options. Each method is a class by its SciML name; ``QNDF()`` is the method
    with the default options.

    name, reference: of the class. order: of the solution that the next step starts from. family:
    the kind of method, in a user's words. implicit: whether it needs a Jacobian. error_order: order
    of the error estimate plus one, the exponent of step-size control. separable: whether it takes
    only systems (q, p) with dq/dt = v(t, p) and dp/dt = a(t, q). state_tensors: the fields of its
    state through which derivatives flow, for methods whose gradient repeats every step. taped:
    whether the gradient needs more of a recorded step than its start and its end. memory: the
    largest number of vectors (n,) in one restart point, and in one recorded step. structures: names
    of the structures of the Jacobian that it can use (algebra/structure.py). takes_mass: whether it
    solves M y' = f with a constant, possibly singular M.

    jacobian: how the Jacobian is made and solved with, an option of implicit methods. compile: an
    option of the families whose steps can be compiled as a whole.
    """

    implicit = False
    separable = False
    state_tensors: ClassVar[tuple[str, ...]] = ()
    taped = True
    structures: ClassVar[tuple[str, ...]] = ("dense",)
    takes_mass = False
    # Evaluations of f that max_steps allows for each step, on average, if max_nfe is None.
    evaluations_a_step = math.inf
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
        @property
        def memory(self) -> tuple[int, int]: ...
    else:
        memory = (2, 4)
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
        """The backend of torch.compile for whole steps, or None without compiled steps."""
        if not self.compile:
            return None
        if self.compile is True:
            return "inductor"
        return self.compile

    def check_dtype(self, dtype: torch.dtype) -> None:
        """Raises TypeError if the method solves linear systems and torch has no solver for the
        state's dtype."""
        if self.implicit:
            check_solvable(dtype, self.name, "or take an explicit method such as 'tsit5'")

    def trim_tape(self, tape: Any) -> Any:
        """The part of an accepted step's tape that the gradient needs. None if the gradient repeats
        the step from its start."""
        return tape

    def compress_state(self, state: Any) -> Any:
        """A compact form of the state for long-term storage; the inverse of ``restore_state``."""
        return state

    def restore_state(self, state: Any) -> Any:
        """The full state, equal in every digit to the one that was compressed."""
        return state

    def fixed(self) -> Method:
        """The same method without error control. Raises ValueError if it needs error control."""
        raise ValueError(
            f"{self.name} chooses its own steps: leave out step_size, or bound the steps by"
            " max_step"
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Controlled(Method):
    """A method whose steps a controller chooses, or that takes steps of a fixed size.

    controller: 'I', 'PI' or 'PID', or a Controller. adaptive: whether errors are controlled; False
    for steps of a fixed size.
    """

    # __post_init__ makes a Controller of a string.
    controller: Controller | str = Controller("PI")
    adaptive: bool = field(default=True, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.controller, str):
            object.__setattr__(self, "controller", Controller(self.controller))

    def fixed(self) -> Method:
        return replace(self, adaptive=False)

    def next_factor(self, ratio: float, past: tuple) -> tuple[float, tuple]:
        """(factor of the next step, new past) by the controller, after a step with this scaled
        error. past: the ratios of the last two steps."""
        return self.controller(ratio, past, self.error_order)  # type: ignore[operator]


@dataclass(frozen=True, repr=False)
class OneStep(Method):
    """A method that runs a tableau. ``of_tableau`` makes one class for each tableau."""

    tableau: ClassVar[Any]
    # The family and the further attributes that of_tableau made the class of.
    made_of: ClassVar[tuple[type[OneStep], dict[str, Any]]]

    @classmethod
    def of(cls, tableau: Any, **attributes: Any) -> OneStep:
        """The method of this family that runs a tableau, with the default options."""
        return of_tableau(cls, tableau, **attributes)()

    def __reduce__(self) -> tuple:
        """Pickle the tableau, because the class may exist only at run time."""
        options = {f.name: getattr(self, f.name) for f in fields(self)}
        family, attributes = type(self).made_of
        return _restored, (family, self.tableau, attributes, options)

    @property
    def memory(self) -> tuple[int, int]:
        return 4, self.tableau.stages + 2

    @property
    def error_order(self) -> int:
        return min(self.order, self.tableau.embedded_order) + 1

    def stages(self, field: VectorField, step: Step) -> Tensor | list[Tensor]:
        """Slopes of all stages that the dense output of an accepted step needs: a list of (n,), or
        (s, n) for a compiled step."""
        return step.tape

    def dense_weights(self, mass: Mass | None) -> np.ndarray:
        """(stages, degree) weights of the stages in the continuous extension. mass: the mass matrix
        of the field, or None."""
        return self.tableau.dense_weights

    def polynomial(self, field: VectorField, step: Step) -> Tensor:
        """(degree + 1, n) coefficients of the powers of theta on the step."""
        ks = as_stage_tensor(self.stages(field, step))
        weights = constant(self.dense_weights(field.mass).T * step.h, ks)
        return torch.cat((step.start.unsqueeze(0), products.mm(weights, ks)))


_CLASSES: dict[tuple, type[OneStep]] = {}


def of_tableau(family: type[OneStep], tableau: Any, **attributes: Any) -> type[OneStep]:
    """The class of the method that runs a tableau, a subclass of its family by the tableau's name.

    attributes: further attributes of the class. Each tableau has one class.
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
    """Entries of families of methods. The class of a method, or its nearest parent that has an
    entry, selects it. Each family registers its own entry, so no list elsewhere needs an edit."""

    def __init__(self) -> None:
        self._entries: dict[type, Any] = {}

    def register(self, family: type) -> Callable[[Entry], Entry]:
        """A decorator that registers its argument as the entry of the family."""

        def decorate(entry: Entry) -> Entry:
            self._entries[family] = entry
            return entry

        return decorate

    def get(self, method: Method) -> Any:
        """The entry of the method's family, or None."""
        for parent in type(method).__mro__:
            if parent in self._entries:
                return self._entries[parent]
        return None
