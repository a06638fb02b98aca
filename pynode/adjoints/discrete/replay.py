"""The discrete adjoint of a one-step method: local transition matrices for all steps at once, then
one recursion.

The solve stores only the states at the ends of the steps. The backward pass replays all steps of a
chunk together, stage by stage. A family defines how the cotangents of the end of a step and of its
outputs go back to its start (``Replay.pullback_starts``). On unit vectors this gives the transition
matrices, (n, n) for each step. The recursion then needs one matrix-vector product for each step. A
second run on these cotangents gives the cotangents of the stages. From them come the cotangents of
the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...core import products
from ...core.cotangents import add_grads, zero_grads
from ...core.transfer import constant
from ...methods.base import ByFamily
from ..field_products import chunk_size
from ..output_cotangents import powers

if TYPE_CHECKING:
    from ...core.vector_field import VectorField
    from ...methods.base import OneStep, Step
    from ..output_cotangents import InsideStep


# Outputs inside steps: the number of the step, or one number for each output (q,); thetas (q,);
# cotangents (q, n).
InsideOutputs: TypeAlias = tuple[int | Tensor, Tensor, Tensor]


def pullback(
    field: VectorField,
    replay_type: Any,
    method: OneStep,
    steps: Sequence[Step],
    end_cotangents: Sequence[Tensor | None],
    inside: Sequence[InsideStep | None],
    ybar: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    """Return (cotangent of the start of the steps (n,), cotangents of the parameters).

    end_cotangents, inside: of the outputs (OutputCotangents.of_steps). ybar: (n,) cotangent of the
    last end, without that of its output. replay_type: the family's Replay.
    """
    n = len(ybar)
    grads = zero_grads(field.parameters)
    size = max(1, chunk_size(n, field.device) // replay_type.size(method))
    for last in range(len(steps), 0, -size):
        first = max(0, last - size)
        replay = replay_type(
            field, method, RecordedSteps(steps[first:last]), indexed_outputs(inside[first:last])
        )
        if replay.broken:
            piece = steps[first:last], end_cotangents[first:last], inside[first:last]
            ybar, param_grads = replay.singly(field, method, *piece, ybar)
            grads = add_grads(grads, param_grads)
            continue
        unit = torch.eye(n, dtype=ybar.dtype, device=ybar.device).expand(last - first, n, n)
        transition = replay.pullback_starts(unit)
        forced = replay.pullback_starts(None)
        rows = transition.transpose(1, 2).unbind(0)
        if forced is None:
            shifts = None
        else:
            shifts = forced.squeeze(2).unbind(0)
        seeds: list[Any] = [None] * (last - first)
        for i in range(last - first - 1, -1, -1):
            at_end = end_cotangents[first + i]
            if at_end is not None:
                ybar = ybar + at_end
            seeds[i] = ybar
            # Column j of transition[i] is the image of the j-th unit vector.
            if shifts is None:
                ybar = torch.mv(rows[i].t(), ybar)
            else:
                ybar = torch.addmv(shifts[i], rows[i].t(), ybar)
        param_grads = replay.parameters(torch.stack(seeds).unsqueeze(2))
        grads = add_grads(grads, param_grads)
    return ybar, grads


class RecordedSteps:
    """Recorded steps in the form that the families replay: y (m, n), t (m,), h (m,)."""

    def __init__(self, steps: Sequence[Step]) -> None:
        like = steps[0].start
        self.steps = steps
        self.y = torch.stack([step.start for step in steps])
        self.t = torch.tensor([step.t for step in steps], dtype=like.dtype, device=like.device)
        self.h = torch.tensor([step.h for step in steps], dtype=like.dtype, device=like.device)

    def tape(self, read: Callable[[Step], Any]) -> Tensor:
        """(s, m, n) of the s tensors, (n,), in the list that read(step) returns."""
        tapes = [read(step) for step in self.steps]
        if all(isinstance(tape, torch.Tensor) for tape in tapes):  # of compiled steps
            return torch.stack(tapes, 1)
        return torch.stack([torch.stack(rows) for rows in zip(*tapes, strict=True)])


def indexed_outputs(inside: Sequence[InsideStep | None]) -> list[InsideOutputs]:
    """The outputs inside the steps in the form that StepBatch takes."""
    return [(i, *entry) for i, entry in enumerate(inside) if entry is not None]


# By family of methods: the class that takes many steps again at once, as a StepBatch, and the
# function that goes back a step at a time, where the Jacobian has a structure, or f takes one point
# at a time.
REPLAYS = ByFamily()
STEPWISE = ByFamily()


class StepBatch:
    """Starts, times and sizes of the steps of a chunk: y (m, n), t (m,), h (m,), and their outputs.

    inside: list of (i, thetas (q,), cotangents (q, n)); i is the number of the step, or one number
    for each output, (q,). broken: whether a Jacobian is not finite. A product with it would carry
    NaN from the states without a derivative to all others; ``singly`` then takes the steps back one
    by one. A family has ``interior``, the cotangents from the outputs inside, or None, and
    ``stages(seed, outputs)``: cotangents of the starts and of the stages for cotangents (m, n, w)
    of the ends (None for none). outputs: whether to add interior.
    """

    broken = False
    interior: tuple[Tensor, Tensor] | None

    @staticmethod
    def size(method: OneStep) -> int:
        """Matrices, (n, n), that one step needs."""
        return method.tableau.stages

    def __init__(self, chunk: RecordedSteps, inside: Sequence[InsideOutputs]) -> None:
        self.y = chunk.y
        self.t = chunk.t
        self.h = chunk.h
        self.inside = inside

    def pullback_starts(self, seed: Tensor | None) -> Tensor | None:
        """Cotangents of the starts, (m, n, w). None if seed is None and there are no outputs
        inside."""
        if seed is None and self.interior is None:
            return None
        return self.stages(seed, seed is None)[0]

    def stages(self, seed: Tensor | None, outputs: bool) -> tuple[Tensor, Any]:
        """Return (cotangents of the starts, cotangents of the stages). Each family defines it."""
        raise NotImplementedError

    def interior_cotangents(
        self, weights: np.ndarray, scaled: bool
    ) -> tuple[Tensor, Tensor] | None:
        """Cotangents of the stages and of the start from the outputs inside the steps.

        weights: (stages, degree) of the continuous extension. scaled: whether it contains the
        stages times h. Return (stages, m, n) and (m, n), or None if there is no output inside.
        """
        if not self.inside:
            return None
        m, n = self.y.shape
        stages = self.y.new_zeros(len(weights), m, n)
        start = self.y.new_zeros(m, n)
        matrix = constant(weights, self.y)
        for i, theta, cotangents in self.inside:
            index = torch.as_tensor(i, device=theta.device).expand(len(theta))
            if scaled:
                scale = self.h[index]
            else:
                scale = torch.ones_like(self.h[index])
            pulled = products.mm(powers(theta, matrix.shape[1], 1, self.y), matrix.T)
            pulled = pulled * scale.unsqueeze(1)
            stages.index_add_(1, index, pulled.T.unsqueeze(2) * cotangents)
            start.index_add_(0, index, cotangents)
        return stages, start
