"""DiscreteAdjoint: the exact gradient of the steps that a solve took.

The integrator runs without a graph. The backward pass differentiates each recorded step once, in
reverse.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...backends.torch.checkpoint_schedule import fitting
from ...backends.torch.checkpoints import Recording
from ...backends.torch.tape import SHARE, Tape, free_bytes
from ...core.cotangents import add_grads, zero_grads
from ...methods.bdf.step import BDF
from ...methods.explicit import ExplicitRungeKutta
from ...methods.switching import AutoSwitch
from ..base import Adjoint
from ..output_cotangents import OutputCotangents
from . import bdf, explicit, replay, second_order, step_by_step
from .replay import REPLAYS, STEPWISE

if TYPE_CHECKING:
    from ...core.norm import Tolerance
    from ...core.options import Options
    from ...core.trajectory import Trajectory
    from ...core.vector_field import VectorField
    from ...methods.base import Method, Step
    from ..output_cotangents import InsideStep

# Above this size the backward pass of explicit methods uses vector-Jacobian products instead of
# Jacobians (benchmarks/gradient.py).
JACOBIANS_UP_TO = 32
# With more states than LARGE, the solve does not store the stages. The backward pass makes them
# again, for PIECE steps at a time.
LARGE = 256
PIECE = 16
OBJECT = 1024  # bytes of the Python objects of a recorded step or point, without its vectors


class DiscreteAdjoint(Adjoint):
    """Differentiates the accepted steps in reverse. Gives the exact gradient of these steps.

    For small systems it costs a fraction of the forward solve.

    checkpoints: None stores everything that the gradient needs. A number stores at most so many
        states in each segment of the solve (from one reset to the next), and two Python floats for
        each step. The backward pass repeats the steps exactly from the stored states and holds the
        stages of at most so many steps at a time. The binomial rule
        (backends/torch/checkpoint_schedule.py) chooses the states: k states serve C(k + r, k) k
        steps for r + 1 further solves.
    max_memory: as many checkpoints as fit: bytes, or '500MB', '2GB', '512KiB'. It counts the stored
        states and stages, not the linear algebra of the current steps. The gradient does not
        change.
    keep_graphs: explicit methods store the graphs of their evaluations, for states of more than
        JACOBIANS_UP_TO components, as long as the graphs fit in half of the free memory. The
        backward pass then does not evaluate f again. False stores only states, in a fraction of the
        memory, and so do checkpoints and max_memory. If f draws random numbers or writes its
        buffers (Dropout, batch normalisation), the solve always stores the graphs, because it
        cannot repeat such evaluations.
    """

    name = "DiscreteAdjoint"

    def __init__(
        self,
        checkpoints: int | None = None,
        max_memory: int | str | None = None,
        keep_graphs: bool = True,
    ) -> None:
        if checkpoints is not None and max_memory is not None:
            raise ValueError("give checkpoints or max_memory, which chooses checkpoints, not both")
        if checkpoints is not None and (
            not isinstance(checkpoints, int) or isinstance(checkpoints, bool)
        ):
            raise TypeError(f"checkpoints must be a number of states, not {checkpoints!r}")
        if checkpoints is not None and checkpoints < 1:
            raise ValueError(
                f"checkpoints must be at least 1, not {checkpoints}: the backward pass repeats the"
                " steps from a stored state"
            )
        if not isinstance(keep_graphs, bool):
            raise TypeError(f"keep_graphs must be True or False, not {keep_graphs!r}")
        self.keep_graphs = keep_graphs
        self.checkpoints = checkpoints
        if max_memory is None:
            self.max_memory = None
        else:
            self.max_memory = parse_bytes(max_memory)

    def tape(self, field: VectorField, method: Method) -> Tape | None:
        """The Tape of a solve that stores its evaluations, otherwise None."""
        is_explicit = isinstance(method, ExplicitRungeKutta) and field.compiled is None
        if not is_explicit or self.checkpoints is not None or self.max_memory is not None:
            return None
        if field.unrepeatable:
            return Tape(math.inf)
        if not self.keep_graphs or field.size <= JACOBIANS_UP_TO:
            return None
        return Tape(SHARE * free_bytes(field.device))

    def record(self, field: VectorField, method: Method, tol: Tolerance) -> Recording:
        limit = every = self.checkpoints
        if self.max_memory is not None:
            limit, every = self._fitting(field, method)
        elif limit is None and field.size > LARGE and method.taped:
            every = PIECE
        return Recording(field, method, tol, limit, every)

    def _fitting(self, field, method):
        """Return (points, steps to repeat at a time), each for half of the memory."""
        vector = field.size * field.dtype.itemsize
        point, step = (count * vector + OBJECT for count in method.memory)
        return fitting(self.max_memory, point, step, method.name, field.size)

    def pullback(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        outputs = OutputCotangents(trajectory, times, grads)
        with torch.no_grad():
            sweep = _sweep(method)(field, method, trajectory)
            for first, steps in trajectory.recording.backwards():
                sweep.back(steps, *outputs.of_steps(first, len(steps)))
            ybar, grads_of_params = sweep.finish()
        return ybar + outputs.at_start, grads_of_params

    def second(
        self,
        field: VectorField,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        vectors: Sequence[Tensor],
    ) -> list[Tensor]:
        return second_order.pullback(field, trajectory, times, grads, vectors)


def _sweep(method):
    """The class that goes back over the steps of this method."""
    if isinstance(method, BDF):
        return bdf.Sweep
    if method.state_tensors:
        return step_by_step.Sweep
    return OneStepSweep


class OneStepSweep:
    """Goes back over pieces of the steps of one-step methods, the last piece first, with the
    cotangent of y."""

    def __init__(self, field: VectorField, method: Method, trajectory: Trajectory) -> None:
        self.field = field
        self.method = method
        self.ybar = torch.zeros_like(trajectory.y0)
        self.grads = zero_grads(field.parameters)

    def back(
        self,
        steps: Sequence[Step],
        end_cotangents: Sequence[Tensor | None],
        inside: Sequence[InsideStep | None],
    ) -> None:
        """end_cotangents, inside: of the outputs (OutputCotangents.of_steps)."""
        for method, first, last in reversed(method_runs(self.method, steps)):
            piece = steps[first:last], end_cotangents[first:last], inside[first:last]
            self.ybar, param_grads = _one_step(self.field, method, *piece, self.ybar)
            self.grads = add_grads(self.grads, param_grads)

    def finish(self) -> tuple[Tensor, list[Tensor]]:
        """Return (cotangent of y0 (n,), cotangents of the parameters)."""
        return self.ybar, self.grads


def method_runs(method: Method, steps: Sequence[Step]) -> list[tuple[Method, int, int]]:
    """(method, first, last): runs of steps of one method, in order. Only automatic switching has
    several runs."""
    if not isinstance(method, AutoSwitch):
        return [(method, 0, len(steps))]
    starts = [i for i, step in enumerate(steps) if i == 0 or step.method is not steps[i - 1].method]
    return [(steps[i].method, i, j) for i, j in zip(starts, [*starts[1:], len(steps)])]


def _one_step(field, method, steps, end_cotangents, inside, ybar):
    is_explicit = isinstance(method, ExplicitRungeKutta)
    if is_explicit and (
        field.size > JACOBIANS_UP_TO or any(step.tape is not None for step in steps)
    ):
        return explicit.sequential(field, method, steps, end_cotangents, inside, ybar)
    if field.structure is not None or not field.allows_batch_eval(*_first_point(steps)):
        stepwise = STEPWISE.get(method)
        if stepwise is not None:
            return stepwise(field, method, steps, end_cotangents, inside, ybar)
    return replay.pullback(field, REPLAYS.get(method), method, steps, end_cotangents, inside, ybar)


def _first_point(steps):
    """t (1,) and y (1, n) of the first step."""
    start = steps[0].start
    return torch.tensor([steps[0].t], dtype=start.dtype, device=start.device), start.unsqueeze(0)


def parse_bytes(given: int | str) -> int:
    """Bytes of a number, or of a text such as '500MB', '2 GB' or '512KiB'. Raise ValueError or
    TypeError for other input."""
    if isinstance(given, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b\s*", given.lower())
        if match is None:
            raise ValueError(
                f"max_memory is {given!r}: write it as '500MB', '2GB' or '512KiB', or give bytes"
            )
        number, prefix, binary = match.groups()
        return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix or " "))
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"max_memory must be bytes or a text such as '500MB', not {given!r}")
    if given < 1:
        raise ValueError(f"max_memory must be positive, not {given}")
    return given
