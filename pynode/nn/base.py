"""What the modules over ``solve`` share: a vector field, options of the solver, default times, the
counts of the last solve."""

from __future__ import annotations

import difflib
import inspect

import torch

from ..core.constants import Constants, default_device, in_memory
from ..core.events import as_events
from ..core.problem import checked_times
from ..core.status import Status
from ..solve import solve

# Their forward takes whatever that of the module inside takes.
PARALLEL = torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel


class SolveModule(torch.nn.Module):
    """field: nn.Module, called with the time and ``inputs`` further arguments, or without the time;
    options: of ``solve``."""

    inputs = 1

    def __init__(self, field, options):
        super().__init__()
        self.field = as_field(field, "field")
        check_options(options)
        self._check_end(options)
        self.options = options
        self.stats = None
        self.events = []
        self._heard_by = []

    def __getstate__(self):
        """Copies take neither the graph of the last call along nor those who listen to this
        module."""
        return {**self.__dict__, "events": [], "_heard_by": []}

    @property
    def _timed(self):
        """The field as a module that is called with the time first."""
        return timed(self.field, self.inputs)

    def _solved(self, field, y0, times, args=(), **more):
        """y at the times, by ``solve`` with the options and more of them; its counts go to
        ``stats`` and who listens."""
        options = {**self.options, **more}
        self._check_end(options)
        solution = solve(field, y0, times, args=args, **options)
        if solution.status is Status.CALLBACK:
            raise ValueError(
                f"{solution.message} {type(self).__name__} returns the state at its last time: let"
                " callback return nothing"
            )
        self.stats = solution.stats
        self.events = solution.events
        for listeners in self._heard_by:
            listeners(self, solution.stats)
        return solution.y

    def listen(self, listeners, listening=True):
        """Call heard(self, stats) after every solve, no more where listening is False."""
        self._heard_by = [other for other in self._heard_by if other != listeners] + (
            [listeners] if listening else []
        )

    def _check_end(self, options):
        """ValueError for options by which a solve may end early; at every call, because options may
        be changed."""
        name = type(self).__name__
        if not options.get("throw", True):
            raise ValueError(
                f"{name} returns the state at its last time, which throw=False may not reach: leave"
                " throw away and catch SolveError, whose solution is what was computed, or call"
                " pynode.solve"
            )
        ending = [
            event.name for _, event in as_events(options.get("events", ()))[0] if event.terminal
        ]
        if ending:
            raise ValueError(
                f"{name} returns the state at its last time, but the event {ending[0]!r} is"
                " terminal and ends the solve before; call pynode.solve, whose solution says when"
            )

    def extra_repr(self):
        return ", ".join(f"{key}={value}" for key, value in self.options.items() if key != "events")


class DefaultTimes(Constants):
    """t: times for calls that give none, a buffer (float64); last_only: whether the last state
    alone is returned, None for: where the call gives no times."""

    def keep_times(self, t, last_only):
        if not isinstance(last_only, (bool, type(None))):
            raise TypeError(f"last_only must be True, False or None, not {last_only!r}")
        self.keep("t", checked_times(t, in_memory(default_device())).to(torch.float64))
        self.last_only = last_only

    def _apply(self, fn, recurse=True):
        """.to(device) moves the times, but .float() leaves them in float64: time is never rounded
        to the state's dtype."""
        times = self.t
        super()._apply(fn, recurse)
        self.t = (self.t if times.is_meta else times).to(self.t.device, torch.float64)
        return self

    def choose_times(self, t):
        """(times, whether the last state alone is wanted) of a call with times t, or None."""
        return self.t if t is None else t, t is None if self.last_only is None else self.last_only


def last(y):
    """The state at the last time, of states at many, (T, ...), in whatever structure: a tensor, a
    tuple or a dict."""
    if isinstance(y, torch.Tensor):
        return y[-1]
    if isinstance(y, dict):
        return {key: last(part) for key, part in y.items()}
    return tuple(map(last, y))


def as_field(field, name):
    """field, or TypeError where it is no module."""
    if not isinstance(field, torch.nn.Module):
        raise TypeError(
            f"{name} must be an nn.Module, so that its parameters are found, not"
            f" {type(field).__name__}"
        )
    if getattr(field.forward, "__name__", "") == "_forward_unimplemented":
        raise TypeError(
            f"{name}, a {type(field).__name__}, has no forward: give it one with forward(t, y), or"
            " forward(y)"
        )
    return field


def timed(field, inputs=1):
    """A module that is called with the time and so many further arguments; field may leave the time
    away."""
    if _needed(field) == inputs:
        return Autonomous(field)
    return field


def _needed(field) -> int:
    """How many arguments the forward of a module must have."""
    inner = getattr(field, "_orig_mod", field)  # of a module that torch.compile has wrapped
    if isinstance(inner, PARALLEL):
        return _needed(inner.module)
    if isinstance(inner, torch.jit.ScriptModule):
        schema = inner.forward.schema  # type: ignore[attr-defined]
        return len(schema.arguments) - 1  # self is the first
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(
        p.default is p.empty and p.kind in kinds
        for p in inspect.signature(inner.forward).parameters.values()
    )


def check_options(options):
    """TypeError for what is no option of solve, or its own affair."""
    known = [
        name for name in inspect.signature(solve).parameters if name not in ("f", "y0", "t", "args")
    ]
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            if close:
                hint = f"did you mean {close[0]}?"
            else:
                hint = f"choose from {', '.join(known)}"
            raise TypeError(f"{name} is no option of a model over solve: {hint}")


class Autonomous(torch.nn.Module):
    """field(y, ...) called as field(t, y, ...)."""

    def __init__(self, field):
        super().__init__()
        self.field = field

    @property
    def pynode_lasting(self):
        """Where compiled steps are kept: this module is made anew for every solve."""
        return self.field

    def forward(self, t, *inputs):
        return self.field(*inputs)
