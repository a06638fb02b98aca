"""The neural stochastic differential equation. Tzen & Raginsky, arXiv:1905.09883, 2019; Li et al.,
AISTATS 2020."""

from __future__ import annotations

from typing import Any, Literal

import torch

from ..core.protocols import Times
from ..core.stats import Stats
from ..sde import BrownianPath, solve_sde
from .base import DefaultTimes, as_field, timed


class NeuralSDE(DefaultTimes):
    """Paths of dy = drift(t, y) dt + diffusion(t, y) dW (Itô), y(t_0) = input: a neural ODE whose
    result is a distribution.

    drift, diffusion: nn.Modules with forward(t, y), or forward(y). For y (..., d) the drift returns
        (..., d). The diffusion returns (..., d), or (..., d, noise_dim) if noise_dim is given. Rows
        are independent.
    t: default times, as for NeuralODE.
    dt: the largest step, in units of t.
    method: 'EM' or 'Milstein'; 'ImplicitEM' or 'ImplicitMilstein' for stiff drifts (see
        ``solve_sde``).
    last_only: as for NeuralODE.

    ``stats`` holds the counts of the last solve, and ``brownian`` its noise. Pass it again to get
    the same paths with another dt or with other parameters. Raises the errors of ``solve_sde``.
    """

    def __init__(
        self,
        drift: torch.nn.Module,
        diffusion: torch.nn.Module,
        t: Times = (0.0, 1.0),
        *,
        dt: float,
        method: Literal["EM", "Milstein", "ImplicitEM", "ImplicitMilstein"] = "EM",
        noise_dim: int | None = None,
        last_only: bool | None = None,
    ) -> None:
        super().__init__()
        self.drift = as_field(drift, "drift")
        self.diffusion = as_field(diffusion, "diffusion")
        self.options: dict[str, Any] = {"dt": dt, "method": method, "noise_dim": noise_dim}
        self.stats: Stats | None = None
        self.brownian: BrownianPath | None = None
        self.keep_times(t, last_only)

    def forward(
        self,
        y0: torch.Tensor,
        t: Times | None = None,
        brownian: BrownianPath | None = None,
    ) -> torch.Tensor:
        """The states at the times.

        y0: (..., d), one path a row.
        brownian: as for ``solve_sde``.

        Returns (T, ..., d), or (..., d) with last_only.
        """
        times, last_only = self.choose_times(t)
        solution = solve_sde(
            timed(self.drift), timed(self.diffusion), y0, times, brownian=brownian, **self.options
        )
        self.stats = solution.stats
        self.brownian = solution.brownian
        if last_only:
            return solution.y[-1]
        return solution.y

    def extra_repr(self) -> str:
        return ", ".join(
            f"{key}={value}" for key, value in self.options.items() if value is not None
        )
