"""The discrete adjoint of explicit Runge-Kutta methods. Hager, Numer. Math. 87 (2000); Sandu, ICCS
(2006).

The cotangents of the stages are fbar_i = h b_i ybar1 + h sum_j>i a_ji jbar_j with jbar_i = J_i^T
fbar_i. The cotangent of the start is ybar1 + sum_i jbar_i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...algebra.combine import combine
from ...core import products
from ...core.cotangents import add_grads, plus, zero_grads
from ...core.transfer import to_device
from ...methods.explicit import ExplicitRungeKutta
from ..field_products import jacobians, pull_back, pull_parameters
from .replay import REPLAYS, STEPWISE, RecordedSteps, StepBatch, indexed_outputs
from .stability import check_explicit, sampled

if TYPE_CHECKING:
    from ...core.vector_field import VectorField
    from ...methods.base import Step
    from ..output_cotangents import InsideStep
    from .replay import InsideOutputs


@REPLAYS.register(ExplicitRungeKutta)
class Replay(StepBatch):
    """All steps of a chunk, stage by stage, with the Jacobian of every stage. For states of
    moderate size."""

    def __init__(
        self,
        field: VectorField,
        method: ExplicitRungeKutta,
        chunk: RecordedSteps,
        inside: Sequence[InsideOutputs],
    ) -> None:
        super().__init__(chunk, inside)
        self.field = field
        tb = method.tableau
        count = tb.stages + (len(tb.c_dense) if self.inside else 0)
        self.a = tb.matrix()[:count, :count]
        self.nodes = method.nodes[:count]
        self.b = [float(x) for x in tb.b]
        self.points = []
        fs: list[Tensor] = []
        h = self.h.unsqueeze(1)
        for i in range(count):
            y = self.y
            for j in range(i):
                if self.a[i, j] != 0:
                    y = y + h * self.a[i, j] * fs[j]
            t = self.t + self.nodes[i] * self.h
            self.points.append((t, y))
            with torch.no_grad():
                fs.append(field.batch_eval(t, y))
            field.stats.backward_nfe += len(y)
        t = torch.cat([p[0] for p in self.points])
        self.jacobians = jacobians(field, t, torch.cat([p[1] for p in self.points])).view(
            count, *y.shape, y.shape[1]
        )
        self.broken = not bool(torch.isfinite(self.jacobians).all())
        self.interior = self.interior_cotangents(tb.dense_weights[:count], True)
        chosen = sampled(len(self.y))
        if chosen is not None:
            which = to_device(chosen, self.y.device)
            check_explicit(method, self.jacobians[0][which], self.h[which])

    @staticmethod
    def singly(*arguments: Any) -> tuple[Tensor, list[Tensor]]:
        """The same, one step at a time."""
        return sequential(*arguments)

    def stages(self, seed: Tensor | None, outputs: bool) -> tuple[Tensor, list[Tensor]]:
        """Return (cotangents of the starts, cotangents of all stages). seed: cotangents (m, n, w)
        of the ends; None for none.

        outputs: whether to add the cotangents of the outputs inside the steps.
        """
        if seed is None:
            width = 1
        else:
            width = seed.shape[2]
        m, n = self.y.shape
        count = len(self.points)
        h = self.h.view(-1, 1, 1)
        if seed is None:
            start = self.y.new_zeros(m, n, width)
        else:
            start = seed
        stages = []
        for i in range(count):
            if i < len(self.b):
                b = self.b[i]
            else:
                b = 0.0
            stages.append(self.y.new_zeros(m, n, width) if seed is None else h * b * seed)
        if self.interior is not None and outputs:
            stages = [s + d.unsqueeze(2) for s, d in zip(stages, self.interior[0])]
            start = start + self.interior[1].unsqueeze(2)
        for i in range(count - 1, -1, -1):
            back = products.bmm(self.jacobians[i].transpose(1, 2), stages[i])
            start = start + back
            for j in range(i):
                if self.a[i, j] != 0:
                    stages[j] = stages[j] + h * self.a[i, j] * back
        return start, stages

    def parameters(self, seed: Tensor) -> list[Tensor]:
        """Cotangents of the parameters, summed over the steps. seed: cotangents (m, n, 1) of the
        ends."""
        if not self.field.parameters:
            return []
        stages = self.stages(seed, True)[1]
        t, y = (torch.cat(x) for x in zip(*self.points))
        return pull_parameters(self.field, t, y, torch.cat(stages).squeeze(2))


@STEPWISE.register(ExplicitRungeKutta)
def sequential(
    field: VectorField,
    method: ExplicitRungeKutta,
    steps: Sequence[Step],
    end_cotangents: Sequence[Tensor | None],
    inside: Sequence[InsideStep | None],
    ybar: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    """The recursion of replay.pullback, one step at a time by vector-Jacobian products, for large
    states."""
    tb = method.tableau
    a = tb.matrix()
    b = [float(x) for x in tb.b] + [0.0] * len(tb.c_dense)
    grads = zero_grads(field.parameters)
    for k in range(len(steps) - 1, -1, -1):
        step = steps[k]
        h = steps[k].h
        ybar = plus(ybar, end_cotangents[k])
        count = tb.stages + (len(tb.c_dense) if inside[k] is not None else 0)
        stages: list[Any] = [h * b[i] * ybar if b[i] else None for i in range(count)]
        start = ybar
        dense = StepBatch(RecordedSteps([step]), indexed_outputs([inside[k]])).interior_cotangents(
            tb.dense_weights[:count], True
        )
        if dense is not None:
            stages = [plus(s, d[0]) for s, d in zip(stages, dense[0])]
            start = start + dense[1][0]
        leaves, values = _stored(step, count) or _replay(field, method, step, count)
        for i in range(count - 1, -1, -1):
            if stages[i] is None or not values[i].requires_grad:
                continue
            (back,), param_grads = pull_back(field, values[i], (leaves[i],), stages[i])
            field.stats.backward_nvjp += 1
            grads = add_grads(grads, param_grads)
            start = plus(start, back)
            if back is not None:
                for j in range(i):
                    if a[i, j] != 0:
                        stages[j] = plus(stages[j], (h * a[i, j]) * back)
        ybar = start
    return ybar, grads


def _stored(step, count):
    """The result of _replay from evaluations that the solve stored. None if it did not store
    them."""
    if step.tape is None or len(step.tape) < count:
        return None
    evaluations = step.tape[:count]
    return [x.leaf for x in evaluations], [x.out for x in evaluations]


def _replay(field, method, step, count):
    """The stages of one step, each with its own graph: lists of leaves and of values, (n,)."""
    rows, _, _, extra = method.rows
    leaves = []
    values = []
    detached = []
    for i, row in enumerate((rows + extra)[:count]):
        if i:
            y = combine(step.start, step.h, row, detached)
        else:
            y = step.start
        with torch.enable_grad():
            leaves.append(y.detach().clone().requires_grad_())
            t = torch.full((), step.t + method.nodes[i] * step.h, dtype=y.dtype, device=y.device)
            values.append(field.eval(t, leaves[-1]))
        field.stats.backward_nfe += 1
        detached.append(values[-1].detach())
    return leaves, values
