"""What a solve returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from .pickling import detached, has_graph
from .stats import Stats
from .status import SolveError, Status
from .trajectory import Curve, Grid, Trajectory
from .vector_field import clamped


class DenseSegment(NamedTuple):
    """A segment of the solve. between(times) -> (m, n): states at times (floats) of this segment,
    differentiable.

    signed: mask of the components that are told as zero where they are negative, (n,), or None.
    """

    path: Curve
    between: Callable
    signed: torch.Tensor | None = None

    def alone(self, lost) -> DenseSegment:
        """Its polynomials and nothing else. lost: whether it had a graph."""
        curve = self.path.alone(lost)
        return DenseSegment(curve, curve.evaluate, self.signed)


class Solution:
    """States at the output times, how the solve ended, and what it cost.

    t: (T,) times reached, float64; y: states in the structure of y0 with a leading dimension T,
    differentiable; status, message: how it ended; stats: forward counts, and backward ones once a
    gradient was taken; events: list of EventRecord in the order in which they occurred; method: its
    name; choice: why 'auto' took it, empty where it was asked for by name; adjoint: the name of the
    one by which gradients are made, and adjoint_choice: why 'auto' took it, empty likewise. Where
    dense output was asked for, ``solution(t)`` gives the state at any time of the span and
    ``solution.derivative(t)`` its dy/dt, both differentiable likewise, the first also in t. At the
    time of a reset every output, also y itself, is the state after it.

    Solutions can be pickled, saved by torch.save, copied deeply and sent between processes, and so
    can a SolveError. What arrives has no graph: tensors that had one refuse a gradient with a
    sentence. Its dense output works, and a failed solve brings its report, which is made for that.
    copy.copy shares everything, also the graph.
    """

    def __init__(
        self,
        t,
        y,
        status: Status,
        message: str,
        stats: Stats,
        method: str,
        layout,
        pieces,
        events=(),
        choice="",
        adjoint="",
        adjoint_choice="",
        examine=None,
    ):
        self.adjoint = adjoint
        self.adjoint_choice = adjoint_choice
        self._examine = examine
        self.t = t
        self.y = y
        self.status = status
        self.message = message
        self.stats = stats
        self.method = method
        self.events = list(events)
        self.choice = choice
        self._layout = layout
        self._pieces = pieces
        self._report = None
        self._lost = False

    def __getstate__(self):
        if self.success or self._silent:
            report = None
        else:
            report = self.report()
        lost = has_graph(self.y)
        pieces = [piece.alone(lost) for piece in self._pieces if piece.path.polynomials]
        plain = {
            "t": detached(self.t),
            "y": detached(self.y),
            "events": [record.detached() for record in self.events],
        }
        return {
            **vars(self),
            **plain,
            "_pieces": pieces,
            "_examine": None,
            "_report": report,
            "_lost": lost,
        }

    def __copy__(self):
        return _shared(self)

    @property
    def _silent(self) -> bool:
        """Whether there is nothing to make a report from."""
        return self._report is None and self._examine is None

    @property
    def _trajectory(self) -> Trajectory:
        """Of the last segment, for those who want to look at its steps."""
        return self._pieces[-1].path

    @property
    def success(self) -> bool:
        return self.status.success

    def check(self) -> Solution:
        """self, or SolveError where the solve ended before its time."""
        if not self.success:
            raise SolveError(self)
        return self

    def report(self):
        """Why the solve failed, where, and what to try next: a FailureReport, whose str() is a page
        of text.

        It tries the last steps again and asks f some hundreds of times, of which nothing remains:
        neither in the counts nor in torch's random numbers or the buffers of f. ValueError where
        nothing failed, and for the path of an SDE.
        """
        if self.success:
            raise ValueError(
                f"this solve did not fail ({self.status.sentence}), so that there is nothing to"
                " report"
            )
        if self._silent:
            raise ValueError(
                "reports are made of ordinary differential equations alone; message says how this"
                " solve ended"
            )
        if self._report is None:
            self._report = self._examine()
        return self._report

    def __call__(self, t):
        """The state at time t, a number or (m,) times; ValueError outside the span or without
        dense=True."""
        times = torch.as_tensor(t, dtype=torch.float64)
        flat = self._read(times, lambda piece, queries: piece.between(queries))
        if times.requires_grad and torch.is_grad_enabled():
            slopes = self._read(times, lambda piece, queries: piece.path.slope(queries))
            flat = flat + slopes.clone() * (times - times.detach()).to(flat).unsqueeze(-1)
        return self._layout.unravel(clamped(flat, self._pieces[-1].signed))

    def derivative(self, t):
        """dy/dt of the dense output at time t, a number or (m,) times, in the structure of y0.

        Of the polynomials, not f at their states: on a stiff problem f amplifies what the
        polynomials leave.
        """
        return self._layout.unravel(
            self._read(torch.as_tensor(t, dtype=torch.float64), _derivative)
        )

    def _read(self, times, read):
        """read(piece, queries) -> (m, n) for the times of each piece, as (*times.shape, n)."""
        pieces = [piece for piece in self._pieces if piece.path.polynomials]
        if not pieces:
            raise ValueError("this solution has no dense output: call solve(..., dense=True)")
        first = pieces[0].path
        last = pieces[-1].path
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
                j for j, piece in enumerate(pieces) if span.direction * (s - piece.path.t0) >= 0
            )
            members.setdefault(k, []).append((i, s))
        if not members:
            return first.y0.new_empty(*times.shape, first.y0.numel())
        for k, found in members.items():
            order += [i for i, _ in found]
            rows.append(read(pieces[k], [s for _, s in found]))
        flat = torch.cat(rows)
        if len(rows) > 1:
            flat = flat[torch.tensor(order, device=flat.device).argsort()]
        return flat.reshape(*times.shape, -1)

    def __repr__(self):
        if self._lost:
            note = ", no graph: it is a copy"
        else:
            note = ""
        end = f"{len(self.t)} times to t = {float(self.t[-1]):.6g}"
        return f"Solution({self.method}, {end}, {self.status.name}, {self.stats}{note})"


def _shared(solution):
    """Another object with the same contents."""
    other = object.__new__(type(solution))
    vars(other).update(vars(solution))
    return other


def _derivative(piece, queries):
    """dy/dt, (m, n). Its gradient is that of the values at as many nodes as determine the
    polynomial of the step."""
    slopes = piece.path.slope(queries).clone()
    if not torch.is_grad_enabled():
        return slopes
    nodes, weights = piece.path.slope_weights(queries)
    states = piece.between([t for group in nodes for t in group]).split(
        [len(group) for group in nodes]
    )
    attached = torch.stack([w.to(rows) @ rows for w, rows in zip(weights, states, strict=True)])
    if attached.requires_grad:
        return slopes.detach() + (attached - attached.detach())
    return slopes


class BatchSolution:
    """What a solve with batched=True returns.

    t: (T, B) times, a column for each row; y: states with leading dimensions (T, B), NaN where a
    row did not arrive, differentiable; statuses: how each row ended; reached: the time that each
    row reached; stats: counts over all rows; events: for each row a list of EventRecord in the
    order in which they occurred, their states those of the row. It is pickled, sent and copied like
    a Solution. The report of the first row that failed comes along, and those that were made
    before.
    """

    def __init__(self, t, y, statuses, reached, stats: Stats, method: str, events=(), examine=None):
        self._examine = examine
        self.t = t
        self.y = y
        self.statuses = statuses
        self.reached = reached
        self.stats = stats
        self.method = method
        self.events = events
        self._reports: dict[int, object] = {}

    def __getstate__(self):
        if not self.success:
            self.report()
        events = [[record.detached() for record in records] for records in self.events]
        plain = {"t": detached(self.t), "y": detached(self.y), "events": events}
        return {**vars(self), **plain, "_examine": None}

    def __copy__(self):
        return _shared(self)

    @property
    def success(self) -> bool:
        return all(status.success for status in self.statuses)

    @property
    def status(self) -> Status:
        """SUCCESS, or the status of the first row that failed."""
        return next((status for status in self.statuses if not status.success), Status.SUCCESS)

    @property
    def message(self) -> str:
        failed = [i for i, status in enumerate(self.statuses) if not status.success]
        if not failed:
            stopped = sum(status is Status.EVENT for status in self.statuses)
            if stopped:
                note = f" ({stopped} stopped at a terminal event before)"
            else:
                note = ""
            return f"{len(self.statuses)} rows: {Status.SUCCESS.sentence}{note}."
        first = failed[0]
        return (
            f"{self.method}: {len(failed)} of {len(self.statuses)} rows failed, the first of them"
            f" row {first}: {self.status.sentence}, at t = {self.reached[first]:.6g}. What to do:"
            f" {self.status.remedy}."
        )

    def report(self, row=None):
        """Why a row failed, where, and what to try next: a FailureReport; row: its number, by
        default the first that failed.

        ValueError where it did not fail.
        """
        failed = [i for i, status in enumerate(self.statuses) if not status.success]
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
                    f"the report of row {row} was not made before this solution was copied or sent:"
                    f" ask for report({row}) there"
                )
            self._reports[row] = self._examine(row)
        return self._reports[row]

    def check(self) -> BatchSolution:
        """self, or SolveError where a row ended before its time."""
        if not self.success:
            raise SolveError(self)
        return self
