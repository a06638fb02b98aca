"""Tables of doses: what enters a system at given times, at once or over a while."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.unseen_events import refuse_events
from ..integrate import solve
from .dose_tables import DoseTable, read_doses
from .dosed_field import DosedField, kept_field, presets, trimmed
from .inputs import keep


class Schedule(NamedTuple):
    """Doses in the form that ``solve`` takes, for states of one size.

    field: f with the rates of infusion. args: the arguments of field, first the ones of f. events:
    what changes the state. jumps: the times at which infusions begin and end.
    """

    field: Callable
    args: tuple
    events: list
    jumps: Any


class Doses(torch.nn.Module):
    """Doses that a system receives: a bolus at once, an infusion at a constant rate.

    times: (K,) in any order. Or (B, K) with batched=True: each row is a patient, and NaN fills the
        rows that have fewer doses.
    amounts: a number, (K,) or (B, K).
    target: the component of the state that a dose enters, a number or a name of ``states``; for
        all doses, or one for each, (K,) or (B, K).
    duration, rate: of infusions, as the amounts; give one of them. 0 or NaN marks a bolus. With a
        rate, the duration is bioavailability x amount / rate.
    interval, count: a dose is given ``count`` times in all, ``interval`` apart.
    bioavailability: the part of the amount that arrives. lag: how much later, from 0 on. As the
        amounts.
    group: (B,) int, for each row of a batch the row of this table that it receives.
    states: the names of the components, for targets by name. By default ``f.states``, where f has
        them, as a ReactionModel does.

    All numbers can be tensors that require gradients, or parameters. Gradients in times and lag use
    the derivative of the solution at the dose.

    >>> doses = Doses([[0.0, 12.0], [1.0, math.nan]], 100.0, bioavailability=0.8)
    >>> solution = doses.solve(f, y0, t, batched=True)

    Raises ValueError for shapes that do not fit, and for durations and counts that make no sense.
    """

    times: Tensor
    interval: Tensor | None

    def __init__(
        self,
        times: Any,
        amounts: Any,
        *,
        target: Any = 0,
        duration: Any = None,
        rate: Any = None,
        interval: Any = None,
        count: Any = None,
        bioavailability: Any = 1.0,
        lag: Any = 0.0,
        group: Any = None,
        states: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        times = _numbers(times)
        if times.dim() not in (1, 2) or not times.shape[-1]:
            raise ValueError(f"times of doses must be (K,) or (B, K), not {tuple(times.shape)}")
        if duration is not None and rate is not None:
            raise ValueError("an infusion has a duration or a rate: leave out one of them")
        if (interval is None) != (count is None):
            raise ValueError("a repeated dose needs both interval and count")
        shape = tuple(times.shape)
        self.names: tuple[str, ...] = ()
        given = {
            "times": times,
            "amounts": amounts,
            "bioavailability": bioavailability,
            "lag": lag,
            "duration": duration,
            "rate": rate,
            "interval": interval,
        }
        for name, value in given.items():
            self._keep(name, value, shape)
        self.target = _targets(target, shape)
        self.states: tuple[str, ...] | None = None
        if states is not None:
            self.states = tuple(states)
        self.group: Tensor | None = None
        if group is not None:
            self.group = torch.as_tensor(group, dtype=torch.int64)
            if times.dim() == 1:
                raise ValueError("group chooses rows of times (B, K), and these are (K,)")
        self.repeats = _repeats(count, shape)

    def _keep(self, name: str, value: Any, shape: tuple[int, ...]) -> None:
        """Keep a number of the doses as a parameter if it is one, otherwise as a buffer."""
        if value is None:
            self.register_buffer(name, None)
            return
        value = _numbers(value)
        if not _fits(value, shape):
            raise ValueError(
                f"{name} of shape {tuple(value.shape)} does not fit doses at times {shape}"
            )
        keep(self, name, value)

    @classmethod
    def from_table(cls, table: Any, *, states: Sequence[str] | None = None, **more: Any) -> Doses:
        """Doses from a table as pharmacometricians write it.

        table: the path of a CSV file, a pandas DataFrame, or a dict of columns. id, time and amt
            are needed; rate or duration, ii, addl, cmt and evid are read if they are there, in any
            case. Rows without an amount, and those with evid 0, are observations and are left out.
            cmt counts from 1, or is the name of a state; where it is missing, the dose enters
            state 1.
        states, more: as for Doses (bioavailability, lag).

        ``groups`` has the ids, in the order of their first rows; row b of a batch is patient
        groups[b]. Raises ValueError for columns and records that are not supported, by their name.
        """
        found: DoseTable = read_doses(table)
        made = cls(**found.columns(), states=states, **more)
        made.names = found.groups
        return made

    @property
    def groups(self) -> tuple[str, ...]:
        """The ids of the rows of the table, if it was read from one."""
        return self.names

    def solve(self, f: Callable, y0: Tensor, t: Any, *, args: Any = (), **options: Any) -> Any:
        """``pynode.solve`` of f, whose state receives the doses. y0: (n,), or (B, n) with
        batched=True. options: of ``solve``. Returns a Solution or BatchSolution."""
        plan = self.schedule(f, y0, args=tuple(args), batched=bool(options.get("batched")))
        own = len(plan.args) - len(tuple(args))
        options["events"] = [*plan.events, *trimmed(options.pop("events", ()), own)]
        if plan.jumps is not None:
            options["jumps"] = _joined(options.get("jumps"), plan.jumps)
        by_row = options.get("by_row")
        if isinstance(by_row, bool):
            by_row = [by_row and isinstance(x, Tensor) for x in args]
        if by_row is not None:
            options["by_row"] = [*by_row, *[True] * own]
        return solve(plan.field, y0, t, args=plan.args, **options)

    def schedule(
        self, f: Callable, y0: Tensor, *, args: tuple = (), batched: bool = False
    ) -> Schedule:
        """The doses as arguments of ``solve``. y0: (n,), or (B, n) if batched."""
        refuse_events(f, "a dose")
        batch = None
        if batched:
            batch = len(y0)
        doses = self._expanded(f, y0.shape[-1], batch)
        events: list[Any] = []
        own: list[Tensor] = []
        field: Any = f
        jumps = None
        instant = ~doses.lasting
        if bool(instant.any()):
            bolus = torch.where(instant.unsqueeze(-1), doses.loads, 0.0)
            times = torch.where(instant, doses.times, torch.nan)
            events += presets(times, len(own) + 1, "dose")
            own.append(bolus)
        if bool(doses.lasting.any()):
            knots, steps = _infusions(doses)
            rates = steps.cumsum(-2)
            start = torch.full_like(knots[..., :1], -math.inf)
            known = knots.detach()
            jumps = known.masked_fill(known.isinf(), math.nan)
            if jumps.dim() == 1:
                jumps = jumps[~jumps.isnan()]
            if knots.requires_grad:
                # A later knot takes away what flows in between. The shift is 0, with a gradient.
                shift = torch.where(known.isinf(), 0.0, knots - known)
                events += presets(jumps, len(own) + 1, "rate of infusion")
                own.append(-steps * shift.unsqueeze(-1))
            own.append(torch.cat((start, known), -1))
            own.append(torch.nn.functional.pad(rates, (0, 0, 1, 0)))
        if own:
            field = self._field(f, len(own))
        own = [tensor.to(y0) for tensor in own]
        events = [replace(event, reset=event.reset.among(len(own))) for event in events]
        return Schedule(field, (*args, *own), events, jumps)

    @staticmethod
    def _field(f: Callable, own: int) -> DosedField:
        """f with the doses."""
        infused = own > 1
        if isinstance(f, torch.nn.Module):
            return kept_field(f, own, infused)
        return DosedField(f, own, infused)

    def _expanded(self, f: Callable, size: int, batch: int | None) -> _Expanded:
        """All doses, with repeated ones one by one."""
        shape = tuple(self.times.shape)
        place, number, missing = (part.to(self.times.device) for part in self.repeats)
        numbers: dict[str, Any] = {}
        for name in ("times", "amounts", "bioavailability", "lag", "duration", "rate", "interval"):
            value = getattr(self, name)
            if value is not None:
                value = value.expand(shape)[..., place]
            numbers[name] = value
        _check_lag(numbers["times"].detach(), numbers["lag"].detach())
        times = numbers["times"] + numbers["lag"]
        if self.interval is not None:
            _check_interval(numbers["interval"].detach(), number, missing)
            # An interval can be NaN where a dose is not repeated.
            later = torch.where(number > 0, numbers["interval"], 0.0)
            times = times + number * later
        times = torch.where(missing, torch.nan, times)
        present = ~times.isnan()
        amounts = torch.where(present, numbers["amounts"], 0.0) * numbers["bioavailability"]
        duration = _durations(numbers, amounts, present)
        units = torch.nn.functional.one_hot(self._places(f, size), size).to(amounts)
        parts = [times, amounts.unsqueeze(-1) * units[..., place, :], duration]
        return _Expanded(*(self._of_rows(part, batch) for part in parts))

    def _places(self, f: Callable, size: int) -> Tensor:
        """The component of each dose, in the shape of times."""
        states = self.states or getattr(f, "states", None)
        flat = []
        for target in self.target.flat:
            if isinstance(target, str):
                if states is None or target not in states:
                    raise ValueError(
                        f"there is no state {target!r} for a dose: name the components in states, "
                        "or give their numbers"
                    )
                target = list(states).index(target)
            if not 0 <= int(target) < size:
                raise ValueError(f"a dose enters component {target}, and the state has {size}")
            flat.append(int(target))
        return torch.tensor(flat).reshape(self.times.shape)

    def _of_rows(self, part: Tensor, batch: int | None) -> Tensor:
        """A part of the table for the rows of a batch."""
        grouped = self.times.dim() == 2
        if batch is None:
            if grouped:
                raise ValueError(
                    f"these are doses of {len(self.times)} rows: pass batched=True, and a y0 of"
                    " (B, n)"
                )
            return part
        if not grouped:
            return part.expand(batch, *part.shape)
        if self.group is not None:
            part = part[self.group.to(part.device)]
        if len(part) != batch:
            raise ValueError(
                f"there are doses for {len(part)} rows, but y0 has {batch}: give a row of doses "
                "for each, or choose them by group"
            )
        return part

    def extra_repr(self) -> str:
        count = int((~self.times.isnan()).sum())
        if self.times.dim() == 2:
            return f"{count} records for {len(self.times)} rows"
        return f"{count} records"


class _Expanded(NamedTuple):
    """times: (..., E), NaN for missing doses. loads: (..., E, n) what enters. duration: (..., E), 0
    for a bolus."""

    times: Tensor
    loads: Tensor
    duration: Tensor

    @property
    def lasting(self) -> Tensor:
        """Which doses are infusions, (..., E)."""
        return self.duration.detach() > 0


def _infusions(doses: _Expanded) -> tuple[Tensor, Tensor]:
    """(sorted times at which rates change (..., 2 E), infinite where there are none; the changes
    (..., 2 E, n))."""
    lasting = doses.lasting
    start = torch.where(lasting, doses.times, torch.inf)
    length = torch.where(lasting, doses.duration, 1.0)
    knots = torch.cat((start, start + length), -1)
    rate = torch.where(lasting.unsqueeze(-1), doses.loads, 0.0) / length.unsqueeze(-1)
    steps = torch.cat((rate, -rate), -2)
    order = knots.detach().argsort(dim=-1, stable=True)
    knots = knots.gather(-1, order)
    return knots, steps.gather(-2, order.unsqueeze(-1).expand(steps.shape))


def _check_lag(times: Tensor, lag: Tensor) -> None:
    """Refuse a lag that would move a dose before its time, or lose it."""
    lag = lag[~times.isnan()]
    if bool((lag < 0).any()):
        raise ValueError(
            f"a lag of {float(lag.min()):g} moves a dose before its time: a lag is a time from 0"
            " on, as in NONMEM. Give the earlier times in times, and write a lag that is learned"
            " as the exponential of a parameter"
        )
    if bool(lag.isnan().any()):
        raise ValueError("the lag of a dose is NaN: write 0 where a dose arrives at its time")


def _check_interval(interval: Tensor, number: Tensor, missing: Tensor) -> None:
    """Refuse an interval that puts repetitions at no time, or all at one. number: (E,) of the
    repetition. missing: (..., E), doses that are not given."""
    repeated = (number > 0) & ~missing
    if not bool((interval[repeated.expand_as(interval)] > 0).all()):
        raise ValueError("the interval between repeated doses is a positive time")


def _durations(numbers: dict[str, Any], amounts: Tensor, present: Tensor) -> Tensor:
    """The duration of each dose, 0 for a bolus."""
    duration = numbers["duration"]
    rate = numbers["rate"]
    if rate is not None:
        flowing = present & (rate.detach() > 0)
        duration = torch.where(flowing, amounts / torch.where(flowing, rate, 1.0), 0.0)
    if duration is None:
        return torch.zeros_like(amounts)
    known = duration.detach()
    if bool((known < 0).any()) or (rate is not None and bool((rate.detach() < 0).any())):
        raise ValueError("rates and durations of infusions are positive, or 0 or NaN for a bolus")
    return torch.where(present & (known > 0), duration, 0.0)


def _numbers(value: Any) -> Tensor:
    """Numbers as float64, with gradients. None among them is NaN."""
    if isinstance(value, Tensor):
        if value.dtype.is_floating_point:
            return value
        return value.to(torch.float64)
    return torch.as_tensor(value, dtype=torch.float64)


def _fits(value: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a value can be broadcast to a shape."""
    if value.dim() > len(shape):
        return False
    pairs = zip(reversed(value.shape), reversed(shape), strict=False)
    return all(own in (1, wanted) for own, wanted in pairs)


def _targets(target: Any, shape: tuple[int, ...]) -> Any:
    """The targets as an object array in the shape of times."""
    if isinstance(target, Tensor):
        target = target.tolist()
    return np.broadcast_to(np.array(target, dtype=object), shape)


def _repeats(count: Any, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """(place (E,) of each dose in the table, number (E,) of the repetition, missing (..., E):
    whether a row does not get the dose)."""
    counts = torch.ones(shape, dtype=torch.int64)
    whole = True
    if count is not None:
        given = torch.as_tensor(count)
        counts = given.to(torch.int64).expand(shape)
        whole = bool((given == given.round()).all())
    if not whole or bool((counts < 1).any()):
        raise ValueError("count is how often a dose is given: a whole number, at least 1")
    most = torch.atleast_2d(counts).amax(0)
    place = torch.arange(shape[-1]).repeat_interleave(most)
    firsts = most.cumsum(0) - most
    number = torch.arange(len(place)) - firsts[place]
    return place, number, number >= counts[..., place]


def _joined(given: Any, own: Tensor) -> Tensor:
    """Jumps of the user and of infusions, in the shape of the latter."""
    if given is None or not len(given):
        return own
    other = torch.as_tensor(given, dtype=own.dtype)
    if own.dim() == 2 and other.dim() == 1:
        other = other.expand(len(own), -1)
    return torch.cat((own, other), -1)
