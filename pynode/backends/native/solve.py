"""A whole solve in native code: its memory, and the compiled loop piece by piece."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.status import Status
from .blocks import Blocks
from .checkpoints import Checkpoints, RestartRecord, resize
from .compiler import entry
from .conditions import Watched
from .hooks import Cut, Hook, NativeStep, StepArrays
from .jumps import stops_and_restarts
from .loop import advance
from .prepared import Prepared, direction, prepared
from .run import RECORD, RUNNING, STATUSES
from .trajectory import NativeTrajectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.options import Options

PIECE = 0.1  # seconds that the loop runs before it returns to Python
FIRST_PIECE = 1000  # attempts in the first piece, at most
FIRST_WORK = 250_000  # attempts times n^2 in the first piece


def integrate(
    field: Any,
    method: Any,
    y0: np.ndarray,
    times: Sequence[float],
    options: Options,
    atol: np.ndarray | float,
    record: bool = False,
    dense: bool = False,
    slopes: bool = False,
    bounds: tuple[np.ndarray, np.ndarray] | None = None,
    deadline: float | None = None,
    cancelled: Callable[[], bool] | None = None,
    counts: tuple[int, int] = (0, 0),
    inputs: np.ndarray | None = None,
    allow: Callable[[float, np.ndarray], bool] | None = None,
    watch: Callable[[NativeStep], Cut | None] | None = None,
    watched: Watched | None = None,
    loop: Callable | None = None,
    checkpoints: Checkpoints | None = None,
) -> NativeTrajectory:
    """Integrate from times[0] to times[-1] with outputs at all times, in either direction.

    field: a NativeField (translate/field.py). method: of a family in FAMILIES. y0: (n,) of the
    field's dtype. times: strictly monotone. atol: a number or (n,), positive.
    record: keep the accepted steps, for a gradient. dense: keep their polynomials, too. slopes:
    dy/dt at the outputs.
    bounds: (lowest, floor) of core/stop_conditions.StateBounds, (n,) each.
    deadline: by time.monotonic(). cancelled: asked about ten times a second; True raises
    KeyboardInterrupt.
    counts: (attempts, evaluations) of earlier segments of the same solve, which count for max_steps
    and max_nfe.
    inputs: int64 addresses of the parameters instead of field.pointers(). The caller keeps the
    parameters alive.
    allow: allow(t, y) says whether a step may end there; a refused step is halved. watch: receives
    each accepted step, and can end the solve there (hooks.py). Both cost some microseconds a step.
    watched: conditions of events; watch then receives only steps in which one may fire.
    loop: runs instead of the compiled loop, for debugging: ``interpreted``.
    checkpoints: record only restart points (checkpoints.py), except with dense=True.
    Raise TypeError if no family runs the method, ValueError if it takes no fixed steps, or if y0
    does not fit the field.
    """
    if options.step_size is not None:
        method.fixed()  # raises for a method that chooses its own steps
    check_state(field, y0)
    plan = prepared(field, method, y0.dtype, record, dense, slopes)
    blocks = plan.blueprint.blocks()
    pointers, held = parameters(field, inputs)
    zero_atol = bool(np.min(atol) <= plan.tiny)
    numbers = plan.numbers(options, zero_atol, bounds is not None)
    run = numbers[0]
    run["t"] = times[0]
    run["end"] = times[-1]
    run["direction"] = direction(times)
    run["attempts"], run["nfe"] = counts
    blocks.of("y")[:] = y0
    blocks.of("atol")[:] = atol
    if bounds is not None:
        blocks.of("lowest")[:], blocks.of("floor")[:] = bounds
    outputs = np.empty((len(times), len(y0)), y0.dtype)
    outputs[0] = y0
    stops, restarts = stops_and_restarts(
        options.tstops, options.jumps, times[0], times[-1], y0.dtype
    )
    count = len(times) if plan.record else 0
    blocks.give(
        inputs=pointers,
        work=np.empty(plan.work, y0.dtype),
        times=np.array(times, dtype=np.float64),
        outputs=outputs,
        output_steps=np.full(count, -1),
        thetas=np.empty(count),
        slopes=np.empty_like(outputs) if slopes else outputs[:0],
        stops=stops,
        restarts=restarts,
    )
    hook = None
    if allow is not None or watch is not None:
        if watched is not None:
            watched.put(blocks)
            blocks.give(work=np.empty(max(plan.work, watched.work), y0.dtype))
        arrays = StepArrays.of(blocks)
        hook = Hook(plan.family, plan.tables, numbers, arrays, allow, watch, watched is not None)
    loop = loop or compiled
    points = None
    room: Callable[[Blocks], None] = grow
    if checkpoints is not None and not dense:
        points = RestartRecord(checkpoints, plan, numbers, blocks, loop, allow)
        room = points.more_room
    _pieces(plan, numbers, blocks, deadline, cancelled, hook, loop, room)
    result = NativeTrajectory(plan, numbers, blocks)
    if points is not None:
        points.finish(result)
    if hook is not None and hook.end_state is not None:
        result.end_state = hook.end_state
    del held
    return result


def check_state(field: Any, y: np.ndarray) -> None:
    """Raise ValueError if a state does not fit the field. Native code would read other memory."""
    if y.shape != (field.n,) or y.dtype.itemsize != field.dtype.itemsize or y.dtype.kind != "f":
        raise ValueError(
            f"a state of shape {y.shape} and {y.dtype} does not fit a native field of {field.n}"
            f" components and {field.dtype}: translate f for this state"
        )


def parameters(field: Any, inputs: np.ndarray | None) -> tuple[np.ndarray, Any]:
    """(int64 addresses of the parameters, what keeps them alive). inputs: the given ones, or
    None."""
    if inputs is None:
        return field.pointers()
    return np.ascontiguousarray(inputs, np.int64), None


def interpreted(plan: Prepared, numbers: np.ndarray, blocks: Blocks) -> None:
    """The loop as Python, to debug it."""
    advance(plan.family, numbers.view(np.recarray)[0], plan.tables, blocks.memory())


def compiled(plan: Prepared, numbers: np.ndarray, blocks: Blocks) -> None:
    """The compiled loop."""
    loop = entry(advance, plan.family, RECORD, plan.tables, plan.blueprint)
    loop(numbers, plan.tables, blocks.slots)


def _pieces(plan, numbers, blocks, deadline, cancelled, hook, loop, room):
    """Run the loop to its end. room(blocks): makes room for more recorded steps."""
    run = numbers[0]
    size = first_piece(plan)
    while True:
        before = int(run["attempts"])
        run["pause"] = before + size
        begun = time.monotonic()
        loop(plan, numbers, blocks)
        if hook is not None and hook.error is not None:
            raise hook.error
        now = time.monotonic()
        if run["status"] != RUNNING:
            return
        if deadline is not None and now > deadline:
            run["status"] = STATUSES.index(Status.MAX_SECONDS)
            return
        if cancelled is not None and cancelled():
            raise KeyboardInterrupt
        if run["record"] and run["accepted"] - run["first"] == len(blocks.of("tape_t")):
            room(blocks)
        done = int(run["attempts"]) - before
        size = max(1, min(int(done * PIECE / max(now - begun, 1e-9)), 10 * size))


def first_piece(plan: Prepared) -> int:
    """How many attempts the loop may make before it returns to Python for the first time. Few, if
    a step of a large system can take long."""
    return max(4, min(FIRST_PIECE, FIRST_WORK // plan.size**2))


def grow(blocks: Blocks, i: int = 0) -> None:
    """Twice the room for the record of one solve."""
    resize(blocks, 2 * len(blocks.of("tape_t", i)), i)
