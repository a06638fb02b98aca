"""Restart points of a native solve, and the steps that are repeated from them.

A point has all that the loop needs at the start of a step: its record and the arrays that live from
step to step. So the repetition takes the same attempts and gives the same numbers in every bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..torch.checkpoint_schedule import RestartPoint, RestartPoints, fitting
from .blocks import Blocks
from .hooks import Hook
from .linear import SPARSE
from .newton import FACTORISED
from .prepared import CAPACITY, TAPE, Prepared
from .run import NO_STEP, RUNNING

# What every family keeps from step to step, what Newton's iteration keeps besides, and the factors.
KEPT = ("y", "stages", "vectors", "numbers", "marks")
DENSE = ("matrix", "pivots", "blocks", "block_pivots", "lift")
SPARSE_FACTORS = ("pivots", "factors", "corner", "corner_pivots", "lift")
COUNTS = ("nfe", "njac", "nlu", "nsolve")  # of Run
MOST = 1000  # attempts between two looks at Ctrl-C


class Checkpoints(NamedTuple):
    """What DiscreteAdjoint asks for: a number of states, or bytes."""

    states: int | None = None
    max_memory: int | None = None


class Steps(NamedTuple):
    """Some recorded steps, as NativeTrajectory has all. end_state: (n,) at the end of the last."""

    starts: np.ndarray
    sizes: np.ndarray
    states: np.ndarray
    stages: np.ndarray
    numbers: np.ndarray
    end_state: np.ndarray


class RestartRecord:
    """The record of a solve that keeps restart points, and the start and size of each step.

    blocks: the memory of the solve, with a record of one piece. counts: of the repeated steps.
    """

    def __init__(
        self,
        wanted: Checkpoints,
        plan: Prepared,
        numbers: np.ndarray,
        blocks: Blocks,
        loop: Callable,
        allow: Callable[[float, np.ndarray], bool] | None,
    ) -> None:
        limit = every = wanted.states
        if wanted.max_memory is not None:
            sizes = _point_bytes(blocks), _step_bytes(blocks)
            limit, every = fitting(wanted.max_memory, *sizes, plan.method.name, plan.size)
        assert every is not None
        self.restarts = RestartPoints(limit, every)
        self.plan = plan
        self.loop = loop
        self.allow = allow
        self.numbers = numbers
        self.blocks = blocks
        resize(blocks, min(every, CAPACITY))
        self.starts = np.empty(0)
        self.sizes = np.empty(0)
        self._pieces: list[tuple[np.ndarray, np.ndarray]] = []
        self.counts = dict.fromkeys((*COUNTS, "steps"), 0)
        self._offer()

    def more_room(self, blocks: Blocks) -> None:
        """Make room when the record of the piece is full."""
        every = self.restarts.every
        count = len(blocks.of("tape_t"))
        if count < every:
            resize(blocks, min(2 * count, every))
            return
        self._pieces.append((blocks.of("tape_t").copy(), blocks.of("tape_h").copy()))
        run = self.numbers[0]
        run["first"] = run["accepted"]
        self._offer()

    def _offer(self):
        self.restarts.offer(
            int(self.numbers[0]["accepted"]), lambda: _content(self.numbers, self.blocks)
        )

    def finish(self, trajectory: Any) -> None:
        """Give the trajectory its starts and sizes, and free the record of the last piece. A solve
        of one piece keeps its record instead."""
        run = self.numbers[0]
        if not run["first"]:
            return
        blocks = self.blocks
        count = int(run["accepted"] - run["first"])
        self._pieces.append((blocks.of("tape_t")[:count], blocks.of("tape_h")[:count]))
        starts, sizes = (np.concatenate(parts) for parts in zip(*self._pieces, strict=True))
        self.starts = trajectory.starts = starts
        self.sizes = trajectory.sizes = sizes
        self._pieces = []
        resize(blocks, 0)
        trajectory.states = trajectory.stages = trajectory.numbers = None
        trajectory.restarts = self

    def backwards(self, end: int) -> Iterator[tuple[int, Steps]]:
        """Yield the steps before number ``end`` in pieces, the last piece first: (number of the
        first step, Steps). The arrays are valid until the next piece."""
        repetition = _Repetition(self)
        for point, last in self.restarts.backwards(end, repetition.content_at):
            yield point.index, repetition.steps(point, last)

    def whole(self) -> Steps:
        """All steps at once."""
        pieces = [
            Steps(*(part.copy() for part in steps)) for _, steps in self.backwards(len(self.starts))
        ]
        starts, sizes, states, stages, numbers, ends = zip(*reversed(pieces), strict=True)
        return Steps(
            np.concatenate(starts),
            np.concatenate(sizes),
            np.concatenate(states),
            np.concatenate(stages),
            np.concatenate(numbers),
            ends[-1],
        )


class _Repetition:
    """Takes recorded steps again, in a memory of its own."""

    def __init__(self, record: RestartRecord) -> None:
        self.record = record
        self.numbers = record.numbers.copy()
        self.blocks = record.blocks.twin()
        self.blocks.give(work=np.empty(record.plan.work, record.plan.real))
        resize(self.blocks, min(record.restarts.every, len(record.starts)))
        self.hook = None
        if record.allow is not None:
            memory = self.blocks.memory()
            plan = record.plan
            self.hook = Hook(
                plan.family, plan.tables, self.numbers, memory, record.allow, None, False
            )

    def content_at(self, point: RestartPoint, last: int) -> Any:
        """The content of a point before step number ``last``."""
        self._restore(point)
        every = self.record.restarts.every
        for first in range(point.index, last, every):
            self._take(first, min(first + every, last))
        return _content(self.numbers, self.blocks)

    def steps(self, point: RestartPoint, last: int) -> Steps:
        """The steps from a point up to number ``last``, without that one."""
        self._restore(point)
        count = last - point.index
        self._take(point.index, last)
        starts, sizes, states, stages, numbers = (self.blocks.of(name)[:count] for name in TAPE)
        return Steps(starts, sizes, states, stages, numbers, self.blocks.of("y").copy())

    def _restore(self, point):
        numbers, arrays = point.content
        run = self.numbers[0]
        hook = run["hook"]
        self.numbers[:] = numbers
        run["hook"] = hook if self.hook is not None else 0
        run["watched"] = NO_STEP
        run["dense"] = 0
        run["slopes"] = 0
        run["position"] = len(self.blocks.of("times"))  # no outputs
        for name, array in arrays.items():
            self.blocks.of(name)[...] = array

    def _take(self, first, last):
        """Take the steps from first to last - 1, and compare them with the record."""
        record = self.record
        run = self.numbers[0]
        run["first"] = first
        blocks = self.blocks
        blocks.limit(TAPE, last - first)
        before = [int(run[name]) for name in COUNTS]
        while run["accepted"] < last and run["status"] == RUNNING:
            run["pause"] = run["attempts"] + MOST
            record.loop(record.plan, self.numbers, blocks)
            if self.hook is not None and self.hook.error is not None:
                raise self.hook.error
        same = (
            run["accepted"] == last
            and np.array_equal(blocks.of("tape_t")[: last - first], record.starts[first:last])
            and np.array_equal(blocks.of("tape_h")[: last - first], record.sizes[first:last])
        )
        if not same:
            raise RuntimeError(
                f"the steps from t = {record.starts[first]:.6g} were others when they were repeated"
                " for the gradient: f must return the same values every time, and so must the"
                " domain of the solve"
            )
        record.counts["steps"] += last - first
        for name, count in zip(COUNTS, before, strict=True):
            record.counts[name] += int(run[name]) - count


def resize(blocks: Blocks, capacity: int, i: int = 0) -> None:
    """Give solve i a record of another size."""
    for name in TAPE:
        array = blocks.of(name, i)
        other = np.empty((capacity, *array.shape[1:]), array.dtype)
        kept = min(capacity, len(array))
        other[:kept] = array[:kept]
        blocks.replace(name, i, other)


def _content(numbers, blocks):
    """(the record, arrays by name) that the loop needs to go on."""
    return numbers.copy(), {name: blocks.of(name).copy() for name in _names(blocks)}


def _names(blocks):
    """The arrays that the loop needs to go on. Methods without marks have no Jacobian from an
    earlier step."""
    marks = blocks.of("marks")
    if not len(marks):
        return KEPT
    if not marks[FACTORISED]:
        return (*KEPT, "jac")
    if blocks.of("pivots")[0] == SPARSE:
        return (*KEPT, "jac", *SPARSE_FACTORS)
    return (*KEPT, "jac", *DENSE)


def _point_bytes(blocks):
    """The most bytes of a point."""
    names = set(KEPT)
    if len(blocks.of("marks")):
        names |= {"jac", *(SPARSE_FACTORS if len(blocks.of("plan_rows")) else DENSE)}
    return sum(blocks.of(name).nbytes for name in names)


def _step_bytes(blocks):
    """The bytes of a recorded step."""
    arrays = [blocks.of(name) for name in TAPE]
    return sum(math.prod(array.shape[1:]) * array.itemsize for array in arrays)
