"""The gradient of a native solve: memory, the compiled sweep piece by piece, and its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...backends.native import bdf as bdf_steps
from ...backends.native import esdirk as esdirk_steps
from ...backends.native import explicit as explicit_steps
from ...backends.native import radau as radau_steps
from ...backends.native import rosenbrock as rosenbrock_steps
from ...backends.native.compiler import entry
from ...backends.native.linear import linear_arrays
from ...backends.native.repair import repairs
from ...backends.native.solve import PIECE, check_state, parameters
from ...backends.native.trajectory import NativeTrajectory
from . import bdf, esdirk, explicit, radau, rosenbrock, stability
from .sweep import RECORD, Memory, Run, go_back

# The module that goes back (sweep.py) by the module that went forward.
BACKWARD = {
    bdf_steps: bdf,
    esdirk_steps: esdirk,
    explicit_steps: explicit,
    radau_steps: radau,
    rosenbrock_steps: rosenbrock,
}
FIRST_PIECE = 500  # steps in the first piece


class NativeGradient(NamedTuple):
    """Cotangents of y0, (n,), and of the differentiable targets, in their shapes. counts: the work
    of the backward pass."""

    y0: np.ndarray
    targets: list[np.ndarray]
    counts: dict[str, int]


def pullback(
    field: Any,
    trajectory: NativeTrajectory,
    times: Sequence[float],
    grads: np.ndarray,
    inputs: np.ndarray | None = None,
    loop: Callable | None = None,
) -> NativeGradient:
    """The discrete adjoint of the recorded steps. The result of DiscreteAdjoint.pullback.

    field: the NativeField of the solve, with the same parameters. trajectory: of ``integrate`` with
    record=True. times: inside the trajectory, in any order. grads: (T, n), cotangents of the states
    there. inputs: as in ``integrate``. loop: runs instead of the compiled loop, for debugging:
    ``interpreted``.
    """
    check_state(field, trajectory.y)
    family = BACKWARD[trajectory.family]
    tables = trajectory.tables
    sizes = family.sizes(tables)
    pointers, held = parameters(field, inputs)
    memory, at_start, shapes = _memory(field, trajectory, sizes, times, grads, pointers)
    addresses = dict.fromkeys(("f", "pullback", "jac", "vjp_p", "second"), 0)
    for name, function in functions(field, trajectory).items():
        addresses[name] = function.address
    run = Run(
        h0=trajectory.h0,
        repair=repairs(field) if sizes.implicit else 0,
        **addresses,
        step=trajectory.accepted,
        output=len(memory.output_steps),
    )
    numbers = np.array([tuple(run)], dtype=RECORD)
    _pieces(family, numbers, tables, memory, loop or _compiled)
    if family is explicit:
        stability.check(field, trajectory, pointers)
    del held
    targets = []
    first = 0
    for shape, size in shapes:
        targets.append(memory.grads[first : first + size].reshape(shape))
        first += size
    counts = {name: int(numbers[0][name]) for name in ("nfe", "njac", "nlu", "nsolve", "nvjp")}
    return NativeGradient(memory.ybar + at_start, targets, counts)


def functions(field: Any, trajectory: NativeTrajectory) -> dict[str, Any]:
    """The functions of the field that the backward pass needs, by their names in Run."""
    sizes = BACKWARD[trajectory.family].sizes(trajectory.tables)
    names = {"f": "f", "pullback": "pullback"}
    if sizes.slopes:
        names["jac"] = "jac_time"
        names["second"] = "second"
    elif sizes.implicit:
        names["jac"] = "jac"
        names["vjp_p"] = "vjp_p"
    return {name: field.function(wanted) for name, wanted in names.items()}


def interpreted(family: Any, run: np.ndarray, tables: Any, memory: Memory) -> None:
    """The loop as Python, to debug it."""
    go_back(family, run.view(np.recarray)[0], tables, memory)


def _compiled(family, run, tables, memory):
    entry(go_back, family, RECORD, tables, memory)(run, tables, memory)


def _pieces(family, numbers, tables, memory, loop):
    """Run the loop to its end."""
    run = numbers[0]
    size = FIRST_PIECE
    while True:
        before = int(run["step"])
        run["pause"] = max(0, before - size)
        begun = time.monotonic()
        loop(family, numbers, tables, memory)
        if run["step"] == 0:
            return
        elapsed = max(time.monotonic() - begun, 1e-9)
        size = max(1, min(int((before - run["step"]) * PIECE / elapsed), 10 * size))


def located(trajectory: NativeTrajectory, times: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(steps, thetas) of times, (m,) each, as output_cotangents.locate_outputs. The step is -1 at
    the start of the solve; theta is -1 at the end of a step."""
    at = np.asarray(times, dtype=np.float64)
    starts = trajectory.starts
    ends = np.append(starts[1:], trajectory.end)
    sign = 1.0
    if trajectory.times[-1] < trajectory.t0:
        sign = -1.0
    steps = np.maximum(np.searchsorted(sign * starts, sign * at, side="left") - 1, 0)
    thetas = (at - starts[steps]) / trajectory.sizes[steps]
    thetas[at == ends[steps]] = -1.0
    steps[at == trajectory.t0] = -1
    return steps, thetas


def _memory(field, trajectory, sizes, times, grads, pointers):
    """(Memory, cotangent of the start itself, (shape, size) of the differentiable targets)."""
    n = len(trajectory.y)
    real = trajectory.y.dtype
    grads = np.asarray(grads, real)
    if trajectory.accepted:
        steps, thetas = located(trajectory, times)
    else:
        steps = np.full(len(times), -1)
        thetas = np.zeros(len(times))
    at_start = grads[steps < 0].sum(0)
    # In a step, outputs at its end come last: the sweep takes them first.
    order = np.lexsort((thetas < 0, steps))
    order = order[np.count_nonzero(steps < 0) :]
    shapes = []
    for i in field.differentiable:
        target = field.targets[i]
        shapes.append((tuple(target.shape), target.numel()))
    total = sum(size for _, size in shapes)
    calls = functions(field, trajectory)
    rows = columns = np.empty(0, np.int64)
    matrices = 0
    if sizes.implicit:
        rows, columns = field.pattern()
        matrices = n * sizes.width
    work = max(function.work for function in calls.values())
    vectors = np.zeros((3 + sizes.bars + sizes.vectors, n), real)
    memory = Memory(
        ybar=vectors[0],
        start=vectors[1],
        point=vectors[2],
        grads=np.zeros(total, real),
        pulled=np.zeros(n + total + 1, real),
        pair=np.zeros(2 * n + 1, real),
        bars=vectors[3 : 3 + sizes.bars],
        vectors=vectors[3 + sizes.bars :],
        numbers=np.zeros(sizes.numbers),
        jac=np.zeros(len(rows) + n * sizes.implicit, real),
        rows=rows,
        columns=columns,
        matrix=np.empty((matrices, matrices), real),
        pivots=np.empty(matrices, np.int64),
        **linear_arrays(n, rows, columns, real, sizes.sparse),
        inputs=pointers,
        work=np.empty(max(1, work), real),
        starts=trajectory.starts,
        sizes=trajectory.sizes,
        states=trajectory.states,
        stages=trajectory.stages,
        tape_numbers=trajectory.numbers,
        last=trajectory.end_state,
        output_steps=np.ascontiguousarray(steps[order], dtype=np.int64),
        thetas=np.ascontiguousarray(thetas[order]),
        cotangents=np.ascontiguousarray(grads[order]),
    )
    return memory, at_start, shapes
