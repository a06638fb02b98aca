"""The short way of a batch by native code: outputs of rows without gradients, events and limits.

As in solve_short.py, the steps of a few small systems take less time than what surrounds them. The
first solve of an f, and every solve in which a row fails, takes the long way (solve_batched.py),
which gives the same numbers.
"""

from __future__ import annotations

import functools
from dataclasses import fields
from operator import attrgetter, is_
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .core.arguments import Arguments
from .core.batched_field import args_by_row, row_layout
from .core.events import RowRecords, as_row_times
from .core.solution import BatchSolution
from .core.stats import Stats
from .solve_short import REAL, NativeWay, settings_of

if TYPE_CHECKING:
    from .core.layout import Layout
    from .core.problem import ODEProblem

# Arguments that this way reads. All others must have their defaults.
READ = {"f", "y0", "t", "method", "rtol", "atol", "args", "backend", "throw", "adjoint", "params"}
READ |= {"first_step", "min_step", "max_step", "max_steps", "batched", "by_row", "jumps"}
DEFAULTS = {field.name: field.default for field in fields(Arguments) if field.name not in READ}
OTHERS = attrgetter(*DEFAULTS)


class RowCall:
    """What a native solve of rows asks of a field (core/batched_field.RowField)."""

    nonnegative_mask = None
    mass = None
    user_jac = None

    def __init__(self, problem: ODEProblem, layout: Layout, batch: int, by_row: list[bool]) -> None:
        self.f = problem.f
        self.args = problem.args
        self.layout = layout
        self.batch = batch
        self.by_row = by_row
        self.dtype = layout.dtype
        self.device = layout.device
        self.stats = Stats()


def short_rows(arguments: Arguments, problem: ODEProblem) -> BatchSolution | None:
    """The BatchSolution of the problem by native code, or None if it must take the long way."""
    if torch.is_grad_enabled() or not _plain(arguments, problem):
        return None
    parts = _parts()
    start = problem.y0.detach()  # type: ignore[union-attr]  # a tensor
    layout, batch = row_layout(problem)
    if not np.isfinite(start.numpy()).all():
        return None  # The long way says which component.
    by_row = args_by_row(problem.args, batch, arguments.by_row)
    call: Any = RowCall(problem, layout, batch, by_row)
    rows = parts.known_rows(call, start[0])
    if rows is None:
        return None
    kept = rows.bound.kept
    method, options, atol = settings_of(arguments, layout, start[0], kept, NativeWay())
    times, values = _times(problem, batch, kept)
    spans, crossed = _spans(arguments, values, start.numpy().dtype)
    solved = parts.integrate_batch(
        call,
        method,
        start,
        spans,
        options,
        torch.from_numpy(atol),
        False,
        False,
        None,
        torch.arange(batch),
        jumps=crossed,
        fields=rows,
    )
    if not solved.statuses.good().all():
        return None
    solved.ys[0] = start
    before = torch.from_numpy(spans.end != values[-1])
    solved.ys[-1, before] = solved.last[before]
    return BatchSolution(
        t=times,
        y=layout.unravel(solved.ys),
        statuses=solved.statuses,
        reached=values[-1],
        stats=call.stats,
        method=method.name,
        backend="native",
        events=RowRecords(batch),
        layout=layout,
    )


@functools.cache
def _parts() -> SimpleNamespace:
    """What the native engine brings. A solve that needs none does not load it."""
    from .backends.native.batch import integrate_batch
    from .backends.native.jumps import beside, crossed_inside
    from .backends.native.row_fields import known_rows
    from .backends.torch.batched_loop import RowSpans

    return SimpleNamespace(
        integrate_batch=integrate_batch,
        beside=beside,
        crossed_inside=crossed_inside,
        known_rows=known_rows,
        RowSpans=RowSpans,
    )


def _plain(arguments: Arguments, problem: ODEProblem) -> bool:
    """Whether the solve asks for the outputs of flat rows by a named method, and no more."""
    if not arguments.batched or arguments.backend != "native":
        return False
    if not isinstance(arguments.method, str) or arguments.method == "auto":
        return False
    if arguments.adjoint not in ("auto", "discrete", "forward"):
        return False
    if type(arguments.atol) is not float or problem.jac is not None or problem.mass is not None:
        return False
    if not all(map(is_, OTHERS(arguments), DEFAULTS.values())):
        return False
    y0 = problem.y0
    return (
        type(y0) is Tensor
        and y0.dim() == 2
        and y0.numel() > 0
        and y0.device.type == "cpu"
        and y0.dtype in REAL
        and all(isinstance(x, (Tensor, int, float)) for x in problem.args)
    )


def _times(problem: ODEProblem, batch: int, kept: dict[Any, Any]) -> tuple[Tensor, np.ndarray]:
    """The times, (T, B), as a tensor and as an array. kept: where those of the last solve of this f
    are, which need no check."""
    given = problem.tspan
    if not isinstance(given, Tensor) or given.requires_grad:
        times = problem.row_times(torch.device("cpu"), batch).detach()
        return times, times.numpy()
    known = kept.get("row times")
    if known is not None and known[0] is given and known[1] == (given._version, batch):
        return known[2]
    times = problem.row_times(torch.device("cpu"), batch)
    found = (times, times.numpy())
    kept["row times"] = (given, (given._version, batch), found)
    return found


def _spans(
    arguments: Arguments, times: np.ndarray, dtype: np.dtype
) -> tuple[Any, np.ndarray | None]:
    """(spans of the rows, their jumps inside the spans (B, k), or None). times: (T, B). dtype: of
    the state."""
    parts = _parts()
    start = times[0]
    end = times[-1]
    batch = len(start)
    crossed = None
    jumps = as_row_times(arguments.jumps, "jumps").detach().numpy()
    if jumps.shape[-1]:
        jumps = np.broadcast_to(jumps, (batch, jumps.shape[-1]))
        inside = parts.crossed_inside(jumps, (), start[:, None], end[:, None])
        if inside.any():
            crossed = np.where(inside, jumps, np.nan)
        start, end = _between_jumps(jumps, start, end, dtype)
    places = np.ones(batch, dtype=np.int64)
    stops = np.empty(0)
    return parts.RowSpans(start, end, times, places, stops, np.zeros_like(places)), crossed


def _between_jumps(
    jumps: np.ndarray, start: np.ndarray, end: np.ndarray, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """(starts, ends) just behind and just before a jump that is there, (B,): at the jump itself f
    can have either value."""
    at_start = (jumps == start[:, None]).any(1)
    at_end = (jumps == end[:, None]).any(1)
    if not at_start.any() and not at_end.any():
        return start, end
    direction = np.sign(end - start)
    largest = np.maximum(np.abs(start), np.abs(end))
    behind = _parts().beside(start, dtype, direction, largest)
    before = _parts().beside(end, dtype, -direction, largest)
    room = direction * (before - behind) > 0
    return np.where(at_start & room, behind, start), np.where(at_end & room, before, end)
