"""A flow with jumps at times that follow from the state. Chen, Amos & Nickel, Learning Neural Event
Functions, ICLR 2021."""

from __future__ import annotations

from typing import Any, Literal

import torch

from ..core.events import Event
from ..core.protocols import Times
from .base import as_field, timed
from .neural_ode import NeuralODE


class JumpODE(NeuralODE):
    """dy/dt = field(t, y) until event(t, y) crosses zero; there y becomes jump(t, y), and the flow
    continues.

    The times of the jumps depend on the state and on all parameters, and the gradient includes this
    dependence. Field, event and jump can therefore be learned from observed states, and from
    observed times of the jumps (``events``).

    field: as for NeuralODE.
    event: nn.Module, forward(t, y) or forward(y) -> one value, or several that are detected
        separately. It must be smooth where it is zero. Gradients see only the jumps that occur: the
        choice between jumps has no gradient.
    jump: nn.Module, forward(t, y) or forward(y) -> the state after the jump, in the shape of y.
    direction: 1 for crossings from negative to positive, -1 for crossings from positive to
        negative, 0 (default) for both.
    max_events: more jumps than this raise SolveError, because a model in training may accumulate
        jumps. The default is 1000.
    t, last_only, options: as for NeuralODE. With batched=True every row jumps at its own times, and
        event returns one value a row.

    ``events`` holds the jumps of the last call: EventRecords with differentiable t, y (before) and
    after. With batched=True it is a list for each row. An output at the time of a jump is the state
    after it.
    """

    def __init__(
        self,
        field: torch.nn.Module,
        event: torch.nn.Module,
        jump: torch.nn.Module,
        t: Times = (0.0, 1.0),
        *,
        direction: Literal[-1, 0, 1] = 0,
        max_events: int | None = 1000,
        **options: Any,
    ) -> None:
        event = as_field(event, "event")
        jump = as_field(jump, "jump")
        if "events" in options or "regularisers" in options:
            raise ValueError(
                "a JumpODE makes its own event and integrates only its state: remove events and"
                " regularisers"
            )
        watched = Event(
            timed(event),
            direction,
            reset=timed(jump),
            max_events=max_events,
            name=type(event).__name__,
        )
        super().__init__(field, t, events=watched, **options)
        self.event = event
        self.jump = jump
