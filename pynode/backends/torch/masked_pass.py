"""One pass of masked_loop.py: a fixed sequence of operations on all rows, without a look at their
numbers. The rules are the same as in batched_loop.py."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...core.arithmetic import Tensors
from ...core.row_control import endings, is_stuck, released, short_of, shortened_sizes, too_small
from ...core.row_statuses import NUMBERS, RUNNING
from ...core.step_control import next_step
from ...methods.batched.masked import Clock

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.norm import RowTolerance
    from ...core.options import Options
    from ...methods.batched.masked import Interpolant, Outcome, Plan


class RowStates(NamedTuple):
    """What a pass changes, (m, ...) for m rows.

    t, h: the times and the next steps; y: (m, n); accepted, rejected: counts; status: int8, as in
    core/row_statuses.py; place: of the next output; waiting: whether it lies in the last step, and
    no further step begins before it is written. The last accepted step went from ``began`` by
    ``size``. doubtful: whether a Jacobian was not finite. inner: of the family of methods
    (methods/batched/masked.py), a tuple of tensors.
    """

    t: Tensor
    h: Tensor
    y: Tensor
    accepted: Tensor
    rejected: Tensor
    status: Tensor
    place: Tensor
    waiting: Tensor
    began: Tensor
    size: Tensor
    doubtful: Tensor
    inner: Any

    def select(self, rows: Tensor) -> RowStates:
        """The states of some rows, in the order of the index."""
        kept: list[Any] = [part.index_select(0, rows) for part in self[:-1]]
        kept.append(self.inner.select(rows))
        return RowStates(*kept)

    def copy_(self, other: RowStates) -> None:
        """Write other states into the tensors of these."""
        for old, new in zip((*self[:-1], *self.inner), (*other[:-1], *other.inner), strict=True):
            old.copy_(new)

    def alive(self) -> Tensor:
        """Mask of the rows that still have steps or outputs before them."""
        return (self.status == RUNNING) | self.waiting


class RowConstants(NamedTuple):
    """What a pass does not change, (m,): row: the numbers of the rows; their ends, the directions
    of time, the least |h|, and the limits of steps."""

    row: Tensor
    end: Tensor
    direction: Tensor
    least: Tensor
    limit: Tensor

    def select(self, rows: Tensor) -> RowConstants:
        """The same of some rows, in the order of the index."""
        return RowConstants(*(part.index_select(0, rows) for part in self))


class Tables:
    """The outputs of a solve of B rows with T output times.

    times: ((T + slots + 1) B,), with infinities after the last outputs. ys, slopes: (T + 1, B, n);
    the last place takes what no one wants. slopes: dy/dt, or None. slots: the most outputs that a
    row writes at once, also ``most``.
    """

    def __init__(self, times: Tensor, ys: Tensor, slopes: Tensor | None, slots: int) -> None:
        self.times = times
        self.ys = ys
        self.slopes = slopes
        self.count = len(ys) - 1
        self.batch = ys.shape[1]
        self.most = slots
        self.slots = torch.arange(slots + 1, device=ys.device).unsqueeze(1)

    def due(self, states: RowStates, constants: RowConstants) -> Tensor:
        """Mask of the rows whose next output lies in their last step, (m,)."""
        places = states.place * self.batch + constants.row
        moments = self.times.index_select(0, places)
        return constants.direction * (moments - states.t) <= 0

    def write(
        self, states: RowStates, constants: RowConstants, interpolant: Interpolant
    ) -> RowStates:
        """Write the next outputs that lie in the last steps of their rows."""
        row = constants.row
        places = (states.place + self.slots) * self.batch + row
        moments = self.times.index_select(0, places.view(-1)).view(places.shape)
        due = constants.direction * (moments - states.t) <= 0
        ready = due[:-1]
        theta = torch.where(ready, (moments[:-1] - states.began) / states.size, 0.0)
        goals = torch.where(ready, places[:-1], self.count * self.batch + row).view(-1)
        values, slopes = evaluated(interpolant, theta, self.slopes is not None)
        _put(self.ys, goals, values)
        if slopes is not None and self.slopes is not None:
            _put(self.slopes, goals, slopes / states.size.to(slopes).unsqueeze(1))
        return states._replace(place=states.place + ready.sum(0), waiting=due[-1])


def evaluated(
    interpolant: Interpolant, theta: Tensor, with_slopes: bool
) -> tuple[Tensor, Tensor | None]:
    """(values, (k, m, n), and derivatives in theta or None) of polynomials at theta, (k, m)."""
    *lower, value = interpolant.coefficients.unbind(0)
    distances = [theta.to(value.dtype).unsqueeze(2)] * len(lower)
    if interpolant.nodes is not None:
        nodes = interpolant.nodes.to(value.dtype).unsqueeze(2).unbind(0)
        distances = [x - node for x, node in zip(distances, nodes, strict=True)]
    slope = None
    if with_slopes:
        slope = torch.zeros_like(value)
    for part, x in zip(reversed(lower), reversed(distances), strict=True):
        if slope is not None:
            slope = torch.addcmul(value, slope, x)
        value = torch.addcmul(part, value, x)
    # A polynomial of degree 0 has no theta.
    shape = (*theta.shape, value.shape[-1])
    if slope is not None:
        slope = slope.expand(shape)
    return value.expand(shape), slope


def _put(table: Tensor, goals: Tensor, values: Tensor) -> None:
    """Write values, (k, m, n), to the places ``goals``, (k m,), of a table, (T + 1, B, n)."""
    size = table.shape[2]
    table.view(-1, size).index_copy_(0, goals, values.reshape(-1, size))


class Passes:
    """Passes of m rows. family: an object of methods/batched/masked.py; field, tol: of these rows;
    tape: keeps the steps, or None at first (masked_tape.py)."""

    def __init__(
        self,
        family: Any,
        field: RowField,
        tol: RowTolerance,
        options: Options,
        stop_tolerance: float,
        constants: RowConstants,
        tables: Tables,
    ) -> None:
        self.family = family
        self.field = field
        self.tol = tol
        self.options = options
        self.fixed = options.step_size is not None
        self.stop_tolerance = stop_tolerance
        self.constants = constants
        self.tables = tables
        self.tape: Any = None

    def select(self, rows: Tensor) -> Passes:
        """Passes of some of the rows, without a tape."""
        some = copy.copy(self)
        some.field = self.field.select(rows)
        some.tol = self.tol.select(rows)
        some.constants = self.constants.select(rows)
        some.tape = None
        return some

    def run(self, states: RowStates, count: int) -> RowStates:
        """So many passes one after the other, with the outputs in their steps."""
        for number in range(count):
            states, polynomial = self.advance(states, *self.planned(states), number)
            if polynomial is not None:
                states = states._replace(inner=polynomial(states.inner))
            states = self.write(states)
        return states

    def write(self, states: RowStates) -> RowStates:
        """Write the next outputs in the last steps."""
        interpolant = self.family.interpolant(states.inner, states.size)
        return self.tables.write(states, self.constants, interpolant)

    def planned(self, now: RowStates) -> tuple[Clock, Plan]:
        """The steps of the next pass."""
        running = (now.status == RUNNING) & ~now.waiting
        h, arrived, _ = next_step(
            Tensors,
            now.t,
            now.h,
            self.constants.end,
            self.stop_tolerance,
            self.constants.direction,
        )
        clock = Clock(now.t, h, arrived, now.size, running)
        return clock, self.family.plan(now.inner, clock, self.tol)

    def advance(
        self,
        now: RowStates,
        clock: Clock,
        plan: Plan,
        number: int,
        counts: Sequence[int] | None = None,
    ) -> tuple[RowStates, Any]:
        """A pass of every row that runs: (states, Outcome.polynomial). number: of the pass in its
        block; counts: what the host read of the plan, or None."""
        done = self.family.advance(
            self.field, self.tol, now.inner, now.y, clock, plan, number, counts
        )
        accepted = done.accepted
        if self.tape is not None:
            start = self.family.taped(now.y, done.inner, done.y)
            numbers = [now.t, clock.h, clock.arrived]
            order = self.family.order(done.inner)
            if order is not None:
                numbers.append(order)
            self.tape.write(number, numbers, accepted, start)
        doubtful = now.doubtful
        if done.doubtful is not None:
            doubtful = doubtful | (done.doubtful & clock.running)
        after = now._replace(
            t=torch.where(accepted, clock.arrived, now.t),
            y=done.y,
            accepted=now.accepted + accepted,
            rejected=now.rejected + done.rejected,
            began=torch.where(accepted, now.t, now.began),
            size=torch.where(accepted, clock.h, now.size),
            doubtful=doubtful,
            inner=done.inner,
        )
        after = self._plan(after, clock, done)
        return self._end(after, clock.running, done), done.polynomial

    def _plan(self, after: RowStates, clock: Clock, done: Outcome) -> RowStates:
        """The next steps."""
        accepted = done.accepted
        rejected = done.rejected
        direction = self.constants.direction
        # A fixed step keeps its size, even if rounding moved the time by a little more or less.
        if self.fixed:
            planned = after.h
        else:
            planned = clock.h
        size = (planned * done.factor).abs().clamp_max(self.options.max_step)
        size = shortened_sizes(Tensors, size, after.t, clock.arrived, direction, rejected)
        following = torch.where(accepted | rejected, direction * size, after.h)
        stuck = is_stuck(after.t, following, accepted)
        return after._replace(h=released(Tensors, after.t, following, self.constants.end, stuck))

    def _end(self, after: RowStates, running: Tensor, done: Outcome) -> RowStates:
        """The statuses of the rows that end with this pass."""
        constants = self.constants
        edge = done.rejected & done.broken
        small = too_small(after.t, after.h, constants.least, edge)
        overflown = None
        if self.fixed:
            overflown = edge
        reasons = endings(
            over=after.t == constants.end,
            small=small & short_of(constants.end, after.t, after.h),
            broken=done.broken,
            below=done.rejected & (after.h.abs() < self.options.min_step),
            many=after.accepted + after.rejected >= constants.limit,
            overflown=overflown,
            unsolved=done.unsolved,
        )
        status = torch.full_like(after.status, RUNNING)
        # The first reason that applies is the status.
        for mask, reason in reversed(reasons):
            status = status.masked_fill(mask, NUMBERS[reason])
        return after._replace(status=torch.where(running, status, after.status))
