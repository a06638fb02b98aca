"""Conserved sums of learned rates: the part of the rates that changes them is taken away."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.constants import Constants, valued
from .laws import Laws

# Added to the squared length of a row, which is zero where all its states are.
TINY = 1e-300


class Balance(Constants):
    """Scaled rates without the part that changes the sums C y of ``laws``.

    Of plain states u = (y - y_min) / y_scale, it is the part along the rows of C y_scale. It is
    shared between the states by their ranges, so that a state of small range changes little.

    In other coordinates z(y) the sums change by C dy/dz dz/dt, whose rows depend on the state. The
    part is then taken away along these, one after the other (Gram and Schmidt), and a small state
    that is learned as its logarithm changes little. The sums hold to the tolerance of a solve then.
    """

    projector: Tensor
    rows: Tensor

    def __init__(self, laws: Laws, y_scale: Sequence[float], warped: bool) -> None:
        super().__init__()
        self.warped = warped
        sums = torch.tensor(laws.sums, dtype=torch.float64)
        rows = _independent(sums * torch.tensor(y_scale, dtype=torch.float64))
        if warped:
            self.keep("rows", valued(rows))
        else:
            self.keep("projector", valued(torch.linalg.pinv(rows) @ rows))

    def forward(self, rates: Tensor, stretch: Tensor | None = None) -> Tensor:
        """The rates, (..., n), that are left of these. stretch: dy/dz, (..., n), in other
        coordinates."""
        if stretch is None:
            return rates - (rates.unsqueeze(-2) * self.projector).sum(-1)
        units: list[Tensor] = []
        for row in self.rows.unbind(0):
            unit = row * stretch
            for other in units:
                unit = unit - other * (other * unit).sum(-1, keepdim=True)
            unit = unit / ((unit * unit).sum(-1, keepdim=True) + TINY).sqrt()
            units.append(unit)
            rates = rates - unit * (unit * rates).sum(-1, keepdim=True)
        return rates


def _independent(rows: Tensor) -> Tensor:
    """The rows that are not sums of those before them, each of length one."""
    found: list[Tensor] = []
    for row in rows / rows.norm(dim=1, keepdim=True):
        if int(torch.linalg.matrix_rank(torch.stack([*found, row]))) > len(found):
            found.append(row)
    return torch.stack(found)
