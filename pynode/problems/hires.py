"""HIRES: the high irradiance response of plants to light, eight forms of phytochrome."""

from typing import ClassVar

import torch

from pynode.core.constants import valued
from pynode.problems.base import Field, Problem, apply

SOURCE = (
    "E. Schaefer, A new approach to explain the high irradiance responses of photomorphogenesis on"
    " the basis of phytochrome, J. Math. Biology 2, 1975, 41-56; Hairer & Wanner II, sec. IV.10;"
    " HIRES in Mazzia & Magherini, Test Set for Initial Value Problem Solvers, release 2.4, 2008."
)


class Hires(Field):
    """dy/dt = L y + source + k y6 y8 e: the only nonlinear reaction binds the enzyme, e = (0, 0, 0,
    0, 0, -1, 1, -1).

    y: (..., 8) concentrations of Pr, Pfr, PrX, PfrX, PrX', PfrX', PfrX'E and E, scaled; t scaled;
    k, the binding constant k+, per time and concentration. The nine constants of L and the source
    are numbers of the model, not parameters. Schaefer 1975; Hairer & Wanner II, sec. IV.10.
    """

    state_names: ClassVar = ("Pr", "Pfr", "PrX", "PfrX", "PrX'", "PfrX'", "PfrX'E", "E")
    defaults: ClassVar = {"k": 280.0}

    def __init__(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> None:
        super().__init__(dtype, device)
        self._matrix("source", [0.0007, 0, 0, 0, 0, 0, 0, 0])
        self._matrix(
            "linear",
            [
                [-1.71, 0.43, 8.32, 0, 0, 0, 0, 0],
                [1.71, -8.75, 0, 0, 0, 0, 0, 0],
                [0, 0, -10.03, 0.43, 0.035, 0, 0, 0],
                [0, 8.32, 1.71, -1.12, 0, 0, 0, 0],
                [0, 0, 0, 0, -1.745, 0.43, 0.43, 0],
                [0, 0, 0, 0.69, 1.71, -0.43, 0.69, 0],
                [0, 0, 0, 0, 0, 0, -1.81, 0],
                [0, 0, 0, 0, 0, 0, 1.81, 0],
            ],
        )
        # e y6 as a matrix product, and y8 in every row: their product is the reaction in all rows
        # at once.
        e = (0, 0, 0, 0, 0, -1, 1, -1)
        self._matrix("bound", [[0, 0, 0, 0, 0, sign, 0, 0] for sign in e])
        self._matrix("enzyme", [[0, 0, 0, 0, 0, 0, 0, 1]] * 8)
        self.keep("eighth", valued([7] * 8, device=self.k.device), self.k.device)

    def forward(self, t: torch.Tensor | float, y: torch.Tensor) -> torch.Tensor:
        """dy/dt, see Field."""
        fixed = self._buffers
        bound = self.k * apply(fixed["bound"], y)
        return torch.addcmul(
            apply(fixed["linear"], y, fixed["source"]), bound, y.index_select(-1, fixed["eighth"])
        )

    def jac(self, t: torch.Tensor | float, y: torch.Tensor) -> torch.Tensor:
        """df/dy, see Field."""
        fixed = self._buffers
        bound = apply(fixed["bound"], y).unsqueeze(-1)
        slope = torch.addcmul(y[..., 7:, None] * fixed["bound"], bound, fixed["enzyme"])
        return torch.addcmul(fixed["linear"], self.k, slope)


def hires(dtype: torch.dtype = torch.float64, device: torch.device | str | None = None) -> Problem:
    """HIRES to t = 321.8122. The bound enzyme and the enzyme stay below 0.006, hence the small
    atol."""
    t1 = 321.8122
    decades = torch.logspace(-2, 2, 20, dtype=torch.float64, device=device)
    return Problem(
        name="hires",
        field=Hires(dtype, device),
        y0=torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0057], dtype=dtype, device=device),
        tspan=(0.0, t1),
        rtol=1e-6,
        atol=1e-10,
        stiff=True,
        source=SOURCE,
        t_eval=torch.cat((decades, decades.new_tensor([t1]))),
    )
