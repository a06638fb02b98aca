"""The results of a solve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .in_kind import as_arrays
from .pickling import detached, has_graph
from .stats import Stats
from .status import SolveError, Status
from .trajectory import Curve, Grid
from .vector_field import clamp_negative
from .views.viewable import Viewable

if TYPE_CHECKING:
    from ..failure.report import FailureReport
    from .events import EventRecord, RowRecords
    from .layout import Layout
    from .row_statuses import RowStatuses


class DenseSegment(NamedTuple):
    """A segment of the solve. interpolate(times) -> (m, n): differentiable states at times (floats)
    of this segment.

    nonnegative_mask: the components, (n,), that are zero in the result where they are negative;
    None for no component.
    """

    path: Curve
    interpolate: Callable
    nonnegative_mask: Tensor | None = None

    def detached(self, lost: bool) -> DenseSegment:
        """The polynomials of the segment. lost: whether it had a graph."""
        curve = self.path.detached(lost)
        return DenseSegment(curve, curve.evaluate, self.nonnegative_mask)


class Solution(Viewable):
    """States at the output times, how the solve ended, and its cost.

    t: (T,) times reached, float64.
    y: states in the structure of y0 with a leading dimension T, differentiable.
    status, message: how the solve ended.
    stats: forward counts, and backward counts after a gradient.
    events: list of EventRecord, in the order of their occurrence.
    method: the name of the method.
    backend: the name of the engine: 'torch', 'native' or 'julia'.
    hooks: by what Julia evaluated f, 'native' or 'python'; empty for the other engines.
    choice: why 'auto' chose the method; empty if the user named it.
    adjoint: the name of the adjoint that makes gradients.
    adjoint_choice: why 'auto' chose the adjoint; empty if the user named it.
    names: the names of the components. ``solution["A"]`` is the component A at all times.

    If y0 was a NumPy array, t and y and what ``solution(t)`` returns are NumPy arrays, and there is
    no gradient.

    With dense output, ``solution(t)`` is the state at any time of the span, and
    ``solution.derivative(t)`` is its dy/dt. Both are differentiable, the first also in t. At the
    time of a reset every output, also y, is the state after the reset.

    Solutions can be pickled, saved by torch.save, deeply copied and sent between processes, and so
    can a SolveError. The copy has no graph: a tensor that had one raises an error if its gradient
    is asked for. Its dense output works. A failed solve makes its report before it is pickled.
    copy.copy shares everything, also the graph.
    """

    def __init__(
        self,
        t: Tensor,
        y: Tensor | Any,
        status: Status,
        message: str,
        stats: Stats,
        method: str,
        layout: Layout,
        segments: Sequence[DenseSegment],
        events: Iterable[EventRecord] = (),
        choice: str = "",
        adjoint: str = "",
        adjoint_choice: str = "",
        examine: Callable[[], FailureReport] | None = None,
        backend: str = "torch",
        hooks: str = "",
        reached: float | None = None,
    ) -> None:
        self.hooks = hooks
        self.adjoint = adjoint
        self.adjoint_choice = adjoint_choice
        self._examine = examine
        self.t = t
        self.y = y
        self.status = status
        self.message = message
        self.stats = stats
        self.method = method
        self.backend = backend
        self.events = list(events)
        self.choice = choice
        self._layout = layout
        self._segments = segments
        self._end = reached
        if segments:
            self._end = segments[-1].path.t
        self._report: Any = None
        self._lost = False

    def __getstate__(self) -> dict[str, Any]:
        if self.success or self._silent:
            report = None
        else:
            report = self.report()
        lost = has_graph(self.y)
        segments = [
            segment.detached(lost) for segment in self._segments if segment.path.polynomials
        ]
        plain = {
            "t": detached(self.t),
            "y": detached(self.y),
            "events": [record.detached() for record in self.events],
        }
        return {
            **vars(self),
            **plain,
            "_segments": segments,
            "_examine": None,
            "_report": report,
            "_lost": lost,
        }

    def __copy__(self) -> Solution:
        return _shared(self)

    @property
    def _silent(self) -> bool:
        """Whether no report is possible."""
        return self._report is None and self._examine is None

    @property
    def _trajectory(self) -> Any:
        """The trajectory of the last segment, to inspect its steps."""
        return self._segments[-1].path

    @property
    def reached(self) -> float:
        """The time that the solve reached. After a failure or an event it can lie beyond the last
        output."""
        if self._end is None:
            return float(self.t[-1])
        return self._end

    @property
    def success(self) -> bool:
        """Whether the solve reached its end, or an event or a callback stopped it."""
        return self.status.success

    @property
    def has_dense_output(self) -> bool:
        """Whether ``solution(t)`` works between the outputs."""
        return any(segment.path.polynomials for segment in self._segments)

    def resample(self, t: int | Sequence[float] | np.ndarray | Tensor) -> Solution:
        """The same solve with other output times, from the dense output, differentiable.

        t: (m,) times within the span, or a number of evenly spaced times over the span. Raise
        ValueError outside the span and without dense=True.
        """
        if isinstance(t, int):
            if t < 2:
                raise ValueError("resample takes at least two times: the start and the end")
            t = torch.linspace(float(self.t[0]), self.reached, t, dtype=torch.float64)
        times = torch.as_tensor(t, dtype=torch.float64)
        if times.dim() != 1:
            raise ValueError(f"resample takes times (m,), not {tuple(times.shape)}")
        other = _shared(self)
        other.t = times
        other.y = self(times)
        if isinstance(self.t, np.ndarray):
            other.t = times.numpy()
        return other

    def check(self) -> Solution:
        """self. Raise SolveError if the solve failed."""
        if not self.success:
            raise SolveError(self)
        return self

    def report(self) -> FailureReport:
        """Why and where the solve failed, and what to try next: a FailureReport. Its str() is a
        page of text.

        It repeats the last steps and evaluates f some hundreds of times. This changes neither the
        counts nor torch's random numbers nor the buffers of f. Raise ValueError if the solve did
        not fail, and for the path of an SDE.
        """
        if self.success:
            raise ValueError(
                f"this solve did not fail ({self.status.sentence}), so there is nothing to report"
            )
        if self._silent:
            raise ValueError(
                "only solves of ordinary differential equations have reports; message says how this"
                " solve ended"
            )
        if self._report is None and self._examine is not None:
            self._report = self._examine()
        return self._report

    def __call__(self, t: float | Sequence[float] | Tensor) -> Tensor | Any:
        """The state at time t, a number or (m,) times. Raise ValueError outside the span or without
        dense=True."""
        times = torch.as_tensor(t, dtype=torch.float64)
        flat = self._read(times, lambda segment, queries: segment.interpolate(queries))
        if times.requires_grad and torch.is_grad_enabled():
            slopes = self._read(times, lambda segment, queries: segment.path.derivative(queries))
            flat = flat + slopes.clone() * (times - times.detach()).to(flat).unsqueeze(-1)
        return self._state(clamp_negative(flat, self._segments[-1].nonnegative_mask))

    def derivative(self, t: float | Sequence[float] | Tensor) -> Tensor | Any:
        """dy/dt of the dense output at time t, a number or (m,) times, in the structure of y0.

        This is the derivative of the polynomials, not f at their states. On a stiff problem f
        amplifies the error of the polynomials.
        """
        return self._state(self._read(torch.as_tensor(t, dtype=torch.float64), _derivative))

    def _state(self, flat):
        """States, (..., n), in the structure of y0, and as arrays where y0 was one."""
        state = self._layout.unravel(flat)
        if isinstance(self.t, np.ndarray):
            return as_arrays(state)
        return state

    def _read(self, times, read):
        """read(segment, queries) -> (m, n) for the times of each segment, as (*times.shape, n)."""
        segments = [segment for segment in self._segments if segment.path.polynomials]
        if not segments:
            raise ValueError("this solution has no dense output: call solve(..., dense=True)")
        first = segments[0].path
        last = segments[-1].path
        span = Grid([first.t0], last.t)
        rows = []
        order = []
        members = {}
        for i, s in enumerate(times.detach().reshape(-1).tolist()):
            if not span.covers(s):
                raise ValueError(
                    f"t = {s:.6g} lies outside the solved span, {first.t0:.6g} to {last.t:.6g}"
                )
            k = max(
                j
                for j, segment in enumerate(segments)
                if span.direction * (s - segment.path.t0) >= 0
            )
            members.setdefault(k, []).append((i, s))
        if not members:
            return first.y0.new_empty(*times.shape, first.y0.numel())
        for k, queries in members.items():
            order += [i for i, _ in queries]
            rows.append(read(segments[k], [s for _, s in queries]))
        flat = torch.cat(rows)
        if len(rows) > 1:
            flat = flat[torch.tensor(order, device=flat.device).argsort()]
        return flat.reshape(*times.shape, -1)

    def __repr__(self) -> str:
        if self._lost:
            note = ", no graph: it is a copy"
        else:
            note = ""
        end = f"{len(self.t)} times to t = {float(self.t[-1]):.6g}"
        return f"Solution({self.method}, {end}, {self.status.name}, {self.stats}{note})"


def _shared(solution):
    """A new object with the same contents."""
    other = object.__new__(type(solution))
    vars(other).update(vars(solution))
    return other


def _derivative(segment, queries):
    """dy/dt, (m, n). Its gradient is that of the states at as many nodes as determine the
    polynomial of the step."""
    slopes = segment.path.derivative(queries).clone()
    if not torch.is_grad_enabled():
        return slopes
    nodes, weights = segment.path.derivative_weights(queries)
    states = segment.interpolate([t for group in nodes for t in group]).split(
        [len(group) for group in nodes]
    )
    attached = torch.stack(
        [torch.mv(rows.t(), w.to(rows)) for w, rows in zip(weights, states, strict=True)]
    )
    if attached.requires_grad:
        return slopes.detach() + (attached - attached.detach())
    return slopes


class BatchSolution(Viewable):
    """The result of a solve with batched=True.

    t: (T, B) times, a column for each row.
    y: states with leading dimensions (T, B), differentiable. NaN if a row did not reach a time.
    statuses: how each row ended.
    reached: the time that each row reached, a list.
    stats: counts over all rows.
    backend: the name of the engine: 'torch', 'native' or 'julia'.
    events: for each row a list of EventRecord, in the order of their occurrence, with the states of
        the row.

    It pickles and copies like a Solution. The copy has the report of the first row that failed, and
    those made before.
    """

    def __init__(
        self,
        t: Tensor,
        y: Tensor | Any,
        statuses: RowStatuses,
        reached: np.ndarray,
        stats: Stats,
        method: str,
        events: RowRecords,
        layout: Layout,
        examine: Callable[[int], FailureReport] | None = None,
        backend: str = "torch",
    ) -> None:
        self._layout = layout
        self._examine = examine
        self.backend = backend
        self.t = t
        self.y = y
        self.statuses = statuses
        self._reached = reached
        self.stats = stats
        self.method = method
        self.events = events
        self._reports: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        if not self.success:
            self.report()
        plain = {
            "t": detached(self.t),
            "y": detached(self.y),
            "events": self.events.detached(),
        }
        return {**vars(self), **plain, "_examine": None}

    def __copy__(self) -> BatchSolution:
        return _shared(self)

    @cached_property
    def reached(self) -> list[float]:
        """The time that each row reached."""
        return self._reached.tolist()

    @property
    def success(self) -> bool:
        """Whether every row succeeded."""
        return bool(self.statuses.good().all())

    @property
    def status(self) -> Status:
        """SUCCESS, or the status of the first row that failed."""
        failed = self._failed()
        if not len(failed):
            return Status.SUCCESS
        return self.statuses[failed[0]]

    def _failed(self):
        """The numbers of the rows that failed."""
        return np.flatnonzero(~self.statuses.good())

    @property
    def message(self) -> str:
        """How the rows ended, in a sentence."""
        failed = self._failed()
        if not len(failed):
            notes = []
            ends = {
                Status.EVENT: "stopped at a terminal event",
                Status.CALLBACK: "stopped by a callback",
            }
            for status, words in ends.items():
                count = np.count_nonzero(self.statuses.are(status))
                if count:
                    notes.append(f" ({count} {words} before)")
            return f"{len(self.statuses)} rows: {Status.SUCCESS.sentence}{''.join(notes)}."
        first = failed[0]
        return (
            f"{self.method}: {len(failed)} of {len(self.statuses)} rows failed, the first of them"
            f" row {first}: {self.status.sentence}, at t = {self._reached[first]:.6g}. What to do:"
            f" {self.status.remedy}."
        )

    def report(self, row: int | None = None) -> FailureReport:
        """Why and where a row failed, and what to try next: a FailureReport. row: its number; by
        default the first row that failed.

        Raise ValueError if the row did not fail.
        """
        failed = self._failed().tolist()
        if row is None:
            if failed:
                row = failed[0]
            else:
                row = 0
        if row not in failed:
            raise ValueError(
                f"row {row} did not fail; those that did:"
                f" {', '.join(map(str, failed[:20])) or 'none'}"
            )
        if row not in self._reports:
            if self._examine is None:
                raise ValueError(
                    f"this copy of a solution has no report of row {row}: call report({row}) before"
                    " the solution is copied or sent"
                )
            self._reports[row] = self._examine(row)
        return self._reports[row]

    def check(self) -> BatchSolution:
        """self. Raise SolveError if a row failed."""
        if not self.success:
            raise SolveError(self)
        return self
