"""A flow with jumps at times that follow from the state. Chen, Amos & Nickel, Learning Neural Event
Functions, ICLR 2021."""

from __future__ import annotations

from ..core.events import Event
from .base import as_field, timed
from .neural_ode import NeuralODE


class JumpODE(NeuralODE):
    """dy/dt = field(t, y) until event(t, y) crosses zero; there y becomes jump(t, y), and the flow
    goes on.

    The times of the jumps depend on the state and on all parameters, and the gradient knows: those
    of field, event and jump are learned from states, and from the times of the jumps where these
    were observed (``events``).

    field: as for NeuralODE.
    event: nn.Module, forward(t, y) or forward(y) -> one value, or several that are watched by
        themselves; smooth where it is zero. Which of them a state crosses is no matter of degree:
        gradients see the jumps that there are.
    jump: nn.Module, forward(t, y) or forward(y) -> the state after the jump, of the shape of y.
    direction: 1 for crossings from negative to positive alone, -1 for the others, 0 (default) for
    both. max_events: more jumps than this raise SolveError: while it learns, a model may let them
    pile up. 1000 by default. t, last_only, options: as for NeuralODE; with batched=True every row
    jumps at its own times, event gives a value a row.

    ``events`` holds the jumps of the last call, EventRecords with differentiable t, y (before) and
    after; with batched=True a list for each row. An output at the time of a jump is the state after
    it.
    """

    def __init__(
        self, field, event, jump, t=(0.0, 1.0), *, direction=0, max_events=1000, **options
    ):
        event = as_field(event, "event")
        jump = as_field(jump, "jump")
        if "events" in options or "regularisers" in options:
            raise ValueError(
                "a JumpODE makes its own event and integrates its state alone: leave events and"
                " regularisers away"
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
