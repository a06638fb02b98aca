"""ForwardSensitivity: propagates the derivatives of all outputs in all parameters along the
recorded steps.

With S = dy/d(y0, p), (n, n + p), it differentiates every recorded step: S1 = A S + B. This is the
transpose of the discrete adjoint. It uses the same parts, and both agree to rounding. A is the
transposed transition matrix of replay.py. Column j of B is the derivative of the pulled-back
cotangent of parameter j in the cotangent of the step (reverse mode twice), for all steps of a chunk
together. BDF propagates the derivative of its history and solves with M - c J, with one
factorisation for all columns: the staggered direct method of Caracotsios & Stewart, Comput. Chem.
Eng. 9 (1985).
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core import products
from ..core.double_backward import with_double_backward
from ..core.transfer import constant
from ..methods.bdf.step import BDF
from .base import Adjoint
from .discrete.adjoint import method_runs
from .discrete.replay import REPLAYS, RecordedSteps
from .field_products import chunk_size, jacobians, push_parameters
from .output_cotangents import powers

if TYPE_CHECKING:
    from ..core.options import Options
    from ..core.trajectory import Trajectory
    from ..core.vector_field import VectorField
    from ..methods.base import Method

COLUMNS = 2000  # the largest number of columns of S
NATIVE_COLUMNS = 10_000  # the same in compiled code
VALUES = 1 << 22  # numbers of B in memory together


class ForwardSensitivity(Adjoint):
    """Propagates the derivatives of all outputs along the recorded steps. It suits few parameters
    and many outputs.

    Any number of gradients costs one pass over the steps, with (n + p) solves for each step. The
    first gradient makes the sensitivities, and the solution keeps them. They take (T, n, n + p)
    numbers in addition to the steps. Raises ValueError for methods whose gradient repeats each
    step, for structured Jacobians, and for very many parameters.
    """

    name = "ForwardSensitivity"
    takes_many = True
    most = COLUMNS

    def __init__(self) -> None:
        self._sensitivities: weakref.WeakKeyDictionary = (
            weakref.WeakKeyDictionary()
        )  # by trajectory: {times: sensitivities}

    def check(self, field: VectorField, method: Method) -> None:
        if method.state_tensors or field.structure is not None:
            if field.structure is not None:
                reason = f"jacobian={field.structure.name!r}"
            else:
                reason = method.name
            raise ValueError(
                f"ForwardSensitivity does not support {reason}: use adjoint='discrete'"
            )
        check_columns(field.size + sum(p.numel() for p in field.parameters), self.most)

    def pullback(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        made = self._made(field, method, trajectory, times)
        return self.split(field, trajectory, products.einsum("tn,tnk->k", grads, made))

    def pullback_many(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        made = self._made(field, method, trajectory, times)
        return self.split(field, trajectory, products.einsum("rtn,tnk->rk", grads, made))

    def _made(self, field, method, trajectory, times):
        """The sensitivities of the trajectory at the times."""
        cached = self._sensitivities.setdefault(trajectory, {})
        key = tuple(times)
        if key not in cached:
            with torch.no_grad():
                cached[key] = self.propagate(field, method, trajectory, times)
        return cached[key]

    def propagate(
        self, field: VectorField, method: Method, trajectory: Trajectory, times: Sequence[float]
    ) -> Tensor:
        """The derivatives of the states at the times, (T, n, columns)."""
        return sensitivities(field, method, trajectory, times)

    def split(
        self, field: VectorField, trajectory: Trajectory, pulled: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The cotangents of y0 and of the parameters that are in pulled, (..., columns)."""
        ybar, *rest = pulled.split([field.size, *(p.numel() for p in field.parameters)], -1)
        parts = zip(rest, field.parameters, strict=True)
        return ybar, [g.reshape((*pulled.shape[:-1], *p.shape)) for g, p in parts]


def check_columns(columns: int, most: int) -> None:
    """Raise ValueError if there are too many columns."""
    if columns > most:
        raise ValueError(
            f"ForwardSensitivity would propagate {columns} columns, one for each state and"
            " parameter, but it suits few columns: use adjoint='discrete', whose cost hardly"
            " depends on their number"
        )


@with_double_backward
def sensitivities(
    field: VectorField, method: Method, trajectory: Trajectory, times: Sequence[float]
) -> Tensor:
    """dy/d(y0, p) at the times, (T, n, n + p)."""
    n = field.size
    y0 = trajectory.y0
    start = torch.cat(
        (torch.eye(n).to(y0), y0.new_zeros(n, sum(p.numel() for p in field.parameters))), 1
    )
    outputs = _OutputSteps(trajectory, times)
    rows = [start] * len(times)
    if isinstance(method, BDF):
        _bdf(field, method, trajectory, outputs, start, rows)
    else:
        now = start
        for taken, first, last in method_runs(method, trajectory.steps):
            now = _one_step(field, taken, trajectory.steps, (first, last), outputs, now, rows)
    return torch.stack(rows)


class _OutputSteps:
    """The steps of the outputs. ends[k] lists the outputs at the end of step k. inside[k]: (the
    outputs inside it, thetas (q,))."""

    def __init__(self, trajectory, times):
        grid = trajectory.grid()
        steps = trajectory.steps
        inner = {}
        stops = [step.t for step in steps[1:]] + [trajectory.end]
        self.ends = {}
        self.inside = {}
        for i, t in enumerate(times):
            if t == trajectory.t0:
                continue
            k = grid.locate(t)
            (self.ends if t == stops[k] else inner).setdefault(k, []).append(i)
        for k, rows in inner.items():
            theta = [(times[i] - steps[k].t) / steps[k].h for i in rows]
            self.inside[k] = (
                rows,
                torch.tensor(theta, dtype=torch.float64, device=trajectory.y0.device),
            )


def _one_step(field, method, steps, span, outputs, now, results):
    """S after the steps in range(*span), which belong to one method. Fills results."""
    replay_type = REPLAYS.get(method)
    n, columns = now.shape
    size = max(
        1, min(chunk_size(n, field.device) // replay_type.size(method), VALUES // (n * columns))
    )
    for first in range(span[0], span[1], size):
        last = min(span[1], first + size)
        inner = [k for k in range(first, last) if k in outputs.inside]
        with torch.enable_grad():
            weights = [now.new_zeros(len(outputs.inside[k][0]), n).requires_grad_() for k in inner]
            entries = [
                (k - first, outputs.inside[k][1], w) for k, w in zip(inner, weights, strict=True)
            ]
            replay = replay_type(field, method, RecordedSteps(steps[first:last]), entries)
            seed = now.new_zeros(last - first, n, 1).requires_grad_()
            forcing, shifts = _columns(replay.parameters(seed), [seed, *weights])
        with torch.no_grad():
            unit = torch.eye(n, dtype=now.dtype, device=now.device).expand(last - first, n, n)
            transition = replay.pullback_starts(unit).transpose(1, 2).unbind(0)
        starts = []
        for i, a in enumerate(transition):
            starts.append(now)
            now = products.mm(a, now)
            if forcing is not None:
                now[:, n:] += forcing[i]
            for row in outputs.ends.get(first + i, ()):
                results[row] = now
        if inner:
            _inside(
                replay,
                weights,
                shifts,
                [outputs.inside[k][0] for k in inner],
                torch.stack(starts),
                results,
            )
    return now


def _columns(pulled, inputs):
    """Derivatives of the parameters' cotangents, entry by entry, in the seed (m, n, p) and in each
    of the weights (q, n, p)."""
    if pulled:
        entries = torch.cat([g.reshape(-1) for g in pulled])
    else:
        entries = None
    if entries is None:
        return None, None
    if not entries.requires_grad:
        p = len(entries)
        return inputs[0].new_zeros(*inputs[0].shape[:2], p), [
            w.new_zeros(*w.shape, p) for w in inputs[1:]
        ]
    rows = [
        torch.autograd.grad(e, inputs, retain_graph=True, allow_unused=True, materialize_grads=True)
        for e in entries
    ]
    seeds, *weights = (torch.stack(parts, -1) for parts in zip(*rows, strict=True))
    return seeds.squeeze(2), weights


def _inside(replay, weights, shifts, rows, starts, results):
    """The sensitivities of the outputs inside steps: derivatives of the dense output in the start
    of the step and in the parameters."""
    n = starts.shape[1]
    with torch.enable_grad():
        pulled = replay.pullback_starts(None).squeeze(
            2
        )  # (m, n): what the weights pull back to the starts
    for j in range(starts.shape[2]):
        moved = torch.autograd.grad(pulled, weights, starts[:, :, j], retain_graph=True)
        for k, (members, columns) in enumerate(zip(rows, moved, strict=True)):
            for q, row in enumerate(members):
                if j == 0:
                    results[row] = starts.new_zeros(n, starts.shape[2])
                results[row][:, j] = columns[q] + (shifts[k][q, :, j - n] if j >= n else 0.0)


def _bdf(field, method, trajectory, outputs, start, results):
    """The derivative of the history, (rows, n, n + p), step by step. Fills results."""
    form = method.history
    steps = trajectory.steps
    (n, columns) = start.shape
    units = _units(field.parameters)
    z = _first_history(field, form, trajectory, start, units)
    if field.mass is None:
        mass = torch.eye(n).to(start)
    else:
        mass = field.mass.to_dense()
    size = max(1, min(chunk_size(n, field.device), VALUES // (n * columns)))
    for first in range(0, len(steps), size):
        chunk = steps[first : first + size]
        y = torch.stack([step.y for step in chunk])
        t = torch.tensor([step.t + step.h for step in chunk], dtype=y.dtype, device=y.device)
        c = torch.tensor([step.tape[1] for step in chunk], dtype=y.dtype, device=y.device).view(
            -1, 1, 1
        )
        jac = c * jacobians(field, t, y)
        solver = products.lu_factor(mass - jac)
        field.stats.backward_nlu += len(chunk)
        field.stats.backward_nsolve += len(chunk)
        forcing = c * _by_parameters(field, t, y, units)
        for i, step in enumerate(chunk):
            k, _, change, pq, _, nodes = step.tape
            if change is not None:
                z = products.einsum("rs,snk->rnk", constant(change, y), z)
            predicted, older = products.einsum("as,snk->ank", pq, z).unbind(0)
            rhs = products.mm(jac[i], predicted) - products.mm(mass, older)
            rhs[:, n:] += forcing[i]
            d = products.lu_solve(solver[0][i], solver[1][i], rhs)
            ended = (predicted + d).reshape(-1)
            z = form.update(z.reshape(len(z), -1), (), k, step.h, d.reshape(-1), ended)[0].view(
                len(z), n, -1
            )
            for row in outputs.ends.get(first + i, ()):
                results[row] = z[0]
            if first + i in outputs.inside:
                rows, theta = outputs.inside[first + i]
                dense = constant(form.dense_weights(k, nodes), y)
                weights = products.mm(powers(theta, k, 0, y), dense)
                inside = products.einsum("qs,snk->qnk", weights, z)
                for row, value in zip(rows, inside, strict=True):
                    results[row] = value


def _first_history(field, form, trajectory, start, units):
    """The derivative of the first history, (rows, n, n + p). start: the derivative of y0, (n, n +
    p)."""
    t0 = torch.full((1,), trajectory.t0, dtype=start.dtype, device=start.device)
    y0 = trajectory.y0.unsqueeze(0)
    slope = torch.cat((jacobians(field, t0, y0)[0], _by_parameters(field, t0, y0, units)[0]), 1)
    if field.mass is not None:
        slope = field.mass.pinv_apply_columns(slope)
    weights = constant(form.start_weights(trajectory.h0), start)
    return products.einsum("ra,ank->rnk", weights, torch.stack((start, slope)))


def _by_parameters(field, t, y, units):
    """df/dp at points, (m, n, p). t: (m,). y: (m, n). units: see _units."""
    if units:
        pushed = push_parameters(field, t, y, units)
    else:
        pushed = y.new_zeros(0, *y.shape)
    return pushed.permute(1, 2, 0)


def _units(parameters):
    """Unit changes of all entries of the parameters, each a list for the parameters."""
    changes = []
    for i, p in enumerate(parameters):
        for j in range(p.numel()):
            change = [torch.zeros_like(q) for q in parameters]
            change[i].view(-1)[j] = 1.0
            changes.append(change)
    return changes
