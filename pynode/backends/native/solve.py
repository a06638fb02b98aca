"""A whole solve in native code: its memory, and the compiled loop piece by piece."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.status import Status
from ...core.step_control import (
    FILTERS,
    FIXED_STOP_TOLERANCE,
    STOP_TOLERANCE,
    Controller,
    stops_between,
)
from ...methods.base import ByFamily
from ...methods.bdf.step import BDF
from ...methods.esdirk import DIRK
from ...methods.explicit import ExplicitRungeKutta
from ...methods.radau import Radau
from ...methods.rosenbrock import RosenbrockMethod
from . import bdf, esdirk, explicit, radau, rosenbrock
from .checkpoints import CAPACITY, Checkpoints, RestartRecord, resized
from .compiler import entry
from .hooks import Cut, Hook, NativeStep
from .linear import linear_arrays
from .loop import SMALLEST_NORMAL, advance
from .repair import repairs
from .run import HISTORY, RECORD, RUNNING, STATUSES, Memory, Run
from .trajectory import NativeTrajectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.options import Options

# By family of methods: the module with its attempts (steps.py).
FAMILIES = ByFamily()
FAMILIES.register(ExplicitRungeKutta)(explicit)
FAMILIES.register(RosenbrockMethod)(rosenbrock)
FAMILIES.register(DIRK)(esdirk)
FAMILIES.register(Radau)(radau)
FAMILIES.register(BDF)(bdf)

UNUSED = Controller()
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
    loop: runs instead of the compiled loop, for debugging: ``interpreted``.
    checkpoints: record only restart points (checkpoints.py), except with dense=True.
    Raise TypeError if no family runs the method, ValueError if it takes no fixed steps, or if y0
    does not fit the field.
    """
    if options.step_size is not None:
        method.fixed()  # raises for a method that chooses its own steps
    family = FAMILIES.get(method)
    if family is None:
        raise TypeError(
            f"the native engine has no {method.name}; use 'tsit5', 'rodas5p' or another method of"
            " their families, or backend='torch'"
        )
    check_state(field, y0)
    tables = tables_of(family, method)
    sizes = family.sizes(tables)
    run = _run(field, method, sizes, times, options, atol, np.finfo(y0.dtype), counts)
    run = run._replace(
        record=int(record or dense),
        dense=int(dense),
        slopes=int(slopes),
        bounded=int(bounds is not None),
    )
    pointers, held = parameters(field, inputs)
    memory = _memory(field, sizes, y0, times, options, atol, run, pointers)
    if bounds is not None:
        memory.lowest[:], memory.floor[:] = bounds
    numbers = np.array([tuple(run)], dtype=RECORD)
    hook = None
    if allow is not None or watch is not None:
        hook = Hook(family, tables, numbers, memory, allow, watch)
    loop = loop or _compiled
    room = grown
    record_of_points = None
    if checkpoints is not None and not dense:
        record_of_points = RestartRecord(
            checkpoints, method, family, tables, numbers, memory, loop, allow
        )
        memory = record_of_points.memory
        room = record_of_points.more_room
    memory = _pieces(family, numbers, tables, memory, deadline, cancelled, hook, loop, room)
    result = NativeTrajectory(method, family, tables, numbers, memory)
    if record_of_points is not None:
        record_of_points.finish(result, memory)
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


def tables_of(family: ModuleType, method: Any) -> Any:
    """The tables of a method. Each method makes its own once."""
    kept = method.__dict__.get("_native_tables")
    if kept is None:
        kept = family.tables_of(method)
        object.__setattr__(method, "_native_tables", kept)
    return kept


def interpreted(family: Any, run: np.ndarray, tables: Any, memory: Memory) -> None:
    """The loop as Python, to debug it."""
    advance(family, run.view(np.recarray)[0], tables, memory)


def _compiled(family, run, tables, memory):
    entry(advance, family, RECORD, tables, memory)(run, tables, memory)


def _pieces(family, numbers, tables, memory, deadline, cancelled, hook, loop, room):
    """Run the loop to its end. Returns the memory, whose record may have grown."""
    run = numbers[0]
    # The first piece is short if a step of a large system can take long.
    size = max(4, min(FIRST_PIECE, FIRST_WORK // len(memory.y) ** 2))
    while True:
        before = int(run["attempts"])
        run["pause"] = before + size
        begun = time.monotonic()
        loop(family, numbers, tables, memory)
        if hook is not None and hook.error is not None:
            raise hook.error
        now = time.monotonic()
        if run["status"] != RUNNING:
            return memory
        if deadline is not None and now > deadline:
            run["status"] = STATUSES.index(Status.MAX_SECONDS)
            return memory
        if cancelled is not None and cancelled():
            raise KeyboardInterrupt
        if run["record"] and run["accepted"] - run["first"] == len(memory.tape_t):
            memory = room(memory)
        done = int(run["attempts"]) - before
        size = max(1, min(int(done * PIECE / max(now - begun, 1e-9)), 10 * size))


def grown(memory: Memory) -> Memory:
    """The memory with a record of twice the size."""
    return resized(memory, 2 * len(memory.tape_t))


def _run(field, method, sizes, times, options, atol, limits, counts):
    # BDF has no controller: it has its own rule.
    controller = getattr(method, "controller", UNUSED)
    beta1, beta2, beta3 = FILTERS[controller.kind]
    fixed = options.step_size is not None
    first = options.first_step or 0.0
    stop_tolerance = STOP_TOLERANCE
    if fixed:
        first = options.step_size
        stop_tolerance = FIXED_STOP_TOLERANCE
    most = options.max_nfe
    if most is None:
        most = method.evaluations_a_step * options.max_steps
    jac = 0
    repair = 0
    if sizes.implicit:
        jac = field.function(_jacobian(sizes)).address
        repair = repairs(field)
    return Run(
        t=times[0],
        h=0.0,
        end=times[-1],
        direction=math.copysign(1.0, times[-1] - times[0]),
        rtol=options.rtol,
        min_step=options.min_step,
        max_step=options.max_step,
        max_nfe=most,
        stop_tolerance=stop_tolerance,
        tiny=float(limits.tiny),
        eps=float(limits.eps),
        zero_atol=int(np.min(atol) <= limits.tiny),
        beta1=beta1,
        beta2=beta2,
        beta3=beta3,
        safety=controller.safety,
        smallest=controller.smallest,
        largest=controller.largest,
        order=method.error_order,
        adaptive=int(getattr(method, "adaptive", True) and not fixed),
        fixed=int(fixed),
        max_steps=options.max_steps,
        record=0,
        dense=0,
        slopes=0,
        bounded=0,
        f=field.function("f").address,
        jac=jac,
        repair=repair,
        hook=0,
        watched=0,
        first_step=first,
        attempts=counts[0],
        nfe=counts[1],
    )


def _jacobian(sizes):
    """The name of the function that writes the Jacobian of a family."""
    if sizes.slopes:
        return "jac_time"
    return "jac"


def _memory(field, sizes, y0, times, options, atol, run, pointers):
    n = len(y0)
    real = y0.dtype
    work = field.function("f").work
    matrices = 0
    rows = columns = _NONE
    if sizes.implicit:
        work = max(work, field.function(_jacobian(sizes)).work)
        rows, columns = field.pattern()
        matrices = n
    capacity = CAPACITY if run.record else 0
    tape_stages = sizes.stages if run.dense else sizes.tape_stages
    count = len(times)
    vectors = np.zeros((4 + sizes.stages + sizes.vectors, n), real)
    limits = np.empty((3, n))
    limits[0] = atol
    outputs = np.empty((count, n), real)
    outputs[0] = y0
    vectors[0] = y0
    return Memory(
        y=vectors[0],
        y1=vectors[1],
        point=vectors[2],
        error=vectors[3],
        atol=limits[0],
        lowest=limits[1],
        floor=limits[2],
        stages=vectors[4 : 4 + sizes.stages],
        vectors=vectors[4 + sizes.stages :],
        numbers=np.zeros(sizes.numbers),
        marks=np.zeros(sizes.marks, np.int64),
        jac=np.zeros(len(rows) + n * sizes.implicit, real),
        rows=rows,
        columns=columns,
        matrix=np.empty((matrices, matrices), real),
        pivots=np.empty(matrices, np.int64),
        **linear_arrays(n, rows, columns, real, sizes.sparse),
        blocks=np.empty((sizes.blocks, 2 * n, 2 * n), real),
        block_pivots=np.empty((sizes.blocks, 2 * n), np.int64),
        inputs=pointers,
        work=np.empty(max(1, work), real),
        times=np.array(times, dtype=np.float64),
        outputs=outputs,
        slopes=np.empty((count * run.slopes, n), real),
        stops=np.array(stops_between(options.tstops, times[0], times[-1], SMALLEST_NORMAL)),
        history=np.empty((HISTORY, 4)),
        tape_t=np.empty(capacity),
        tape_h=np.empty(capacity),
        tape_y=np.empty((capacity, n), real),
        tape_stages=np.empty((capacity, tape_stages, n), real),
        tape_numbers=np.empty((capacity, sizes.tape_numbers)),
    )


_NONE = np.empty(0, np.int64)
