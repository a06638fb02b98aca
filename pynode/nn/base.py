"""What the models over ``solve`` share: a vector field, options of ``solve``, default times, and
the counts of the last solve."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from operator import is_
from typing import Any

import torch

from ..core.constants import Constants, default_device, in_memory
from ..core.events import as_events
from ..core.problem import checked_times
from ..core.protocols import Times
from ..core.stats import Stats
from ..core.status import Status
from ..integrate import solve

# The forward of these takes the same arguments as the forward of the module inside.
PARALLEL = torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel


class SolveModule(torch.nn.Module):
    """A module that calls ``solve``.

    field: nn.Module. It is called with the time and ``inputs`` further arguments, or without the
        time.
    options: of ``solve``.
    """

    inputs = 1
    field: torch.nn.Module
    options: dict[str, Any]
    stats: Stats | None
    events: list

    def __init__(self, field: torch.nn.Module, options: dict[str, Any]) -> None:
        super().__init__()
        self.field = as_field(field, "field")
        check_options(options)
        self._check_end(options)
        self.options = options
        self.stats = None
        self.events = []
        self._listeners: list[Callable[[SolveModule, Stats], None]] = []

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no graph of the last call and no listeners."""
        return {**self.__dict__, "events": [], "_listeners": [], "_wrappers": {}}

    @property
    def _timed(self):
        """The field as a module whose first argument is the time."""
        return self._wrapped(timed, self.field, self.inputs)

    def _wrapped(self, make: Callable[..., torch.nn.Module], *parts: Any) -> torch.nn.Module:
        """make(*parts): what the last call with the same objects returned. What the engines know
        about a field, its native code above all, they know about this object."""
        # Not an attribute of the module, which would count it as one of its modules.
        kept = self.__dict__.setdefault("_wrappers", {})
        before, wrapper = kept.get(make, ((), None))
        if wrapper is None or len(before) != len(parts) or not all(map(is_, before, parts)):
            wrapper = make(*parts)
            kept[make] = (parts, wrapper)
        return wrapper

    def _solved(self, field, y0, times, args=(), **more):
        """Solve with the options and further ones; returns y at the times. Writes the counts to
        ``stats`` and calls the listeners."""
        options = {**self.options, **more}
        self._check_end(options)
        solution = solve(field, y0, times, args=args, **options)
        if solution.status is Status.CALLBACK:
            raise ValueError(
                f"{solution.message} {type(self).__name__} returns the state at its last time: the"
                " callback must return nothing"
            )
        self.stats = solution.stats
        self.events = solution.events
        for listener in self._listeners:
            listener(self, solution.stats)
        return solution.y

    def listen(
        self, listener: Callable[[SolveModule, Stats], None], listening: bool = True
    ) -> None:
        """Call listener(self, stats) after every solve. listening=False ends this."""
        self._listeners = [other for other in self._listeners if other != listener]
        if listening:
            self._listeners.append(listener)

    def _check_end(self, options):
        """Raises ValueError for options that may end a solve early. Every call checks this, because
        options may change."""
        name = type(self).__name__
        if not options.get("throw", True):
            raise ValueError(
                f"{name} returns the state at its last time, which throw=False may not reach:"
                " remove throw and catch SolveError, whose solution is the computed part, or call"
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

    def extra_repr(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.options.items() if key != "events")


class DefaultTimes(Constants):
    """A module with default times.

    t: times for calls that give none, a float64 buffer.
    last_only: True returns only the last state, False all states. None returns only the last state
        if the call gives no times.
    """

    t: torch.Tensor
    last_only: bool | None

    def keep_times(self, t: Times, last_only: bool | None) -> None:
        """Store the default times t, at least two, and last_only."""
        if not isinstance(last_only, (bool, type(None))):
            raise TypeError(f"last_only must be True, False or None, not {last_only!r}")
        self.keep("t", checked_times(t, in_memory(default_device())).to(torch.float64))
        self.last_only = last_only

    def _apply(self, fn, recurse=True):
        """.to(device) moves the times, but .float() keeps them in float64: time is never rounded to
        the dtype of the state."""
        times = self.t
        super()._apply(fn, recurse)
        self.t = (self.t if times.is_meta else times).to(self.t.device, torch.float64)
        return self

    def choose_times(self, t: Times | None) -> tuple[Times, bool]:
        """(times, whether only the last state is returned) for a call with times t, or None."""
        last_only = self.last_only
        if last_only is None:
            last_only = t is None
        if t is None:
            t = self.t
        return t, last_only


def last(y: Any) -> Any:
    """The last of the states (T, ...), which are a tensor, a tuple or a dict."""
    if isinstance(y, torch.Tensor):
        return y[-1]
    if isinstance(y, dict):
        return {key: last(part) for key, part in y.items()}
    return tuple(map(last, y))


def as_field(field: Any, name: str) -> torch.nn.Module:
    """Returns field. Raises TypeError if it is not a module with a forward."""
    if not isinstance(field, torch.nn.Module):
        raise TypeError(
            f"{name} must be an nn.Module, so that pynode finds its parameters, not"
            f" {type(field).__name__}"
        )
    if getattr(field.forward, "__name__", "") == "_forward_unimplemented":
        raise TypeError(
            f"{name}, a {type(field).__name__}, has no forward: give it one with forward(t, y), or"
            " forward(y)"
        )
    return field


def timed(field: torch.nn.Module, inputs: int = 1) -> torch.nn.Module:
    """A module that is called with the time and ``inputs`` further arguments. The forward of field
    may omit the time."""
    if _needed(field) == inputs:
        return Autonomous(field)
    return field


def _needed(field) -> int:
    """The number of arguments that the forward of a module must get."""
    inner = getattr(field, "_orig_mod", field)  # torch.compile wraps the module
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


def check_options(options: Mapping[str, Any]) -> None:
    """Raises TypeError for a name that is not an option of ``solve``, or that the model sets
    itself."""
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
    """field(y, ...), called as field(t, y, ...)."""

    def __init__(self, field: torch.nn.Module) -> None:
        super().__init__()
        self.field = field

    @property
    def pynode_lasting(self) -> torch.nn.Module:
        """The module that stores the compiled steps. The present module can have a shorter
        life."""
        return self.field

    def forward(self, t: torch.Tensor, *inputs: Any) -> torch.Tensor:
        return self.field(*inputs)
