"""Restart points of a native solve, and the steps that are repeated from them.

A point has all that the loop needs at the start of a step: its record and the arrays that live from
step to step. So the repetition takes the same attempts and gives the same numbers in every bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..torch.checkpoint_schedule import RestartPoint, RestartPoints, fitting
from .hooks import Hook
from .linear import SPARSE
from .newton import FACTORISED
from .run import HISTORY, RUNNING, Memory

CAPACITY = 256  # steps that the record of a piece has room for at the start
TAPE = ("tape_t", "tape_h", "tape_y", "tape_stages", "tape_numbers")
# What every family keeps from step to step, what Newton's iteration keeps besides, and the factors.
KEPT = ("y", "stages", "vectors", "numbers", "marks")
DENSE = ("matrix", "pivots", "blocks", "block_pivots")
SPARSE_FACTORS = ("pivots", "factors", "corner", "corner_pivots")
# What the loop writes without reading it later.
SCRATCH = ("y1", "point", "error", "ordered", "work")
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

    memory: the Memory of the solve, with a record of one piece. counts: of the repeated steps.
    """

    def __init__(
        self,
        wanted: Checkpoints,
        method: Any,
        family: Any,
        tables: Any,
        numbers: np.ndarray,
        memory: Memory,
        loop: Callable,
        allow: Callable[[float, np.ndarray], bool] | None,
    ) -> None:
        limit = every = wanted.states
        if wanted.max_memory is not None:
            n = len(memory.y)
            sizes = _point_bytes(memory), _step_bytes(memory)
            limit, every = fitting(wanted.max_memory, *sizes, method.name, n)
        assert every is not None
        self.restarts = RestartPoints(limit, every)
        self.family = family
        self.tables = tables
        self.loop = loop
        self.allow = allow
        self.numbers = numbers
        self.memory = resized(memory, min(every, CAPACITY))
        self.starts = np.empty(0)
        self.sizes = np.empty(0)
        self._pieces: list[tuple[np.ndarray, np.ndarray]] = []
        self.counts = dict.fromkeys((*COUNTS, "steps"), 0)
        self._offer(self.memory)

    def more_room(self, memory: Memory) -> Memory:
        """The memory when the record of the piece is full."""
        every = self.restarts.every
        count = len(memory.tape_t)
        if count < every:
            return resized(memory, min(2 * count, every))
        self._pieces.append((memory.tape_t.copy(), memory.tape_h.copy()))
        run = self.numbers[0]
        run["first"] = run["accepted"]
        self._offer(memory)
        return memory

    def _offer(self, memory):
        self.restarts.offer(
            int(self.numbers[0]["accepted"]), lambda: _content(self.numbers, memory)
        )

    def finish(self, trajectory: Any, memory: Memory) -> None:
        """Give the trajectory its starts and sizes, and free the record of the last piece. A solve
        of one piece keeps its record instead."""
        run = self.numbers[0]
        if not run["first"]:
            return
        count = int(run["accepted"] - run["first"])
        self._pieces.append((memory.tape_t[:count], memory.tape_h[:count]))
        starts, sizes = (np.concatenate(parts) for parts in zip(*self._pieces, strict=True))
        self.starts = trajectory.starts = starts
        self.sizes = trajectory.sizes = sizes
        self._pieces = []
        self.memory = trajectory.memory = resized(memory, 0)
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
        own = {name: getattr(record.memory, name).copy() for name in _own(record.memory)}
        # The user may have changed the outputs, and the report of a failure reads the history.
        own["history"] = np.empty((HISTORY, 4))
        memory = record.memory._replace(**own)
        self.memory = resized(memory, min(record.restarts.every, len(record.starts)))
        self.hook = None
        if record.allow is not None:
            self.hook = Hook(
                record.family, record.tables, self.numbers, self.memory, record.allow, None
            )

    def content_at(self, point: RestartPoint, last: int) -> Any:
        """The content of a point before step number ``last``."""
        self._restore(point)
        every = self.record.restarts.every
        for first in range(point.index, last, every):
            self._take(first, min(first + every, last))
        return _content(self.numbers, self.memory)

    def steps(self, point: RestartPoint, last: int) -> Steps:
        """The steps from a point up to number ``last``, without that one."""
        self._restore(point)
        count = last - point.index
        self._take(point.index, last)
        starts, sizes, states, stages, numbers = (
            getattr(self.memory, name)[:count] for name in TAPE
        )
        return Steps(starts, sizes, states, stages, numbers, self.memory.y.copy())

    def _restore(self, point):
        numbers, arrays = point.content
        run = self.numbers[0]
        hook = run["hook"]
        self.numbers[:] = numbers
        run["hook"] = hook if self.hook is not None else 0
        run["watched"] = 0
        run["dense"] = 0
        run["slopes"] = 0
        run["position"] = len(self.memory.times)  # no outputs
        for name, array in arrays.items():
            getattr(self.memory, name)[...] = array

    def _take(self, first, last):
        """Take the steps from first to last - 1, and compare them with the record."""
        record = self.record
        run = self.numbers[0]
        run["first"] = first
        parts = {name: getattr(self.memory, name)[: last - first] for name in TAPE}
        memory = self.memory._replace(**parts)
        before = [int(run[name]) for name in COUNTS]
        while run["accepted"] < last and run["status"] == RUNNING:
            run["pause"] = run["attempts"] + MOST
            record.loop(record.family, self.numbers, record.tables, memory)
            if self.hook is not None and self.hook.error is not None:
                raise self.hook.error
        same = (
            run["accepted"] == last
            and np.array_equal(memory.tape_t, record.starts[first:last])
            and np.array_equal(memory.tape_h, record.sizes[first:last])
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


def resized(memory: Memory, capacity: int) -> Memory:
    """The memory with a record of another size."""
    changed = {}
    for name in TAPE:
        array = getattr(memory, name)
        changed[name] = np.empty((capacity, *array.shape[1:]), array.dtype)
        kept = min(capacity, len(array))
        changed[name][:kept] = array[:kept]
    return memory._replace(**changed)


def _content(numbers, memory):
    """(the record, arrays by name) that the loop needs to go on."""
    return numbers.copy(), {name: getattr(memory, name).copy() for name in _names(memory)}


def _names(memory):
    """The arrays that the loop needs to go on. Methods without marks have no Jacobian from an
    earlier step."""
    if not len(memory.marks):
        return KEPT
    if not memory.marks[FACTORISED]:
        return (*KEPT, "jac")
    if memory.pivots[0] == SPARSE:
        return (*KEPT, "jac", *SPARSE_FACTORS)
    return (*KEPT, "jac", *DENSE)


def _own(memory):
    """All arrays that the loop changes, without the record."""
    return {*KEPT, "jac", *DENSE, *SPARSE_FACTORS, *SCRATCH}


def _point_bytes(memory):
    """The most bytes of a point."""
    names = set(KEPT)
    if len(memory.marks):
        names |= {"jac", *(SPARSE_FACTORS if len(memory.plan_rows) else DENSE)}
    return sum(getattr(memory, name).nbytes for name in names)


def _step_bytes(memory):
    """The bytes of a recorded step."""
    return sum(
        int(np.prod(getattr(memory, name).shape[1:])) * getattr(memory, name).itemsize
        for name in TAPE
    )
