"""A simulation with events: one solve for each piece between two times at which something happens.

The solver watches the differences in the triggers (triggers.py) and stops where one crosses zero.
Crossings that depend on nothing but the time are known beforehand. Gradients flow through the chain
of solves, and through the times of the stops.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...backends.packages import missing_for_native
from ...core.stats import Stats
from ...integrate import solve
from ...translate.refusal import TranslationRefused
from .assignments import Assignments
from .conditions import frozen
from .consistent import consistent, equilibrium
from .event_queue import EventQueue, Pending
from .simulation import Occurrence, Simulation
from .triggers import Triggers, signs_of

if TYPE_CHECKING:
    import numpy as np

    from .model import ReactionModel

# More events than this at one time are an endless cascade.
_MOST_AT_ONCE = 1000
# The least number of steps where triggers depend on the time in a way that is not linear.
_SHORT_STEPS = 200


def simulate(
    model: ReactionModel,
    t: Sequence[float] | np.ndarray | Tensor,
    p: Tensor | None = None,
    y0: Tensor | None = None,
    seed: int = 0,
    triggers: Sequence[bool] | None = None,
    open_end: bool = False,
    **options: Any,
) -> Simulation:
    """See ``ReactionModel.simulate``."""
    times = torch.as_tensor(t, dtype=torch.float64)
    if times.dim() != 1 or len(times) < 1 or bool((times.diff() <= 0).any()):
        raise ValueError("t must be times that increase, (T,)")
    if p is None:
        p = model.values
    if p.dim() != 1:
        raise ValueError(
            f"simulate takes one vector of constants, (p,), not {tuple(p.shape)}: call it for each"
            " row, or solve a model without events with batched=True"
        )
    if y0 is None:
        y0 = model.initial(p, times[0])
    course = _Course(model, times, p, seed, options)
    if triggers is not None:
        course.truths = list(triggers)
    course.open_end = open_end
    return course.run(y0)


class _Course:
    """One simulation while it runs."""

    def __init__(
        self, model: ReactionModel, times: Tensor, p: Tensor, seed: int, options: dict
    ) -> None:
        self.model = model
        # The events happen here, between solves.
        self.field = model.without_events()
        self.p = p
        self.options = options
        self.outputs = times
        self.output_times = times.tolist()
        self.found: list[Tensor] = []
        self.log: list[Occurrence] = []
        self.queue = EventQueue()
        self.actions = [Assignments(model, event) for event in model.events]
        longest = times.detach().abs().max().item()
        self.triggers: Triggers | None = None
        if model.events:
            self.triggers = Triggers(model, p, longest)
        self.random = random.Random(seed)
        self.still = frozen(model.network) == set(model.states)
        # Which triggers are true; before the first time, their initial values.
        self.truths = [event.initial for event in model.events]
        self.open_end = False
        if self.triggers is not None and self.triggers.watched and model.states:
            self.still = False
        self.longest_step = (times[-1] - times[0]).item() / _SHORT_STEPS
        # Times closer than this are one.
        self.span = 1e-12 * max(1.0, longest)
        self.signs: list[int] = []
        # Of all solves.
        self.stats = Stats()
        self.method = ""
        self.backend = ""

    def run(self, y: Tensor) -> Simulation:
        """The whole course from the state at the first time."""
        t = self.outputs[0].to(y.dtype)
        end = self.output_times[-1]
        self._refuse_missing(t, y)
        y = self._consistent(t, y)
        if self.triggers is not None:
            y = self._begin(t, y)
        self._record(t.item(), y)
        while t.item() < end:
            stop, crossed = self._next_stop(t, y)
            t, y, more = self._advance(t, y, stop)
            if more is not None:
                crossed = more
            last = self.open_end and float(t) >= end - self.span
            if self.triggers is not None and not last:
                y = self._settle(t, y, crossed)
            self._record(t.item(), y)
        states = torch.stack(self.found)
        truths = tuple(self.truths)
        ended = (self.stats, self.method, self.backend)
        return Simulation(self.model, self.outputs, states, self.p, self.log, truths, *ended)

    def _refuse_missing(self, t, y):
        """Raise ValueError where dy/dt is unknown because the file leaves out values."""
        model = self.model
        missing = [name for name, value in zip(model.constants, self.p.tolist()) if value != value]
        if not missing or not bool(model(t, y, self.p).isnan().any()):
            return
        needed = model.network.needed(list(model.derivatives.values()))
        missing = [name for name in missing if name in needed]
        if missing:
            raise ValueError(
                f"the file gives no value for {', '.join(missing)}, on which the course depends:"
                " set their components of p"
            )

    def _record(self, time, y):
        """Take y as the state at all outputs up to a time that have no state yet."""
        while len(self.found) < len(self.outputs):
            wanted = self.output_times[len(self.found)]
            if wanted > time + self.span:
                return
            self.found.append(y)

    # -------------------------------------------------------------- integration

    def _next_stop(self, t, y):
        """(the next time at which something is known to happen, the differences that cross zero
        there)."""
        stop = self.outputs[-1]
        crossed: list[int] = []
        due = self.queue.next_due()
        if due is not None and due.item() < stop.item():
            stop = due
        if self.triggers is None:
            return stop, crossed
        if any(self.signs[i] == 0 for i in self.triggers.watched):
            # What rests at zero may begin to move where dy/dt jumps.
            stop = self._first_jump(t, y, stop)
        for time, number in self.triggers.planned_times(t, y):
            value = time.item()
            if not value > t.item() + self.span:
                continue
            if value < stop.item() - self.span:
                stop = time
                crossed = [number]
            elif value <= stop.item() + self.span:
                crossed.append(number)
        return stop, crossed

    def _first_jump(self, t, y, stop):
        """The first time after t at which dy/dt jumps, or the stop if that is earlier."""
        for time in self.model.jumps(self.p, t, y).unbind():
            if t.item() + self.span < time.item() < stop.item():
                stop = time
        return stop

    def _advance(self, t, y, stop):
        """Integrate to a stop, or to the first crossing before it: (time, state, the differences
        that cross, or None at the stop). Outputs on the way are recorded."""
        start = t.item()
        end = stop.item()
        if end <= start + self.span:
            return stop, y, None
        first = bisect.bisect_right(self.output_times, start + self.span)
        last = bisect.bisect_left(self.output_times, end - self.span)
        wanted = self.output_times[first:last]
        if self.still:
            for _ in wanted:
                self.found.append(y)
            return stop, y, None
        times = torch.stack(
            [t.double(), *torch.tensor(wanted, dtype=torch.float64).unbind(), stop.double()]
        )
        solution = self._solve(y, times)
        self.stats.add(solution.stats)
        self.method = solution.method
        self.backend = solution.backend
        inner = len(solution.t) - 1 - int(not solution.events)
        self.found.extend(solution.y[1 : 1 + inner].unbind())
        if solution.events:
            record = solution.events[-1]
            return record.t.to(y.dtype), record.y, [self.triggers.watched[record.index]]
        return stop.to(y.dtype), solution.y[-1], None

    def _refuse_infinite(self, t, y):
        """Raise ValueError where an event has made a state infinite or NaN."""
        for last in reversed(self.log):
            if bool(y.isfinite().all()):
                return
            lost = [
                name for name, value in zip(self.model.states, last.after) if not value.isfinite()
            ]
            if not lost or not bool(last.before.isfinite().all()):
                continue
            raise ValueError(
                f"the event {last.name} at the time {t.item():g} makes {', '.join(lost)} infinite"
                " or NaN: look for a division by zero or a missing value in what it assigns"
            )

    def _solve(self, y, times):
        self._refuse_infinite(times[0], y)
        options = dict(self.options)
        args = (self.p,)
        if self.triggers is not None and self.triggers.watched:
            if self.triggers.need_short_steps:
                options.setdefault("max_step", self.longest_step)
            options["events"] = self.triggers.event()
            args = (self.triggers.constants(self.signs),)
        jumps = self.model.jumps(self.p, times[0], y)
        if len(jumps):
            options["jumps"] = jumps
        if self.model.mass is not None:
            options["mass"] = self.model.mass
            options["consistent"] = "solve"
        if "backend" in options or missing_for_native():
            return solve(self.field, y, times, args=args, **options)
        try:
            return solve(self.field, y, times, args=args, backend="native", **options)
        except TranslationRefused:
            self.options["backend"] = "torch"
            return solve(self.field, y, times, args=args, backend="torch", **options)

    def _consistent(self, t, y):
        """The state with fast reactions at equilibrium and algebraic equations solved."""
        if self.model.has_fast_reactions:
            y = equilibrium(self.model, t, y, self.p)
        if self.model.mass is not None:
            y = consistent(self.model, t, y, self.p)
        return y

    # ------------------------------------------------------------------ events

    def _begin(self, t, y):
        """Events at the first time: triggers compare with the values before it."""
        return self._settle(t, y, (), first=True)

    def _settle(self, t, y, crossed, first=False):
        """All that happens at one time, where differences cross zero. Returns the state after it.

        Twice: with the crossing differences at zero, and with their signs just after.
        """
        triggers = self.triggers
        values = triggers.values(t, y)
        after = triggers.crossed_now(t, y, self.span, crossed)
        signs = signs_of(values)
        if not first:
            for i, sign in after.items():
                signs[i] = self.signs[i]
                if sign != self.signs[i]:
                    signs[i] = 0
        count = 0
        while True:
            self.signs = signs
            y, changed = self._react(t, y, first)
            first = False
            values = triggers.values(t, y)
            if changed:
                count += changed
                self._refuse_cascade(count, t)
                after = triggers.crossed_now(t, y, self.span, ())
            signs = [after.get(i, sign) for i, sign in enumerate(signs_of(values))]
            if not changed and signs == self.signs:
                return y

    def _refuse_cascade(self, count, t):
        if count > _MOST_AT_ONCE:
            raise ValueError(
                f"more than {_MOST_AT_ONCE} events happen at the time {t.item():g}: they trigger"
                " one another without end"
            )

    def _react(self, t, y, first=False):
        """Trigger events by the signs now, and let all that is due happen: (state, how many)."""
        count = 0
        self._trigger(t, y)
        while True:
            due = self.queue.due(t.item() + self.span)
            if not due:
                return y, count
            item = self._chosen(due, t, y)
            self.queue.remove(item)
            before = y
            y = self._happen(item, t, y)
            count += 1
            self._refuse_cascade(count, t)
            self.signs = self._signs_after(t, before, y)
            self._trigger(t, y)

    def _signs_after(self, t, before, y):
        """The signs after an event. Only differences that it changed get new ones."""
        old = self.triggers.values(t, before)
        new = self.triggers.values(t, y)
        signs = signs_of(new)
        for i, (a, b) in enumerate(zip(old, new)):
            if a == b or (math.isnan(a) and math.isnan(b)):
                signs[i] = self.signs[i]
        return signs

    def _trigger(self, t, y):
        """Note which triggers became true or false."""
        truths = self.triggers.truths(self.signs)
        for number, (was, now) in enumerate(zip(self.truths, truths)):
            if was and not now and not self.model.events[number].persistent:
                self.queue.withdraw(number)
            if now and not was:
                self._schedule(number, t, y)
        self.truths = truths

    def _schedule(self, number, t, y):
        action = self.actions[number]
        event = self.model.events[number]
        delay = action.delay(t, y, self.p)
        due = t
        if delay is not None:
            due = t + delay
        values = None
        if event.from_trigger:
            values = action.values(t, y, self.p)
        self.queue.add(number, due, values)

    def _chosen(self, due: list[Pending], t, y) -> Pending:
        """The event of the highest priority now among the events that are due.

        SBML wants a random one of equal priority. Events without a priority happen in the order in
        which they were triggered.
        """
        if len(due) == 1:
            return due[0]
        ranks = [self.actions[item.event].priority(t, y, self.p) for item in due]
        best = [item for item, rank in zip(due, ranks) if rank == max(ranks)]
        if len(best) == 1 or max(ranks) == -math.inf:
            return best[0]
        return self.random.choice(best)

    def _happen(self, item, t, y):
        action = self.actions[item.event]
        values = item.values
        if values is None:
            values = action.values(t, y, self.p)
        new = self._consistent(t, action.applied(t, y, self.p, values))
        self.log.append(Occurrence(action.event.name, t, y, new, item.event))
        return new
