"""The cubic spiral on which neural ODEs are demonstrated."""

from typing import ClassVar

import torch

from pynode.problems.base import Field, Problem, apply

SOURCE = (
    "R. T. Q. Chen, Y. Rubanova, J. Bettencourt & D. Duvenaud, Neural Ordinary Differential"
    " Equations, NeurIPS 2018; examples/ode_demo.py of torchdiffeq, whose true_A is the transpose"
    " of the matrix here."
)


class Spiral(Field):
    """dx/dt = a11 x^3 + a12 y^3,  dy/dt = a21 x^3 + a22 y^3.

    y: (..., 2) position x, y and t without units; the constants are the matrix A, row by row. Chen
    et al. 2018.
    """

    state_names: ClassVar = ("x", "y")
    defaults: ClassVar = {"a11": -0.1, "a12": -2.0, "a21": 2.0, "a22": -0.1}

    def forward(self, t: torch.Tensor | float, y: torch.Tensor) -> torch.Tensor:
        """dy/dt, see Field."""
        return apply(self.k.view(2, 2), y * y * y)

    def jac(self, t: torch.Tensor | float, y: torch.Tensor) -> torch.Tensor:
        """df/dy, see Field."""
        return self.k.view(2, 2) * (3 * y * y).unsqueeze(-2)


def spiral(dtype: torch.dtype = torch.float64, device: torch.device | str | None = None) -> Problem:
    """The cubic spiral from (2, 0) to t = 25."""
    return Problem(
        name="spiral",
        field=Spiral(dtype, device),
        y0=torch.tensor([2.0, 0.0], dtype=dtype, device=device),
        tspan=(0.0, 25.0),
        rtol=1e-6,
        atol=1e-8,
        stiff=False,
        source=SOURCE,
    )
