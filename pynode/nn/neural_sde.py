"""The neural stochastic differential equation. Tzen & Raginsky, arXiv:1905.09883, 2019; Li et al.,
AISTATS 2020."""

from __future__ import annotations

from ..sde import solve_sde
from .base import DefaultTimes, as_field, timed


class NeuralSDE(DefaultTimes):
    """Paths of dy = drift(t, y) dt + diffusion(t, y) dW (Itô), y(t_0) = input: a neural ODE whose
    outcome is a distribution.

    drift, diffusion: nn.Modules with forward(t, y), or forward(y); of y (..., d) the drift makes
        (..., d), and the diffusion (..., d), or (..., d, noise_dim) where that is given. Each row
        by itself.
    t: default times, as for NeuralODE. dt: the largest step, in units of t. method: 'EM',
    'Milstein', or for stiff drifts 'ImplicitEM', 'ImplicitMilstein' (see ``solve_sde``). last_only:
    as for NeuralODE.

    ``stats`` holds the counts of the last solve and ``brownian`` its noise, to be given again for
    the same paths at another dt or with other parameters. Errors as of ``solve_sde``.
    """

    def __init__(
        self, drift, diffusion, t=(0.0, 1.0), *, dt, method="EM", noise_dim=None, last_only=None
    ):
        super().__init__()
        self.drift = as_field(drift, "drift")
        self.diffusion = as_field(diffusion, "diffusion")
        self.options = {"dt": dt, "method": method, "noise_dim": noise_dim}
        self.stats = self.brownian = None
        self.keep_times(t, last_only)

    def forward(self, y0, t=None, brownian=None):
        """y0: (..., d), one path a row. Returns (T, ..., d), or (..., d) with last_only. brownian:
        as for ``solve_sde``."""
        times, last_only = self.choose_times(t)
        solution = solve_sde(
            timed(self.drift), timed(self.diffusion), y0, times, brownian=brownian, **self.options
        )
        self.stats = solution.stats
        self.brownian = solution.brownian
        if last_only:
            return solution.y[-1]
        return solution.y

    def extra_repr(self):
        return ", ".join(
            f"{key}={value}" for key, value in self.options.items() if value is not None
        )
