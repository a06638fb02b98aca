"""The noise of a table's measurements: the standard deviation of each, and the errors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .fisher import Freedom
from .likelihood import Errors
from .measurements import Measurements
from .table_parameters import Noise


class NoiseModel:
    """The noise of m columns of measurements.

    columns: what is known of each. names: of all k parameters, among them the standard deviations
    to estimate. seen: the N measurements. Vectors of parameters can have leading dimensions (...).
    """

    def __init__(self, columns: Sequence[Noise], names: Sequence[str], seen: Measurements) -> None:
        self.columns = columns
        self.names = list(names)
        self.seen = seen

    @property
    def relative(self) -> Tensor:
        """(m,) bool: whether the errors of a column are relative to its values."""
        return torch.tensor([column.relative for column in self.columns])

    @property
    def freedom(self) -> Freedom | None:
        """What is known of the noise, if a part of it is estimated."""
        unknown = [x.column for x in self.columns if x.info is not None]
        if not unknown:
            return None
        count = sum(self.count(column) for column in unknown)
        # Columns of known noise take up their share of the other parameters.
        share = count / max(1, len(self.seen.column))
        others = share * (len(self.names) - len(unknown))
        return Freedom(count / len(unknown), max(1.0, (count - others) / len(unknown)))

    def count(self, column: int) -> int:
        """How many measurements a column has."""
        return int((self.seen.column == column).sum())

    def deviations(self, values: Tensor) -> Tensor:
        """The standard deviation of each column, (..., m), differentiable in the parameters,
        (..., k)."""
        found = []
        for noise in self.columns:
            if noise.info is None:
                found.append(values.new_tensor(noise.deviation).expand(values.shape[:-1]))
            else:
                found.append(values[..., self.names.index(noise.info.name)])
        return torch.stack(found, -1)

    def of_seen(self, values: Tensor) -> Tensor:
        """The standard deviation of each measured value, (..., N), differentiable."""
        seen = self.seen
        own = self.deviations(values)[..., seen.column]
        return torch.where(seen.known.isnan(), own, seen.known)

    def errors(self, simulated: Tensor, values: Tensor) -> Errors:
        """The Errors of the simulated values, (..., N)."""
        seen = self.seen
        relative = seen.relative
        simulated = torch.where(relative, simulated, 1.0).log() + torch.where(
            relative, 0.0, simulated
        )
        return Errors(simulated - seen.target, self.of_seen(values), seen.constant)

    def slopes(self, scale: Tensor) -> Tensor:
        """The derivatives of the deviations of the measured values in theta, (N, k). scale: (k,)
        the derivatives of the parameters in theta."""
        found = scale.new_zeros(len(self.seen.column), len(self.names))
        for noise in self.columns:
            if noise.info is not None:
                i = self.names.index(noise.info.name)
                found[self.seen.column == noise.column, i] = scale[i]
        return found

    def residuals(self, values: Tensor) -> list[Tensor]:
        """Of each unknown standard deviation s with N values sqrt(2 N (log(s / lower) + 1)),
        (1,)."""
        found = []
        for noise in self.columns:
            if noise.info is not None:
                size = values[self.names.index(noise.info.name)] / noise.info.lower
                count = self.count(noise.column)
                found.append((2 * count * (size.log() + 1)).sqrt().reshape(1))
        return found
