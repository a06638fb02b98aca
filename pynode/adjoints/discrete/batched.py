"""The discrete adjoint of a batch whose rows took their own steps. All rows go back together, each
from its own last step.

Levels group the steps of all rows by their distance from the last step of their row
(backends/torch/batched_tape.py). The map of one step on a cotangent does not depend on other steps.
The code computes it for all steps at once, as for a single trajectory
(adjoints/discrete/replay.py). The recursion handles one level of rows at a time. Explicit methods
instead repeat the steps of a level with a graph, and so do Rosenbrock methods if many rows go
together: this is cheaper, because it needs no Jacobian of every stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...algebra.combine import as_stage_tensor
from ...core import products
from ...core.cotangents import add_grads, zero_grads
from ...core.double_backward import DoubleBackward, pull, with_double_backward
from ...core.transfer import constant, to_device
from ...methods.batched.one_step import RowInverse, polynomial
from ...methods.bdf.step import BDF
from ...methods.esdirk import DIRK
from ...methods.explicit import ExplicitRungeKutta
from ...methods.rosenbrock import RosenbrockMethod
from ..field_products import chunk_size, jacobians, pull_back
from ..output_cotangents import powers
from . import esdirk, rosenbrock
from .batched_bdf import pullback as pull_bdf
from .batched_points import RowPoints
from .stability import LARGEST, check_explicit, sampled

if TYPE_CHECKING:
    from ...backends.torch.batched_tape import RowSteps
    from ...methods.base import Method
    from .batched_points import RowPart

# Up to this number of rows times states in a level, Rosenbrock methods go back by Jacobians. The
# ratio of backward to forward time is then 0.07 to 0.6; with graphs it is 2 to 2.5 at any size. The
# break-even depends on f: 135 for a 3-50-50-3 network, 500 for ten lines of sums.
NARROW = 128


class RowOutputs:
    """Cotangents of the outputs of a batch, sorted by step. at_start holds those at a row's start.

    at_start: (B, n). end_cotangents: (S, n), of the states at the ends of the steps. step, theta,
    grads: (Q,), (Q,), (Q, n), of the outputs inside steps, in ascending order of the steps.
    """

    def __init__(self, steps: RowSteps, times: np.ndarray, row: np.ndarray, grads: Tensor) -> None:
        """times, row: (Q,) NumPy arrays; row holds the row of each output. grads: (Q, n)."""
        t0, y0, _ = steps.start
        self.at_start = torch.zeros_like(y0)
        self.end_cotangents = grads.new_zeros(len(steps.row), grads.shape[1])
        first = times == t0.cpu().numpy()[row]
        which = np.flatnonzero(first)
        self.at_start.index_add_(0, _tensor(row[which], grads), grads[_tensor(which, grads)])
        place = np.where(first, -1, steps.locate(times, row))
        if len(steps.row):
            at_end = (place >= 0) & (times == steps.end[place])
        else:
            at_end = place >= 0
        which = np.flatnonzero(at_end)
        self.end_cotangents.index_add_(
            0, _tensor(place[which], grads), grads[_tensor(which, grads)]
        )
        which = np.flatnonzero((place >= 0) & ~at_end)
        which = which[np.argsort(place[which], kind="stable")]
        self.step = place[which]
        self.theta = _tensor((times[which] - steps.t[self.step]) / steps.h[self.step], grads)
        self.grads = grads[_tensor(which, grads)]

    def inside_steps(self, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return (step numbers from first on, thetas, cotangents) of the outputs inside the steps
        first to last."""
        a, b = np.searchsorted(self.step, (first, last))
        return _tensor(self.step[a:b] - first, self.grads), self.theta[a:b], self.grads[a:b]


class RowChunk(NamedTuple):
    """Steps first to last in the form that the families replay (replay.RecordedSteps)."""

    y: torch.Tensor
    t: torch.Tensor
    h: torch.Tensor
    stages: torch.Tensor

    def tape(self, read: Callable) -> Tensor:
        """The stages, (s, m, n)."""
        return self.stages


def pullback(
    field: RowPart,
    method: Method,
    steps: RowSteps,
    times: np.ndarray,
    row: np.ndarray,
    grads: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    """Turn the cotangents grads, (Q, n), of the states at times (Q,) of the rows (Q,) into
    (cotangent of y0 (B, n), list for field.parameters). A state that its row did not reach has no
    effect."""
    outputs = RowOutputs(steps, times, row, grads)
    with torch.no_grad():
        if isinstance(method, BDF):
            ybar, param_grads = pull_bdf(field, method, steps, outputs, level_parts)
        elif isinstance(method, DIRK):
            ybar, param_grads = _transitions(
                field, method, steps, outputs, esdirk.Replay, _dirk_stages
            )
        elif isinstance(method, RosenbrockMethod) and _narrow(field, steps):
            ybar, param_grads = _transitions(
                field, method, steps, outputs, rosenbrock.Replay, _rosenbrock_stages
            )
        else:
            _check_stability(field, method, steps)
            ybar, param_grads = _retake_levels(field, method.fixed(), steps, outputs)
        back = torch.empty_like(ybar)
        back[_tensor(steps.order, ybar)] = ybar
        return back + outputs.at_start, param_grads


def _check_stability(field, method, steps):
    """Check the stability of some steps, in the row with the most steps. Skip the check if there
    are few."""
    serves = isinstance(method, ExplicitRungeKutta) and field.size <= LARGEST
    if serves:
        which = sampled(len(steps.levels))
    else:
        which = None
    if which is not None:
        # The first step of each level belongs to that row.
        which = np.array([steps.levels[i][0] for i in which])
        y = steps.tape[0][_tensor(which, steps.tape[0])]
        rows = RowPoints(field, _tensor(steps.row[which], y))
        t, h = (_tensor(x[which], y) for x in (steps.t, steps.h))
        check_explicit(method, jacobians(rows, t, y), h.to(y))


def _tensor(array, like):
    return to_device(array, like.device)


def _narrow(field, steps):
    """Whether the levels have so few rows that the Jacobians of all stages cost less than a graph
    for each level."""
    return len(steps.row) * field.size <= NARROW * len(steps.levels)


def _transitions(field, method, steps, outputs, replay_type, stages):
    """Take all steps of a chunk back on unit vectors. Return (cotangents of the rows, (B, n), in
    their order; cotangents of the parameters).

    stages(points, method, start, t, h, slopes or None): returns what the replay reads of a step,
    (s, m, n).
    """
    n = field.size
    ybar = torch.zeros_like(outputs.at_start)
    params = zero_grads(field.parameters)
    size = max(1, chunk_size(n, ybar.device) // method.tableau.stages)
    for first in range(0, len(steps.row), size):
        last = min(first + size, len(steps.row))
        index = _tensor(steps.row[first:last], ybar)
        chunk = _chunk(field, method, steps, first, last, stages)
        inside = [outputs.inside_steps(first, last)]
        if not len(inside[0][0]):
            inside = []
        points = RowPoints(field, index)
        replay = replay_type(points, method, chunk, inside)
        transition = replay.pullback_starts(
            torch.eye(n, dtype=ybar.dtype, device=ybar.device).expand(last - first, n, n)
        )
        forced = replay.pullback_starts(None)
        seeds = torch.empty_like(chunk.y)
        for a, b, rows in level_parts(steps.levels, first, last):
            seeds[a:b] = seed = ybar[rows] + outputs.end_cotangents[first + a : first + b]
            back = products.bmm(transition[a:b], seed.unsqueeze(2))
            if forced is not None:
                back = back + forced[a:b]
            ybar[rows] = back.squeeze(2)
        if params:
            params = add_grads(params, replay.parameters(seeds.unsqueeze(2)))
    return ybar, params


def level_parts(
    levels: Sequence[tuple[int, int]], first: int, last: int
) -> Iterator[tuple[int, int, slice]]:
    """(a, b, rows) of the part of each level within the steps first to last: the steps first + a to
    first + b, and their rows in order."""
    for begin, end in levels:
        a = max(begin, first)
        b = min(end, last)
        if a < b:
            yield a - first, b - first, slice(a - begin, b - begin)


def _chunk(field, method, steps, first, last, stages):
    start, *tape = (x[first:last] for x in steps.tape)
    t, h = (constant(x[first:last], start) for x in (steps.t, steps.h))
    rows = field.select(_tensor(steps.row[first:last], start))
    return RowChunk(start, t, h, stages(rows, method, start, t, h, *tape))


def _dirk_stages(rows, method, start, t, h, slopes):
    """The states of the stages, from their slopes (m, s, n). The replay makes Jacobians at these
    states."""
    a = constant(method.tableau.matrix(), start)
    return start + h.unsqueeze(1) * products.einsum("ij,mjn->imn", a, slopes)


def _rosenbrock_stages(rows, method, start, t, h):
    """The u of every stage. A batch does not store them; this repeats all steps at once."""
    with rows.stats.of_gradient():
        jac, slope = rows.linearised(t, start)
        eye = torch.eye(rows.size, dtype=start.dtype, device=start.device)
        solver = RowInverse(eye, jac, h * float(method.tableau.gamma), rows.stats)
        return as_stage_tensor(method.attempt(rows, t, start, h, slope, solver)[2])


def _retake_levels(field, method, steps, outputs):
    """Repeat every level with a graph that includes the Jacobians of Rosenbrock methods."""
    ybar = torch.zeros_like(outputs.at_start)
    explicit = isinstance(method, ExplicitRungeKutta)
    params = zero_grads(field.parameters)
    if not explicit:
        _check_twice(field, steps)
    for first, last in steps.levels:
        index = _tensor(steps.row[first:last], ybar)
        count = last - first
        t, h = (_tensor(x[first:last], ybar) for x in (steps.t, steps.h))
        step, theta, cotangents = outputs.inside_steps(first, last)
        with (
            nullcontext() if explicit else DoubleBackward(),
            torch.enable_grad(),
            field.stats.of_gradient(),
        ):
            rows = field.select(index)  # keeps the graph to the tensors in args
            start = steps.tape[0][first:last].detach().requires_grad_()
            y1, stages = _retake_step(rows, method, t, start, h, len(step) > 0)
            pairs = [(y1, ybar[:count] + outputs.end_cotangents[first:last])]
            if len(step):
                curves = polynomial(
                    start,
                    torch.stack(stages),
                    method.tableau.dense_weights,
                    h if explicit else None,
                )[:, step]
                pairs.append(
                    (
                        (powers(theta, len(curves) - 1, 0, start).T.unsqueeze(2) * curves).sum(0),
                        cotangents,
                    )
                )
            values, seeds = zip(*pairs, strict=True)
            (back,), param_grads = pull_back(field, values, (start,), seeds)
        ybar[:count] = back
        params = add_grads(params, param_grads)
        field.stats.backward_nvjp += count * method.tableau.stages
    return ybar, params


@with_double_backward
def _check_twice(field, steps):
    """Raise RuntimeError if f has no second derivative."""
    if steps.levels:
        first, last = steps.levels[0]
    else:
        first = 0
        last = 0
    if first == last:
        return
    with torch.enable_grad(), field.stats.of_gradient():
        start = steps.tape[0][first:last].detach().requires_grad_()
        rows = field.select(_tensor(steps.row[first:last], start))
        out = rows.eval(_tensor(steps.t[first:last], start), start)
        if out.requires_grad:
            pull(out, (start,), torch.ones_like(out))


def _retake_step(rows, method, t, start, h, curved):
    """Return (ends of the steps, stages for the dense output if curved)."""
    if isinstance(method, ExplicitRungeKutta):
        y1, _, ks = method.attempt(rows, t, start, h, None)
        if not curved:
            return y1, None
        return y1, method.all_stages(rows, t, start, h, ks)
    jac, slope = rows.linearised(t, start, graph=True)
    eye = torch.eye(start.shape[1], dtype=start.dtype, device=start.device)
    y1, _, us = method.attempt(
        rows, t, start, h, slope, RowInverse(eye, jac, h * float(method.tableau.gamma), rows.stats)
    )
    return y1, us
