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
from ....backends.native.blocks import Blocks, Blueprint, Given, Own, Part
from ....backends.native.compiler import entry
from ....backends.native.linear import linear_arrays
from ....backends.native.prepared import Prepared
from ....backends.native.repair import repairs, where
from ....backends.native.solve import PIECE, check_state, parameters
from ....backends.native.trajectory import NativeTrajectory
from ....core.aligned_memory import aligned_empty
from ..prepared import of_steps
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
    """matrix: (T, n, D), the derivatives of the outputs in D directions. The directions of y0 come
    first, then the numbers of each kept target. counts: the work."""

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
    matrix = aligned_empty((len(times), n, directions), start.dtype)
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
    plan = prepare(field, trajectory)
    blocks = _memory(plan, field, trajectory, inputs, runs, size, directions)
    outputs = np.empty((len(later), n * directions), start.dtype)
    blocks.give(
        outputs=outputs,
        output_steps=np.ascontiguousarray(steps[later], dtype=np.int64),
        thetas=np.ascontiguousarray(thetas[later]),
    )
    blocks.of("blocks")[NOW] = start.reshape(-1)
    numbers = plan.template.copy()
    numbers["h0"] = trajectory.h0
    # Nothing is needed after the last output.
    _pieces(plan, numbers, blocks, int(steps[later[-1]]) + 1, loop or compiled)
    matrix[later] = outputs.reshape(len(later), n, directions)
    return NativeSensitivities(matrix, {name: int(numbers[0][name]) for name in COUNTS})


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


class PreparedForward:
    """What the forward passes of all solves of a field by one method share.

    field: the NativeField of the solves; plan: theirs. template: (1,) RECORD.
    """

    def __init__(self, field: Any, plan: Prepared) -> None:
        self.family = FORWARD[plan.family]
        self.tables = plan.tables
        self.sizes = self.family.sizes(plan.tables)
        self.real = plan.real
        names = {"f": "f", "jac": "jac", "vjp_p": "vjp_p"}
        if self.sizes.slopes:
            names["second"] = "second"
        functions = {name: field.function(wanted) for name, wanted in names.items()}
        self.work = max(1, *(function.work for function in functions.values()))
        addresses = dict.fromkeys(("f", "jac", "vjp_p", "second"), 0)
        for name, function in functions.items():
            addresses[name] = function.address
        self._repair = repairs(field)  # keeps the function
        run = Run(h0=0.0, repair=where(self._repair), **addresses)
        self.template = np.array([tuple(run)], dtype=RECORD)


def prepare(field: Any, trajectory: NativeTrajectory) -> PreparedForward:
    """The PreparedForward of a solve, made once for all solves of the field by its method."""
    plan = trajectory.plan
    if plan.forward is None:
        plan.forward = PreparedForward(field, plan)
    return plan.forward


def interpreted(plan: PreparedForward, numbers: np.ndarray, blocks: Blocks) -> None:
    """The loop as Python, to debug it."""
    go_forward(plan.family, numbers.view(np.recarray)[0], plan.tables, blocks.memory())


def compiled(plan: PreparedForward, numbers: np.ndarray, blocks: Blocks) -> None:
    """The compiled loop."""
    loop = entry(go_forward, plan.family, RECORD, plan.tables, blocks.blueprint)
    loop(numbers, plan.tables, blocks.slots)


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


def _pieces(plan, numbers, blocks, last, loop):
    """Run the loop up to step number last, without that one."""
    run = numbers[0]
    size = FIRST_PIECE
    while run["step"] < last:
        before = int(run["step"])
        run["pause"] = min(last, before + size)
        begun = time.monotonic()
        loop(plan, numbers, blocks)
        elapsed = max(time.monotonic() - begun, 1e-9)
        size = max(1, min(int((run["step"] - before) * PIECE / elapsed), 10 * size))


def _memory(plan, field, trajectory, inputs, runs, size, directions):
    """The memory of a forward pass, without outputs."""
    sizes = plan.sizes
    real = plan.real
    n = len(trajectory.y)
    rows, columns = field.pattern()
    matrices = n * sizes.width
    copied = 0
    if sizes.width > 1:
        copied = matrices
    arrays = {
        "point": Own((n,), real, True),
        "unit": Own((n,), real, True),
        "pulled": Own((n + size + 1,), real, True),
        "pair": Own((2 * n + 1,), real, True),
        "blocks": Own((sizes.blocks, n * directions), real, True),
        "lines": Part("blocks", 0, (sizes.blocks * n, directions), real),
        "outputs": Given(2, real),
        "kept": runs,
        "numbers": Own((sizes.numbers,), np.float64, True),
        "jac": Own((len(rows) + n,), real, True),
        "rows": rows,
        "columns": columns,
        "matrix": Own((matrices, matrices), real),
        "pivots": Own((matrices,), np.int64),
        "whole": Own((copied, copied), real),
        **linear_arrays(n, rows, columns, real, sizes.sparse, trajectory.plan.mass),
        **of_steps(real),
        "fresh": Given(1, np.int64),
    }
    blocks = Blueprint(Memory, arrays).blocks()
    pointers, held = parameters(field, inputs)
    blocks.give(
        inputs=pointers,
        work=np.empty(plan.work, real),
        starts=trajectory.starts,
        sizes=trajectory.sizes,
        states=trajectory.states,
        stages=trajectory.stages,
        tape_numbers=trajectory.numbers,
        last=trajectory.end_state,
        fresh=trajectory.begins_behind_jumps(),
    )
    del held  # the field holds its tensors
    return blocks
