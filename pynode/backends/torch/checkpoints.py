"""What an integration records for the gradient, and how it repeats its steps exactly."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .checkpoint_schedule import RestartPoint, RestartPoints

if TYPE_CHECKING:
    from ...core.norm import Tolerance
    from ...core.vector_field import VectorField
    from ...methods.base import Method, Step


class Recording:
    """The times and sizes of all steps as plain numbers, and either all steps or restart points
    from which it repeats them.

    starts, sizes: of the accepted steps. refused: {step: sizes that the method tried before it},
    because a failed attempt may leave a newer Jacobian. every: None keeps all steps in ``steps``. A
    number keeps one point for so many steps, at most ``limit`` points (None: all). Memory holds
    at most ``every`` repeated steps at a time, with all that their derivative needs.
    """

    def __init__(
        self,
        field: VectorField,
        method: Method | None,
        tol: Tolerance | None,
        limit: int | None = None,
        every: int | None = None,
    ) -> None:
        self.tape = field.tape
        self.field = field
        self.method: Any = method
        self.tol = tol
        self.restarts = None
        if every is not None:
            self.restarts = RestartPoints(limit, every)
        self.starts = array("d")
        self.sizes = array("d")
        self.refused: dict[int, list[float]] = {}
        self.steps: list[Step] = []
        # The steps are repeated in the mode in which they were taken.
        self.inference = torch.is_inference_mode_enabled()

    def before_step(self, y: Tensor, state: Any) -> None:
        """Store a restart point if one is due here. The loop calls this before the first attempt of
        each step. y: (n,)."""
        if self.restarts is not None:
            self.restarts.offer(len(self.starts), lambda: (y, self.method.compress_state(state)))

    def on_reject(self, h: float) -> None:
        """Record the size of an attempt that failed and changed the state of the method."""
        self.refused.setdefault(len(self.starts), []).append(h)

    def on_accept(self, step: Step) -> None:
        """Record an accepted step. If its polynomial is needed, it exists by now."""
        self.starts.append(step.t)
        self.sizes.append(step.h)
        if self.restarts is None:
            self.steps.append(self._trim(step))

    def _trim(self, step: Step) -> Step:
        stages = step.tape
        step.tape = (step.method or self.method).trim_tape(stages)
        if self.tape is not None:
            step.tape = self.tape.take(stages)
        # The state holds a factorisation. One for each step would fill the memory.
        step.state = None
        return step

    @property
    def taped(self) -> bool:
        """Whether every step has kept the graphs of its evaluations. Then the gradient does not
        evaluate f again."""
        return self.tape is not None and all(step.tape is not None for step in self.steps)

    def backwards(self) -> Iterator[tuple[int, list[Step]]]:
        """Yield all steps in pieces, the last piece first: (number of the first step, steps in
        order)."""
        if self.restarts is None:
            yield 0, self.steps
            return
        pieces = self.restarts.backwards(len(self.starts), self._repeat)
        for point, last in pieces:
            steps: list[Step] = []
            self._repeat(point, last, steps)
            yield point.index, steps

    def _repeat(
        self, point: RestartPoint, last: int, steps: list[Step] | None = None
    ) -> tuple[Tensor, Any]:
        """Repeat the steps from the point up to number ``last``, without that one. Return the
        state and the compressed state of the method there, which a point needs.

        steps: a list that receives the steps, or None if nobody needs them.
        """
        with torch.inference_mode(self.inference), torch.no_grad(), self.field.stats.of_gradient():
            y, compressed = point.content
            state = self.method.restore_state(compressed)
            for i in range(point.index, last):
                step = self.replay_step(self.field, i, y, state)
                y = step.y
                state = step.state
                if steps is not None:
                    steps.append(self._trim(step))
            self.field.stats.backward_steps += last - point.index
            return y, self.method.compress_state(state)

    def replay_step(self, field: VectorField, i: int, y: Tensor, state: Any) -> Step:
        """Repeat step number i from y (n,) and its state, with the failed attempts before it."""
        t = self.starts[i]
        for h in self.refused.get(i, ()):
            state = self.method.step(field, t, y, h, state, self.tol).state
        step = self.method.step(field, t, y, self.sizes[i], state, self.tol)
        if not step.accepted:
            raise RuntimeError(
                f"the step from t = {t:.6g} was accepted in the solve, but not when it was repeated"
                " for the gradient: f must return the same values every time (no dropout, no other"
                " randomness, no changed parameters)"
            )
        return step
