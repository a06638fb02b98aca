"""The latent ordinary differential equation for irregular series. Chen, Rubanova, Bettencourt &
Duvenaud, NeurIPS 2018, sec. 5; Rubanova, Chen & Duvenaud, NeurIPS 2019, sec. 3."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch.distributions import Independent, Normal, kl_divergence

from ..core.protocols import Times
from ..core.stats import Stats
from ..methods.base import Method
from .base import as_field, check_options
from .neural_ode import NeuralODE
from .recognition import Recognition


class LatentODE(torch.nn.Module):
    """x(t) = decoder(z(t)) + noise, dz/dt = field(t, z), z(t_0) ~ N(0, I): a variational
    autoencoder of whole series.

    The recognition network reads the observations of a series backwards in time. It returns
    q(z(t_0)), a Gaussian with independent components. Train with the loss ``-model.elbo(x,
    t).mean()``. Then ``model(x, t)`` reconstructs, ``predict`` computes other times, also after the
    observations, and ``sample`` draws new series.

    field: nn.Module with forward(t, z), or forward(z), for z (..., latent_dim). t broadcasts
        against z.
    decoder: nn.Module from (..., latent_dim) to (..., data_dim).
    encoder: 'gru' or 'ode-rnn' (see Recognition), with a hidden state of size hidden. 'ode-rnn'
        takes one solve for each observation, with encoder_field, from (..., hidden) to (...,
        hidden).
    noise: the standard deviation of the noise of an observation, in units of x. learn_noise: make
        it a parameter.
    t0: t_0, a time before all observations.
    method, rtol, atol, options: of ``solve``, for all solves; backend='native' for compiled code.

    Observations are x (B, T, data_dim) at t: (T,) for all series, or (B, T) with different times.
    mask, bool, (B, T, data_dim) or (B, T), says which values were seen. By default these are the
    values of x that are not NaN. Times without a seen value do not count, such as the padding of
    shorter series. Times (T,) take one solve for all series. With (B, T) each series has its own
    steps (``batched=True``, with explicit, Rosenbrock or diagonally implicit methods or BDF).

    ``stats`` holds the counts of the last solve in the latent space. Raises ValueError for data of
    another shape, times that do not increase, and series without a seen value. Raises SolveError if
    a solve fails.
    """

    def __init__(
        self,
        field: torch.nn.Module,
        decoder: torch.nn.Module,
        data_dim: int,
        latent_dim: int,
        *,
        encoder: Literal["gru", "ode-rnn"] = "gru",
        hidden: int = 32,
        encoder_field: torch.nn.Module | None = None,
        noise: float = 0.1,
        learn_noise: bool = False,
        t0: float = 0.0,
        method: str | Method = "tsit5",
        rtol: float = 1e-3,
        atol: float = 1e-4,
        **options: Any,
    ) -> None:
        super().__init__()
        for name, value in ("data_dim", data_dim), ("latent_dim", latent_dim), ("hidden", hidden):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
        if not (noise > 0 and math.isfinite(noise)):
            raise ValueError(
                f"noise must be a positive standard deviation, in units of x, not {noise!r}"
            )
        if "batched" in options:
            raise ValueError("batched follows from the times, (T,) or (B, T): remove it")
        check_options(options)
        options = {"method": method, "rtol": rtol, "atol": atol, **options}
        self.flow = NeuralODE(field, **options)
        self.decoder = as_field(decoder, "decoder")
        self.encoder = Recognition(encoder, data_dim, latent_dim, hidden, encoder_field, **options)
        self.log_noise = torch.nn.Parameter(
            torch.tensor(math.log(noise)), requires_grad=learn_noise
        )
        self.data_dim = data_dim
        self.latent_dim = latent_dim
        self.t0 = float(t0)

    @property
    def stats(self) -> Stats | None:
        """The counts of the last solve in the latent space, None before it."""
        return self.flow.stats

    @property
    def noise(self) -> torch.Tensor:
        """The standard deviation of an observation, a 0-d tensor."""
        return self.log_noise.exp()

    def forward(self, x: torch.Tensor, t: Times, mask: torch.Tensor | None = None) -> torch.Tensor:
        """x(t) without noise, (B, T, data_dim), for the mean of q. NaN at times that are NaN, or
        that are padding before t_0."""
        return self.predict(x, t, self._usable(t), mask)

    def predict(
        self,
        x: torch.Tensor,
        t: Times,
        at: Times,
        mask: torch.Tensor | None = None,
        samples: int | None = None,
    ) -> torch.Tensor:
        """x without noise at the times ``at``, (T',) or (B, T'), in any order, given the
        observations: (B, T', data_dim) for the mean of q, or (samples, B, T', data_dim) for this
        number of draws from q."""
        q = self.encode(x, t, mask)
        if samples is None:
            z0 = q.mean
        else:
            z0 = q.rsample((samples,))
        return self.decode(z0, at)

    def encode(self, x: torch.Tensor, t: Times, mask: torch.Tensor | None = None) -> Independent:
        """q(z(t_0) | x): a Gaussian of independent components, batch shape (B,), event shape
        (latent_dim,)."""
        return self._encode(*self._observed(x, t, mask))

    def elbo(
        self,
        x: torch.Tensor,
        t: Times,
        mask: torch.Tensor | None = None,
        *,
        given: torch.Tensor | None = None,
        kl_weight: float = 1.0,
        samples: int = 1,
    ) -> torch.Tensor:
        """The evidence lower bound of each series, (B,), in nats: E_q[log p(x | z(t_0))] -
        kl_weight KL(q || N(0, I)).

        samples: the number of draws that estimate the mean.
        kl_weight: if it grows from 0 to 1 in training, q does not collapse to the prior.
        given: bool, like mask: what the recognition network reads, by default everything. With the
            first half it learns to predict the rest (Rubanova et al., sec. 4).
        """
        x, times, seen = self._observed(x, t, mask)
        if given is None:
            q = self._encode(x, times, seen)
        else:
            q = self.encode(x, t, seen & _like(given, x))
        series = self.decode(q.rsample((samples,)), self._usable(t))
        fit = (
            Normal(series.masked_fill(~seen, 0), self.noise.to(x)).log_prob(x).masked_fill(~seen, 0)
        )
        return fit.sum((-2, -1)).mean(0) - kl_weight * kl_divergence(q, self._prior(x))

    def sample(self, n: int, at: Times) -> torch.Tensor:
        """n series that the model draws, without noise, at the times ``at``, (T',): (n, T',
        data_dim)."""
        return self.decode(self._prior(self.encoder.head[0].weight).sample((n,)), at)

    def decode(self, z: torch.Tensor, at: Times) -> torch.Tensor:
        """x, (..., B, T', data_dim), at the times ``at``, from z(t_0), (..., B, latent_dim). NaN
        where a time is NaN."""
        at = torch.as_tensor(at, dtype=torch.float64, device=z.device).detach()
        if z.dim() < 2 or z.shape[-1] != self.latent_dim:
            raise ValueError(f"z must have shape (..., B, {self.latent_dim}), not {tuple(z.shape)}")
        if at.dim() not in (1, 2) or (at.dim() == 2 and len(at) != z.shape[-2]):
            raise ValueError(
                f"times must be (T,), or ({z.shape[-2]}, T) with a row for each series, not"
                f" {tuple(at.shape)}"
            )
        if bool((at < self.t0).any()) or bool(at.isinf().any()):
            raise ValueError(
                f"times must be finite, and none before t0 = {self.t0:g}: choose a smaller t0, or"
                " shift them"
            )
        grid, index = _distinct(at.reshape(-1, at.shape[-1]), self.t0)
        if at.dim() == 1:
            path = self.flow(z, grid[0])[index[0]].movedim(0, -2)
        else:
            count = z.shape[:-1].numel() // len(at)
            rows = z.reshape(-1, self.latent_dim)
            times = grid.repeat(count, 1).T
            path = self.flow._solved(self.flow._timed, rows, times, batched=True).transpose(0, 1)
            index = index.repeat(count, 1).unsqueeze(-1).expand(-1, -1, self.latent_dim)
            path = path.gather(1, index).reshape(*z.shape[:-1], at.shape[-1], self.latent_dim)
        x = self.decoder(path)
        if x.shape != (*path.shape[:-1], self.data_dim):
            raise ValueError(
                f"the decoder returned shape {tuple(x.shape)} for states of shape"
                f" {tuple(path.shape)}; its last dimension must be data_dim = {self.data_dim}, the"
                " others those of the states"
            )
        return x.masked_fill(at.isnan().unsqueeze(-1), torch.nan)

    def extra_repr(self) -> str:
        return f"data_dim={self.data_dim}, latent_dim={self.latent_dim}, t0={self.t0:g}"

    def _encode(self, x, t, seen):
        anything = seen.any(-1)
        return self.encoder(
            x, seen, torch.where(anything, t - _latest(t, anything, self.t0), 0).to(x)
        )

    def _prior(self, like):
        return Independent(
            Normal(like.new_zeros(self.latent_dim), like.new_ones(self.latent_dim)), 1
        )

    def _usable(self, t):
        """The times with NaN in place of those that can only be padding: not finite, or before
        t_0."""
        t = torch.as_tensor(t, dtype=torch.float64).detach()
        return t.masked_fill(~self._after_start(t), torch.nan)

    def _after_start(self, t):
        return (t >= self.t0) & t.isfinite()

    def _observed(self, x, t, mask):
        """(x (B, T, data_dim), zero where not seen; t (B, T) float64; seen, like x), checked."""
        if x.dim() != 3 or x.shape[-1] != self.data_dim:
            raise ValueError(
                f"x must be (B, T, {self.data_dim}), not {tuple(x.shape)}; a single series is"
                " x.unsqueeze(0)"
            )
        each = x.shape[:2]
        t = torch.as_tensor(t, dtype=torch.float64, device=x.device).detach()
        if t.shape not in (each[1:], each):
            raise ValueError(
                f"t must be {tuple(each[1:])} or {tuple(each)}, a time an observation, not"
                f" {tuple(t.shape)}"
            )
        t = t.expand(each)
        if mask is None:
            seen = ~x.isnan()
        else:
            seen = _like(mask, x)
        anything = seen.any(-1)
        blind = (~anything.any(-1)).nonzero().flatten().tolist()
        if blind:
            raise ValueError(
                f"nothing was seen of series {blind[0]}: leave it out, or draw such series with"
                " sample()"
            )
        if not bool(torch.isfinite(x[seen]).all()):
            raise ValueError(
                "x has values that are not finite, but the mask says that they were seen: correct"
                " one of the two"
            )
        if bool((anything & ~self._after_start(t)).any()):
            raise ValueError(
                f"something was seen before t0 = {self.t0:g}, or at a time that is not finite: give"
                " the model a smaller t0, or correct the times"
            )
        wrong = (anything & ~(t > _latest(t, anything, -math.inf))).nonzero()
        if len(wrong):
            row, i = wrong[0].tolist()
            raise ValueError(
                f"the times of a series must increase, but in series {row} the observation {i}, at"
                f" t = {float(t[row, i]):.6g}, is not later than one before it; sort the times and"
                " merge repeated ones"
            )
        return x.masked_fill(~seen, 0), t, seen


def _like(mask, x):
    """A mask (B, T, data_dim) or (B, T), in the shape of x."""
    mask = torch.as_tensor(mask, dtype=torch.bool, device=x.device)
    if mask.shape not in (x.shape[:2], x.shape):
        raise ValueError(
            f"a mask must be {tuple(x.shape)} or {tuple(x.shape[:2])}, not {tuple(mask.shape)}"
        )
    if mask.dim() == 2:
        mask = mask.unsqueeze(-1)
    return mask.expand(x.shape)


def _latest(t, anything, first):
    """(B, T): the latest time before each time at which something was seen; ``first`` if there is
    none."""
    latest = t.masked_fill(~anything, -math.inf).cummax(1).values
    latest = torch.cat((latest.new_full((len(t), 1), -math.inf), latest[:, :-1]), 1)
    return latest.masked_fill(latest.isinf(), first)


def _distinct(t, t0):
    """Strictly increasing times from t_0 on, (R, K), for each row of t (R, M), and the index (R, M)
    of the times of t among them.

    NaN counts as t_0. Rows with fewer distinct times are padded just behind their last time, where
    no further step is needed.
    """
    t = torch.cat((t.new_full((len(t), 1), t0), t.nan_to_num(t0)), 1)
    ordered, order = t.sort(1)
    rank = torch.cat((torch.zeros_like(order[:, :1]), (ordered.diff(dim=1) > 0).cumsum(1)), 1)
    last = rank[:, -1:]
    end = ordered[:, -1:]
    slots = torch.arange(max(int(last.max()) + 1, 2), device=t.device)
    fill = end + (slots - last) * 1e-6 * torch.where(end > t0, end - t0, 1.0)
    grid = torch.where(slots > last, fill, t0).scatter(1, rank, ordered)
    return grid, torch.zeros_like(order).scatter(1, order, rank)[:, 1:]
