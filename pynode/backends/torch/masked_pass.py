"""One pass of masked_loop.py: a fixed sequence of operations on all rows, without a look at their
numbers. The rules are the same as in batched_loop.py."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.arithmetic import Tensors
from ...core.row_control import endings, is_stuck, released, short_of, shortened_sizes, too_small
from ...core.row_statuses import NUMBERS, RUNNING
from ...core.step_control import next_step
from ...core.transfer import to_device

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.norm import RowTolerance
    from ...core.options import Options
    from ...methods.batched.masked import Attempt

# A row that takes no step repeats this part of its last one, so that f sees only usual values.
IDLE = 2.0**-20


class RowStates(NamedTuple):
    """What a pass changes, (m, ...) for m rows.

    t, h: the times and the next steps; y: (m, n); first: f at t for methods that carry it, (m, n),
    otherwise (m, 0); past, older: the ratios of the last two steps; accepted, rejected: counts;
    status: int8, as in core/row_statuses.py; place: of the next output; waiting: whether it lies in
    the last step, and no further step begins before it is written. polynomial: (degree + 1, m, n),
    of the last accepted step, which went from ``began`` by ``size``. doubtful: whether a Jacobian
    was not finite.
    """

    t: Tensor
    h: Tensor
    y: Tensor
    first: Tensor
    past: Tensor
    older: Tensor
    accepted: Tensor
    rejected: Tensor
    status: Tensor
    place: Tensor
    waiting: Tensor
    polynomial: Tensor
    began: Tensor
    size: Tensor
    doubtful: Tensor

    def select(self, rows: Tensor) -> RowStates:
        """The states of some rows, in the order of the index."""
        parts = self._asdict()
        polynomial = parts.pop("polynomial").index_select(1, rows)
        kept = {name: part.index_select(0, rows) for name, part in parts.items()}
        return RowStates(**kept, polynomial=polynomial)

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
    row writes in one pass.
    """

    def __init__(self, times: Tensor, ys: Tensor, slopes: Tensor | None, slots: int) -> None:
        self.times = times
        self.ys = ys
        self.slopes = slopes
        self.count = len(ys) - 1
        self.batch = ys.shape[1]
        self.slots = torch.arange(slots + 1, device=ys.device).unsqueeze(1)

    def write(self, states: RowStates, constants: RowConstants) -> RowStates:
        """Write the next outputs that lie in the last steps of their rows."""
        row, direction = constants.row, constants.direction
        places = (states.place + self.slots) * self.batch + row
        moments = self.times.index_select(0, places.view(-1)).view(places.shape)
        due = direction * (moments - states.t) <= 0
        ready = due[:-1]
        theta = torch.where(ready, (moments[:-1] - states.began) / states.size, 0.0)
        goals = torch.where(ready, places[:-1], self.count * self.batch + row).view(-1)
        _write(self.ys, goals, states.polynomial, theta)
        if self.slopes is not None:
            size = states.size.to(states.y).unsqueeze(1)
            slopes = [p * part / size for p, part in enumerate(states.polynomial.unbind(0)) if p]
            _write(self.slopes, goals, torch.stack(slopes), theta)
        return states._replace(place=states.place + ready.sum(0), waiting=due[-1])


def _write(table: Tensor, goals: Tensor, coefficients: Tensor, theta: Tensor) -> None:
    """Write values of polynomials, (degree + 1, m, n), at theta, (k, m), into the places ``goals``,
    (k m,), of a table, (T + 1, B, n)."""
    *lower, value = coefficients.unbind(0)
    theta = theta.to(value.dtype).unsqueeze(2)
    for part in reversed(lower):
        value = torch.addcmul(part, value, theta)
    size = table.shape[2]
    table.view(-1, size).index_copy_(0, goals, value.expand(*theta.shape[:2], -1).reshape(-1, size))


class Passes:
    """Passes of m rows. attempts: an object of methods/batched/masked.py; field, tol: of these
    rows; tape: a MaskedTape that keeps the steps, or None at first. ends: the numbers of the
    statuses in the order of ``row_control.endings``, and at last RUNNING."""

    def __init__(
        self,
        attempts: Any,
        field: RowField,
        tol: RowTolerance,
        options: Options,
        stop_tolerance: float,
        constants: RowConstants,
        tables: Tables,
    ) -> None:
        self.attempts = attempts
        self.method = attempts.method
        self.field = field
        self.tol = tol
        self.options = options
        self.fixed = options.step_size is not None
        self.stop_tolerance = stop_tolerance
        self.constants = constants
        self.tables = tables
        self.tape: Any = None
        if self.fixed:
            overflown = False
        else:
            overflown = None
        statuses = [status for _, status in endings(False, False, False, False, False, overflown)]
        numbers = [*(NUMBERS[status] for status in statuses), RUNNING]
        self.ends = to_device(np.array(numbers, dtype=np.int8), tables.ys.device)

    def select(self, rows: Tensor) -> Passes:
        """Passes of some of the rows, without a tape."""
        some = copy.copy(self)
        some.field = self.field.select(rows)
        some.tol = self.tol.select(rows)
        some.constants = self.constants.select(rows)
        some.tape = None
        return some

    def run(self, states: RowStates, count: int) -> RowStates:
        """So many passes one after the other."""
        for number in range(count):
            states = self._pass(states, number)
        return states

    def _pass(self, now: RowStates, number: int) -> RowStates:
        """An attempted step of every row that runs, and the outputs in it. number: of the pass in
        its block."""
        running = (now.status == RUNNING) & ~now.waiting
        h, arrived, _ = next_step(
            Tensors,
            now.t,
            now.h,
            self.constants.end,
            self.stop_tolerance,
            self.constants.direction,
        )
        attempt = self._attempt(now, h, running)
        good, broken, factor, past, older = self._judge(attempt, now)
        accepted = running & good
        rejected = running & ~good
        moved = accepted.unsqueeze(1)
        if self.tape is not None:
            self.tape.write(number, now.t, h, arrived, accepted, now.y)
        after = now._replace(
            t=torch.where(accepted, arrived, now.t),
            y=torch.where(moved, attempt.y1, now.y),
            past=torch.where(running, past, now.past),
            older=torch.where(running, older, now.older),
            accepted=now.accepted + accepted,
            rejected=now.rejected + rejected,
            polynomial=torch.where(moved, attempt.coefficients, now.polynomial),
            began=torch.where(accepted, now.t, now.began),
            size=torch.where(accepted, h, now.size),
        )
        if attempt.last is not None:
            after = after._replace(first=torch.where(moved, attempt.last, now.first))
        if attempt.doubtful is not None:
            after = after._replace(doubtful=now.doubtful | (attempt.doubtful & running))
        after = self._plan(after, h, arrived, accepted, rejected, factor)
        after = self._end(after, running, rejected, broken)
        return self.tables.write(after, self.constants)

    def _attempt(self, now: RowStates, h: Tensor, running: Tensor) -> Attempt:
        """Attempted steps by h. The other rows repeat the end of their last steps."""
        idle = IDLE * now.size
        first = None
        if self.attempts.carries:
            first = now.first
        return self.attempts(
            self.field,
            torch.where(running, now.t, now.t - idle),
            torch.where(running, h, idle),
            now.y,
            first,
        )

    def _judge(
        self, attempt: Attempt, now: RowStates
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(masks of the rows whose errors are small enough and of those with values that are not
        finite, factors of the next steps, new ratios of the last two steps), as in
        methods/batched/one_step.OneStepRows."""
        method = self.method
        if not method.adaptive or attempt.error is None:
            good = torch.isfinite(attempt.y1).all(1)
            return good, ~good, 1.0 - 0.5 * ~good, now.past, now.older
        ratio = self.tol.ratio_there(attempt.error, now.y, attempt.y1)
        factor, (past, older) = method.controller.control(
            Tensors, ratio, (now.past, now.older), method.error_order
        )
        return ratio <= 1, ~torch.isfinite(ratio), factor, past, older

    def _plan(
        self,
        after: RowStates,
        h: Tensor,
        arrived: Tensor,
        accepted: Tensor,
        rejected: Tensor,
        factor: Tensor,
    ) -> RowStates:
        """The next steps. h: of the attempts, which ended at ``arrived``."""
        direction = self.constants.direction
        # A fixed step keeps its size, even if rounding moved the time by a little more or less.
        if self.fixed:
            planned = after.h
        else:
            planned = h
        size = (planned * factor).abs().clamp_max(self.options.max_step)
        size = shortened_sizes(Tensors, size, after.t, arrived, direction, rejected)
        following = torch.where(accepted | rejected, direction * size, after.h)
        stuck = is_stuck(after.t, following, accepted)
        return after._replace(h=released(Tensors, after.t, following, self.constants.end, stuck))

    def _end(
        self, after: RowStates, running: Tensor, rejected: Tensor, broken: Tensor
    ) -> RowStates:
        """The statuses of the rows that end with this pass."""
        constants = self.constants
        small = too_small(after.t, after.h, constants.least, rejected & broken)
        overflown = None
        if self.fixed:
            overflown = rejected & broken
        reasons = endings(
            over=after.t == constants.end,
            small=small & short_of(constants.end, after.t, after.h),
            broken=broken,
            below=rejected & (after.h.abs() < self.options.min_step),
            many=after.accepted + after.rejected >= constants.limit,
            overflown=overflown,
        )
        masks = [mask for mask, _ in reasons]
        # argmax finds the first one that applies, and the last one always applies.
        masks.append(torch.ones_like(running))
        place = torch.stack(masks).to(torch.int8).argmax(0)
        status = torch.where(running, self.ends.index_select(0, place), after.status)
        return after._replace(status=status)
