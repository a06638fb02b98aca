"""The discrete adjoint of BDF: the transposed recursion of the history.

A step solves M d = c f(t1, p z + d) - M q z and writes A z + b d. zbar is the cotangent of the new
history. Then

    (M - c J)^T lambda = b . zbar
    mu = M^T lambda
    zbar <- A^T zbar + p (mu - b . zbar) - q mu

and c lambda is the cotangent of f at (t1, y1). J is the Jacobian at the accepted state. This is the
implicit function theorem, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...algebra.linear import INVERSE_BELOW
from ...algebra.row_matrices import inverses
from ...core import products
from ...core.cotangents import add_grads, plus, zero_grads
from ...core.transfer import constant
from ..field_products import chunk_size, jacobians, pull_back, pull_parameters
from ..output_cotangents import powers
from . import structured

if TYPE_CHECKING:
    from ...core.trajectory import Trajectory
    from ...core.vector_field import VectorField
    from ...methods.base import Step
    from ...methods.bdf.step import BDF
    from ..output_cotangents import InsideStep


class Sweep:
    """Goes back over pieces of the steps, the last piece first, with the cotangent zbar of the
    history."""

    def __init__(self, field: VectorField, method: BDF, trajectory: Trajectory) -> None:
        self.field = field
        self.form: Any = method.history
        self.trajectory = trajectory
        self.zbar = torch.zeros(self.form.rows, field.size, dtype=field.dtype, device=field.device)
        self.grads = zero_grads(field.parameters)

    def back(
        self,
        steps: Sequence[Step],
        end_cotangents: Sequence[Tensor | None],
        inside: Sequence[InsideStep | None],
    ) -> None:
        """end_cotangents, inside: of the outputs (OutputCotangents.of_steps)."""
        n = self.field.size
        if self.field.structure is None:
            size = chunk_size(n, self.field.device)
        else:
            size = structured.chunk_size(n)
        for last in range(len(steps), 0, -size):
            first = max(0, last - size)
            self.zbar, param_grads = _chunk(
                self.field,
                self.form,
                steps[first:last],
                end_cotangents[first:last],
                inside[first:last],
                self.zbar,
            )
            self.grads = add_grads(self.grads, param_grads)

    def finish(self) -> tuple[Tensor, list[Tensor]]:
        """Return (cotangent of y0 (n,), cotangents of the parameters)."""
        return _through_start(self.field, self.form, self.trajectory, self.zbar, self.grads)


def _chunk(field, form, chunk, end_cotangents, inside, zbar):
    """Return (zbar before these steps, cotangents of the parameters). zbar: after these steps."""
    y = torch.stack([step.y for step in chunk])
    t = torch.tensor([step.t + step.h for step in chunk], dtype=y.dtype, device=y.device)
    c = torch.tensor([step.tape[1] for step in chunk], dtype=y.dtype, device=y.device)
    if field.structure is None:
        transposed = _Transposed(field, t, y, c)
    else:
        transposed = _OneByOne(field, chunk)
    field.stats.backward_nsolve += len(chunk)
    lambdas = [None] * len(chunk)
    for i in range(len(chunk) - 1, -1, -1):
        k, _, change, pq, _, nodes = chunk[i].tape
        if end_cotangents[i] is not None:
            zbar[0] += end_cotangents[i]
        if inside[i] is not None:
            theta, cotangent = inside[i]
            weights = constant(form.dense_weights(k, nodes), y)
            zbar = zbar + products.mm(products.mm(powers(theta, k, 0, y), weights).T, cotangent)
        dbar = form.read(zbar, k)
        lambdas[i] = lam = transposed.solve(i, dbar)
        if field.mass is None:
            mu = lam
        else:
            mu = field.mass.times_transposed(lam)
        zbar = form.pull(zbar, k, pq, dbar, mu)
        if change is not None:
            zbar = products.mm(constant(change.T.copy(), y), zbar)
    return zbar, pull_parameters(field, t, y, c.unsqueeze(1) * torch.stack(lambdas))


def _through_start(field, form, trajectory, zbar, grads):
    """Take the cotangents through the first history, which consists of y0 and its slope M^+ f(t0,
    y0)."""
    weights = constant(form.start_weights(trajectory.h0), zbar)
    ybar, fbar = products.mm(weights.T, zbar).unbind(0)
    if field.mass is not None:
        fbar = field.mass.pinv_apply_transposed(fbar)
    with torch.enable_grad():
        y0 = trajectory.y0.detach().clone().requires_grad_()
        f0 = field.eval(torch.full((), trajectory.t0, dtype=y0.dtype, device=y0.device), y0)
        (by_y,), param_grads = pull_back(field, f0, (y0,), fbar)
    ybar = plus(ybar, by_y)
    grads = add_grads(grads, param_grads)
    field.stats.backward_nfe += 1
    field.stats.backward_nvjp += 1
    return ybar, grads


class _Transposed:
    """Solves with the transposes of M - c J at m points, (m, n, n), factorised together."""

    def __init__(self, field, t, y, c):
        n = y.shape[1]
        if field.mass is None:
            mass = torch.eye(n, dtype=y.dtype, device=y.device)
        else:
            mass = field.mass.to_dense()
        matrices = mass - c.view(-1, 1, 1) * jacobians(field, t, y)
        field.stats.backward_nlu += len(c)
        self.inverse = None
        if n < INVERSE_BELOW:
            inverse = inverses(matrices, check=True)
            self.inverse = inverse.transpose(1, 2).contiguous().unbind(0)
        else:
            self.lu, self.pivots = products.lu_factor(matrices)

    def solve(self, i, b):
        if self.inverse is not None:
            return torch.mv(self.inverse[i], b)
        return products.lu_solve(self.lu[i], self.pivots[i], b.unsqueeze(1), adjoint=True).squeeze(
            1
        )


class _OneByOne:
    """The same solves for large systems. It makes each matrix at its step, in the structure of the
    field."""

    def __init__(self, field, steps):
        self.steps = steps
        self.stepwise = structured.Stepwise(field)

    def solve(self, i, b):
        step = self.steps[i]
        return self.stepwise.factorised(step.t + step.h, step.y, step.tape[1]).solve_transposed(b)
