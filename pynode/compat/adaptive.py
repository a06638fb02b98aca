"""Adaptive steps for torchdiffeq's calls: pynode's integrator, with torchdiffeq's norms, bounds and
callbacks."""

from __future__ import annotations

import bisect
import math
from dataclasses import replace
from typing import Any

import torch

from ..backends.torch.event_detection import EventDetector
from ..backends.torch.loop import integrate as run
from ..core.events import Event
from ..core.options import Options
from ..core.protocols import Step
from ..core.status import Status
from ..core.step_control import Controller
from .call import BadInput, Call, OdeintError
from .field import CallField, CallTolerance

OPTIONS = {
    "min_step",
    "max_step",
    "first_step",
    "step_t",
    "jump_t",
    "safety",
    "ifactor",
    "dfactor",
    "max_num_steps",
    "dtype",
}
ENDLESS = 2**31 - 1
FAR = 1e30  # a solve for an event that never occurs ends here, in units of t


def integrate(call: Call, method: Any) -> Any:
    """(T, n) states at call.t. With an event: (its time, a float, and (2, n) states at the start
    and at the event)."""
    field = CallField(call)
    options = call.options
    if not field.size:
        raise BadInput("y0 is empty: a state needs at least one component")
    tol = CallTolerance(field, call)
    method = _controlled(method, options)
    values = call.t.detach().tolist()
    if values[-1] > values[0]:
        direction = 1.0
    else:
        direction = -1.0
    moving = call.t.requires_grad and torch.is_grad_enabled()
    stops, jumps = _special(options, values[0], direction)
    field.shifted_times = _beyond(field, values[0], jumps, direction)
    y = moved_start(field)
    guarded: Any = TorchdiffeqMethod(method, field, tol, options, values)
    detector = None
    end = values[-1]
    pending = values[1:]
    if call.event_fn is not None:
        detector = EventDetector([terminal_event(call, field)], field, [0])
        end = values[0] + direction * FAR
        pending = []
    chosen = _options(options, tol.rtol, stops)
    rows = [field.initial]
    slopes = []
    begin = values[0]
    for stop in [s for s in jumps if s != values[0] and direction * (end - s) > 0] + [end]:
        outputs = [s for s in pending if direction * (stop - s) >= 0]
        pending = pending[len(outputs) :]
        times = [begin, *outputs]
        if times[-1] != stop or not outputs:
            times.append(stop)
        field.shifted_times = _beyond(field, begin, jumps, direction)
        if stop != end:
            field.shifted_times[stop] = field.next_to(stop, -direction)
        path = run(
            field, guarded, y, times, chosen, tol.atol, None, False, moving, detector, None, tol
        )
        if path.status is Status.EVENT:
            return path.t, torch.stack((field.initial, path.y))
        if not path.status.success:
            raise failure(path.status, field, path.t, path.y)
        rows += path.ys[1 : 1 + len(outputs)]
        slopes += path.slopes[: len(outputs)]
        y = path.y
        begin = stop
        if stop == end:
            first_step = None
        else:
            first_step = max(abs(path.last.h), 1e-12 * abs(end - stop))
        chosen = replace(chosen, first_step=first_step)
    field.shifted_times = {}
    if detector is not None:
        raise OdeintError(f"the event did not occur until t = {end:.1g}")
    states = torch.stack(rows)
    if not moving:
        return states
    moved = (call.t - call.t.detach()).to(states.dtype).unsqueeze(1)
    return torch.cat((states[:1], states[1:] + torch.stack(slopes).detach() * moved[1:]))


def _controlled(method, options):
    """The method, with torchdiffeq's step-size controller if one of its options is given."""
    control = {name: options.get(name) for name in ("safety", "dfactor", "ifactor")}
    if all(value is None for value in control.values()):
        return method
    safety, smallest, largest = (
        float(d if v is None else v) for v, d in zip(control.values(), (0.9, 0.2, 10.0))
    )
    return replace(method, controller=Controller("I", safety, smallest, largest))


def _options(options, rtol, stops):
    """pynode's Options for those of the call."""
    first_step = options.get("first_step")
    if first_step is not None:
        first_step = float(first_step)
    return Options(
        rtol=rtol,
        first_step=first_step,
        max_step=float(options.get("max_step", math.inf)),
        max_steps=ENDLESS,
        tstops=tuple(stops),
    )


def _beyond(field, t, jumps, direction):
    """{t: the next time in this direction} if f jumps at t, otherwise {}. At a jump where a part of
    the solve begins, f is evaluated on the far side."""
    if t in jumps:
        return {t: field.next_to(t, direction)}
    return {}


def moved_start(field: CallField) -> torch.Tensor:
    """The start, (n,), with its derivative in time: a solution that begins later begins where it
    would have been."""
    y = field.initial
    t = field.call.t
    if not (t.requires_grad and torch.is_grad_enabled()):
        return y
    # The graph is not used, but f may keep tensors of its first call.
    slope = field(t[0].item(), y.detach()).detach()
    return y - slope * (t[0] - t[0].detach()).to(y.dtype)


def terminal_event(call: Call, field: CallField) -> Event:
    """The Event that ends the call: any component of event_fn changes its sign."""

    def condition(t: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
        return call.event_fn(t, field.leave(flat))  # type: ignore[misc]  # calls with event_fn

    return Event(condition, terminal=True, name=getattr(call.event_fn, "__name__", "event_fn"))


def _special(options, start, direction):
    """(step_t, jump_t) as floats after the start, in the order of integration. Raises ValueError if
    a time is in both."""
    special = []
    for name in ("step_t", "jump_t"):
        value = options.get(name)
        times = torch.as_tensor([] if value is None else value, dtype=torch.float64).detach()
        if times.dim() != 1:
            raise BadInput(f"{name} must be one dimensional, not of shape {tuple(times.shape)}")
        special.append(
            sorted(
                (s for s in times.tolist() if direction * (s - start) >= 0),
                key=lambda s: direction * s,
            )
        )
    both = special[0] + special[1]
    if len(set(both)) < len(both):
        raise ValueError("`step_t` and `jump_t` must not have any repeated elements between them.")
    return special


def failure(status: Status, field: CallField, t: float, y: torch.Tensor) -> OdeintError:
    """The error of a solve that ended at t, in the words of torchdiffeq and of pynode."""
    if not bool(torch.isfinite(y).all()):
        status = Status.NONFINITE
    words = f"non-finite values in state `y`: {field.leave(y.detach())}"
    if status is not Status.NONFINITE:
        words = "underflow in dt"
    return OdeintError(f"{words}, at t = {t:.6g}: {status.sentence}. What to do: {status.remedy}.")


class TorchdiffeqMethod:
    """A method wrapped with torchdiffeq's callbacks, least step and limit on steps between two
    outputs."""

    def __init__(
        self,
        method: Any,
        field: CallField,
        tol: CallTolerance,
        options: dict[str, Any],
        values: list[float],
    ) -> None:
        self.method = method
        self.field = field
        self.tol = tol
        self.values = values
        self.calls = field.call.callbacks
        self.least = float(options.get("min_step", 0.0))
        self.most = int(options.get("max_num_steps", ENDLESS))
        if values[-1] > values[0]:
            self.direction = 1.0
        else:
            self.direction = -1.0
        self.keys = [self.direction * t for t in values]
        self.interval = -1
        self.count = 0

    @property
    def error_order(self) -> int:
        return self.method.error_order

    @property
    def evaluations_a_step(self) -> float:
        return self.method.evaluations_a_step

    def init(self, *arguments: Any) -> Any:
        return self.method.init(*arguments)

    def polynomial(self, field: CallField, step: Step) -> torch.Tensor:
        return self.method.polynomial(field, step)

    def step(
        self, field: CallField, t: float, y: torch.Tensor, h: float, state: Any, tol: CallTolerance
    ) -> Any:
        """One step of the method, with the callbacks; y: (n,)."""
        interval = bisect.bisect_right(self.keys, self.direction * t)
        if interval == self.interval:
            self.count = self.count + 1
        else:
            self.count = 1
        self.interval = interval
        if self.count > self.most:
            raise OdeintError(
                f"max_num_steps exceeded ({self.count - 1}>={self.most}) at t = {t:.6g}: raise it,"
                " loosen rtol and atol, or use an implicit method such as 'fbdf' if the steps are"
                " tiny"
            )
        self._call_back("callback_step", t, y, h)
        tol.forgiving = abs(h) <= self.least
        step = self.method.step(field, t, y, h, state, tol)
        tol.forgiving = False
        if step.accepted:
            self._call_back("callback_accept_step", t, y, h)
        else:
            self._call_back("callback_reject_step", t, y, h)
        if self.least:
            step.factor = max(step.factor, self.least / abs(h))
        return step

    def _call_back(self, name, t, y, h):
        if name in self.calls:
            self.calls[name](self.field.time(t), self.field.leave(y), self.field.time(h))
