"""The rows of a batch as Julia's solves of their own, on Julia's threads."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...core.row_statuses import NUMBERS, RowStatuses
from ...core.status import Status
from ..native.row_fields import RowFields
from ..native.row_outputs import by_row, own_times, shared_times, spread
from ..torch.loop import SMALLEST
from .entries import JuliaError, KeptRows
from .field import CAUSES, MANY
from .functions import NativeFunctions, native_functions
from .request import (
    SERVED,
    SKIPPED,
    STOPPED,
    VERSION,
    Request,
    RowsRequest,
)
from .runtime import Runtime, start
from .solve import ENDINGS, write_options

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.options import Options
    from ...core.stop_conditions import RowLimits
    from ..torch.batched_loop import RowSpans
    from .algorithms import JuliaMethod

ROOM = 400  # bytes for the message of one row
# Counts of Stats by those of an Outcome.
COUNTS = {
    "accepted": "accepted",
    "rejected": "rejected",
    "nlu": "factorisations",
    "nsolve": "solves",
    "newton_failures": "failures",
    "switches": "switches",
    "nfe": "nfe",
    "njac": "njac",
}


class RowServant:
    """Has Julia serve an array of requests, one for each row.

    rows: (m,) of Request or GradientRequest, whose version, stop, message and room are written
    here. seconds: for all rows. After ``serve``, answers: (m,) what Julia answered for each.
    """

    def __init__(self, rows: np.ndarray, threads: int, seconds: float = math.inf) -> None:
        count = len(rows)
        self.rows = rows
        self.answers = np.full(count, STOPPED, dtype=np.int64)
        self._stop = np.zeros(1, dtype=np.int64)
        self._texts = np.zeros((count, ROOM), dtype=np.uint8)
        rows["version"] = VERSION
        rows["stop"] = self._stop.ctypes.data
        rows["message"] = self._texts.ctypes.data + ROOM * np.arange(count)
        rows["room"] = ROOM
        rows["seconds"] = seconds
        self.request = RowsRequest()
        self.request.rows = rows.ctypes.data
        self.request.count = count
        self.request.threads = threads
        self.request.signals = 1
        self.request.seconds = seconds
        self.request.stop = self._stop.ctypes.data
        self.request.answers = self.answers.ctypes.data

    def serve(self, entry: Any) -> None:
        """Call forward_rows or gradient_rows of Entries. Raises JuliaError if Julia failed in one
        of the rows, and what the handler of a signal has raised."""
        entry(self.request)
        failed = ~np.isin(self.answers, (SERVED, STOPPED, SKIPPED))
        if failed.any():
            row = int(np.argmax(failed))
            text = bytes(self._texts[row]).split(b"\0")[0].decode(errors="replace")
            raise JuliaError(f"Julia failed in a row of the batch: {text}")


def threads_of(julia: Runtime) -> int:
    """By how many threads Julia serves a batch."""
    if julia.entries.parallel:
        return julia.threads
    return 1


class RowClocks:
    """Julia's time of each row, which runs forward; from 0 where the span is short beside its start
    (ForeignField). starts, ends: (m,)."""

    def __init__(self, starts: np.ndarray, ends: np.ndarray) -> None:
        self.direction = np.where(ends > starts, 1.0, -1.0)
        sizes = np.abs(np.stack((starts, ends)))
        near = (starts * ends > 0) & (sizes.max(0) <= 2 * sizes.min(0))
        self.origin = np.where(near, starts, 0.0)

    def inner(self, t: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
        """Julia's times at the times t of f, whose first dimension is that of the rows."""
        shape = (-1,) + (1,) * (t.ndim - 1)
        return self.direction[rows].reshape(shape) * (t - self.origin[rows].reshape(shape))

    def outer(self, s: np.ndarray) -> np.ndarray:
        """The times of f at Julia's times s, (m,)."""
        return self.origin + self.direction * s


class JuliaRows:
    """The result for a batch, as backends/torch/batched_loop.Rows, made of Julia's solves.

    fields: RowFields, functions: what Julia calls of them. index: (m,) the numbers of the rows.
    clocks: Julia's times; ends: (m,) where, in Julia's time, the rows have ended. kept: what Julia
    keeps for a gradient, or None. start: (t (m,), y (m, n), dy/dt (m, n) or None).
    """

    slopes = None

    def __init__(self, solve: _RowSolve, servant: RowServant) -> None:
        outcome = servant.rows["outcome"]
        spans = solve.spans
        served = servant.answers == SERVED
        self.fields = solve.fields
        self.functions = solve.functions
        self.addresses = solve.addresses
        self.index = solve.index
        self.clocks = solve.clocks
        self.start = solve.start
        self.first = solve.outputs[:, 0]
        self.ends = np.where(served, outcome["t"], self.first)
        self.kept: KeptRows | None = None
        if solve.record:
            self.kept = KeptRows(solve.julia.entries, outcome["kept"].copy())
        arrived = self.ends >= solve.request_ends
        self.t = np.where(arrived, spans.end, self.clocks.outer(self.ends))
        self.t = np.where(self.ends == self.first, spans.start, self.t)
        self.statuses = _statuses(servant, solve.options)
        self.reached = np.maximum(np.where(served, outcome["reached"], 1) - 1, 0)
        if isinstance(solve.wanted, list):
            self.reached = np.minimum(self.reached, [len(times) for times in solve.wanted])
        self.place = spans.place + self.reached
        states = spread(solve.states, self.reached, spans, solve.wanted)
        if not isinstance(solve.wanted, list):
            states[0] = solve.start[1]
        self.ys = torch.from_numpy(states)
        self.last = torch.from_numpy(solve.last)
        self.attempts = spans.attempts + outcome["accepted"] + outcome["rejected"]


def _statuses(servant: RowServant, options: Options) -> RowStatuses:
    """How each row ended."""
    outcome = servant.rows["outcome"]
    by_ending = np.array([NUMBERS[status] for status in ENDINGS])
    statuses = RowStatuses(by_ending[outcome["ending"]])
    special = (outcome["ending"] != 0) | (outcome["cause"] != 0) | (servant.answers != SERVED)
    for i in np.flatnonzero(special).tolist():
        if servant.answers[i] == SKIPPED:
            statuses[i] = Status.MAX_SECONDS
        elif int(outcome["cause"][i]) in CAUSES:
            statuses[i] = CAUSES[int(outcome["cause"][i])]
        elif statuses[i] is Status.STEP_TOO_SMALL:
            statuses[i] = _cause(outcome[i], options)
    return statuses


def _cause(outcome, options):
    """Why the steps of a row became too small."""
    if not outcome["finite"]:
        return Status.NONFINITE
    if options.min_step and outcome["next_step"] <= options.min_step:
        return Status.MIN_STEP
    return Status.STEP_TOO_SMALL


class _RowSolve:
    """What the requests of a batch point to, and the requests."""

    def __init__(
        self,
        julia: Runtime,
        fields: RowFields,
        functions: NativeFunctions,
        method: JuliaMethod,
        starts: Tensor,
        spans: RowSpans,
        options: Options,
        atol: np.ndarray,
        index: np.ndarray,
        record: bool,
    ) -> None:
        self.julia = julia
        self.fields = fields
        self.functions = functions
        self.method = method
        self.spans = spans
        self.options = options
        self.index = index
        self.record = record
        # The start of a row, and after the solve the state at its end.
        self.last = starts.detach().numpy().copy()
        self.start: Any = (spans.start, self.last.copy(), None)
        self.atol = np.ascontiguousarray(atol, self.last.dtype)
        self.clocks = RowClocks(spans.start, spans.end)
        self.addresses = np.ascontiguousarray(fields.addresses(index))
        self.request_ends = self.clocks.inner(spans.end)
        self._make_times()
        self.states = np.empty(
            (len(index), self.outputs.shape[1], starts.shape[1]), starts.numpy().dtype
        )

    def _make_times(self):
        """The output times from the start on, and the stops, as times of Julia: (m, T), (m, k)."""
        spans = self.spans
        count = len(self.index)
        shared = shared_times(spans)
        self.wanted: Any = shared
        if shared is None:
            self.wanted, rows = own_times(spans)
            self.lengths = np.array([len(row) for row in rows])
            times = np.repeat(spans.end[:, None], self.lengths.max(), axis=1)
            for i, row in enumerate(rows):
                times[i, : len(row)] = row
        else:
            times = np.tile(shared, (count, 1))
            self.lengths = np.full(count, len(shared))
        self.outputs = np.ascontiguousarray(self.clocks.inner(times))
        self.stops = [self._stops_of(i) for i in range(count)] if len(spans.stops) else []

    def _stops_of(self, i):
        """The times, of Julia, at which steps of row i must end."""
        first = self.outputs[i, 0]
        end = self.request_ends[i]
        stops = self.clocks.direction[i] * (self.spans.stops - self.clocks.origin[i])
        least = max(SMALLEST * float(end - first), np.finfo(float).tiny)
        return np.ascontiguousarray(np.sort(stops[(stops - first > least) & (stops < end)]))

    def requests(self) -> np.ndarray:
        """(m,) a Request for each row."""
        count = len(self.index)
        rows = np.tile(np.frombuffer(bytes(self._template()), np.dtype(Request)), count)
        place = np.arange(count)
        rows["origin"] = self.clocks.origin
        rows["direction"] = self.clocks.direction
        rows["inputs"] = self.addresses.ctypes.data + place * self.addresses.strides[0]
        rows["start"] = self.last.ctypes.data + place * self.last.strides[0]
        rows["t0"] = self.outputs[:, 0]
        rows["t1"] = self.request_ends
        rows["atol"] = self.atol.ctypes.data + place * self.atol.strides[0]
        rows["outputs"] = self.outputs.ctypes.data + place * self.outputs.strides[0]
        rows["output_count"] = self.lengths
        rows["states"] = self.states.ctypes.data + place * self.states.strides[0]
        rows["maxiters"] = np.maximum(1, self.options.max_steps - self.spans.attempts)
        if self.stops:
            rows["stops"] = [own.ctypes.data for own in self.stops]
            rows["stop_count"] = [len(own) for own in self.stops]
        return rows

    def _template(self):
        """What all rows have in common."""
        request = Request()
        bound = self.fields.bound
        method = self.method
        request.bits = 64 if self.last.dtype == np.float64 else 32
        request.n = self.last.shape[1]
        request.np = sum(x.numel() for x in bound.targets)
        self.functions.fill(request)
        write_options(request, self.options)
        if method.algorithm is not None:
            request.algorithm = self.julia.chosen(method.algorithm)
        else:
            request.algorithm = self.julia.algorithm(method.name)
        request.matrix = 1
        request.uniform = method.one_atol
        request.dense = self.record
        request.most = MANY if self.options.max_nfe is None else self.options.max_nfe
        return request


def functions_of(fields: RowFields, method: JuliaMethod, gradient: bool) -> NativeFunctions:
    """What Julia calls of the rows. gradient: whether the products of an adjoint are needed. Raises
    TranslationRefused if a function cannot be made."""
    return native_functions(fields.bound, method, "dense", gradient)


def integrate_rows(
    field: RowField,
    method: JuliaMethod,
    starts: Tensor,
    spans: RowSpans,
    options: Options,
    atol: Tensor,
    record: bool,
    limits: RowLimits | None,
    index: Tensor,
) -> JuliaRows:
    """Every row from its start to its end, with the arguments of backends/native/batch.py.

    max_nfe holds for each row. The results do not depend on the number of threads.
    """
    julia = start()
    numbers = index.numpy()
    fields = RowFields(field, float(spans.start[0]), starts[0])
    functions = functions_of(fields, method, record)
    tolerances = by_row(atol, numbers, starts.shape[1], field.batch)
    solve = _RowSolve(
        julia, fields, functions, method, starts, spans, options, tolerances, numbers, record
    )
    if record:
        solve.start = (*solve.start[:2], _slopes(field, index, spans, starts))
    seconds = math.inf
    if limits is not None and limits.deadline is not None:
        seconds = limits.deadline - time.monotonic()
    servant = RowServant(solve.requests(), threads_of(julia), seconds)
    servant.serve(julia.entries.forward_rows)
    outcome = servant.rows["outcome"]
    for name, source in COUNTS.items():
        total = getattr(field.stats, name) + int(outcome[source].sum())
        setattr(field.stats, name, total)
    return JuliaRows(solve, servant)


def _slopes(field, index, spans, starts):
    """dy/dt at the starts, (m, n), by which the gradient sees whether f has changed."""
    part = field.select(index) if len(index) != field.batch else field
    with torch.no_grad():
        return part.eval(torch.from_numpy(spans.start), starts.detach())
