"""The measured values of a table as vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .tables import Table


class Measurements(NamedTuple):
    """The N measured values. time, run, column: (N,) places in the batch. value: (N,); target: the
    same, or its logarithm where relative, (N,). known: (N,) standard deviations of the table, NaN
    where it has none. constant: of the likelihood."""

    time: Tensor
    run: Tensor
    column: Tensor
    value: Tensor
    target: Tensor
    relative: Tensor
    known: Tensor
    constant: float

    @classmethod
    def of(
        cls,
        table: Table,
        places: Sequence[Tensor],
        first: Sequence[bool],
        relative: Sequence[bool],
    ) -> Measurements:
        """Of a table. places: for each run the rows of its times in the common grid. first,
        relative: for each column whether first lines are measurements, and errors relative."""
        time = []
        run_index = []
        column = []
        value = []
        known = []
        for b, run in enumerate(table.runs):
            lines = run.lines
            counted = lines.seen.clone()
            counted[lines.row == 0] &= torch.tensor(first)
            if lines.sd is None:
                sd = torch.full_like(lines.y, torch.nan)
            else:
                # At the start a value without a positive one is the initial state itself.
                sd = lines.sd
                has_errors = torch.tensor([name is not None for name in table.errors])
                counted &= (sd > 0) | ~has_errors
            rows, columns = counted.nonzero(as_tuple=True)
            time.append(places[b][lines.row[rows]])
            run_index.append(torch.full_like(rows, b))
            column.append(columns)
            value.append(lines.y[rows, columns])
            known.append(sd[rows, columns])
        columns = torch.cat(column)
        values = torch.cat(value)
        is_relative = torch.tensor(relative)[columns]
        logarithms = torch.where(is_relative, values, 1.0).log()
        return cls(
            torch.cat(time),
            torch.cat(run_index),
            columns,
            values,
            torch.where(is_relative, logarithms, values),
            is_relative,
            torch.cat(known),
            float(logarithms.sum()),
        )

    def of_array(self, array: Tensor) -> Tensor:
        """The N entries (N, ...) of an array (T, B, m, ...)."""
        return array[self.time, self.run, self.column]
