"""The augmented neural ordinary differential equation. Dupont, Doucet & Teh, NeurIPS 2019, sec.
4."""

from __future__ import annotations

from typing import Any

import torch

from ..core.protocols import Times
from .neural_ode import NeuralODE


class AugmentedODE(NeuralODE):
    """d/dt (y, a) = field(t, (y, a)), y(t_0) = input, a(t_0) = 0.

    Solutions of one equation never cross. A NeuralODE therefore keeps the topology of its input: on
    the line it cannot swap -1 and 1, and in the plane it cannot move a disc out of the ring around
    it. Further dimensions give room to pass.

    field: as for NeuralODE, for states with augment_dims more entries along dim.
    augment_dims: how many zeros are appended to the input, at least 1.
    dim: the dimension of the input to which they are appended. The default is the last one; images
        have their channels in dimension 1.
    t, last_only, options: as for NeuralODE.

    Returns the whole state (y, a), which the readout of the paper takes. Raises ValueError if
    augment_dims is below 1.
    """

    def __init__(
        self,
        field: torch.nn.Module,
        augment_dims: int,
        t: Times = (0.0, 1.0),
        *,
        dim: int = -1,
        **options: Any,
    ) -> None:
        if isinstance(augment_dims, bool) or not isinstance(augment_dims, int):
            raise TypeError(f"augment_dims must be an integer, not {type(augment_dims).__name__}")
        if augment_dims < 1:
            raise ValueError(
                f"augment_dims must be at least 1, not {augment_dims}; without further dimensions"
                " use NeuralODE"
            )
        if isinstance(dim, bool) or not isinstance(dim, int):
            raise TypeError(f"dim must be an integer, the dimension that is augmented, not {dim!r}")
        super().__init__(field, t, **options)
        self.augment_dims = augment_dims
        self.dim = dim

    def forward(self, y0: torch.Tensor, t: Times | None = None) -> torch.Tensor:  # type: ignore[override]
        """y0: (..., d, ...), with d entries along dim. Returns (T, ..., d + augment_dims, ...);
        last_only returns it without T."""
        if not isinstance(y0, torch.Tensor):
            raise TypeError(
                f"the input must be a tensor, not {type(y0).__name__}; the zeros go into one"
                " dimension of it"
            )
        if not -y0.dim() <= self.dim < y0.dim():
            raise ValueError(
                f"dim = {self.dim} is no dimension of an input {tuple(y0.shape)}: choose dim, or"
                " unsqueeze"
            )
        shape = list(y0.shape)
        shape[self.dim] = self.augment_dims
        return super().forward(torch.cat((y0, y0.new_zeros(shape)), self.dim), t)

    def extra_repr(self) -> str:
        return f"augment_dims={self.augment_dims}, {super().extra_repr()}"
