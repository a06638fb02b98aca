"""The states in which runs begin: the first lines of a table, known values, unknown values, or what
the model says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .bound_model import NamedModel
from .simulation import Sensitivities
from .tables import Table
from .unknown_columns import unknown_column


class InitialStates:
    """The initial states of B runs.

    said: {state: value or 'estimate'}. states: the names of the n states. base: (B, n), NaN for
    an unknown value that nothing tells. unknown: the states to estimate. own: whether the model
    says the rest. measured: (m,) for each column whether its first line is a measurement, and not
    the initial state. Raises ValueError where a state has no initial value.
    """

    def __init__(self, model: NamedModel, table: Table, said: Mapping[str, float | str]) -> None:
        self.model = model
        self.given = torch.stack([run.conditions for run in table.runs])
        self.states = _names(model, table, said)
        for name in said:
            if name not in self.states:
                raise ValueError(
                    f"initial names {name!r}, which is no state: they are {', '.join(self.states)}"
                )
        self.unknown = [state for state in self.states if said.get(state) == "estimate"]
        self.known = {
            self.states.index(name): float(value)
            for name, value in said.items()
            if value != "estimate"
        }
        self.own = model.has_initial
        first_line = model.observables is None and not self.own
        self.measured = [
            not first_line or column in said or column not in self.states
            for column in table.columns
        ]
        self.base = self._base(table, first_line)

    def _base(self, table, first_line):
        base = torch.full((len(table.runs), len(self.states)), math.nan, dtype=torch.float64)
        default = self.model.default_start
        if default is not None:
            base[:] = default
        for i, state in enumerate(self.states):
            if i in self.known:
                base[:, i] = self.known[i]
            elif state in table.columns and (first_line or state in self.unknown):
                column = table.columns.index(state)
                base[:, i] = torch.stack([run.values[0, column] for run in table.runs])
            elif not self.own and state not in self.unknown and bool(base[:, i].isnan().any()):
                raise ValueError(
                    f"state {state!r} is not in the table and has no initial value: give"
                    f" initial={{{state!r}: 0.0}} or 'estimate' (--initial {state}=0)"
                )
        return base

    def places(self, columns: Sequence[str]) -> list[int]:
        """The states that are measured in these columns. Raises DataError for one that is none."""
        for column in columns:
            if column not in self.states:
                raise unknown_column(column, self.states)
        return [self.states.index(column) for column in columns]

    def sizes(self, table: Table, relative: Sequence[bool]) -> Tensor:
        """The size of each state, (n,): of its column, or of the smallest column. relative: whether
        the errors of a column are relative; its smallest value then counts."""
        sizes = {}
        for i, column in enumerate(table.columns):
            seen = torch.cat([run.values[:, i][run.seen[:, i]].abs() for run in table.runs])
            size = float(seen.max())
            if relative[i]:
                size = float(seen[seen > 0].min())
            sizes[column] = size or 1.0
        least = min(sizes.values())
        found = [sizes.get(state, least) for state in self.states]
        return torch.tensor(found, dtype=torch.float64)

    def chained(
        self,
        found: Sensitivities,
        through_start: Tensor | None,
        places: list[tuple[int, int]],
        k: int,
    ) -> Tensor:
        """The derivatives of the states in the values of all k parameters, (T, B, n, k).

        The free parameters of the model are the first ones, and the unknown values at places (run,
        state) follow. through_start: what ``slopes`` returned.
        """
        free = found.of_free.shape[-1]
        slopes = found.y.new_zeros(*found.y.shape, k)
        slopes[..., :free] = found.of_free
        if through_start is not None:
            kept = through_start.clone()
            for run, state in places:
                # The unknown value replaces what the model says.
                kept[run, state] = 0.0
            slopes[..., :free] += torch.einsum("tbij,bjk->tbik", found.of_start, kept)
        for i, (run, state) in enumerate(places):
            slopes[:, run, :, free + i] = found.of_start[:, run, :, state]  # type: ignore[index]
        return slopes

    def start(self, free: Tensor, places: list[tuple[int, int]], values: Tensor) -> Tensor:
        """(B, n), differentiable. free: (B, k). places: (run, state) of the unknown values (q,)."""
        start = self.base
        if self.own:
            found = self.model.initial(free, self.given)
            start = found.clone()
            for i, value in self.known.items():
                start[:, i] = value
        if places:
            runs = torch.tensor([run for run, _ in places])
            which = torch.tensor([state for _, state in places])
            start = start.index_put((runs, which), values)
        return start

    def slopes(self, free: Tensor) -> Tensor | None:
        """The derivatives of the initial states in the free parameters, (B, n, k); None if they do
        not depend on them."""
        if not self.own:
            return None
        with torch.enable_grad():
            free = free.detach().requires_grad_()
            start = self.start(free, [], free)
            sums = start.sum(0).unbind()
        if not start.requires_grad:
            return None
        rows = []
        for i, total in enumerate(sums):
            if i in self.known:
                rows.append(torch.zeros_like(free))
                continue
            (row,) = torch.autograd.grad(total, free, retain_graph=True, materialize_grads=True)
            rows.append(row)
        return torch.stack(rows, 1)


def _names(model: NamedModel, table: Table, said: Mapping[str, Any]) -> tuple[str, ...]:
    if model.states is not None:
        return model.states
    if model.default_start is not None:
        return tuple(f"y[{i}]" for i in range(len(model.default_start)))
    if model.observables is not None:
        raise ValueError(
            "the module measures observables, and its states have no names: give it the attribute"
            " columns, the names of its states"
        )
    return (*table.columns, *(name for name in said if name not in table.columns))
