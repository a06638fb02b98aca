"""Lorenz's convection model: three modes and a strange attractor."""

from typing import ClassVar

import torch

from pynode.problems.base import Field, Problem, apply

SOURCE = (
    "E. N. Lorenz, Deterministic nonperiodic flow, J. Atmos. Sci. 20, 1963, 130-141; Hairer,"
    " Norsett & Wanner I, sec. I.16."
)


class Lorenz(Field):
    """dx/dt = sigma (y - x),  dy/dt = x (rho - z) - y,  dz/dt = x y - beta z.

    y: (..., 3) convection x and temperature differences y, z, and t, without units; sigma the
    Prandtl number, rho the Rayleigh number relative to its critical value, beta the aspect of the
    cell. Written as k (M y) + N y + x (P y), products by component with k = (sigma, rho, beta).
    Lorenz 1963, eq. 25-27.
    """

    state_names: ClassVar = ("x", "y", "z")
    defaults: ClassVar = {"sigma": 10.0, "rho": 28.0, "beta": 8 / 3}

    def __init__(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> None:
        super().__init__(dtype, device)
        self._matrix("M", [[-1, 1, 0], [1, 0, 0], [0, 0, -1]])
        self._matrix("N", [[0, 0, 0], [0, -1, 0], [0, 0, 0]])
        self._matrix("P", [[0, 0, 0], [0, 0, -1], [0, 1, 0]])
        self._matrix("x", [1, 0, 0])

    def forward(self, t: torch.Tensor | float, y: torch.Tensor) -> torch.Tensor:
        """dy/dt, see Field."""
        fixed = self._buffers
        scaled = torch.addcmul(apply(fixed["N"], y), self.k, apply(fixed["M"], y))
        return torch.addcmul(scaled, y[..., :1], apply(fixed["P"], y))

    def jac(self, t: torch.Tensor | float, y: torch.Tensor) -> torch.Tensor:
        """df/dy, see Field."""
        fixed = self._buffers
        scaled = torch.addcmul(fixed["N"], self.k.unsqueeze(-1), fixed["M"])
        return (
            scaled + y[..., :1, None] * fixed["P"] + apply(fixed["P"], y).unsqueeze(-1) * fixed["x"]
        )


def lorenz(dtype: torch.dtype = torch.float64, device: torch.device | str | None = None) -> Problem:
    """Lorenz's attractor to t = 20, from his own start. Chaotic: errors grow about e-fold per unit
    of time."""
    return Problem(
        name="lorenz",
        field=Lorenz(dtype, device),
        y0=torch.tensor([0.0, 1.0, 0.0], dtype=dtype, device=device),
        tspan=(0.0, 20.0),
        rtol=1e-6,
        atol=1e-8,
        stiff=False,
        source=SOURCE,
    )
