"""A torch vector field as Julia calls it: C callbacks without arguments over buffers that both
sides see."""

from __future__ import annotations

import ctypes
import math
from functools import cache

import torch

from ...algebra.jacobian import time_derivative
from ...algebra.products import Products
from ...core.finite_differences import finite, repaired_slope
from ...core.status import Exhausted, RejectStep, Status
from ...methods.base import Step
from .matrix import matrix_of

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int)
GO_ON = 0
FAILED = 1
STOP = 2
_BUFFERS = ("y", "t", "dy", "v", "jtv", "ptv", "jv", "J", "dT", "times", "nodes", "inside")
_HOOKS = ("f", "vjp", "vjp_p", "jvp", "jac", "tgrad", "domain", "step")


class ForeignField:
    """Buffers and hooks of one solve.

    Julia's time runs forward, from 0 where the span is short beside its start (``inner``); for a
    solve back in time f, its Jacobian and df/dp change their sign. state: 'cpu': the state is held
    there in the dtype of the field, and a field on a GPU gets it copied, and its result back;
    'cuda': it is held on the GPU of the field, as a CuArray of Julia in the same memory. nodes:
    Chebyshev points of a step, ends included, at which Julia's interpolant is read; ``monomial``
    makes polynomials of the values there. final: whether a state that f refuses ends the solve,
    where no step is tried again. error: what a hook raised, for Julia knows only that it did.
    """

    def __init__(self, field, method, t, end, y, watch=None, limits=None, state="cpu", final=False):
        self.state = state
        if state == "cpu":
            self.place = torch.device("cpu")
        else:
            self.place = field.device
        self.field = field
        self.watch = watch
        self.limits = limits
        if end > t:
            self.sign = 1.0
        else:
            self.sign = -1.0
        if _beside(t, end):
            self.origin = t
        else:
            self.origin = 0.0
        self.error = self.status = self.cut = None
        self.final = final
        # For the report of a failure: whether the last state lay outside of the domain, and when f
        # refused one last.
        self.refused = False
        self.refusal = math.inf
        n = field.size
        dtype = field.dtype
        with torch.inference_mode(False):
            for name in ("y", "dy", "v", "jtv", "jv", "dT"):
                setattr(self, name, torch.zeros(n, dtype=dtype, device=self.place))
            self.t = torch.zeros(1, dtype=dtype)
            self.ptv = self._products_of_parameters()
            self.times = torch.zeros(3, dtype=torch.float64)
            self.nodes, self.monomial = _nodes(method.degree)
            self.inside = torch.zeros(len(self.nodes), n, dtype=dtype, device=self.place)
            self.clock = self.t[0]  # a 0-d view
            # As the Jacobian does, df/dt may be infinite where the solve starts
            # (algebra/jacobian.py).
            self.begin = float(self.t.new_tensor(t))
            self.repairs = field.user_jac is None
            if method.implicit:
                self.matrix = matrix_of(field, t, y)
            else:
                self.matrix = None
            self.J = torch.zeros(
                0 if self.matrix is None else self.matrix.size, dtype=dtype, device=self.place
            )
        self._hooks = [
            _CALLBACK(self._hook(name)) if self._needs(name) else None for name in _HOOKS
        ]
        self.handle = None

    def _needs(self, name):
        if name == "step":
            return self.watch is not None or (self.limits is not None and _steps(self.limits))
        if name == "domain":
            return self.limits is not None and (
                self.limits.signs is not None or self.limits.domain is not None
            )
        if name == "jac":
            return self.matrix is not None
        return True

    def bind(self, package):
        """The Julia Field over these buffers, made once."""
        if self.handle is None:
            addresses = [getattr(self, name).data_ptr() for name in _BUFFERS]
            addresses += [
                0 if hook is None else ctypes.cast(hook, ctypes.c_void_p).value
                for hook in self._hooks
            ]
            table = torch.tensor(addresses, dtype=torch.int64)
            if self.field.dtype == torch.float64:
                bits = 64
            else:
                bits = 32
            sparse = ()
            if self.matrix is not None and self.matrix.pattern is not None:
                starts, rows = self.matrix.pattern
                sparse = (len(rows), starts.data_ptr(), rows.data_ptr())
            self.handle = package.field(
                bits,
                self.field.size,
                self.ptv.numel(),
                len(self.nodes),
                table.data_ptr(),
                *sparse,
                state=self.state,
                ordinal=self.place.index or 0,
                origin=self.origin,
                direction=self.sign,
            )
            self.settle()
        return self.handle

    def _products_of_parameters(self):
        field = self.field
        return torch.zeros(
            sum(p.numel() for p in field.parameters), dtype=field.dtype, device=self.place
        )

    def extend(self, package, solved, field):
        """Go on with the same field with other parameters, to go back through what Julia has
        solved."""
        self.field = field
        with torch.inference_mode(False):
            self.ptv = self._products_of_parameters()
        package.extend_b(solved, self.handle, self.ptv.numel(), self.ptv.data_ptr())

    def call(self, function, *arguments, **keywords):
        """function(...) in Julia; what a hook raised meanwhile is raised here as it was. None where
        Julia had nothing to keep when a hook stopped it."""
        self.error = self.status = self.cut = result = None
        try:
            result = function(*arguments, **keywords)
        except Exception:
            if self.error is None:
                raise
        error = self.error
        self.error = None
        if isinstance(error, Exhausted):
            self.status = error.status
        elif error is not None:
            raise error
        return result

    def settle(self):
        """Wait for what torch has begun where the state lies, before Julia reads or writes there on
        a stream of its own."""
        if self.place.type == "cuda":
            torch.cuda.current_stream(self.place).synchronize()

    def _hook(self, name):
        """No exception may cross the C boundary."""
        field = self.field
        plain = field.flat and field.device.type == "cpu" and field.signed is None
        if name == "f" and plain and self.sign > 0:
            return self._direct()
        hook = getattr(self, f"_{name}")

        def run():
            try:
                answer = hook() or GO_ON
                self.settle()
                return answer
            # Of a derivative: with a wrong one in its place the step tried again would keep it.
            except RejectStep:
                self.error = Exhausted(Status.DOMAIN)
            except BaseException as error:
                self.error = error
            return FAILED

        return run

    @property
    def time(self) -> float:
        return float(self.t)

    def inner(self, t: float) -> float:
        """Julia's time at the time t of f."""
        return self.sign * (t - self.origin)

    def outer(self, s: float) -> float:
        """The time of f at Julia's time s."""
        return self.origin + self.sign * s

    def point(self):
        """(t, y) where Julia asks or asked last, as f takes them; y is a copy, since the buffer
        changes with the next call."""
        return self.clock.to(self.field.device, copy=True), self.y.to(self.field.device, copy=True)

    def _direct(self):
        """f for the plain case, a flat state on the CPU, forward in time: called a thousand times a
        solve, it does no more than it must. f gets the buffers themselves, whose shape and dtype
        its first call has shown to suit it."""
        f = self.field.f
        args = self.field.args
        stats = self.field.stats
        at = self.field.eval
        clock = self.clock
        y = self.y
        write = self.dy.copy_
        shape = self.dy.shape
        dtype = self.dy.dtype

        def run():
            stats.nfe += 1
            try:
                if stats.guard is not None:
                    stats.guard.check(stats)
                try:
                    out = f(clock, y, *args)
                    tensor = isinstance(out, torch.Tensor)
                    if not tensor or out.shape != shape or out.dtype != dtype:
                        # Which has the words for it: a copy would convert and repeat in silence.
                        out = at(clock, y)
                    write(out)
                except RejectStep:
                    self._refuse()
            except BaseException as error:
                self.error = error
                return FAILED
            return GO_ON

        return run

    def _refuse(self):
        if self.final:
            raise Exhausted(Status.DOMAIN)
        self.refusal = self.time
        self.dy.zero_()
        self.times[2] = 1.0  # read, and cleared, by Outside in field.jl

    def _f(self):
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

    def _products(self, inputs, t, y):
        """The transposed derivatives of f in the inputs times v, None where f does not depend on
        one."""
        self.field.stats.backward_nvjp += 1
        out = self.field.eval(t, y)
        self.field.leaves.check(out, (y,))
        if not out.requires_grad:
            return [None] * len(inputs)
        return torch.autograd.grad(
            out, inputs, self.sign * self.v.to(y.device), allow_unused=True, retain_graph=True
        )

    def _vjp(self):
        with torch.inference_mode(False), torch.enable_grad():
            t, y = self.point()
            y.requires_grad_()
            (found,) = self._products((y,), t, y)
        self.jtv.zero_() if found is None else self.jtv.copy_(found)

    def _vjp_p(self):
        parameters = self.field.parameters
        with torch.inference_mode(False), torch.enable_grad():
            t, y = self.point()
            found = self._products(parameters, t, y)
        start = 0
        for p, g in zip(parameters, found):
            part = self.ptv[start : start + p.numel()]
            part.zero_() if g is None else part.copy_(g.reshape(-1))
            start += p.numel()

    def _jvp(self):
        t, y = self.point()
        product = Products(self.field, float(t), y).jvps(
            self.v.to(y.device, copy=True).unsqueeze(0)
        )[0]
        self.field.stats.njvp += 1
        self.jv.copy_(self.sign * product)

    def _jac(self):
        t, y = self.point()
        self.J.copy_(self.sign * self.matrix(float(t), y))

    def _tgrad(self):
        """df/dt: its sign is that of f times that of time."""
        with torch.inference_mode(False), torch.enable_grad():
            t, y = self.point()
            slope = time_derivative(self.field, t, y, False)
        if slope is not None and self.repairs and float(t) == self.begin and not finite(slope):
            slope = repaired_slope(lambda moved: self.field.eval(moved, y), t, y, slope)
        self.dT.zero_() if slope is None else self.dT.copy_(slope)

    def _domain(self):
        self.refused = not self.limits.allow(self.time, self.y.to(self.field.device, copy=True))
        if self.refused:
            return STOP
        return GO_ON

    def _step(self):
        """After an accepted step: events on its polynomial, the callback, the clock."""
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

    def polynomial(self, states):
        """(degree + 1, n) coefficients of the powers of theta from the states at the nodes, (degree
        + 1, n)."""
        return (self.monomial.to(states.device) @ states.to(torch.float64)).to(states.dtype)


def _beside(t, end) -> bool:
    """Whether all times between t and end are within a factor of two of t: their differences from
    it are then exact.

    Sterbenz, Floating-point computation (1974).
    """
    low, high = sorted((abs(t), abs(end)))
    return t * end > 0 and high <= 2 * low


def _steps(limits) -> bool:
    return limits.callback is not None or limits.deadline is not None


@cache
def _nodes(degree):
    """Chebyshev's points of (0, 1) with both ends, (m,), and the matrix from values there to
    monomial coefficients."""
    theta = torch.tensor(
        [0.5 - 0.5 * math.cos(math.pi * i / degree) for i in range(degree + 1)], dtype=torch.float64
    )
    theta[0], theta[-1] = 0.0, 1.0
    return theta, torch.linalg.inv(torch.vander(theta, increasing=True))
