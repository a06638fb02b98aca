"""DiscreteAdjoint: the exact gradient of the steps that were taken. The integrator runs without a
graph; the recorded steps are differentiated backwards, each once."""

from __future__ import annotations

import math
import re

import torch

from ...backends.torch.checkpoints import Recording
from ...backends.torch.tape import SHARE, Tape, free_bytes
from ...methods.bdf.step import BDF
from ...methods.explicit import ExplicitRungeKutta
from ...methods.switching import AutoSwitch
from ..base import Adjoint
from ..field_products import added
from ..output_cotangents import Outputs
from . import bdf, explicit, replay, second_order, step_by_step
from .replay import REPLAYS, STEPWISE

# Above this size explicit methods go back by vector-Jacobian products instead of Jacobians
# (benchmarks/gradient.py).
JACOBIANS_UP_TO = 32
# States from which the stages of steps are not kept, but made again for so many steps at a time.
LARGE = 256
PIECE = 16
OBJECT = 1024  # bytes of a recorded step or point beside its vectors: the Python objects


class DiscreteAdjoint(Adjoint):
    """Differentiates the accepted steps in reverse. Gives the exact gradient of these steps.

    Cost: a fraction of the forward solve for small systems.

    checkpoints: None keeps what the gradient needs of all steps; a number keeps at most so many
    states in each segment of the solve (from one reset to the next), beside two Python floats a
    step. On the way back the steps are taken again from there, exactly as they were taken, at most
    so many at a time with their stages; which states to keep follows the binomial rule
    (backends/torch/checkpoint_schedule.py), so that k states serve C(k + r, k) k steps at the price
    of r + 1 further solves. max_memory: the same with as many as fit: bytes, or '500MB', '2GB',
    '512KiB'; it counts the states and stages kept, not the linear algebra of the steps that are at
    work. The gradient is the same in any case.

    keep_graphs: explicit methods keep the graphs of their evaluations, for states of more than
    JACOBIANS_UP_TO components and as long as they fit in half of the memory that is free. f is then
    not evaluated again on the way back. False keeps states alone, in a fraction of the memory, and
    so do checkpoints and max_memory. Where f draws random numbers or writes its buffers (Dropout,
    batch normalisation) the graphs are kept in any case: such evaluations cannot be repeated."""

    name = "DiscreteAdjoint"

    def __init__(self, checkpoints=None, max_memory=None, keep_graphs=True):
        if checkpoints is not None and max_memory is not None:
            raise ValueError("give checkpoints or max_memory, which chooses checkpoints, not both")
        if checkpoints is not None and (
            not isinstance(checkpoints, int) or isinstance(checkpoints, bool)
        ):
            raise TypeError(f"checkpoints must be a number of states, not {checkpoints!r}")
        if checkpoints is not None and checkpoints < 1:
            raise ValueError(
                f"checkpoints must be at least 1, not {checkpoints}: the gradient has to start"
                " somewhere"
            )
        if not isinstance(keep_graphs, bool):
            raise TypeError(f"keep_graphs must be True or False, not {keep_graphs!r}")
        self.keep_graphs = keep_graphs
        self.checkpoints = checkpoints
        if max_memory is None:
            self.max_memory = None
        else:
            self.max_memory = parse_bytes(max_memory)

    def tape(self, field, method):
        """The Tape of a solve whose evaluations are kept, else None."""
        is_explicit = isinstance(method, ExplicitRungeKutta) and field.compiled is None
        if not is_explicit or self.checkpoints is not None or self.max_memory is not None:
            return None
        if field.once:
            return Tape(math.inf)
        if not self.keep_graphs or field.size <= JACOBIANS_UP_TO:
            return None
        return Tape(SHARE * free_bytes(field.device))

    def record(self, field, method, tol):
        limit = every = self.checkpoints
        if self.max_memory is not None:
            limit, every = self._fitting(field, method)
        elif limit is None and field.size > LARGE and method.taped:
            every = PIECE
        return Recording(field, method, tol, limit, every)

    def _fitting(self, field, method):
        """(points, steps taken again at a time), each for half of the memory."""
        vector = field.size * field.dtype.itemsize
        point, step = (count * vector + OBJECT for count in method.memory)
        limit, every = (self.max_memory // 2 // size for size in (point, step))
        if limit < 1 or every < 1:
            raise ValueError(
                f"max_memory is {self.max_memory} bytes, but one state of {method.name} with"
                f" {field.size} components and the stages of one step take {2 * max(point, step)}:"
                " give at least that"
            )
        return limit, every

    def pullback(self, field, method, trajectory, times, grads, options):
        outputs = Outputs(trajectory, times, grads)
        with torch.no_grad():
            sweep = _sweep(method)(field, method, trajectory)
            for first, steps in trajectory.recording.backwards():
                sweep.back(steps, *outputs.of(first, len(steps)))
            ybar, found = sweep.finish()
        return ybar + outputs.at_start, found

    def second(self, field, trajectory, times, grads, vectors):
        return second_order.pullback(field, trajectory, times, grads, vectors)


def _sweep(method):
    """The class that goes back over the steps of this method."""
    if isinstance(method, BDF):
        return bdf.Sweep
    if method.carried:
        return step_by_step.Sweep
    return OneStepSweep


class OneStepSweep:
    """Goes back over pieces of the steps of one-step methods, the last piece first, with the
    cotangent of y."""

    def __init__(self, field, method, trajectory):
        self.field = field
        self.method = method
        self.ybar = torch.zeros_like(trajectory.y0)
        self.grads = [torch.zeros_like(p) for p in field.parameters]

    def back(self, steps, ends, inside):
        """ends, inside: of the outputs (Outputs.of)."""
        for method, first, last in reversed(_runs(self.method, steps)):
            piece = steps[first:last], ends[first:last], inside[first:last]
            self.ybar, found = _one_step(self.field, method, *piece, self.ybar)
            self.grads = added(self.grads, found)

    def finish(self):
        """(cotangent of y0 (n,), cotangents of the parameters)."""
        return self.ybar, self.grads


def _runs(method, steps):
    """(method, first, last): stretches of steps of one method, in order; one stretch but for
    automatic switching."""
    if not isinstance(method, AutoSwitch):
        return [(method, 0, len(steps))]
    starts = [i for i, step in enumerate(steps) if i == 0 or step.method is not steps[i - 1].method]
    return [(steps[i].method, i, j) for i, j in zip(starts, [*starts[1:], len(steps)])]


def _one_step(field, method, steps, ends, inside, ybar):
    is_explicit = isinstance(method, ExplicitRungeKutta)
    if is_explicit and (
        field.size > JACOBIANS_UP_TO or any(step.tape is not None for step in steps)
    ):
        return explicit.sequential(field, method, steps, ends, inside, ybar)
    if field.structure is not None or not field.allows_copies(*_first_point(steps)):
        stepwise = STEPWISE.get(method)
        if stepwise is not None:
            return stepwise(field, method, steps, ends, inside, ybar)
    return replay.pullback(field, REPLAYS.get(method), method, steps, ends, inside, ybar)


def _first_point(steps):
    """t (1,) and y (1, n) of the first of some steps."""
    start = steps[0].start
    return torch.tensor([steps[0].t], dtype=start.dtype, device=start.device), start.unsqueeze(0)


def parse_bytes(given) -> int:
    """Bytes of a number, or of a text such as '500MB', '2 GB' or '512KiB'; ValueError or TypeError
    for anything else."""
    if isinstance(given, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b\s*", given.lower())
        if found is None:
            raise ValueError(
                f"max_memory is {given!r}: write it as '500MB', '2GB' or '512KiB', or give bytes"
            )
        number, prefix, binary = found.groups()
        return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix or " "))
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"max_memory must be bytes or a text such as '500MB', not {given!r}")
    if given < 1:
        raise ValueError(f"max_memory must be positive, not {given}")
    return given
