"""``solve`` of a field that says where it jumps, where a gradient is asked for (core/switches.py).

The sides of its conditions become components of the state, and an event changes them. The user's
functions and results have the state of the field alone.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .core.batched_field import row_layout
from .core.caller import level_of_caller
from .core.events import Event, EventRecord, PresetTimes, RowRecords, as_events, as_row_times
from .core.layout import Layout
from .core.solution import BatchSolution, Solution
from .core.switches import Crossing, HeldField, Settled, Switches, switches_of

if TYPE_CHECKING:
    from .core.arguments import Arguments
    from .core.problem import ODEProblem


def switched_solve(
    run: Callable[[Arguments], Any], arguments: Arguments, problem: ODEProblem
) -> Solution | BatchSolution | None:
    """run(arguments), which is a solve, with stops where f jumps; None if there is nothing to add
    to the arguments: f does not jump, or no gradient can be asked for."""
    # Most fields do not say it, and to find out costs a model some time.
    if not hasattr(type(problem.f), "pynode_switches") or not _wanted(arguments, problem):
        return None
    switches = switches_of(problem.f)
    if switches is None:
        return None
    known = _with_jumps(arguments, problem, switches)
    if not switches.names:
        if known is arguments:
            return None
        return run(known)
    held = _Held(known, problem, switches)
    return held.result(run(held.arguments()))


def warn_of_transforms(problem: ODEProblem) -> None:
    """Warn where torch.func's transforms differentiate a field that jumps."""
    switches = switches_of(problem.f)
    if switches is not None and switches.names:
        warnings.warn(
            f"dy/dt jumps ({', '.join(switches.names)}), and the derivative inside torch.func's"
            " transforms leaves out the times of the jumps: differentiate by backward() or"
            " torch.autograd.grad",
            stacklevel=level_of_caller(),
        )


def _with_jumps(arguments: Arguments, problem: ODEProblem, switches: Switches) -> Arguments:
    """The arguments with the times at which f jumps that are known at the start. The arguments
    themselves if they name these times."""
    if switches.jumps is None:
        return arguments
    start: Any = problem.y0
    if arguments.batched:
        first = problem.row_times(start.device, len(start))[0].unsqueeze(-1)
    else:
        first = problem.times(None)[0]
    times = switches.jumps(first.to(start), start, *problem.args).double()
    times = torch.where(times.isfinite(), times, math.nan)
    given = as_row_times(arguments.jumps, "jumps").to(times.device)
    same = given.shape == times.shape and bool(
        torch.equal(given.detach().nan_to_num(), times.detach().nan_to_num())
    )
    if same or not times.numel():
        return arguments
    if not arguments.batched:
        times = times[~times.isnan()]
    if times.dim() > 1 and not arguments.batched:
        return arguments
    rows = times.shape[:-1] or given.shape[:-1]
    both = torch.cat((given.expand(*rows, -1), times.expand(*rows, -1)), -1)
    return replace(arguments, jumps=both)


def _wanted(arguments: Arguments, problem: ODEProblem) -> bool:
    """Whether a gradient may be asked for, of a state that is one tensor."""
    start = problem.y0
    if not torch.is_grad_enabled() or not isinstance(start, Tensor) or not start.dim():
        return False
    tensors: list[Any] = [start, problem.tspan, arguments.jumps, *problem.args]
    if arguments.params is not None:
        tensors += arguments.params
    elif isinstance(problem.f, torch.nn.Module):
        tensors += problem.f.parameters()
    return any(isinstance(x, Tensor) and x.requires_grad for x in tensors)


@functools.lru_cache(maxsize=16)
def _kept(f: Any, text: str) -> tuple[HeldField, Crossing]:
    """The objects of earlier calls with this f: the engines keep its native code with them."""
    switches = switches_of(f)
    assert switches is not None
    field = HeldField(f, switches)
    return field, Crossing(field)


class _Held:
    """A solve whose state has the sides of m conditions behind the n components of f."""

    def __init__(self, arguments: Arguments, problem: ODEProblem, switches: Switches) -> None:
        self.given = arguments
        self.problem = problem
        self.start: Tensor = problem.y0  # type: ignore[assignment]
        self.size = self.start.shape[-1]
        self.field, self.crossing = _kept(problem.f, switches.text)
        self.more = self.field.more

    def arguments(self) -> Arguments:
        """The arguments of the solve with these components."""
        given = self.given
        # The norm of an error is a mean over the components, and these have no error.
        share = math.sqrt(self.size / (self.size + self.more))
        first, span = self._times()
        settled = Settled(self.field, self._algebraic())
        start = settled.begin(first, span, self.start, self.problem.args)
        own: list[Any] = [Event(self.crossing, direction=-1, reset=settled, name="jump of f")]
        if settled.rests(start) and len(given.jumps):
            # What rests may begin to move where f jumps.
            own.append(PresetTimes(given.jumps, settled))
        changed: dict[str, Any] = {
            "f": self.field,
            "y0": start,
            "t": self.problem.tspan,
            "args": self.problem.args,
            "rtol": given.rtol * share,
            "atol": self._padded(given.atol, share),
            "events": [*self._events(), *own],
            "mass": self._mass(),
            "jac": self._jacobian(),
            "callback": self._of_state(given.callback),
            "domain": self._of_state(given.domain),
            "names": None,
        }
        if given.nonnegative is True:
            changed["nonnegative"] = list(range(self.size))
        return replace(given, **changed)

    def _times(self) -> tuple[Tensor, Tensor]:
        """(the first time, the span): 0-d, or with the rows of a batch."""
        if not self.given.batched:
            times = self.problem.times(None).detach().to(self.start)
            return times[0], times[-1] - times[0]
        times = self.problem.row_times(self.start.device, len(self.start)).detach().to(self.start)
        shape = (-1, *[1] * (self.start.dim() - 1))
        return times[0].reshape(shape), (times[-1] - times[0]).reshape(shape)

    def _padded(self, atol: Any, share: float) -> Any:
        """atol for the further components, too."""
        if isinstance(atol, float):
            return atol * share
        values = torch.as_tensor(atol, dtype=torch.float64) * share
        if not values.dim():
            return float(values)
        more = values.new_ones(*values.shape[:-1], self.more)
        return torch.cat((values, more), -1)

    def _algebraic(self) -> Tensor | None:
        """The components that algebraic equations determine, (n,), or None."""
        if self.problem.mass is None:
            return None
        mass = torch.as_tensor(self.problem.mass)
        if mass.dim() == 2:
            mass = mass.abs().sum(-1)
        return (mass == 0).to(self.start.device)

    def _mass(self) -> Any:
        """The mass matrix, or its diagonal, with ones for the further components."""
        if self.problem.mass is None:
            return None
        mass = torch.as_tensor(self.problem.mass)
        if mass.dim() == 1:
            return torch.cat((mass, mass.new_ones(self.more)))
        return torch.block_diag(mass, torch.eye(self.more).to(mass))

    def _jacobian(self) -> Any:
        given = self.problem.jac
        if given is None:
            return None

        def jacobian(t: Tensor, y: Tensor, *args: Any) -> Tensor:
            own = given(t, y[..., : self.size], *args)
            return torch.nn.functional.pad(own, (0, self.more, 0, self.more))

        return jacobian

    def _of_state(self, function: Any) -> Any:
        """A function of the time and the state, called with the state of f."""
        if function is None:
            return None
        return lambda t, y, *others: function(t, y[..., : self.size], *others)

    def _events(self) -> list[Any]:
        """The user's events."""
        conditions, presets = as_events(self.given.events)
        made = []
        for _, event in sorted([*conditions, *presets], key=lambda pair: pair[0]):
            changes: dict[str, Any] = {}
            if event.reset is not None:
                changes["reset"] = _Reset(event.reset, self.more)
            if isinstance(event, Event):
                changes["condition"] = _Condition(event.condition, self.more)
            made.append(replace(event, **changes))
        self.count = len(made)
        return made

    def result(self, solution: Any) -> Any:
        """The solution without the further components."""
        if isinstance(solution, BatchSolution):
            lists = {row: self._records(found) for row, found in solution.events.lists.items()}
            solution.events = RowRecords(solution.events.rows, lists)
            solution._layout = row_layout(self.problem)[0]
        else:
            solution.events = self._records(solution.events)
            layout = _Cut(self.start, self.problem.state_names())
            layout.units = solution._layout.units
            layout.time_unit = solution.time_unit
            solution._layout = layout
        solution.y = solution.y[..., : self.size]
        return solution

    def _records(self, records: list[EventRecord]) -> list[EventRecord]:
        """The records of the user's events."""
        return [self._cut(record) for record in records if record.event < self.count]

    def _cut(self, record: EventRecord) -> EventRecord:
        """The record without the sides of the conditions in its states."""
        before: Any = record.y
        after: Any = record.after
        return replace(record, y=before[..., : self.size], after=after[..., : self.size])


class _Condition:
    """A condition of the user, called without the last components of the state."""

    def __init__(self, condition: Callable, more: int) -> None:
        self.condition = condition
        self.more = more

    def __call__(self, t: Tensor, y: Tensor, *args: Any) -> Tensor:
        return self.condition(t, y[..., : y.shape[-1] - self.more], *args)


class _Reset:
    """A reset of the user, which leaves the last components of the state as they are."""

    def __init__(self, reset: Callable, more: int) -> None:
        self.reset = reset
        self.more = more

    def __call__(self, t: Tensor, y: Tensor, *args: Any) -> Tensor:
        own = y.shape[-1] - self.more
        return torch.cat((self.reset(t, y[..., :own], *args), y[..., own:]), -1)


class _Cut(Layout):
    """The layout of the state of f. The dense output has more components behind it."""

    def unravel(self, flat: Tensor) -> Any:
        """The state of f, from (..., n) or from (..., n + more)."""
        if flat.shape[-1] == self.size:
            return super().unravel(flat)
        whole = flat.reshape(*flat.shape[:-1], *self.shapes[0][:-1], -1)
        return whole[..., : self.shapes[0][-1]]
