"""The Oregonator: the Belousov-Zhabotinskii reaction, a limit cycle over six decades."""

from typing import ClassVar

import torch

from pynode.core.constants import valued
from pynode.problems.base import Problem, apply
from pynode.problems.bilinear import Bilinear

SOURCE = (
    "R. J. Field & R. M. Noyes, Oscillations in chemical systems IV, J. Chem. Phys. 60, 1974,"
    " 1877-1884; Hairer & Wanner II, sec. IV.10; OREGO in Mazzia & Magherini, Test Set for Initial"
    " Value Problem Solvers, release 2.4, 2008."
)


class Oregonator(Bilinear):
    """dx/dt = s (y + x (1 - q x - y)),  dy/dt = (z - (1 + x) y) / s,  dz/dt = w (x - z).

    y: (..., 3) scaled concentrations x of HBrO2, y of Br-, z of Ce(IV); t scaled; s, q and w
    without unit. Field & Noyes 1974; Hairer & Wanner II, sec. IV.10.
    """

    state_names: ClassVar = ("x", "y", "z")
    defaults: ClassVar = {"s": 77.27, "q": 8.375e-6, "w": 0.161}

    def __init__(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> None:
        super().__init__(dtype, device)
        # Rates:  s x    s y (1 - x)   s q x x    z / s     y (1 + x) / s   w x     w z
        self._tables(
            first=[0, 1, 0, 2, 1, 0, 2],
            A=[[0, 0, 0], [-1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]],
            b=[1, 1, 0, 1, 1, 1, 1],
            S=[[1, 1, -1, 0, 0, 0, 0], [0, 0, 0, 1, -1, 0, 0], [0, 0, 0, 0, 0, 1, -1]],
        )
        # Coefficients: s, s, s, 1 / s, 1 / s, w, w, the third times q.
        self.keep("base", valued([0, 0, 0, 0, 0, 2, 2], device=self.k.device), self.k.device)
        self._matrix("power", [1, 1, 1, -1, -1, 1, 1])
        self._matrix("q", [[0, float(row == 2), 0] for row in range(7)])
        self._matrix("no_q", [1, 1, 0, 1, 1, 1, 1])

    def coefficients(self) -> torch.Tensor:
        # As powers and a matrix product: 5.6 us, where unbinding s, q, w and stacking the seven
        # takes 12.
        k = self.k
        fixed = self._buffers
        return k.index_select(-1, fixed["base"]) ** fixed["power"] * apply(
            fixed["q"], k, fixed["no_q"]
        )


def oregonator(
    dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Problem:
    """The Oregonator to t = 360, a little more than one cycle: x and z jump from 1 to 1e5 and
    3e4."""
    return Problem(
        name="oregonator",
        field=Oregonator(dtype, device),
        y0=torch.tensor([1.0, 2.0, 3.0], dtype=dtype, device=device),
        tspan=(0.0, 360.0),
        rtol=1e-6,
        atol=1e-6,
        stiff=True,
        source=SOURCE,
    )
