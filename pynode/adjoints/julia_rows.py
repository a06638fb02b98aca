"""The gradient of one segment of a batch whose rows were Julia's solves: NativeGauss for each row,
on Julia's threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..backends.julia.request import SERVED, GradientRequest, array_of
from ..backends.julia.rows import RowServant, threads_of
from ..backends.julia.runtime import start
from .julia import CLOSE, NATIVE, reverse_atol
from .targets import of_parameters

if TYPE_CHECKING:
    from ..backends.julia.algorithms import JuliaMethod
    from ..backends.julia.rows import JuliaRows
    from ..core.batched_field import RowField
    from ..core.options import Options
    from .julia import JuliaAdjoint

# Numbers in the cotangents of the parameters of rows that go back side by side. It bounds memory.
NUMBERS = 1 << 22


class JuliaRowGradient:
    """The gradient of the outputs and the last states of the rows in their starts and in the
    tensors of f.

    rows: the result of the segment. times, who: (q,) the times and the rows of the states: of the
    outputs of all rows, row after row, then of the last states.
    """

    def __init__(
        self,
        field: RowField,
        rows: JuliaRows,
        method: JuliaMethod,
        adjoint: JuliaAdjoint,
        options: Options,
        times: np.ndarray,
        who: np.ndarray,
    ) -> None:
        self.field = field
        self.rows = rows
        self.reverse = adjoint.reverse(method)
        self.rtol = options.rtol if adjoint.rtol is None else adjoint.rtol
        self.atol = adjoint.atol
        self.who = who
        # Rounding must not move a time beyond the end of its solve.
        self.times = np.minimum(rows.clocks.inner(times, who), rows.ends[who])
        self.inputs = [*field.leaves.parameters, *field.leaves.spare]

    def pullback(self, grads: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Return (cotangent of the starts (m, n), cotangents of the inputs). grads: cotangents of
        the states, (q, n)."""
        field = self.field
        rows = self.rows
        self._check_unchanged()
        totals = [torch.zeros_like(target) for target in rows.fields.targets]
        starts = np.zeros((len(rows.index), grads.shape[1]), grads.detach().numpy().dtype)
        table = _Cotangents(self.who, self.times, rows.first, grads.detach().numpy(), starts)
        with field.stats.of_gradient():
            for members in table.groups(NUMBERS, self._parameter_count()):
                dp = self._go_back(table, members, starts)
                self._add(totals, rows.index[members], dp)
        bad = table.infinite
        if bad.any():
            # The solver cannot integrate NaN. A sum over steps would give NaN as well.
            starts[bad] = np.nan
            nans = np.full((int(bad.sum()), self._parameter_count()), np.nan, starts.dtype)
            self._add(totals, rows.index[bad], nans)
        cotangents = of_parameters(field, rows.fields.targets, totals)
        return torch.from_numpy(starts), field.leaves.align(cotangents, self.inputs)

    def _check_unchanged(self):
        field = self.field
        rows = self.rows
        t, y, slopes = rows.start
        part = field
        if len(rows.index) != field.batch:
            part = field.select(torch.from_numpy(rows.index))
        part.check(torch.from_numpy(t), torch.from_numpy(y), slopes, np.empty(0))

    def _parameter_count(self):
        return sum(x.numel() for x in self.rows.fields.bound.targets)

    def _go_back(self, table, members, starts):
        """Add the cotangents of the starts of these rows to starts; those of what f reads, (g, np),
        as each row has them."""
        rows = self.rows
        julia = start()
        count = len(members)
        dp = np.zeros((count, self._parameter_count()), starts.dtype)
        dy0 = np.zeros((count, starts.shape[1]), starts.dtype)
        place = np.arange(count)
        requests = array_of(GradientRequest, count)
        requests["kept"] = rows.kept.numbers[members]
        requests["algorithm"] = julia.algorithm(self.reverse.name)
        begin = table.begin[members]
        requests["cotangents"] = table.values.ctypes.data + begin * table.values.strides[0]
        requests["times"] = table.times.ctypes.data + begin * table.times.strides[0]
        requests["count"] = table.count[members]
        requests["t1"] = rows.ends[members]
        requests["rtol"] = self.rtol
        requests["atol"], requests["scaled"] = reverse_atol(self.rtol, self.atol)
        requests["dy0"] = dy0.ctypes.data + place * dy0.strides[0]
        requests["dp"] = dp.ctypes.data + place * dp.strides[0]
        servant = RowServant(requests, threads_of(julia))
        servant.serve(julia.entries.gradient_rows)
        self._check_ends(servant, members)
        stats = self.field.stats
        stats.backward_nvjp += int(requests["nvjp"].sum())
        stats.backward_njac += int(requests["njac"].sum())
        starts[members] += dy0
        return dp

    def _check_ends(self, servant, members):
        """Raise RuntimeError if a reverse solve did not reach the start of its row."""
        rows = self.rows
        first = rows.first[members]
        reached = servant.rows["reached"]
        near = np.abs(reached - first) <= CLOSE * (rows.ends[members] - first)
        bad = ~near | (servant.answers != SERVED)
        if not bad.any():
            return
        i = int(np.argmax(bad))
        row = members[i]
        raise RuntimeError(
            f"the reverse solve of {NATIVE} with {self.reverse.name} came, in row"
            f" {rows.index[row]}, no further than"
            f" t = {rows.clocks.origin[row] + rows.clocks.direction[row] * reached[i]:.6g}:"
            " loosen the rtol and atol of this adjoint, or use backend='torch',"
            " adjoint='discrete', which takes the steps of the forward solve"
        )

    def _add(self, totals, index, dp):
        """Add to totals what some rows give. A total belongs to a whole tensor of the field."""
        fields = self.rows.fields
        place = 0
        for total, target, own in zip(totals, fields.bound.targets, fields.by_row, strict=True):
            part = dp[:, place : place + target.numel()]
            place += target.numel()
            if own:
                shape = (len(part), *target.shape[1:])
                total[torch.from_numpy(index)] += torch.from_numpy(part.reshape(shape))
            else:
                total += torch.from_numpy(part.sum(0).reshape(tuple(target.shape)))


class _Cotangents:
    """The cotangents of all states, row after row, in ascending times of Julia; those at the start
    of a row go into starts, (m, n).

    values: (c, n); times: (c,); begin, count: (m,) which of them belong to a row. largest: (m,) of
    each row. infinite: (m,) whether one is not finite.
    """

    def __init__(
        self,
        who: np.ndarray,
        times: np.ndarray,
        first: np.ndarray,
        grads: np.ndarray,
        starts: np.ndarray,
    ) -> None:
        at_start = times == first[who]
        np.add.at(starts, who[at_start], grads[at_start])
        later = np.flatnonzero(~at_start)
        later = later[np.lexsort((times[later], who[later]))]
        times = times[later]
        owners = who[later]
        new = np.ones(len(later), dtype=bool)
        new[1:] = (times[1:] != times[:-1]) | (owners[1:] != owners[:-1])
        heads = np.flatnonzero(new)
        values = grads[later]
        if len(heads):
            # A row's last state is often its last output.
            values = np.add.reduceat(values, heads, axis=0)
        self.values = np.ascontiguousarray(values)
        self.times = np.ascontiguousarray(times[heads])
        owners = owners[heads]
        rows = np.arange(len(first))
        self.begin = np.searchsorted(owners, rows)
        self.count = np.searchsorted(owners, rows, side="right") - self.begin
        self.largest = np.zeros(len(first))
        np.maximum.at(self.largest, owners, np.abs(self.values).max(1))
        self.infinite = ~np.isfinite(self.largest)

    def groups(self, numbers: int, parameters: int) -> Any:
        """The rows that have something to go back from, (g,) at a time."""
        active = np.flatnonzero((self.largest > 0) & ~self.infinite)
        size = max(1, numbers // (parameters + self.values.shape[1]))
        for i in range(0, len(active), size):
            yield active[i : i + size]
