"""A torch vector field in the form that Julia calls: native functions, or C callbacks without
arguments over buffers that both sides share."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Generator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import torch

from ...algebra.jacobian import time_derivative
from ...algebra.products import Products
from ...core.finite_differences import finite, repaired_slope
from ...core.status import Exhausted, RejectStep, Status
from ...core.stop_conditions import Limits
from ...core.vector_field import VectorField
from ...methods.base import Step
from ..torch.event_detection import EventDetector, EventHit
from .algorithms import JuliaMethod
from .clock import Clock
from .entries import Entries, Kept
from .functions import NativeFunctions
from .matrix import Matrix, matrix_of
from .request import GradientRequest, Request
from .runtime import Runtime

if TYPE_CHECKING:
    from ..native.fields import BoundField

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int)
GO_ON = 0
FAILED = 1
STOP = 2
MANY = 2**62  # evaluations that are no limit
# Why Julia stopped a solve itself (julia/src/field.jl).
CAUSES = {1: Status.MAX_EVALUATIONS, 2: Status.MAX_SECONDS}
_BUFFERS = ("y", "t", "dy", "v", "jtv", "ptv", "jv", "J", "dT", "times", "inside")
# The hooks, and those of them in whose place a native function can be.
_HOOKS = ("f", "vjp", "vjp_p", "jvp", "jac", "tgrad", "domain", "step")
_NATIVE = ("f", "vjp", "vjp_p", "jvp", "jac", "tgrad")
_DEVICES = {"cpu": 0, "cuda": 1}


class ForeignField:
    """The field of one solve, as a Request says it.

    Julia's time runs forward (``timer``). For a solve back in time, f, its Jacobian and df/dp
    change their sign.

    field, method: the vector field and the method of the solve. t, end: the span. y: (n,), the
    state at t. watch: looks for events. limits: refuse steps or stop the solve. state: where the
    state is. 'cpu' keeps it on the CPU in the dtype of the field; the hooks copy it to a field on a
    GPU, and copy the result back. 'cuda' keeps it on the GPU of the field, as a CuArray of Julia in
    the same memory. final: whether the solve ends if f refuses a state, because the method cannot
    try a step again. bound, functions: native code in place of the hooks of f and its derivatives,
    or None.

    nodes: the Chebyshev points of a step, with both ends, at which Julia evaluates its
    interpolant. ``monomial`` turns the values there into polynomials. error: the exception that a
    hook raised; Julia knows only that a hook failed.
    """

    # Buffers, (n,): the state, f, the vector in products, the products J^T v and J v, and df/dt.
    y: torch.Tensor
    dy: torch.Tensor
    v: torch.Tensor
    jtv: torch.Tensor
    jv: torch.Tensor
    dT: torch.Tensor

    def __init__(
        self,
        field: VectorField,
        method: JuliaMethod,
        t: float,
        end: float,
        y: torch.Tensor,
        watch: EventDetector | None = None,
        limits: Limits | None = None,
        state: str = "cpu",
        final: bool = False,
        bound: BoundField | None = None,
        functions: NativeFunctions | None = None,
    ):
        self.state = state
        if state == "cpu":
            self.place = torch.device("cpu")
        else:
            self.place = field.device
        self.field = field
        self.watch = watch
        self.limits = limits
        self.bound = bound
        self.functions = functions
        self.timer = Clock.of(t, end)
        self.sign = self.timer.direction
        self.error: BaseException | None = None
        self.status: Status | None = None
        self.cut: EventHit | None = None
        self.final = final
        # For the report of a failure: whether the last state was outside the domain, and the last
        # time at which f refused a state.
        self.refused = False
        self.refusal = math.inf
        self.nodes, self.monomial = _nodes(method.degree)
        self.matrix: Matrix | None = None
        self.kept: Kept | None = None
        self._callbacks: list[Any] = []
        self.request = Request()
        self._describe()
        hooks = [name for name in _HOOKS if self._needs(name, method)]
        if hooks:
            self._share_buffers(method, t, y)
            if self.matrix is None and "jac" in hooks:
                hooks.remove("jac")
        for name in hooks:
            callback = _CALLBACK(self._hook(name))
            self._callbacks.append(callback)
            setattr(self.request, name, ctypes.cast(callback, ctypes.c_void_p).value)

    def _describe(self) -> None:
        """Write into the request what does not depend on hooks."""
        request = self.request
        field = self.field
        request.bits = 64 if field.dtype == torch.float64 else 32
        request.n = field.size
        request.device = _DEVICES[self.state]
        request.ordinal = self.place.index or 0
        request.origin = self.timer.origin
        request.direction = self.sign
        request.signals = 1
        request.most = MANY
        request.seconds = math.inf
        if self.functions is None or self.bound is None:
            request.np = sum(p.numel() for p in field.parameters)
            return
        self.functions.fill(request)
        request.inputs = self.bound.pointers()[0].ctypes.data
        request.np = sum(x.numel() for x in self.bound.targets)

    def _needs(self, name: str, method: JuliaMethod) -> bool:
        """Whether this solve needs the hook of this name."""
        if name == "step":
            return self.watch is not None or (
                self.limits is not None and self._acts_after_steps(self.limits)
            )
        if name == "domain":
            return self.limits is not None and (
                self.limits.mask is not None or self.limits.domain is not None
            )
        if self.functions is not None:
            return name not in _NATIVE
        if name == "jac":
            return method.implicit
        return True

    def _acts_after_steps(self, limits: Limits) -> bool:
        """Whether limits look at every accepted step. Native solves read the clock in Julia."""
        return limits.callback is not None or (
            limits.deadline is not None and self.functions is None
        )

    def _share_buffers(self, method: JuliaMethod, t: float, y: torch.Tensor) -> None:
        """Make what hooks and Julia both read and write."""
        field = self.field
        n = field.size
        dtype = field.dtype
        with torch.inference_mode(False):
            for name in ("y", "dy", "v", "jtv", "jv", "dT"):
                setattr(self, name, torch.zeros(n, dtype=dtype, device=self.place))
            self.t = torch.zeros(1, dtype=dtype)
            self.ptv = self._products_of_parameters()
            self.times = torch.zeros(3, dtype=torch.float64)
            self.inside = torch.zeros(len(self.nodes), n, dtype=dtype, device=self.place)
            self.clock = self.t[0]  # a 0-d view
            if method.implicit and self.functions is None:
                self.matrix = matrix_of(field, t, y)
            self.J = torch.zeros(
                0 if self.matrix is None else self.matrix.size, dtype=dtype, device=self.place
            )
        request = self.request
        for name in _BUFFERS:
            setattr(request, name, getattr(self, name).data_ptr())
        request.thetas = self.nodes.data_ptr()
        request.nodes = len(self.nodes)
        if self.matrix is not None and self.matrix.pattern is not None:
            starts, rows = self.matrix.pattern
            request.colptr = starts.data_ptr()
            request.rowval = rows.data_ptr()
            request.nonzeros = len(rows)
        self.settle()

    def solve(self, entries: Entries, most: float, deadline: float | None) -> bool:
        """Have Julia serve the request; whether there is a result. most: evaluations of f at most;
        deadline: on the monotonic clock. Raises what a hook has raised.

        Exhausted becomes ``status`` instead, and so do the limits that Julia keeps itself.
        """
        request = self.request
        if self.functions is not None:
            request.most = int(min(most, MANY))
            if deadline is not None:
                request.seconds = deadline - time.monotonic()
        served = self._served(entries.forward, request)
        outcome = request.outcome
        if outcome.kept:
            self.kept = Kept(entries, outcome.kept)
        if self.status is None:
            self.status = CAUSES.get(outcome.cause)
        return served

    def pull(self, entries: Entries, request: GradientRequest) -> bool:
        """Have Julia serve the request of a gradient; whether there is a result."""
        request.kept = cast("Kept", self.kept).number
        request.seconds = math.inf
        return self._served(entries.gradient, request)

    def _served(self, entry: Callable[[Any], bool], request: Any) -> bool:
        self.error = self.status = self.cut = None
        served = entry(request)
        error = self.error
        self.error = None
        if isinstance(error, Exhausted):
            self.status = error.status
        elif error is not None:
            raise error
        return served

    @property
    def parameter_count(self) -> int:
        """The number of parameters as Julia counts them."""
        if self.functions is None:
            return self.ptv.numel()
        return self.request.np

    def _products_of_parameters(self) -> torch.Tensor:
        """A buffer for v^T df/dp."""
        field = self.field
        return torch.zeros(
            sum(p.numel() for p in field.parameters), dtype=field.dtype, device=self.place
        )

    def extend(self, julia: Runtime, field: VectorField) -> None:
        """Continue with the same field that has other parameters, for the gradient of the solve
        that Julia has kept."""
        self.field = field
        if self.functions is not None:
            return
        with torch.inference_mode(False):
            self.ptv = self._products_of_parameters()
        number = cast("Kept", self.kept).number
        julia.entries.extend(number, self.ptv.numel(), self.ptv.data_ptr())

    def settle(self) -> None:
        """Wait until torch has finished its work on the state. Julia reads and writes the state on
        another stream of the GPU."""
        if self.place.type == "cuda":
            torch.cuda.current_stream(self.place).synchronize()

    def _hook(self, name: str) -> Callable[[], int]:
        """The C callback of this name. It catches every exception, because none may cross the C
        boundary."""
        field = self.field
        plain = field.flat and field.device.type == "cpu" and field.nonnegative_mask is None
        if name == "f" and plain and self.sign > 0:
            ask = self._direct()
        else:
            ask = self._settled(getattr(self, f"_{name}"))
        answers = self._answers(ask)
        next(answers)
        return answers.__next__

    def _answers(self, ask: Callable[[], int]) -> Generator[int, None, None]:
        """The answers of a hook, without end.

        Python runs the handlers of signals where a function begins, before its first statement. A
        generator begins again inside of ``try``, so that Ctrl-C is not lost there.
        """
        answer = GO_ON
        while True:
            try:
                while True:
                    yield answer
                    answer = ask()
            except GeneratorExit:
                return
            # A derivative refuses the state. A wrong one in its place would stay in the next
            # attempt of the step, so the solve ends.
            except RejectStep:
                self.error = Exhausted(Status.DOMAIN)
            except BaseException as error:
                self.error = error
            answer = FAILED

    def _settled(self, hook: Callable[[], int | None]) -> Callable[[], int]:
        """A hook whose work on the GPU is done when it returns."""

        def run() -> int:
            answer = hook() or GO_ON
            self.settle()
            return answer

        return run

    @property
    def time(self) -> float:
        """The time of f at which Julia asks, or asked last."""
        return float(self.t)

    def point(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(t, y) at which Julia asks, or asked last, on the device of f. Both are copies, because
        the next call overwrites the buffers."""
        return self.clock.to(self.field.device, copy=True), self.y.to(self.field.device, copy=True)

    def _direct(self) -> Callable[[], int]:
        """The hook of f for the plain case: a flat state on the CPU, forward in time.

        A solve calls it thousands of times, so it does only what it must. f receives the buffers
        themselves. Its first evaluation has shown that their shape and dtype suit it.
        """
        f = self.field.f
        args = self.field.args
        stats = self.field.stats
        at = self.field.eval
        clock = self.clock
        y = self.y
        write = self.dy.copy_
        shape = self.dy.shape
        dtype = self.dy.dtype

        def run() -> int:
            stats.nfe += 1
            if stats.guard is not None:
                stats.guard.check(stats)
            try:
                out = f(clock, y, *args)
                tensor = isinstance(out, torch.Tensor)
                if not tensor or out.shape != shape or out.dtype != dtype:
                    # ``at`` raises the error. copy_ would convert and broadcast without one.
                    out = at(clock, y)
                write(out)
            except RejectStep:
                self._refuse()
            return GO_ON

        return run

    def _refuse(self) -> None:
        """f refuses the state: tell Julia to try the step again, or end the solve."""
        if self.final:
            raise Exhausted(Status.DOMAIN)
        self.refusal = self.time
        self.dy.zero_()
        self.times[2] = 1.0  # Outside in field.jl reads and clears this flag

    def _f(self) -> None:
        stats = self.field.stats
        stats.nfe += 1
        if stats.guard is not None:
            stats.guard.check(stats)
        t, y = self.point()
        try:
            self.dy.copy_(self.field.eval(t, y))
        except RejectStep:
            self._refuse()
            return
        if self.sign < 0:
            self.dy.neg_()

    def _products(
        self, inputs: Sequence[torch.Tensor], t: torch.Tensor, y: torch.Tensor
    ) -> Sequence[torch.Tensor | None]:
        """The products v^T df/dx for each input x; None if f does not depend on x."""
        self.field.stats.backward_nvjp += 1
        out = self.field.eval(t, y)
        self.field.leaves.check(out, (y,))
        if not out.requires_grad:
            return [None] * len(inputs)
        return torch.autograd.grad(
            out, inputs, self.sign * self.v.to(y.device), allow_unused=True, retain_graph=True
        )

    def _vjp(self) -> None:
        with torch.inference_mode(False), torch.enable_grad():
            t, y = self.point()
            y.requires_grad_()
            (product,) = self._products((y,), t, y)
        _store(self.jtv, product)

    def _vjp_p(self) -> None:
        parameters = self.field.parameters
        with torch.inference_mode(False), torch.enable_grad():
            t, y = self.point()
            products = self._products(parameters, t, y)
        start = 0
        for p, product in zip(parameters, products):
            _store(self.ptv[start : start + p.numel()].view_as(p), product)
            start += p.numel()

    def _jvp(self) -> None:
        t, y = self.point()
        product = Products(self.field, float(t), y).jvps(
            self.v.to(y.device, copy=True).unsqueeze(0)
        )[0]
        self.field.stats.njvp += 1
        self.jv.copy_(self.sign * product)

    def _jac(self) -> None:
        t, y = self.point()
        matrix = cast("Matrix", self.matrix)  # without a matrix there is no such hook
        self.J.copy_(self.sign * matrix(float(t), y))

    def _tgrad(self) -> None:
        """df/dt. It keeps its sign back in time: f and time both change theirs."""
        with torch.inference_mode(False), torch.enable_grad():
            t, y = self.point()
            slope = time_derivative(self.field, t, y, False)
        if slope is not None and not finite(slope):
            slope = repaired_slope(lambda moved: self.field.eval(moved, y), t, y, slope)
        _store(self.dT, slope)

    def _domain(self) -> int:
        """Whether the limits allow the state."""
        limits = cast("Limits", self.limits)  # without limits there is no such hook
        self.refused = not limits.allow(self.time, self.y.to(self.field.device, copy=True))
        if self.refused:
            return STOP
        return GO_ON

    def _step(self) -> int:
        """After an accepted step: look for events on its polynomial, call the callback, read the
        clock."""
        stats = self.field.stats
        limits = self.limits
        stats.accepted += 1
        begin, end = self.times[:2].tolist()
        states = self.inside.to(self.field.device, copy=True)
        t = end
        y = states[-1]
        if self.watch is not None:
            step = Step(begin, end - begin, states[0], y, 0.0, 1.0, None)
            cut = self.watch.check_step(step, end, self.polynomial(states))
            if cut is not None:
                t = cut.t
                y = cut.y
                self.status = self.watch.status
                self.cut = cut
        if limits is not None:
            if limits.stop(t, y):
                self.status = Status.CALLBACK
            elif self.status is None and limits.expired():
                self.status = Status.MAX_SECONDS
        if self.status is None:
            return GO_ON
        return STOP

    def polynomial(self, states: torch.Tensor) -> torch.Tensor:
        """Coefficients of the powers of theta, (degree + 1, n), from the states at the nodes,
        (degree + 1, n)."""
        return (self.monomial.to(states.device) @ states.to(torch.float64)).to(states.dtype)


def _store(buffer: torch.Tensor, value: torch.Tensor | None) -> None:
    """Write a value into a buffer; None stands for zeros."""
    if value is None:
        buffer.zero_()
    else:
        buffer.copy_(value)


@cache
def _nodes(degree: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The Chebyshev points of (0, 1) with both ends, (m,), and the matrix that turns values there
    into monomial coefficients."""
    theta = torch.tensor(
        [0.5 - 0.5 * math.cos(math.pi * i / degree) for i in range(degree + 1)], dtype=torch.float64
    )
    theta[0], theta[-1] = 0.0, 1.0
    return theta, torch.linalg.inv(torch.vander(theta, increasing=True))
