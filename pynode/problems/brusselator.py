"""The Brusselator with diffusion in two dimensions: 2 N^2 stiff equations with a sparse
Jacobian."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from pynode.problems.base import Field, Problem

SOURCE = (
    "Hairer & Wanner, Solving Ordinary Differential Equations II, 2nd ed. 1996, sec. IV.10,"
    " BRUSS-2D (equations 10.10 to 10.14); I. Prigogine & R. Lefever, Symmetry breaking"
    " instabilities in dissipative systems II, J. Chem. Phys. 48, 1968."
)


class Brusselator(Field):
    """du/dt = A + u^2 v - (B + 1) u + alpha lap(u) + s,  dv/dt = B u - u^2 v + alpha lap(v),
    periodic on the unit square.

    y: (..., 2 N^2), u and then v, each row by row of y; the inhomogeneity s is 5 in the disc (x -
    0.3)^2 + (y - 0.6)^2 <= 0.01 from t = 1.1 on. The Laplacian is that of five points on a grid of
    width 1/N. Hairer & Wanner II, (10.10) to (10.14).
    """

    source: Tensor
    defaults: ClassVar = {"A": 1.0, "B": 3.4, "alpha": 0.1}

    def __init__(
        self,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
        size: int = 128,
    ) -> None:
        super().__init__(dtype, device)
        self.size = size
        x = torch.arange(size, dtype=torch.float64, device="cpu") / size
        disc = (x - 0.3) ** 2 + (x[:, None] - 0.6) ** 2 <= 0.01
        self.keep("source", 5.0 * disc.to(dtype), self.k.device)

    def forward(self, t: Tensor | float, y: Tensor) -> Tensor:
        """dy/dt, (..., 2 N^2)."""
        a, b, alpha = self.k.unbind()
        n = self.size
        grid = y.reshape(*y.shape[:-1], 2, n, n)
        u, v = grid.unbind(-3)
        near = grid.roll(1, -1) + grid.roll(-1, -1) + grid.roll(1, -2) + grid.roll(-1, -2)
        spread = torch.sub(near, grid, alpha=4) * (alpha * n * n)
        reaction = u * u * v
        switched = self.source * (torch.as_tensor(t, dtype=y.dtype, device=y.device) >= 1.1)
        change = torch.stack((reaction - (b + 1) * u + a + switched, b * u - reaction), -3)
        return (change + spread).reshape(y.shape)

    def pattern(self) -> Tensor:
        """(2 N^2, 2 N^2) sparse boolean: each component depends on its four neighbours, itself and
        its partner."""
        n = self.size
        place = torch.arange(2 * n * n).reshape(2, n, n)
        near = [
            place,
            place.flip(0),
            *(place.roll(step, axis) for step in (1, -1) for axis in (1, 2)),
        ]
        rows = place.flatten().repeat(len(near))
        cols = torch.cat([p.flatten() for p in near])
        entries = torch.ones(len(rows), dtype=torch.bool)
        shape = (2 * n * n, 2 * n * n)
        return torch.sparse_coo_tensor(
            torch.stack((rows, cols)), entries, shape, check_invariants=True
        ).coalesce()

    def jac(self, t: Tensor | float, y: Tensor) -> Tensor:
        """df/dy, (..., 2 N^2, 2 N^2), dense: for small grids."""
        _, b, alpha = self.k.unbind()
        n = self.size
        m = self.size**2
        unit = torch.eye(m, dtype=y.dtype, device=y.device).reshape(m, n, n)
        near = unit.roll(1, -1) + unit.roll(-1, -1) + unit.roll(1, -2) + unit.roll(-1, -2)
        laplacian = (torch.sub(near, unit, alpha=4) * (alpha * m)).reshape(m, m)
        u = y[..., :m]
        v = y[..., m:]
        top = torch.cat(
            (laplacian + torch.diag_embed(2 * u * v - b - 1), torch.diag_embed(u * u)), -1
        )
        bottom = torch.cat(
            (torch.diag_embed(b - 2 * u * v), laplacian - torch.diag_embed(u * u)), -1
        )
        return torch.cat((top, bottom), -2)

    def precond(self, t: float, y: Tensor, c: float) -> Callable[[Tensor], Tensor]:
        """P for pynode.Krylov: (I - c alpha lap)^-1, exact for the diffusion, by the fast Fourier
        transform."""
        n = self.size
        wave = 2 - 2 * torch.cos(2 * torch.pi * torch.arange(n, dtype=y.dtype, device=y.device) / n)
        damped = 1 + c * self.k[2].detach() * n * n * (wave[:, None] + wave[None, : n // 2 + 1])

        def solve(vector):
            grid = torch.fft.rfft2(vector.reshape(2, n, n)) / damped
            return torch.fft.irfft2(grid, s=(n, n)).reshape(-1)

        return solve


def brusselator(
    dtype: torch.dtype = torch.float64, device: torch.device | str | None = None, size: int = 16
) -> Problem:
    """BRUSS-2D on a size x size grid, 2 size^2 equations; the literature takes 128. To t = 1.0,
    before the source."""
    x = torch.arange(size, dtype=torch.float64) / size
    u = 22 * (x * (1 - x)) ** 1.5  # along y, constant in x
    v = 27 * (x * (1 - x)) ** 1.5
    y0 = torch.stack((u[:, None].expand(size, size), v[None, :].expand(size, size))).reshape(-1)
    return Problem(
        name="brusselator",
        field=Brusselator(dtype, device, size),
        y0=y0.to(dtype=dtype, device=device),
        tspan=(0.0, 1.0),
        rtol=1e-5,
        atol=1e-6,
        stiff=True,
        source=SOURCE,
    )
