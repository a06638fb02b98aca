"""Conditions of events in compiled code.

The loop evaluates the conditions where the torch engine does (../torch/event_detection.py): at some
places of each accepted step. Where all of them stay on their sides of zero, the torch engine would
find nothing, and the loop goes on. Otherwise it asks Python, which looks for events as always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..torch.crossings import SAMPLES
from .arithmetic import copy
from .machine import call, row

if TYPE_CHECKING:
    from .blocks import Blocks

# A condition this near to zero may have another side in torch: so many roundings of its largest
# value, and of the state.
VALUE_ROUNDINGS = 1000
STATE_ROUNDINGS = 4


class Watched:
    """The conditions of one solve, or of m solves, as arrays that compiled code reads.

    conditions: (E, 2) the addresses of their functions, and how many values each returns. inputs:
    (E, P), or (m, E, P), the addresses of the tensors that they read. work: numbers of work that
    they need. sides: (E, K), or (m, E, K), the side of zero of each value, 1 or -1; 0 for one that
    is not known, and steps are then shown to Python. K: the most values of a condition. kept: what
    must stay in memory with them.
    """

    def __init__(self, conditions: np.ndarray, inputs: np.ndarray, work: int, kept: Any) -> None:
        self.conditions = conditions
        self.inputs = inputs
        self.work = work
        self._kept = kept
        width = int(conditions[:, 1].max(initial=0))
        self.sides = np.zeros((*inputs.shape[:-1], width))
        # Of all values in the last two axes of sides.
        self._places = np.nonzero(np.arange(width) < conditions[:, 1:])

    def note(self, sides: np.ndarray, which: np.ndarray | None = None) -> None:
        """Keep the sides of all values, one condition after the other: (...), or (w, ...) for the
        solves in which, (w,)."""
        conditions, values = self._places
        if which is None:
            self.sides[..., conditions, values] = sides
        else:
            self.sides[which[:, None], conditions, values] = sides

    def put(self, blocks: Blocks) -> None:
        """Let the solves read these arrays."""
        blocks.give(conditions=self.conditions)
        arrays = {
            "condition_inputs": self.inputs,
            "condition_values": np.empty(self.sides.shape, blocks.blueprint.real),
            "largest": np.zeros(self.sides.shape),
            "sides": self.sides,
        }
        if self.sides.ndim == 2:
            blocks.give(**arrays)
            return
        for name, array in arrays.items():
            blocks.give_each(name, array)


def no_conditions(real: Any) -> dict[str, np.ndarray]:
    """The arrays of Memory for solves that watch no conditions. real: the dtype of the state."""
    return {
        "samples": np.array(SAMPLES),
        "conditions": np.zeros((0, 2), np.int64),
        "condition_inputs": np.zeros((0, 0), np.int64),
        "condition_values": np.zeros((0, 0), real),
        "largest": np.zeros((0, 0)),
        "sides": np.zeros((0, 0)),
    }


def may_fire(family: Any, run: Any, tables: Any, memory: Any) -> bool:
    """Whether the torch engine could find an event in the accepted step."""
    for i in range(len(memory.samples)):
        theta = memory.samples[i]
        if theta < 1.0:
            t = run.t + theta * run.h
            family.interpolate(run, tables, memory, theta, memory.point)
        else:
            t = run.t1
            copy(memory.y1, memory.point)
        if not same_sides(run, memory, t):
            return True
    return False


def same_sides(run: Any, memory: Any, t: float) -> bool:
    """Whether all conditions at t and memory.point are clearly on the sides that they had. A
    condition that is NaN is not."""
    size = 0.0
    for k in range(len(memory.point)):
        size = max(size, abs(memory.point[k]))
    for e in range(len(memory.conditions)):
        values = row(memory.condition_values, e)
        inputs = row(memory.condition_inputs, e)
        address = memory.conditions[e, 0]
        call(address, t, memory.point, memory.point, inputs, values, memory.work)
        for k in range(memory.conditions[e, 1]):
            largest = max(memory.largest[e, k], abs(values[k]))
            near = run.eps * (VALUE_ROUNDINGS * largest + STATE_ROUNDINGS * size)
            if not memory.sides[e, k] * values[k] > near:
                return False
            memory.largest[e, k] = largest
    return True
