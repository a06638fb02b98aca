"""The gradient of a native solve: memory, the compiled sweep piece by piece, and its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...backends.native.blocks import Blocks
from ...backends.native.compiler import entry
from ...backends.native.rows import each
from ...backends.native.solve import PIECE, check_state, parameters
from ...backends.native.trajectory import NativeTrajectory
from . import explicit, stability
from .pieces import pull_pieces
from .prepared import PreparedSweep, prepared
from .sweep import RECORD, Run, go_back

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
    times: Sequence[float] | None,
    grads: np.ndarray,
    inputs: np.ndarray | None = None,
    loop: Callable | None = None,
) -> NativeGradient:
    """The discrete adjoint of the recorded steps. The result of DiscreteAdjoint.pullback.

    field: the NativeField of the solve, with the same parameters. trajectory: of ``integrate`` with
    record=True. times: inside the trajectory, in any order; None for its outputs. grads: (T, n),
    cotangents of the states there. inputs: as in ``integrate``. loop: runs instead of the compiled
    loop, for debugging: ``interpreted``.
    """
    way = _WayBack(field, trajectory, times, inputs, loop or compiled)
    cotangents = np.asarray(grads, trajectory.y.dtype)
    if trajectory.restarts is None:
        y0, flat, counts = way.pull(cotangents)
    else:
        ((y0, flat, counts),) = pull_pieces(way, [cotangents], 1)
    way.warn()
    return NativeGradient(y0, way.plan.split(flat), counts)


def pullback_many(
    field: Any,
    trajectory: NativeTrajectory,
    times: Sequence[float] | None,
    grads: np.ndarray,
    threads: int | None = None,
    inputs: np.ndarray | None = None,
) -> NativeGradient:
    """The ``pullback`` of many cotangents of one trajectory: grads (R, T, n).

    They go back side by side, by several threads. The results do not depend on the threads.
    """
    way = _WayBack(field, trajectory, times, inputs, compiled)
    grads = np.asarray(grads, trajectory.y.dtype)
    count = len(grads)
    y0 = np.empty((count, grads.shape[2]), grads.dtype)
    flat = np.empty((count, way.size), grads.dtype)

    def task(i: int) -> dict[str, int]:
        y0[i], flat[i], work = way.pull(grads[i])
        return work

    if trajectory.restarts is None:
        found = each(task, count, threads)
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
    return NativeGradient(y0, way.plan.split(flat), counts)


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
        self.plan = prepared(field, trajectory)
        self.size = self.plan.total
        self.pointers, self._held = parameters(field, inputs)
        self.seen: dict[int, np.ndarray] = {}  # states at the starts of sampled steps
        if times is None:
            # In native code the outputs are in the order of the sweep.
            self._at_start = slice(0, 1)
            self._later = slice(1, None)
            self.steps = trajectory.output_steps[1:]
            self.thetas = trajectory.thetas[1:]
            return
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
        blocks = self.blocks_of(self.trajectory, slice(0, outputs), cotangents)
        counts, _ = self.sweep(blocks, steps, outputs, True)
        return blocks.of("ybar") + self.at_start(grads), blocks.of("grads"), counts

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

    def blocks_of(self, steps, outputs, cotangents, before=None, first=0):
        """The memory for some of the steps and outputs. steps: a NativeTrajectory, or Steps, whose
        first one has the number ``first``. outputs: a slice. before: of the steps after them, whose
        cotangents go on."""
        blocks = before
        if blocks is None:
            blocks = self.plan.blueprint.blocks()
        output_steps = self.steps[outputs]
        if first:
            output_steps = output_steps - first
        blocks.give(
            inputs=self.pointers,
            work=np.empty(self.plan.work, self.plan.real),
            starts=steps.starts,
            sizes=steps.sizes,
            states=steps.states,
            stages=steps.stages,
            tape_numbers=steps.numbers,
            last=steps.end_state,
            output_steps=output_steps,
            thetas=self.thetas[outputs],
            cotangents=np.ascontiguousarray(cotangents[outputs]),
        )
        return blocks

    def sweep(self, blocks, steps, outputs, opens, slot=0):
        """Go back over the steps of the memory. opens: whether the first is that of the solve.
        slot: Run.slot after the steps behind these. Returns the counts, and Run.slot."""
        numbers = self.plan.template.copy()
        run = numbers[0]
        run["h0"] = self.trajectory.h0
        run["step"] = steps
        run["output"] = outputs
        run["opens"] = opens
        run["slot"] = slot
        _pieces(self.plan, numbers, blocks, self.loop)
        counts = dict(zip(Run._fields, run.tolist()))
        return {name: counts[name] for name in COUNTS}, counts["slot"]

    def warn(self):
        """Warn if the gradient is mostly noise."""
        if self.plan.family is explicit:
            stability.check(self.field, self.trajectory, self.pointers, self.seen)


def interpreted(plan: PreparedSweep, numbers: np.ndarray, blocks: Blocks) -> None:
    """The loop as Python, to debug it."""
    go_back(plan.family, numbers.view(np.recarray)[0], plan.tables, blocks.memory())


def compiled(plan: PreparedSweep, numbers: np.ndarray, blocks: Blocks) -> None:
    """The compiled loop."""
    loop = entry(go_back, plan.family, RECORD, plan.tables, plan.blueprint)
    loop(numbers, plan.tables, blocks.slots)


def _pieces(plan, numbers, blocks, loop):
    """Run the loop to its end."""
    run = numbers[0]
    size = FIRST_PIECE
    while True:
        before = int(run["step"])
        run["pause"] = max(0, before - size)
        begun = time.monotonic()
        loop(plan, numbers, blocks)
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
