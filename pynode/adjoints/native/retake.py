"""The recorded steps of a native solve as functions in torch, for second derivatives.

Each family yields, for each step, the state at its end and a function theta -> state inside it, as
differentiable functions of y0 and the parameters of the field. Their values are those of the solve:
a step begins at the recorded state, and implicit stages have their recorded values, with the
derivatives of the equations that they solve (algebra/newton.implicit_diff).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...algebra.jacobian import Jacobian
from ...algebra.newton import implicit_diff
from ...backends.native import bdf_history
from ...backends.native.bdf_history import write_output_weights, write_reading
from ...backends.native.esdirk import EXPLICIT_FIRST, STAGES
from ...backends.native.newton import C
from ...backends.native.radau_stages import output_weight
from ...methods.base import ByFamily
from ...methods.bdf.formulas import redifference
from ...methods.bdf.step import BDF
from ...methods.esdirk import DIRK
from ...methods.explicit import ExplicitRungeKutta
from ...methods.radau import Radau
from ...methods.rosenbrock import RosenbrockMethod

if TYPE_CHECKING:
    from ...backends.native.engine import NativeSegment
    from ...core.vector_field import VectorField

Retaken = Iterator[tuple[Tensor, Callable[[float], Tensor]]]


def retake(field: VectorField, trajectory: NativeSegment, y0: Tensor) -> Retaken:
    """(end of the step (n,), its continuous extension) of all steps. y0: (n,), the start of the
    trajectory as the tensor to differentiate in."""
    solved = trajectory.solved
    recorded: Any = solved
    if solved.restarts is not None:
        recorded = solved.restarts.whole()
    return RETAKES.get(solved.method)(field, solved, recorded, y0)


class _Recorded:
    """The recorded numbers as tensors of the state's type. ends: (k, n) ends of the steps."""

    def __init__(self, recorded: Any, like: Tensor) -> None:
        self.starts = recorded.starts.tolist()
        self.sizes = recorded.sizes.tolist()
        states = np.concatenate((recorded.states, recorded.end_state[None]))
        self.states = torch.from_numpy(states).to(like)
        self.ends = self.states[1:]
        self.stages = torch.from_numpy(recorded.stages.copy()).to(like)
        self.numbers = recorded.numbers

    def __iter__(self) -> Iterator[tuple[int, float, float]]:
        """(number, start, size) of each step."""
        return zip(range(len(self.starts)), self.starts, self.sizes, strict=True)


def _valued(x: Tensor, value: Tensor) -> Tensor:
    """x with another value, which differs by rounding."""
    return value + (x - x.detach())


def _weights(dense: np.ndarray, theta: float) -> np.ndarray:
    """(s,) weights of the stages at theta. dense: (s, degree)."""
    return dense @ theta ** np.arange(1, dense.shape[1] + 1)


def _summed(weights: Any, stages: Any, scale: float = 1.0) -> Tensor:
    """scale sum_j weights_j stages_j, (n,). A stage with a zero is left out."""
    terms = [scale * float(w) * stage for w, stage in zip(weights, stages) if w]
    if not terms:
        return torch.zeros_like(stages[0])
    return torch.stack(terms).sum(0)


def _explicit(field: VectorField, solved: Any, recorded: Any, y0: Tensor) -> Retaken:
    method = solved.method
    steps = _Recorded(recorded, y0)
    dense = solved.tables.dense
    y = y0
    first = None
    behind = solved.begins_behind_jumps().tolist()
    for k, t, h in steps:
        start = y
        if behind[k]:
            first = None
        end, _, stages = method.attempt(field, t, start, h, first)
        if method.tableau.fsal:
            first = stages[-1]

        def inside(theta, t=t, h=h, start=start, stages=stages):
            every = method.all_stages(field, t, start, h, stages)
            return start + _summed(_weights(dense, theta), every, h)

        y = _valued(end, steps.ends[k])
        yield y, inside


def _rosenbrock(field: VectorField, solved: Any, recorded: Any, y0: Tensor) -> Retaken:
    method = solved.method
    steps = _Recorded(recorded, y0)
    dense = solved.tables.dense
    jacobian = Jacobian(field)
    y = y0
    for k, t, h in steps:
        start = y
        linear = jacobian.with_time(t, start, graph=True)
        solver = jacobian.factorised(linear[0], h * method.numbers[0])
        end, _, stages = method.attempt(field, t, start, h, linear[1], solver)

        def inside(theta, start=start, stages=stages):
            return start + _summed(_weights(dense, theta), stages)

        y = _valued(end, steps.ends[k])
        yield y, inside


def _dirk(field: VectorField, solved: Any, recorded: Any, y0: Tensor) -> Retaken:
    steps = _Recorded(recorded, y0)
    tables = solved.tables
    count = int(tables.flags[STAGES])
    matrix = tables.a[:, count + 1 :]
    dense = tables.dense[count + 1 :]
    jacobian = Jacobian(field)
    y = y0
    for k, t, h in steps:
        start = y
        c = float(tables.gamma[0]) * h
        slopes: list[Tensor] = []
        for i in range(count):
            time = t + float(tables.nodes[i]) * h
            if i == 0 and tables.flags[EXPLICIT_FIRST]:
                slopes.append(field.dydt(time, start))
                continue
            base = start
            if i:
                base = start + _summed(matrix[i], slopes, h)
            value = steps.stages[k, i]
            exact = _factorised(jacobian, time, value, c)
            solution = implicit_diff(field, time, base, 0.0, c, exact, value)
            slopes.append((solution - base) / c)

        def inside(theta, h=h, start=start, slopes=slopes):
            return start + _summed(_weights(dense, theta), slopes, h)

        y = _valued(start + _summed(matrix[count], slopes, h), steps.ends[k])
        yield y, inside


def _factorised(jacobian: Any, t: float, y: Tensor, c: float) -> Any:
    """Solves with M - c J at (t, y)."""
    with torch.no_grad():
        return jacobian.factorised(jacobian(t, y), c)


def _radau(field: VectorField, solved: Any, recorded: Any, y0: Tensor) -> Retaken:
    steps = _Recorded(recorded, y0)
    tables = solved.tables
    count = len(tables.nodes)
    y = y0
    for k, t, h in steps:
        start = y
        values = steps.stages[k].reshape(-1)
        stages = solved.method.with_derivatives(field, t, start, h, values)
        moves = stages.view(count, -1) - start

        def inside(theta, start=start, moves=moves):
            weights = [output_weight(tables, j, theta) for j in range(count)]
            return start + _summed(weights, moves)

        end = start + _summed(tables.ending, moves)
        if tables.ends[0]:
            end = start + moves[-1]
        y = _valued(end, steps.ends[k])
        yield y, inside


def _bdf(field: VectorField, solved: Any, recorded: Any, y0: Tensor) -> Retaken:
    steps = _Recorded(recorded, y0)
    tables = solved.tables
    by_values = bool(tables.flags[bdf_history.VALUES_FORM])
    rows = tables.reading.shape[2]
    jacobian = Jacobian(field)
    slope = solved.h0 * field.dydt(solved.t0, y0)
    if by_values:
        slope = y0 - slope
    history = torch.stack((y0, slope, *[torch.zeros_like(y0)] * (rows - 2)))
    for k, t, h in steps:
        numbers = np.zeros(bdf_history.NUMBERS)
        numbers[: bdf_history.TAPE] = steps.numbers[k]
        order = int(numbers[bdf_history.TAKEN])
        c = float(numbers[C])
        if numbers[bdf_history.RATIO]:
            history = _on_grid(history, numbers, order)
        write_reading(tables, numbers, order)
        used = history[: order + 1]
        start = _part(numbers, bdf_history.VALUES, order, y0) @ used
        terms = _part(numbers, bdf_history.TERMS, order, y0) @ used
        value = steps.ends[k]
        exact = _factorised(jacobian, t + h, value, c)
        end = implicit_diff(field, t + h, start, terms, c, exact, value)
        if by_values:
            history = torch.cat((end.unsqueeze(0), history[:-1]))
        else:
            moving = torch.from_numpy(tables.moving[order]).to(y0)
            history = moving @ torch.cat((history, (end - start).unsqueeze(0)))

        def inside(theta, numbers=numbers, order=order, history=history):
            weights = numbers.copy()
            write_output_weights(tables, weights, theta)
            return _part(weights, bdf_history.VALUES, order, y0) @ history[: order + 1]

        yield end, inside


def _part(numbers, first, order, like):
    """order + 1 of the numbers as a tensor."""
    return torch.from_numpy(numbers[first : first + order + 1].copy()).to(like)


def _on_grid(history, numbers, order):
    """The history on the grid of a step."""
    redifference(numbers[bdf_history.GRID :], order, numbers[bdf_history.RATIO])
    size = order + 1
    grid = numbers[bdf_history.GRID : bdf_history.GRID + size * size].reshape(size, size)
    moved = torch.from_numpy(grid.copy()).to(history) @ history[:size]
    return torch.cat((moved, torch.zeros_like(history[size:])))


RETAKES = ByFamily()
RETAKES.register(ExplicitRungeKutta)(_explicit)
RETAKES.register(RosenbrockMethod)(_rosenbrock)
RETAKES.register(DIRK)(_dirk)
RETAKES.register(Radau)(_radau)
RETAKES.register(BDF)(_bdf)
