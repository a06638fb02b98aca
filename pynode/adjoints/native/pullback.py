"""The gradient of a native solve: memory, the compiled sweep piece by piece, and its result."""

from __future__ import annotations

import math
import threading
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
from ...backends.native.rows import each
from ...backends.native.solve import PIECE, check_state, parameters
from ...backends.native.trajectory import NativeTrajectory
from . import bdf, esdirk, explicit, radau, rosenbrock, stability
from .pieces import pull_pieces
from .sweep import RECORD, Memory, Run, go_back

# The module that goes back (sweep.py) by the module that went forward.
BACKWARD = {
    bdf_steps: bdf,
    esdirk_steps: esdirk,
    explicit_steps: explicit,
    radau_steps: radau,
    rosenbrock_steps: rosenbrock,
}
COUNTS = ("nfe", "njac", "nlu", "nsolve", "nvjp")  # of Run
FIRST_PIECE = 500  # steps in the first piece


class NativeGradient(NamedTuple):
    """Cotangents of y0, (n,), and of the differentiable targets, in their shapes. counts: the work
    of the backward pass. Of R rows of cotangents: (R, n), and (R, ...) of each target."""

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
    way = _WayBack(field, trajectory, times, inputs, loop or _compiled)
    cotangents = np.asarray(grads, trajectory.y.dtype)
    if trajectory.restarts is None:
        y0, flat, counts = way.pull(cotangents)
    else:
        ((y0, flat, counts),) = pull_pieces(way, [cotangents], 1)
    way.warn()
    return NativeGradient(y0, [part.reshape(shape) for part, shape in way.split(flat)], counts)


def pullback_many(
    field: Any,
    trajectory: NativeTrajectory,
    times: Sequence[float],
    grads: np.ndarray,
    threads: int | None = None,
    inputs: np.ndarray | None = None,
) -> NativeGradient:
    """The ``pullback`` of many cotangents of one trajectory: grads (R, T, n).

    They go back side by side, by several threads. The results do not depend on the threads.
    """
    way = _WayBack(field, trajectory, times, inputs, _compiled)
    grads = np.asarray(grads, trajectory.y.dtype)
    count = len(grads)
    y0 = np.empty((count, grads.shape[2]), grads.dtype)
    flat = np.empty((count, way.size), grads.dtype)

    def task(i: int) -> dict[str, int]:
        y0[i], flat[i], work = way.pull(grads[i])
        return work

    if trajectory.restarts is None:
        found = each(task, count, threads, threading.Event())
    else:
        found = []
        for i, (start, parts, work) in enumerate(pull_pieces(way, list(grads), threads)):
            y0[i] = start
            flat[i] = parts
            found.append(work)
    counts = dict.fromkeys((*COUNTS, "steps"), 0)
    for work in found:
        for name, done in work.items():
            counts[name] += done
    way.warn()
    targets = [part.reshape(count, *shape) for part, shape in way.split(flat)]
    return NativeGradient(y0, targets, counts)


class _WayBack:
    """What the pullbacks of one trajectory share: the field's functions, and where the outputs at
    the times lie.

    size: the numbers in all differentiable targets. steps, thetas: of the outputs after the start,
    in rising order, see Memory.
    """

    def __init__(self, field, trajectory, times, inputs, loop):
        check_state(field, trajectory.y)
        self.field = field
        self.trajectory = trajectory
        self.loop = loop
        self.family = BACKWARD[trajectory.family]
        self.sizes = self.family.sizes(trajectory.tables)
        self.pointers, self._held = parameters(field, inputs)
        self.functions = functions(field, trajectory)
        self._shapes = [tuple(field.targets[i].shape) for i in field.differentiable]
        self._ends = np.cumsum([math.prod(shape) for shape in self._shapes], dtype=np.int64)
        self.seen: dict[int, np.ndarray] = {}  # states at the starts of sampled steps
        self.size = 0
        if len(self._ends):
            self.size = int(self._ends[-1])
        if trajectory.accepted:
            steps, thetas = located(trajectory, times)
        else:
            steps = np.full(len(times), -1)
            thetas = np.zeros(len(times))
        # In a step, outputs at its end come last: the sweep takes them first.
        order = np.lexsort((thetas < 0, steps))
        first = np.count_nonzero(steps < 0)
        self._at_start = order[:first]
        self._later = order[first:]
        self.steps = np.ascontiguousarray(steps[self._later], dtype=np.int64)
        self.thetas = np.ascontiguousarray(thetas[self._later])

    def pull(self, grads):
        """(cotangent of y0 (n,), cotangents of all targets (size,), counts). grads: (T, n)."""
        outputs, steps, cotangents = self.needed(grads)
        memory = self.memory_of(self.trajectory, slice(0, outputs), cotangents)
        counts = self.sweep(memory, steps, outputs, True)
        return memory.ybar + self.at_start(grads), memory.grads, counts

    def needed(self, grads):
        """(outputs, steps, cotangents of all outputs after the start). Nothing comes back from the
        outputs after the last one that has a cotangent."""
        cotangents = grads[self._later]
        used = np.flatnonzero(cotangents.any(1))
        outputs = 0
        steps = 0
        if len(used):
            outputs = int(used[-1]) + 1
            steps = int(self.steps[outputs - 1]) + 1
        return outputs, steps, cotangents

    def at_start(self, grads):
        """The cotangent of y0 from the outputs at the start, (n,)."""
        return grads[self._at_start].sum(0)

    def memory_of(self, steps, outputs, cotangents, before=None):
        """The Memory for some of the steps and outputs. steps: a NativeTrajectory, or Steps.
        outputs: a slice. before: of the steps after them, whose cotangents go on."""
        parts = {
            "starts": steps.starts,
            "sizes": steps.sizes,
            "states": steps.states,
            "stages": steps.stages,
            "tape_numbers": steps.numbers,
            "last": steps.end_state,
            "output_steps": self.steps[outputs],
            "thetas": self.thetas[outputs],
            "cotangents": np.ascontiguousarray(cotangents[outputs]),
        }
        if before is None:
            return _memory(self, parts)
        return before._replace(**parts)

    def sweep(self, memory, steps, outputs, opens):
        """Go back over the steps of the memory. opens: whether the first is that of the solve.
        Returns the counts."""
        run = self._run(steps, outputs, opens)
        _pieces(self.family, run, self.trajectory.tables, memory, self.loop)
        return {name: int(run[0][name]) for name in COUNTS}

    def split(self, flat):
        """(the part of flat, (..., size), for a target, its shape) of all targets."""
        parts = np.split(flat, self._ends[:-1], axis=-1)
        return zip(parts, self._shapes, strict=False)  # one empty part if there are no targets

    def warn(self):
        """Warn if the gradient is mostly noise."""
        if self.family is explicit:
            stability.check(self.field, self.trajectory, self.pointers, self.seen)

    def _run(self, steps, outputs, opens):
        addresses = dict.fromkeys(("f", "pullback", "jac", "vjp_p", "second"), 0)
        for name, function in self.functions.items():
            addresses[name] = function.address
        repair = 0
        if self.sizes.implicit:
            repair = repairs(self.field)
        run = Run(
            h0=self.trajectory.h0,
            repair=repair,
            **addresses,
            step=steps,
            output=outputs,
            opens=int(opens),
        )
        return np.array([tuple(run)], dtype=RECORD)


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


def _memory(way, parts):
    """The Memory of a pullback. parts: what belongs to its steps and outputs."""
    trajectory = way.trajectory
    sizes = way.sizes
    n = len(trajectory.y)
    real = trajectory.y.dtype
    total = way.size
    rows = columns = np.empty(0, np.int64)
    matrices = 0
    if sizes.implicit:
        rows, columns = way.field.pattern()
        matrices = n * sizes.width
    work = max(function.work for function in way.functions.values())
    vectors = np.zeros((3 + sizes.bars + sizes.vectors, n), real)
    return Memory(
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
        inputs=way.pointers,
        work=np.empty(max(1, work), real),
        **parts,
    )
