"""Van der Pol's oscillator with strong damping: slow drifts and sudden jumps."""

from typing import ClassVar

import torch

from pynode.problems.base import Field, Problem, apply

SOURCE = (
    "B. van der Pol, On relaxation oscillations, Phil. Mag. 2, 1926, 978-992; Hairer & Wanner II,"
    " sec. IV.1 and IV.10; VDPOL in Mazzia & Magherini, Test Set for Initial Value Problem Solvers,"
    " release 2.4, 2008."
)


class VanDerPol(Field):
    """dx/dt = v,  dv/dt = mu (1 - x^2) v - x.

    y: (..., 2) amplitude x and velocity v, without unit; t in radians of the undamped oscillation;
    mu the damping. Written as J y + mu y (W y^2 + b), products by component: the bracket is (0, 1 -
    x^2). Hairer & Wanner II, sec. IV.1.
    """

    state_names: ClassVar = ("x", "v")
    defaults: ClassVar = {"mu": 1000.0}

    def __init__(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> None:
        super().__init__(dtype, device)
        self._matrix("rotation", [[0, 1], [-1, 0]])
        self._matrix("W", [[0, 0], [-1, 0]])
        self._matrix("b", [0, 1])

    def forward(self, t: torch.Tensor | float, y: torch.Tensor) -> torch.Tensor:
        """dy/dt, see Field."""
        fixed = self._buffers
        damping = self.k * apply(fixed["W"], y * y, fixed["b"])
        return torch.addcmul(apply(fixed["rotation"], y), damping, y)

    def jac(self, t: torch.Tensor | float, y: torch.Tensor) -> torch.Tensor:
        """df/dy, see Field."""
        fixed = self._buffers
        damping = torch.diag_embed(apply(fixed["W"], y * y, fixed["b"]))
        slope = damping + 2 * y.unsqueeze(-1) * fixed["W"] * y.unsqueeze(-2)
        return torch.addcmul(fixed["rotation"], self.k, slope)


def vanderpol(
    dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Problem:
    """Van der Pol's oscillator with mu = 1000 to t = 2000, a little more than one period. Between
    jumps v is below 1e-2."""
    return Problem(
        name="vanderpol",
        field=VanDerPol(dtype, device),
        y0=torch.tensor([2.0, 0.0], dtype=dtype, device=device),
        tspan=(0.0, 2000.0),
        rtol=1e-6,
        atol=1e-9,
        stiff=True,
        source=SOURCE,
    )
