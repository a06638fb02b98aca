"""Events: zero crossings of a condition, and changes at preset times."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .in_kind import as_arrays
from .layout import check_values
from .pickling import detached
from .suggestions import SuggestsOptions

if TYPE_CHECKING:
    from .layout import State


@dataclass(frozen=True)
class Event(SuggestsOptions):
    """Something that happens when ``condition(t, y, *args)`` crosses zero.

    condition: function or nn.Module. t is a 0-d tensor and y has the structure of y0. It returns a
        tensor of one or several values, and pynode watches each value separately. It must be
        continuous and, for gradients, differentiable. With batched=True it receives rows as f does,
        t of shape (rows, 1, ...), and returns one or several values for each row; so does reset.
    direction: 1 for crossings from negative to positive, -1 for crossings from positive to
        negative, 0 for both, in the order of integration.
    terminal: True stops the solve at the first occurrence, a number n at the n-th. The last state
        is the state before a reset.
    reset: reset(t, y, *args) -> y, the state after the event. The method starts anew there.
    max_events: the number of occurrences allowed. The next one ends the solve with
        Status.MAX_EVENTS.
    name: the name in ``solution.events`` and in messages.
    priority: a number. Of simultaneous events, those of higher priority occur first
        (docs/events.md).

    pynode finds the root on the polynomial of the step, to a few units in the last place of t. The
    distance from this root to the exact time depends on rtol and atol. pynode checks a step at four
    points. It finds several roots in one step unless two of them lie within a quarter of it; if
    this is not enough, bound the steps with ``max_step``. A condition that is zero at the start
    does not fire there, but at its next crossing. A condition that becomes exactly zero fires at
    the first zero, whether it crosses or stays zero (relu(1 - y)). Gradients use the derivative of
    the condition on the side before the event. If this derivative is zero, as for a sign, pynode
    refuses them.

    A reset or a preset change can move the condition of another event across zero, or to zero. That
    event then fires at the same time, with the gradient of that time. A reset does not fire its own
    event. Events at one time occur one after another, and each reset receives the state that the
    previous one returned: first by higher priority, then by the time at which they became true,
    then by the order of the list. Events in a step are simultaneous if their times agree to 8 units
    in the last place.
    """

    condition: Callable
    direction: int = 0
    terminal: bool | int = False
    reset: Callable | None = None
    max_events: int | None = None
    name: str | None = None
    priority: float = 0

    def __post_init__(self) -> None:
        if not callable(self.condition):
            raise TypeError(
                f"condition must be a function condition(t, y), not {type(self.condition).__name__}"
            )
        if self.reset is not None and not callable(self.reset):
            raise TypeError("reset must be a function reset(t, y) that returns the new state")
        if self.direction not in (-1, 0, 1):
            raise ValueError(
                f"direction must be -1 (falling), 0 (both) or 1 (rising), not {self.direction!r}"
            )
        if not isinstance(self.terminal, int) or self.terminal < 0:
            raise ValueError(
                "terminal must be True, False or the number of the occurrence, not"
                f" {self.terminal!r}"
            )
        if self.max_events is not None and self.max_events < 1:
            raise ValueError(f"max_events must be at least 1, not {self.max_events!r}")
        if not isinstance(self.priority, (int, float)) or math.isnan(self.priority):
            raise ValueError(f"priority must be a number, not {self.priority!r}")
        if self.name is None:
            object.__setattr__(
                self, "name", getattr(self.condition, "__name__", type(self.condition).__name__)
            )

    def value(self, t: Tensor, y: State, args: tuple) -> Tensor:
        """The condition, (k,), at t (0-d) and y (in the structure of y0)."""
        # A copy, because the next call may write into the same memory.
        return self.returned(t, y, args).reshape(-1).clone()

    def returned(self, t: Tensor, y: State, args: tuple) -> Tensor:
        """The result of the condition: a tensor of any shape, in the dtype of t. Raise TypeError
        for other results."""
        g = self.condition(t, y, *args)
        if not isinstance(g, torch.Tensor) or not g.dtype.is_floating_point:
            if isinstance(g, torch.Tensor):
                kind = str(g.dtype)
            else:
                kind = type(g).__name__
            raise TypeError(
                f"the condition of event {self.name!r} must return a floating-point tensor to find"
                f" zeros of, not {kind}"
            )
        check_values(g, f"what the condition of event {self.name!r} returned")
        if g.dtype != t.dtype:
            raise TypeError(
                f"the condition of event {self.name!r} returned {g.dtype} for a state of {t.dtype},"
                " too coarse or too fine for its zeros: convert it to the dtype of y"
            )
        return g


@dataclass(frozen=True, eq=False)
class PresetTimes(SuggestsOptions):
    """``reset(t, y, *args) -> y`` applied at each of these times, for instance a dose.

    times: numbers or a 1-D tensor, in units of t. They have gradients if the tensor requires them.
        With batched=True every row can have its own times: (B, P), or B sequences; NaN fills
        shorter rows. A row stops only at its own times. pynode ignores times outside the span. At
        the first time of the span the reset changes y0, at the last time it changes the last
        output.
    reset: reset(t, y, *args) -> y, the state after the time.
    name: the name in ``solution.events``.

    Several resets at one time apply in the order of the list, and before the events of that time.
    """

    times: Any
    reset: Callable
    name: str = "preset times"

    def __post_init__(self) -> None:
        if not callable(self.reset):
            raise TypeError("reset must be a function reset(t, y) that returns the new state")
        object.__setattr__(self, "times", as_row_times(self.times, "the times of PresetTimes"))


@dataclass(frozen=True, eq=False)
class EventRecord:
    """One occurrence of an event.

    t: its time, 0-d float64.
    y: the state before the reset.
    after: the state after the reset.
    event: the number of the event in the list given to solve.
    index: the component of its condition, or of the preset times.
    name: the name of the event.

    t, y and after are differentiable.
    """

    t: torch.Tensor
    y: object
    after: object
    event: int
    index: int
    name: str

    def detached(self) -> EventRecord:
        """The record in a form that pickles without its graph."""
        return replace(self, t=detached(self.t), y=detached(self.y), after=detached(self.after))

    def with_arrays(self) -> EventRecord:
        """The record with NumPy arrays."""
        return replace(self, t=as_arrays(self.t), y=as_arrays(self.y), after=as_arrays(self.after))


class RowRecords(Sequence[Any]):
    """The EventRecords of the rows of a batch: a sequence of lists, one for each row. A row without
    an event costs no memory."""

    def __init__(self, rows: int, lists: dict[int, list[EventRecord]] | None = None) -> None:
        self.rows = rows
        self.lists = lists or {}

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(self.rows))]
        number = operator.index(row)
        if not -self.rows <= number < self.rows:
            raise IndexError(f"there is no row {number}: the batch has {self.rows} rows")
        return self.lists.setdefault(number % self.rows, [])

    def detached(self) -> RowRecords:
        """The records in a form that pickles without their graphs."""
        lists = {
            row: [record.detached() for record in records] for row, records in self.lists.items()
        }
        return RowRecords(self.rows, lists)

    def with_arrays(self) -> RowRecords:
        """The records with NumPy arrays."""
        lists = {row: [record.with_arrays() for record in own] for row, own in self.lists.items()}
        return RowRecords(self.rows, lists)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return list(self) == list(other)

    # It changes, as a list does.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


def as_events(given: Any) -> tuple:
    """Return (events, presets) from the user's ``events``: each is a list of (number, object)."""
    if isinstance(given, (Event, PresetTimes)) or callable(given):
        given = [given]
    else:
        given = list(given)
    events = []
    presets = []
    for number, item in enumerate(given):
        if isinstance(item, PresetTimes):
            presets.append((number, item))
        elif isinstance(item, Event):
            events.append((number, item))
        elif callable(item):
            events.append((number, Event(item)))
        else:
            kind = type(item).__name__
            raise TypeError(
                f"events must be Event, PresetTimes or functions condition(t, y), not {kind}"
            )
    return events, presets


def as_times(times: Any, what: str) -> torch.Tensor:
    """Times as (k,) float64 with their gradient, from numbers or a tensor. Raise ValueError or
    TypeError for other input."""
    if isinstance(times, tuple) and not times:
        return torch.empty(0, dtype=torch.float64)
    try:
        if not isinstance(times, torch.Tensor):
            times = torch.tensor([float(t) for t in times], dtype=torch.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"{what} must be a sequence of numbers or a 1-D tensor, not {times!r}"
        ) from None
    if times.dim() != 1 or not all(math.isfinite(t) for t in times.detach().tolist()):
        raise ValueError(f"{what} must be one-dimensional and finite")
    return times.to(torch.float64)


def as_row_times(times: Any, what: str) -> torch.Tensor:
    """Times as (k,) float64 as by ``as_times``, or (B, P): a row for each row of a batch, with NaN
    for missing times."""
    lines = isinstance(times, (list, tuple)) and times and all(_is_sequence(line) for line in times)
    if lines:
        parts = [as_times(line, what) for line in times]
        times = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=math.nan)
    elif not isinstance(times, torch.Tensor) or times.dim() != 2:
        return as_times(times, what)
    if bool(torch.isinf(times.detach()).any()):
        raise ValueError(f"{what} must be finite, or NaN where a row has fewer of them")
    return times.to(torch.float64)


def _is_sequence(line) -> bool:
    return isinstance(line, (list, tuple)) or (isinstance(line, torch.Tensor) and line.dim() == 1)


def common_times(times: Tensor, what: str) -> torch.Tensor:
    """Return times (k,). Raise ValueError if they differ between the rows of a batch."""
    if times.dim() == 2:
        raise ValueError(
            f"{what} are {tuple(times.shape)}, a line for each row, which batched=True of the torch"
            " engine serves: pass one list of times here"
        )
    return times
