"""What pynode asks of the objects that it works with: one Protocol for each kind.

A class needs no base class to fit: it needs these attributes and methods. n is the number of
components of the flat state, T the number of output times. Times and steps are floats; states are
tensors, (n,), on the device of y0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import torch

# Times as users give them.
Times: TypeAlias = "torch.Tensor | Sequence[float]"


@runtime_checkable
class VectorField(Protocol):
    """f as the methods see it: a flat state goes in, a flat slope comes out.

    size: n. dtype, device: of the state. mass: the mass matrix M of M y' = f (algebra/mass.py),
    None for the identity. structure: how Jacobians are stored and solved with
    (algebra/structure.py), None for dense ones. parts: the implicit and the explicit part of a
    split field, None for any other. parameters: the tensors in which the adjoints differentiate f.
    compiled: the compiled steps, or None. stats: the counts of the work (core/stats.py). layout:
    translates between the flat state and the user's structure (core/layout.py).

    core/vector_field.py implements it.
    """

    size: int
    dtype: torch.dtype
    device: torch.device
    mass: Any
    structure: Any
    parts: Any
    compiled: Any
    stats: Any
    layout: Any

    @property
    def parameters(self) -> Sequence[torch.Tensor]: ...

    def __call__(self, t: float, y: torch.Tensor) -> torch.Tensor:
        """f(t, y), (n,). Counts one evaluation."""
        ...

    def eval(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """f(t, y), (n,), for a 0-d time. Counts nothing and keeps the graph of t and y."""
        ...

    def dydt(self, t: float, y: torch.Tensor) -> torch.Tensor:
        """y', (n,): f itself without a mass matrix, M^+ f with one."""
        ...

    def initial_slope(self, t: float, y: torch.Tensor) -> torch.Tensor:
        """y' at the start of a solve, (n,). Raises TypeError if the dtype of f does not fit."""
        ...

    def batch_eval(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """f at m points: t (m,) and y (m, n) give (m, n)."""
        ...


@runtime_checkable
class Tolerance(Protocol):
    """The norm that measures errors. A step is good enough if its norm is at most 1.

    rtol: relative tolerance; atol: absolute tolerance, 0-d or (n,); size: n. newton_tol,
    stage_newton_tol: the part of the tolerance that Newton's iteration may leave in a step, and in
    each of several stages. rounding_floor: the part that rounding leaves where rtol |y| is the
    tolerance.

    core/norm.py implements it for one system. RowTolerance there returns one value for each row.
    """

    rtol: float
    atol: torch.Tensor
    size: int
    newton_tol: float
    stage_newton_tol: float
    rounding_floor: float

    def scale(self, y: torch.Tensor) -> torch.Tensor:
        """atol + rtol |y|, (n,)."""
        ...

    def ratio(self, error: torch.Tensor, y: torch.Tensor, y1: torch.Tensor) -> Any:
        """The norm of the error, (n,), of a step from y to y1. Synchronises once."""
        ...

    def rms(self, v: torch.Tensor, scale: torch.Tensor) -> Any:
        """The norm of v, (n,), in units of a given scale."""
        ...


@runtime_checkable
class Step(Protocol):
    """One attempted step from t to t + h.

    start, y: the states at its ends. y is None if the step could not be completed. ratio: the norm
    of its error. accepted: whether the error test passed. factor: h times this is the next step to
    try. state: what the method needs for the next attempt. tape: what the dense output and the
    gradient need. failure: a Status, or None.

    methods/base.py implements it.
    """

    t: float
    h: float
    start: Any
    y: Any
    ratio: float
    accepted: bool
    factor: float
    state: Any
    tape: Any
    failure: Any


@runtime_checkable
class Method(Protocol):
    """A method that makes one step. Every function is pure: a state goes in, a new state comes out.

    name: SciML's name. order: of the solution. error_order: of the error estimate, plus one; it is
    the exponent of step-size control. implicit: whether it solves equations in each step.
    structures: names of the Jacobians' structures that it can use. takes_mass: whether it solves
    M y' = f with a constant, possibly singular M. memory: the number of vectors (n,) in one restart
    point, and in one recorded step.

    methods/base.py has the base class with defaults.
    """

    @property
    def name(self) -> str: ...

    @property
    def order(self) -> int: ...

    @property
    def error_order(self) -> int: ...

    @property
    def implicit(self) -> bool: ...

    @property
    def structures(self) -> tuple[str, ...]: ...

    @property
    def takes_mass(self) -> bool: ...

    @property
    def memory(self) -> tuple[int, int]: ...

    def init(
        self,
        field: VectorField,
        t: float,
        y: torch.Tensor,
        f0: torch.Tensor,
        h: float,
        tol: Tolerance,
    ) -> Any:
        """The state of the method before the first step. f0: the slope there, (n,)."""
        ...

    def step(
        self,
        field: VectorField,
        t: float,
        y: torch.Tensor,
        h: float,
        state: Any,
        tol: Tolerance,
    ) -> Step:
        """Try one step from t to t + h. The Step says whether it is accepted."""
        ...

    def polynomial(self, field: VectorField, step: Step) -> torch.Tensor:
        """Dense output of an accepted step: (degree + 1, n) coefficients of the powers of theta,
        which runs from 0 to 1 in the step."""
        ...

    def fixed(self) -> Method:
        """The same method without error control. Raises ValueError if there is none."""
        ...

    def check_dtype(self, dtype: torch.dtype) -> None:
        """Raises TypeError if the method cannot work in this dtype."""
        ...

    def trim_tape(self, tape: Any) -> Any:
        """What the gradient needs of the tape of an accepted step."""
        ...

    def compress_state(self, state: Any) -> Any:
        """A compact form of the state for long-term storage; the inverse of ``restore_state``."""
        ...

    def restore_state(self, state: Any) -> Any:
        """The full state, equal in every digit to the one that was compressed."""
        ...


@runtime_checkable
class StepObserver(Protocol):
    """Sees every accepted step of one integration, and can end the integration inside a step.

    hits: what it found, copied into the Trajectory. status: the Status that ends the integration
    after ``check_step`` returned a state.

    backends/torch/event_detection.py implements it for events, and
    adjoints/continuous/quadrature.py for the parameters' integral.
    """

    @property
    def hits(self) -> Sequence[Any]: ...

    @property
    def status(self) -> Any: ...

    def begin(self, t: float, y: torch.Tensor) -> None:
        """The integration begins at t with the state y, (n,)."""
        ...

    def check_step(self, step: Step, end: float, coefficients: torch.Tensor) -> Any:
        """An accepted step that ends at time ``end``, with its polynomial. Returns None, or an
        object with the t and y at which the integration ends."""
        ...


@runtime_checkable
class Backend(Protocol):
    """What runs a method from the first output time to the last. It knows no gradients.

    backends/registry.py has TorchBackend and JuliaBackend.
    """

    @property
    def name(self) -> str: ...

    @property
    def method(self) -> Callable[[Any], Method]:
        """method(name) returns the Method of this name. It raises ValueError for an unknown one."""
        ...

    @property
    def integrate(self) -> Callable[..., Any]:
        """integrate(field, method, y0, times, options, atol, record, dense, slopes, watch, limits)
        returns a Trajectory. A numerical failure is a status of the Trajectory, not an
        exception."""
        ...

    @property
    def twin(self) -> Callable[[Any], Method]:
        """twin(method) returns the method of the torch engine that repeats the last steps for a
        failure report."""
        ...


@runtime_checkable
class Adjoint(Protocol):
    """A way to compute the gradient of a solve.

    name: SciML's name. needs: what the forward solve must keep for it: recorded steps, the dense
    output, or only the outputs.

    adjoints/base.py has the base class with defaults.
    """

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> Literal["steps", "dense", "outputs"]: ...

    def record(self, field: VectorField, method: Method, tol: Tolerance) -> Any:
        """What records the steps of the forward solve (backends/torch/checkpoints.py)."""
        ...

    def tape(self, field: VectorField, method: Method) -> Any:
        """What keeps the graphs of the evaluations of f, or None."""
        ...

    def check(self, field: VectorField, method: Method) -> None:
        """Raises ValueError before the solve if the adjoint does not support it."""
        ...

    def validate_trajectory(self, field: VectorField, trajectory: Any) -> None:
        """Raises ValueError after the solve if the adjoint cannot differentiate it."""
        ...

    def pullback(
        self,
        field: VectorField,
        method: Method,
        trajectory: Any,
        times: Sequence[float],
        grads: torch.Tensor,
        options: Any,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The cotangent of y0, (n,), and those of ``field.parameters``, from the cotangents of the
        outputs, (T, n), at these times."""
        ...

    def second(
        self,
        field: VectorField,
        trajectory: Any,
        times: Sequence[float],
        grads: torch.Tensor,
        vectors: Sequence[torch.Tensor],
    ) -> Sequence[torch.Tensor]:
        """The derivative of <vectors, pullback(grads)>: cotangents of grads, of y0 and of the
        parameters. Raises NotImplementedError if there is none."""
        ...
