"""The derivatives of all outputs of a native solve: memory, the compiled loop piece by piece."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ....backends.native import bdf as bdf_steps
from ....backends.native import esdirk as esdirk_steps
from ....backends.native import explicit as explicit_steps
from ....backends.native import radau as radau_steps
from ....backends.native import rosenbrock as rosenbrock_steps
from ....backends.native.compiler import entry
from ....backends.native.linear import linear_arrays
from ....backends.native.repair import repairs
from ....backends.native.solve import PIECE, check_state, parameters
from ....backends.native.trajectory import NativeTrajectory
from ..pullback import NativeGradient, located
from . import bdf, esdirk, explicit, radau, rosenbrock
from .loop import NOW, RECORD, Memory, Run, go_forward

# The module that carries derivatives along (loop.py) by the module of the solve.
FORWARD = {
    bdf_steps: bdf,
    esdirk_steps: esdirk,
    explicit_steps: explicit,
    radau_steps: radau,
    rosenbrock_steps: rosenbrock,
}
COUNTS = ("nfe", "njac", "nlu", "nsolve", "nvjp")  # of Run
FIRST_PIECE = 50  # steps in the first piece


class NativeSensitivities(NamedTuple):
    """matrix: (T, n, D), the derivatives of the outputs in all directions: those of y0, then the
    numbers of each kept target. counts: the work."""

    matrix: np.ndarray
    counts: dict[str, int]


def sensitivities(
    field: Any,
    trajectory: NativeTrajectory,
    times: Sequence[float],
    kept: Sequence[bool] | None = None,
    of_start: bool = True,
    inputs: np.ndarray | None = None,
    loop: Callable | None = None,
) -> NativeSensitivities:
    """The derivatives of the recorded steps: the transpose of ``pullback``, in n + P directions.

    field: the NativeField of the solve, with the same parameters. trajectory: of ``integrate`` with
    record=True. times: inside the trajectory, in any order. kept: for each differentiable target
    whether it has directions; None for all. of_start: whether y0 has directions. inputs: as in
    ``integrate``. loop: runs instead of the compiled loop, for debugging: ``interpreted``.
    """
    check_state(field, trajectory.y)
    n = len(trajectory.y)
    first = n if of_start else 0
    runs, size, directions = _runs(field, first, kept)
    start = np.zeros((n, directions), trajectory.y.dtype)
    start[:, :first] = np.eye(n, first)
    matrix = np.empty((len(times), n, directions), start.dtype)
    matrix[:] = start
    counts = dict.fromkeys(COUNTS, 0)
    if not trajectory.accepted:
        return NativeSensitivities(matrix, counts)
    steps, thetas = located(trajectory, times)
    # In a step, the outputs at its end come last.
    order = np.lexsort((thetas < 0, steps))
    later = order[np.count_nonzero(steps < 0) :]
    if not len(later):
        return NativeSensitivities(matrix, counts)
    found = functions(field, trajectory)
    memory = _memory(field, trajectory, found, inputs, runs, size, directions)
    memory = memory._replace(
        outputs=np.empty((len(later), n * directions), start.dtype),
        output_steps=np.ascontiguousarray(steps[later], dtype=np.int64),
        thetas=np.ascontiguousarray(thetas[later]),
    )
    memory.blocks[NOW] = start.reshape(-1)
    run = _run(field, trajectory, found)
    family = FORWARD[trajectory.family]
    # Nothing is needed after the last output.
    _pieces(family, run, trajectory.tables, memory, int(steps[later[-1]]) + 1, loop or _compiled)
    matrix[later] = memory.outputs.reshape(len(later), n, directions)
    return NativeSensitivities(matrix, {name: int(run[0][name]) for name in COUNTS})


def split_products(
    pulled: np.ndarray,
    n: int,
    shapes: Sequence[tuple[int, ...]],
    kept: Sequence[bool],
    of_start: bool = True,
) -> NativeGradient:
    """The products with the sensitivities, (..., D), as cotangents of y0 and of the targets, of
    these shapes. What has no directions gets zeros."""
    lead = pulled.shape[:-1]
    targets = []
    first = 0
    y0 = np.zeros((*lead, n), pulled.dtype)
    if of_start:
        first = n
        y0 = pulled[..., :n]
    for shape, wanted in zip(shapes, kept, strict=True):
        if not wanted:
            targets.append(np.zeros((*lead, *shape), pulled.dtype))
            continue
        size = math.prod(shape)
        targets.append(pulled[..., first : first + size].reshape((*lead, *shape)))
        first += size
    return NativeGradient(y0, targets, dict.fromkeys(COUNTS, 0))


def functions(field: Any, trajectory: NativeTrajectory) -> dict[str, Any]:
    """The functions of the field that the forward pass needs, by their names in Run."""
    sizes = FORWARD[trajectory.family].sizes(trajectory.tables)
    names = {"f": "f", "jac": "jac", "vjp_p": "vjp_p"}
    if sizes.slopes:
        names["second"] = "second"
    return {name: field.function(wanted) for name, wanted in names.items()}


def interpreted(family: Any, run: np.ndarray, tables: Any, memory: Memory) -> None:
    """The loop as Python, to debug it."""
    go_forward(family, run.view(np.recarray)[0], tables, memory)


def _compiled(family, run, tables, memory):
    entry(go_forward, family, RECORD, tables, memory)(run, tables, memory)


def _runs(field, first, kept):
    """(Memory.kept, numbers in all targets, directions). first: of the directions of targets."""
    runs = []
    size = 0
    directions = first
    for place, i in enumerate(field.differentiable):
        count = math.prod(field.targets[i].shape)
        if kept is None or kept[place]:
            runs.append((size, size + count, directions))
            directions += count
        size += count
    return np.array(runs, dtype=np.int64).reshape(-1, 3), size, directions


def _run(field, trajectory, found):
    addresses = dict.fromkeys(("f", "jac", "vjp_p", "second"), 0)
    for name, function in found.items():
        addresses[name] = function.address
    run = Run(h0=trajectory.h0, repair=repairs(field), **addresses)
    return np.array([tuple(run)], dtype=RECORD)


def _pieces(family, numbers, tables, memory, last, loop):
    """Run the loop up to step number last, without that one."""
    run = numbers[0]
    size = FIRST_PIECE
    while run["step"] < last:
        before = int(run["step"])
        run["pause"] = min(last, before + size)
        begun = time.monotonic()
        loop(family, numbers, tables, memory)
        elapsed = max(time.monotonic() - begun, 1e-9)
        size = max(1, min(int((run["step"] - before) * PIECE / elapsed), 10 * size))


def _memory(field, trajectory, found, inputs, runs, size, directions):
    """The Memory of a forward pass, without outputs."""
    sizes = FORWARD[trajectory.family].sizes(trajectory.tables)
    n = len(trajectory.y)
    real = trajectory.y.dtype
    rows, columns = field.pattern()
    work = max(function.work for function in found.values())
    matrices = n * sizes.width
    pointers, _held = parameters(field, inputs)
    lines = np.zeros((sizes.blocks * n, directions), real)
    return Memory(
        point=np.zeros(n, real),
        unit=np.zeros(n, real),
        pulled=np.zeros(n + size + 1, real),
        pair=np.zeros(2 * n + 1, real),
        blocks=lines.reshape(sizes.blocks, n * directions),
        lines=lines,
        outputs=np.empty((0, n * directions), real),
        kept=runs,
        numbers=np.zeros(sizes.numbers),
        jac=np.zeros(len(rows) + n, real),
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
        output_steps=np.empty(0, np.int64),
        thetas=np.empty(0),
    )
