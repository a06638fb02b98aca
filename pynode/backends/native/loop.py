"""The steps of a solve from its first output to its last, as backends/torch/loop.py.

``advance`` is the whole loop. It runs compiled (compiler.py) or as Python. It returns when the
solve has ended, after some attempts (run.pause), or when the record is full, so that Python can
watch the clock and make room.
"""

from __future__ import annotations

import math
from typing import Any

from ...core import floats
from ...core.step_control import (
    bounded_step,
    judged_step,
    next_step,
    planned,
    shortened,
    trial_step,
    vanishes,
)
from .arithmetic import copy, finite
from .conditions import may_fire
from .machine import call, row
from .mass import INVERSE, has_mass, write_product
from .run import (
    ACCEPTED,
    ALLOWED,
    DIVERGED,
    DOMAIN,
    FOUND,
    HISTORY,
    MAX_EVALUATIONS,
    MAX_STEPS,
    MIN_STEP,
    NEXT,
    NO_FAILURE,
    NONFINITE,
    POSSIBLE_EVENTS,
    RUNNING,
    STEP_TOO_SMALL,
    SUCCESS,
    TRIED,
)
from .steps import evaluate, fail

# As a fraction of the first step. At t = 0 rounding sets no limit, and a smaller step counts as
# zero.
SMALLEST = 1e-40
SMALLEST_NORMAL = 2.2250738585072014e-308
AT_END = -1.0  # in place of theta: at the end of a step


def advance(family: Any, run: Any, tables: Any, memory: Any) -> None:
    """Go on with a solve. family: the module of the method (steps.py).

    Where Python has to answer a question and there is no hook, the loop returns with run.asking.
    The answer is in the record, with run.asking = 0, when it goes on.
    """
    if not run.started:
        start(run, memory)
        family.begin(run, tables, memory)
    capacity = len(memory.tape_t)
    while run.status == RUNNING and not run.asking:
        if run.phase == TRIED:
            judge_end(family, run, tables, memory)
        elif run.phase == FOUND:
            settle(family, run, tables, memory)
        else:
            run.status = limit_reached(run, memory)
            if run.status != RUNNING or run.attempts >= run.pause:
                return
            if run.record and run.accepted - run.first == capacity:
                return
            take_step(family, run, tables, memory)


def start(run: Any, memory: Any) -> None:
    """The slope at the start, and the first step."""
    run.started = 1
    slope = row(memory.stages, 0)
    evaluate(run, memory, run.t, memory.y, slope)
    copy(slope, memory.first_slope)
    solve_mass(memory, slope)
    h = run.first_step
    if h == 0.0:
        h = first_step(run, memory, slope)
    run.h = bounded_step(h, run.t, run.end, run.max_step, run.fixed != 0, run.direction)
    run.h0 = run.h
    run.least = max(SMALLEST * abs(run.h), SMALLEST_NORMAL)
    if not finite(slope, len(slope)):
        run.status = NONFINITE
    elif run.bounded and crossed(memory, memory.y, False):
        run.status = DOMAIN


def solve_mass(memory: Any, slope: Any) -> None:
    """slope = M^+ slope, (n,): y' from f. Nothing to do without a mass matrix."""
    if has_mass(memory):
        write_product(memory, INVERSE, slope)
        copy(memory.mass_product, slope)


def first_step(run: Any, memory: Any, slope: Any) -> float:
    """|h| of the first step: core/step_control.first_step with compiled norms."""
    y = memory.y
    span = abs(run.end - run.t)
    d0 = 0.0
    d1 = 0.0
    for k in range(len(y)):
        scale = memory.atol[k] + run.rtol * abs(y[k])
        d0 += (y[k] / scale) ** 2
        if scale > run.tiny:
            d1 += (slope[k] / scale) ** 2
    d0 = math.sqrt(d0 / len(y))
    d1 = math.sqrt(d1 / len(y))
    h0 = trial_step(floats, d0, d1, span, run.max_step)
    for k in range(len(y)):
        memory.point[k] = y[k] + run.direction * h0 * slope[k]
    evaluate(run, memory, run.t + run.direction * h0, memory.point, memory.y1)
    solve_mass(memory, memory.y1)
    d2 = 0.0
    for k in range(len(y)):
        scale = memory.atol[k] + run.rtol * abs(y[k])
        if run.zero_atol:
            scale = max(scale, run.rtol * abs(memory.point[k]))
        if scale > run.tiny:
            d2 += ((memory.y1[k] - slope[k]) / scale) ** 2
    d2 = math.sqrt(d2 / len(y)) / h0
    return judged_step(floats, d1, d2, h0, run.order, span, run.max_step)


def limit_reached(run: Any, memory: Any) -> int:
    """The status that ends the solve before the next step, or RUNNING."""
    failure = run.failure
    if run.attempts >= run.max_steps:
        return MAX_STEPS
    if run.nfe >= run.max_nfe:
        return MAX_EVALUATIONS
    at_edge = failure == DOMAIN or failure == NONFINITE
    if vanishes(run.h, run.t, memory.stops[run.stop], run.least, at_edge):
        if failure == NO_FAILURE:
            return STEP_TOO_SMALL
        return failure
    if abs(run.h) < run.min_step and run.attempts > 0 and not run.accepted_last:
        if failure == DOMAIN:
            return DOMAIN
        return MIN_STEP
    return RUNNING


def take_step(family: Any, run: Any, tables: Any, memory: Any) -> None:
    """Try one step."""
    run.proposed = run.h
    h, t1, hits_stop = next_step(
        floats, run.t, run.h, memory.stops[run.stop], run.stop_tolerance, run.direction
    )
    run.h = h
    run.t1 = t1
    run.hits_stop = hits_stop
    run.attempts += 1
    run.complete = 0
    least = run.nfe + family.cost(run, tables)
    if least <= run.max_nfe:
        family.attempt(run, tables, memory)
    if max(least, run.nfe) > run.max_nfe:
        # As in the torch engine, a step that reaches the limit inside is dropped.
        run.nfe = int(run.max_nfe)
        run.attempts -= 1
        run.status = MAX_EVALUATIONS
        return
    if run.accepted_last and run.bounded and crossed(memory, memory.y1, True):
        fail(run, 0.5, DOMAIN)
    run.phase = TRIED
    if run.accepted_last and run.limited:
        ask(run, memory, ALLOWED)


def judge_end(family: Any, run: Any, tables: Any, memory: Any) -> None:
    """Go on after an attempt, when it is known whether its end is allowed."""
    run.phase = NEXT
    if run.accepted_last and run.limited and run.verdict != RUNNING:
        fail(run, 0.5, DOMAIN)
    if run.fixed and run.accepted_last and not finite(memory.y1, len(memory.y1)):
        # Fixed steps have no error test to notice this, and the user did not ask for a smaller
        # step.
        run.ratio = math.inf
        run.failure = DIVERGED
        run.status = DIVERGED
    note(run, memory)
    if run.status == DIVERGED:
        return
    if not run.accepted_last:
        run.rejected += 1
        run.h = shortened(run.h, run.t, run.t1, run.factor)
        return
    run.r1 = run.next_r1
    run.r2 = run.next_r2
    run.last_end = run.t1
    run.verdict = RUNNING
    run.phase = FOUND
    if run.dense or run.watched:
        family.complete(run, tables, memory)
        run.complete = 1
    if run.watched and (run.watched != POSSIBLE_EVENTS or may_fire(family, run, tables, memory)):
        ask(run, memory, ACCEPTED)


def settle(family: Any, run: Any, tables: Any, memory: Any) -> None:
    """Go on after an accepted step, when it is known where it ends."""
    run.phase = NEXT
    h = run.h
    last_stop = run.hits_stop and run.stop == len(memory.stops) - 1
    finish_step(family, run, tables, memory)
    run.stop += run.hits_stop
    if run.verdict != RUNNING:
        run.status = run.verdict
        return
    if last_stop:
        run.status = SUCCESS
        return
    run.h = planned(
        run.t,
        h,
        run.factor,
        run.proposed,
        run.fixed != 0,
        run.hits_stop != 0,
        run.direction,
        run.max_step,
        run.end,
    )
    if run.hits_stop and memory.restarts[run.stop - 1] != run.t:
        restart(family, run, tables, memory)


def restart(family: Any, run: Any, tables: Any, memory: Any) -> None:
    """Go on behind a jump of f, with the state before it. f is never asked between the two. A
    method of one step keeps the size of its steps: the jump says nothing about it."""
    begin = memory.restarts[run.stop - 1]
    slope = row(memory.stages, 0)
    evaluate(run, memory, begin, memory.y, slope)
    solve_mass(memory, slope)
    while run.position < len(memory.times):
        time = memory.times[run.position]
        if run.direction * (time - begin) > 0:
            break
        copy(memory.y, row(memory.outputs, run.position))
        if run.record:
            memory.output_steps[run.position] = run.accepted - 1
            memory.thetas[run.position] = AT_END
        if run.slopes:
            copy(slope, row(memory.slopes, run.position))
        run.position += 1
    run.t = begin
    run.r1 = 1.0
    run.r2 = 1.0
    if not run.one_step and not run.fixed:
        h = first_step(run, memory, slope)
        run.h = bounded_step(h, run.t, run.end, run.max_step, run.fixed != 0, run.direction)
    family.begin(run, tables, memory)


def ask(run: Any, memory: Any, question: int) -> None:
    """Get a verdict on the attempt: from the hook (hooks.py) now, or later from Python."""
    run.question = question
    run.verdict = RUNNING
    if run.hook:
        call(run.hook, run.t1, memory.y1, memory.y, memory.inputs, memory.error, memory.work)
    else:
        run.asking = 1


def crossed(memory: Any, y: Any, stepped: bool) -> bool:
    """Whether a component is below its bound (core/stop_conditions.StateBounds). stepped: whether
    the state ends a step from memory.y."""
    for k in range(len(y)):
        bound = memory.floor[k]
        if stepped and memory.y[k] < 0:
            bound = memory.lowest[k]
        if y[k] < bound:
            return True
    return False


def note(run: Any, memory: Any) -> None:
    """Write the attempt into the history."""
    i = (run.attempts - 1) % HISTORY
    memory.history[i, 0] = run.t
    memory.history[i, 1] = run.h
    memory.history[i, 2] = run.ratio
    memory.history[i, 3] = run.failure


def finish_step(family: Any, run: Any, tables: Any, memory: Any) -> None:
    """Write outputs and the record of an accepted step, and move to its end."""
    write_outputs(family, run, tables, memory)
    if run.record:
        k = run.accepted - run.first
        memory.tape_t[k] = run.t
        memory.tape_h[k] = run.h
        copy(memory.y, row(memory.tape_y, k))
        for i in range(memory.tape_stages.shape[1]):
            copy(row(memory.stages, i), row(row(memory.tape_stages, k), i))
        for i in range(memory.tape_numbers.shape[1]):
            memory.tape_numbers[k, i] = memory.numbers[i]
    family.accept(run, tables, memory)
    run.accepted += 1
    run.t = run.t1
    copy(memory.y1, memory.y)


def write_outputs(family: Any, run: Any, tables: Any, memory: Any) -> None:
    """Write the outputs inside a step and at its end."""
    times = memory.times
    while run.position < len(times):
        time = times[run.position]
        if run.direction * (time - run.t1) > 0:
            return
        inside = time != run.t1
        if (inside or run.slopes) and not run.complete:
            family.complete(run, tables, memory)
            run.complete = 1
        theta = (time - run.t) / run.h
        target = row(memory.outputs, run.position)
        if inside:
            family.interpolate(run, tables, memory, theta, target)
        else:
            copy(memory.y1, target)
        if run.record:
            memory.output_steps[run.position] = run.accepted
            memory.thetas[run.position] = theta if time != run.last_end else AT_END
        if run.slopes:
            slope = row(memory.slopes, run.position)
            family.interpolate_slope(run, tables, memory, theta, slope)
        run.position += 1
