"""Many native solves at once, on all processors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...core.status import Status
from .compiler import entry
from .jumps import stops_and_restarts
from .loop import advance
from .prepared import Prepared, prepared
from .run import NEXT, RECORD, RUNNING, STATUSES
from .solve import check_state, first_piece, grow
from .trajectory import NativeTrajectory

if TYPE_CHECKING:
    from .row_observer import RowObserver

# Rows that a thread takes at first, and the seconds that it then spends on the rows it takes.
FIRST_ROWS = 4
SECONDS = 0.02


class RowTrajectories(Sequence):
    """The results of the rows of a batch: a NativeTrajectory for each, made when asked for.

    numbers: (B,) RECORD. blocks: the memory of all rows. outputs: (B, T, n). slopes: the same, or
    (B, 0, n).
    """

    def __init__(self, plan: Prepared, numbers: np.ndarray, blocks: Any) -> None:
        self.plan = plan
        self.numbers = numbers
        self.blocks = blocks
        self.outputs = blocks.each("outputs")
        self.slopes = blocks.each("slopes")

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, i: Any) -> Any:
        return NativeTrajectory(self.plan, self.numbers, self.blocks, range(len(self))[i])


def integrate_rows(
    field: Any,
    method: Any,
    starts: np.ndarray,
    times: np.ndarray | Sequence[Sequence[float]],
    options: Any,
    atol: np.ndarray,
    threads: int | None = None,
    inputs: np.ndarray | None = None,
    attempts: np.ndarray | None = None,
    bounds: tuple[np.ndarray, np.ndarray] | None = None,
    record: bool = False,
    slopes: bool = False,
    deadline: float | None = None,
    observer: RowObserver | None = None,
    jumps: np.ndarray | None = None,
) -> RowTrajectories:
    """A solve for each row: the results of ``integrate``. They do not depend on the threads.

    starts: (B, n). times: (T,) of all rows, or those of each row. atol: (B,) or (B, n). threads: by
    default those of torch. inputs: (B, k) int64 addresses of the parameters of each row; None for
    those of the field. attempts: (B,) steps that each row has tried before. bounds: (lowest,
    floor), (B, n) each. record, slopes, deadline: as in ``integrate``, for all rows. observer: what
    Python asks between the steps. jumps: (B, k) times at which f jumps in each row, NaN for missing
    ones, or None.
    """
    starts = np.ascontiguousarray(starts)
    check_state(field, starts[0])
    if options.step_size is not None:
        method.fixed()  # raises for a method that chooses its own steps
    plan = prepared(field, method, starts.dtype, record, False, slopes)
    held = None
    if inputs is None:
        pointers, held = field.pointers()
        inputs = np.tile(pointers, (len(starts), 1))
    tolerances = np.empty(starts.shape)
    tolerances[:] = np.reshape(atol, (len(starts), -1))
    numbers, blocks = _memory(plan, starts, times, options, tolerances, bounds, jumps)
    blocks.give_each("inputs", inputs)
    if attempts is not None:
        numbers["attempts"] = attempts
    if observer is not None:
        observer.begin(plan, numbers, blocks)
    _Pass(plan, numbers, blocks, deadline, observer).run(threads)
    del held
    return RowTrajectories(plan, numbers, blocks)


def _memory(plan, starts, times, options, atol, bounds, jumps):
    """(records, memory) of all rows."""
    count = len(starts)
    grid, lengths = _padded(times)
    zero_atol = bool(np.min(atol) <= plan.tiny)
    one = plan.numbers(options, zero_atol, bounds is not None)
    numbers = np.tile(one.view(np.uint8), count).view(RECORD)
    first = grid[..., 0]
    if lengths is None:
        last = grid[-1]
    else:
        last = grid[np.arange(count), lengths - 1]
    numbers["t"] = first
    numbers["end"] = last
    numbers["direction"] = np.copysign(1.0, last - first)
    blocks = plan.blueprint.blocks(count)
    blocks.each("y")[:] = starts
    blocks.each("atol")[:] = atol
    if bounds is not None:
        blocks.each("lowest")[:], blocks.each("floor")[:] = bounds
    outputs = np.empty((count, grid.shape[-1], plan.size), starts.dtype)
    outputs[:, 0] = starts
    blocks.give_each("outputs", outputs)
    places = (count, grid.shape[-1] if plan.record else 0)
    blocks.give_each("output_steps", np.full(places, -1))
    blocks.give_each("thetas", np.empty(places))
    blocks.give_each("slopes", np.empty_like(outputs) if plan.slopes else outputs[:, :0].copy())
    if lengths is None:
        blocks.give(times=grid)
    else:
        blocks.give_each("times", grid, lengths)
    if lengths is None and jumps is None:
        stops, restarts = stops_and_restarts(options.tstops, (), first, last, starts.dtype)
        blocks.give(stops=stops, restarts=restarts)
        return numbers, blocks
    ends = zip(
        np.broadcast_to(first, count).tolist(), np.broadcast_to(last, count).tolist(), strict=True
    )
    own = [
        stops_and_restarts(options.tstops, () if jumps is None else jumps[i], a, b, starts.dtype)
        for i, (a, b) in enumerate(ends)
    ]
    blocks.give_each("stops", *_padded([stops for stops, _ in own]))
    blocks.give_each("restarts", *_padded([restarts for _, restarts in own]))
    return numbers, blocks


def _padded(values):
    """(array, lengths) of numbers for each row; of numbers for all rows: (array (T,), None)."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return np.ascontiguousarray(values, np.float64), None
    lengths = np.array([len(row) for row in values], dtype=np.int64)
    padded = np.zeros((len(values), lengths.max()))
    for i, row in enumerate(values):
        padded[i, : len(row)] = row
    return padded, lengths


class _Pass:
    """Runs the loops of all rows to their ends."""

    def __init__(self, plan, numbers, blocks, deadline, observer):
        self.plan = plan
        self.numbers = numbers
        self.blocks = blocks
        self.deadline = deadline
        self.loop = entry(advance, plan.family, RECORD, plan.tables, plan.blueprint)
        self.observer = observer
        self.piece = first_piece(plan)
        self.work = plan.work
        if observer is not None:
            self.work = max(plan.work, observer.work)
            if observer.lockstep:
                self.piece = 1

    def run(self, threads):
        """Rows that are not ready after a piece go on when the others have had theirs."""
        status = self.numbers["status"]
        going = np.arange(len(status))
        while len(going):
            if not in_shares(self._advance, going, threads, self.deadline, self._work):
                status[status == RUNNING] = STATUSES.index(Status.MAX_SECONDS)
            going = self._next(going)

    def _next(self, gone):
        """The rows that go on after these have had a piece."""
        numbers = self.numbers
        if self.observer is not None:
            asking = gone[(numbers["asking"][gone] != 0) & (numbers["status"][gone] == RUNNING)]
            self.observer.answer(asking)
            if self.observer.lockstep:
                if len(asking):
                    return asking  # They have not finished their attempts.
                self.observer.after_pass()
        return np.flatnonzero(numbers["status"] == RUNNING)

    def _work(self):
        return np.empty(self.work, self.plan.real)

    def _advance(self, which, work):
        """Go on with these rows."""
        numbers = self.numbers
        blocks = self.blocks
        blocks.lend("work", which, work)
        fresh = which
        if self.observer is not None:
            fresh = which[numbers["phase"][which] == NEXT]  # The others go on with an attempt.
        numbers["pause"][fresh] = numbers["attempts"][fresh] + self.piece
        self.loop.each(numbers, self.plan.tables, blocks.slots, which)
        if not self.plan.record:
            return
        for i in which[numbers["status"][which] == RUNNING].tolist():
            if numbers["accepted"][i] == len(blocks.of("tape_t", i)):
                grow(blocks, i)


def in_shares(
    task: Callable[[np.ndarray, Any], None],
    which: np.ndarray,
    threads: int | None,
    deadline: float | None = None,
    resource: Callable[[], Any] = lambda: None,
) -> bool:
    """Call task(share, resource()) for shares of which, int64, by several threads. Whether all was
    done by the deadline.

    resource: makes what a thread needs for all its shares. If a task raises an error, or Ctrl-C
    interrupts, the other threads end after their present shares.
    """
    workers = max(1, min(threads or torch.get_num_threads(), len(which)))
    stop = threading.Event()
    lock = threading.Lock()
    place = 0
    largest = max(1, len(which) // (8 * workers))

    def work() -> bool:
        nonlocal place
        own = resource()
        size = FIRST_ROWS
        while not stop.is_set():
            with lock:
                share = which[place : place + min(size, largest)]
                place += len(share)
            if not len(share):
                return True
            begun = time.monotonic()
            if deadline is not None and begun > deadline:
                return False
            task(share, own)
            elapsed = max(time.monotonic() - begun, 1e-9)
            size = max(1, min(int(len(share) * SECONDS / elapsed), 4 * size))
        return True

    if workers < 2:
        return work()
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work) for _ in range(workers)]
        try:
            return all([future.result() for future in futures])
        except BaseException:
            stop.set()
            raise


def each(task: Callable[[int], Any], count: int, threads: int | None) -> list[Any]:
    """[task(0), ..., task(count - 1)], by several threads."""
    results: list[Any] = [None] * count

    def share(which: np.ndarray, _: None) -> None:
        for i in which.tolist():
            results[i] = task(i)

    in_shares(share, np.arange(count), threads)
    return results
