"""Simulations of models with events or algebraic rules: one row after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...equilibrium import SteadyStateError

if TYPE_CHECKING:
    from ..reactions.model import ReactionModel
    from .plan import Row

# The trajectory is followed to these times until it rests.
FIRST_SPAN = 10.0
GROWTH = 10.0
MOST_GROWTHS = 12
RESTS = 1e-9

Triggers = dict[tuple[int, int], tuple[bool, ...]]


class OneByOne:
    """Simulates rows with ``ReactionModel.simulate``.

    options: of the solves. Which triggers of events are true goes on from one period to the next:
    (k, row) -> triggers, for the k-th theta.
    """

    def __init__(self, model: ReactionModel, options: dict[str, Any]) -> None:
        self.model = model
        self.options = options

    def periods(
        self, rows: list[Row], starts: Tensor, constants: Tensor, before: Triggers
    ) -> tuple[Tensor, Triggers]:
        """(outputs (K, rows, T, n), triggers at the ends) of rows from starts, (K, rows, n).

        Events at the end of a period belong to the next one, whose changes come first.
        """
        longest = max(len(row.times) for row in rows)
        triggers: Triggers = {}
        outputs = []
        for k in range(len(starts)):
            for i, row in enumerate(rows):
                known = None
                if row.before is not None:
                    known = before[k, row.before]
                course = self.model.simulate(
                    row.times,
                    constants[k, i],
                    starts[k, i],
                    triggers=known,
                    open_end=not row.is_last,
                    **self.options,
                )
                triggers[k, i] = course.triggers
                missing = longest - len(row.times)
                outputs.append(torch.cat((course.y, course.y[-1:].expand(missing, -1))))
        return torch.stack(outputs).reshape(*starts.shape[:2], longest, -1), triggers

    def rest(self, starts: Tensor, constants: Tensor, before: Triggers) -> tuple[Tensor, Triggers]:
        """(the states, (K, rows, n), at which trajectories rest that begin at time zero, triggers
        there). Their gradients go through the simulations. Raise SteadyStateError for a trajectory
        that does not rest."""
        triggers: Triggers = {}
        states = []
        for k in range(len(starts)):
            for i in range(starts.shape[1]):
                known = before.get((k, i))
                state, triggers[k, i] = self._rest(starts[k, i], constants[k, i], known)
                states.append(state)
        return torch.stack(states).reshape(starts.shape), triggers

    def _rest(self, state, constants, triggers):
        begin = 0.0
        end = FIRST_SPAN
        for _ in range(MOST_GROWTHS):
            course = self.model.simulate(
                [begin, end], constants, state, triggers=triggers, **self.options
            )
            change = (course.y[-1] - state).detach().abs()
            room = RESTS * state.detach().abs() + self.options["atol"]
            state = course.y[-1]
            triggers = course.triggers
            if not course.events and bool((change <= room).all()):
                return state, triggers
            begin = end
            end *= GROWTH
        raise SteadyStateError(
            f"no steady state was reached by t = {begin:.3g}: the trajectory oscillates or grows"
        )
