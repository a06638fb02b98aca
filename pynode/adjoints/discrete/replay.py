"""The discrete adjoint of a one-step method: local transition matrices side by side, then one
recursion.

Only the states at the ends of the steps are kept. All steps of a chunk are replayed together, stage
by stage; a family says how the cotangent of the end of a step, and the cotangents of its outputs,
go back to its start (``Replay.sweep``). Run on unit vectors that gives the transition matrices, (n,
n) a step, so that the recursion over the steps is one matrix-vector product each; run once more on
the cotangents found, it gives those of the stages and so of the parameters.
"""

from __future__ import annotations

import torch

from ...methods.base import ByFamily
from ..field_products import added, chunk_size
from ..output_cotangents import powers


def pullback(field, replay_type, method, steps, ends, inside, ybar):
    """(cotangent of the start of the steps (n,), cotangents of the parameters).

    ends, inside: of the outputs (Outputs.of); ybar: (n,) cotangent of the last end, without that of
    outputs. replay_type: the family's Replay.
    """
    n = len(ybar)
    grads = [torch.zeros_like(p) for p in field.parameters]
    size = max(1, chunk_size(n) // replay_type.size(method))
    for last in range(len(steps), 0, -size):
        first = max(0, last - size)
        replay = replay_type(
            field, method, RecordedSteps(steps[first:last]), entries(inside[first:last])
        )
        if replay.broken:
            piece = steps[first:last], ends[first:last], inside[first:last]
            ybar, found = replay.singly(field, method, *piece, ybar)
            grads = added(grads, found)
            continue
        unit = torch.eye(n, dtype=ybar.dtype, device=ybar.device).expand(last - first, n, n)
        transition = replay.sweep(unit)
        forced = replay.sweep(None)
        rows = transition.transpose(1, 2).unbind(0)
        if forced is None:
            shifts = None
        else:
            shifts = forced.squeeze(2).unbind(0)
        seeds = [None] * (last - first)
        for i in range(last - first - 1, -1, -1):
            if ends[first + i] is not None:
                ybar = ybar + ends[first + i]
            seeds[i] = ybar
            # transition[i] maps unit cotangents to columns: its column j is the image of the j-th
            # unit vector.
            if shifts is None:
                ybar = torch.mv(rows[i].t(), ybar)
            else:
                ybar = torch.addmv(shifts[i], rows[i].t(), ybar)
        found = replay.parameters(torch.stack(seeds).unsqueeze(2))
        grads = added(grads, found)
    return ybar, grads


class RecordedSteps:
    """Recorded steps side by side, as the families replay them: y (m, n), t (m,), h (m,)."""

    def __init__(self, steps):
        like = steps[0].start
        self.steps = steps
        self.y = torch.stack([step.start for step in steps])
        self.t = torch.tensor([step.t for step in steps], dtype=like.dtype, device=like.device)
        self.h = torch.tensor([step.h for step in steps], dtype=like.dtype, device=like.device)

    def tape(self, read):
        """(s, m, n) of the s tensors, (n,), that read(step) lists."""
        tapes = [read(step) for step in self.steps]
        if all(isinstance(tape, torch.Tensor) for tape in tapes):  # of compiled steps
            return torch.stack(tapes, 1)
        return torch.stack([torch.stack(rows) for rows in zip(*tapes, strict=True)])


def entries(inside):
    """Outputs inside the steps as Start takes them."""
    return [(i, *entry) for i, entry in enumerate(inside) if entry is not None]


# By family of methods: the class that takes many steps again at once, as a StepBatch, and the
# function that goes back a step at a time, where the Jacobian has a structure, or f takes one point
# at a time.
REPLAYS = ByFamily()
STEPWISE = ByFamily()


class StepBatch:
    """Starts, times and sizes of the steps of a chunk: y (m, n), t (m,), h (m,), and their outputs.

    inside: list of (i, thetas (q,), cotangents (q, n)), i the number of the step, or those of q
    steps, (q,). broken: whether a Jacobian is not finite. A product with it would carry NaN from
    the states that have no derivative to all others; the steps then go back by ``singly``, one by
    one. A family has ``dense``, the cotangents of the outputs inside or None, and ``stages(seed,
    outputs)``: cotangents of the starts and of the stages for cotangents (m, n, w) of the ends
    (None: none); outputs: whether dense is added.
    """

    broken = False

    @staticmethod
    def size(method):
        """Matrices, (n, n), that one step needs."""
        return method.tableau.stages

    def __init__(self, chunk, inside):
        self.y = chunk.y
        self.t = chunk.t
        self.h = chunk.h
        self.inside = inside

    def sweep(self, seed):
        """Cotangents of the starts, (m, n, w); None where seed is None and there are no outputs
        inside."""
        if seed is None and self.dense is None:
            return None
        return self.stages(seed, seed is None)[0]

    def dense_cotangents(self, weights, scaled):
        """Cotangents of the stages and of the start from the outputs inside the steps.

        weights: (stages, degree) of the continuous extension; scaled: whether stages enter it times
        h. Returns (stages, m, n) and (m, n), or None where there is no output inside.
        """
        if not self.inside:
            return None
        m, n = self.y.shape
        stages = self.y.new_zeros(len(weights), m, n)
        start = self.y.new_zeros(m, n)
        weights = torch.as_tensor(weights, dtype=self.y.dtype, device=self.y.device)
        for i, theta, cotangents in self.inside:
            index = torch.as_tensor(i, device=theta.device).expand(len(theta))
            if scaled:
                scale = self.h[index]
            else:
                scale = torch.ones_like(self.h[index])
            pulled = powers(theta, weights.shape[1], 1, self.y) @ weights.T * scale.unsqueeze(1)
            stages.index_add_(1, index, pulled.T.unsqueeze(2) * cotangents)
            start.index_add_(0, index, cotangents)
        return stages, start
