"""What may happen on the way: events found where a condition crosses zero, and changes at preset
times."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .layout import check_values
from .pickling import detached

if TYPE_CHECKING:
    from .layout import State


@dataclass(frozen=True)
class Event:
    """Something that happens where ``condition(t, y, *args)`` crosses zero.

    condition: function or nn.Module; t a 0-d tensor, y in the structure of y0; returns a tensor,
        one value or several, each of which is watched by itself. Must be continuous and, for
        gradients, differentiable. With batched=True it gets rows as f does, t of shape (rows, 1,
        ...), and returns one value or several a row; so does reset.
    direction: 1 from negative to positive only, -1 from positive to negative only, 0 both; in the
    order of integration. terminal: True stops the solve at the first occurrence, a number n at the
    n-th, with the state before any reset. reset: reset(t, y, *args) -> y, the state to go on with.
    The method starts anew there. max_events: so many occurrences are allowed; the next one ends the
    solve with Status.MAX_EVENTS. name: to find it by in ``solution.events`` and in messages.
    priority: a number; of simultaneous events those of higher priority occur first
    (docs/events.md).

    The root is found on the polynomial of the step, to a few units in the last place of t; how near
    that is to the exact time is a matter of rtol and atol. A step is looked at in four places, so
    that several roots in one step are found unless two of them lie within a quarter of it;
    ``max_step`` bounds the steps where that is not enough. A condition that is zero at the start
    does not fire there, but at its next crossing; one that becomes exactly zero fires, whether it
    crosses or stays zero (relu(1 - y)), where it first is. Gradients take its derivative on the
    side that it comes from; where that is zero too, as of a sign, they are refused.

    A reset or a preset change that carries the condition of an event across zero, or to zero, fires
    that event at the same time, with the gradient of that time. Its own reset does not fire it.
    Events at one time occur one after another, and each reset gets what the one before has left:
    higher priority first, then those that became true earlier, then as in the list. Events found in
    a step are simultaneous if their times agree to 8 units in the last place to which a root is
    found.
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
        # A copy: the next call may fill the same memory.
        return self.returned(t, y, args).reshape(-1).clone()

    def returned(self, t: Tensor, y: State, args: tuple) -> Tensor:
        """What the condition returns, a tensor of any shape in the dtype of t; TypeError for other
        things."""
        g = self.condition(t, y, *args)
        if not isinstance(g, torch.Tensor) or not g.dtype.is_floating_point:
            if isinstance(g, torch.Tensor):
                kind = g.dtype
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
class PresetTimes:
    """``reset(t, y, *args) -> y`` applied at each of these times, for instance a dose.

    times: numbers or a 1-D tensor, in units of t, with gradients if it requires them. With
        batched=True every row may have times of its own: (B, P), or B sequences, of which shorter
        ones may be filled up with NaN. A row stops at its own times alone. Those outside the span
        are left out. At the first time of the span the reset is applied to y0, at the last one to
        the last output.
    Several at one time are applied in the order of the list, and before the events of that time.
    """

    times: object
    reset: Callable
    name: str = "preset times"

    def __post_init__(self) -> None:
        if not callable(self.reset):
            raise TypeError("reset must be a function reset(t, y) that returns the new state")
        object.__setattr__(self, "times", as_row_times(self.times, "the times of PresetTimes"))


@dataclass(frozen=True, eq=False)
class EventRecord:
    """One occurrence. t: its time, 0-d float64; y: the state there, before the reset; after: the
    state after it.

    event: number of the event in the list given to solve; index: component of its condition (or of
    the preset times). t, y and after are differentiable.
    """

    t: torch.Tensor
    y: object
    after: object
    event: int
    index: int
    name: str

    def detached(self) -> EventRecord:
        """What pickles as this record without its graph."""
        return replace(self, t=detached(self.t), y=detached(self.y), after=detached(self.after))


def as_events(given: object) -> tuple:
    """(events, presets): each a list of (number, object), from what the user gave as ``events``."""
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


def as_times(times: object, what: str) -> torch.Tensor:
    """(k,) float64 from numbers or a tensor, with their gradient; ValueError or TypeError for other
    things."""
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


def as_row_times(times: object, what: str) -> torch.Tensor:
    """(k,) float64 as by ``as_times``, or (B, P), a line for each row of a batch, NaN where a row
    has fewer times."""
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
    """times (k,); ValueError where they are those of the rows of a batch."""
    if times.dim() == 2:
        raise ValueError(
            f"{what} are {tuple(times.shape)}, a line for each row, which batched=True of the torch"
            " engine serves: pass one list of times here"
        )
    return times
