"""The latent ordinary differential equation for irregular series. Chen, Rubanova, Bettencourt &
Duvenaud, NeurIPS 2018, sec. 5; Rubanova, Chen & Duvenaud, NeurIPS 2019, sec. 3."""

from __future__ import annotations

import math

import torch
from torch.distributions import Independent, Normal, kl_divergence

from .base import as_field, check_options
from .neural_ode import NeuralODE
from .recognition import Recognition


class LatentODE(torch.nn.Module):
    """x(t) = decoder(z(t)) + noise, dz/dt = field(t, z), z(t_0) ~ N(0, I): a variational
    autoencoder of whole series.

    The recognition network reads the observations of a series backwards in time and gives
    q(z(t_0)), a Gaussian by component. Train by ``-model.elbo(x, t).mean()``; then ``model(x, t)``
    reconstructs, ``predict`` goes to other times, also beyond the observations, and ``sample``
    draws new series.

    field: nn.Module with forward(t, z), or forward(z), for z (..., latent_dim); t broadcasts
    against z. decoder: nn.Module from (..., latent_dim) to (..., data_dim).
    encoder: 'gru' or 'ode-rnn' (see Recognition), with a hidden state of the size hidden; the
        latter costs a solve for each observation, with encoder_field, from (..., hidden) to (...,
        hidden).
    noise: standard deviation of the noise of an observation, in units of x; learn_noise: make it a
    parameter. t0: t_0, a time before which nothing is observed. method, rtol, atol, options: of
    ``solve``, for all solves.

    Observations are x (B, T, data_dim) at t, (T,) for all series or (B, T) with times of their own.
    mask, bool, (B, T, data_dim) or (B, T), says what was seen, by default what in x is not NaN.
    Times at which nothing was seen, such as those that fill shorter series up, do not count. Times
    (T,) take one solve for all series; with (B, T) each has its own steps (``batched=True``, whose
    methods are explicit, Rosenbrock or diagonally implicit ones and BDF).

    ``stats`` holds the counts of the last solve in the latent space. ValueError for data of another
    shape, times that do not increase and series of which nothing was seen; SolveError where a solve
    fails.
    """

    def __init__(
        self,
        field,
        decoder,
        data_dim,
        latent_dim,
        *,
        encoder="gru",
        hidden=32,
        encoder_field=None,
        noise=0.1,
        learn_noise=False,
        t0=0.0,
        method="tsit5",
        rtol=1e-3,
        atol=1e-4,
        **options,
    ):
        super().__init__()
        for name, value in ("data_dim", data_dim), ("latent_dim", latent_dim), ("hidden", hidden):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
        if not (noise > 0 and math.isfinite(noise)):
            raise ValueError(
                f"noise must be a positive standard deviation, in units of x, not {noise!r}"
            )
        if "batched" in options:
            raise ValueError("batched follows from the times, (T,) or (B, T): leave it away")
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
    def stats(self):
        return self.flow.stats

    @property
    def noise(self):
        """The standard deviation of an observation, a 0-d tensor."""
        return self.log_noise.exp()

    def forward(self, x, t, mask=None):
        """x(t) without noise, (B, T, data_dim), for the mean of q; NaN at times that are NaN, or
        fill up before t_0."""
        return self.predict(x, t, self._usable(t), mask)

    def predict(self, x, t, at, mask=None, samples=None):
        """x at the times at, (T',) or (B, T'), in any order, without noise, given the observations:
        (B, T', data_dim) for the mean of q, (samples, B, T', data_dim) for so many draws of it."""
        q = self.encode(x, t, mask)
        return self.decode(q.mean if samples is None else q.rsample((samples,)), at)

    def encode(self, x, t, mask=None):
        """q(z(t_0) | x): a Gaussian of independent components, batch shape (B,), event shape
        (latent_dim,)."""
        return self._encode(*self._observed(x, t, mask))

    def elbo(self, x, t, mask=None, *, given=None, kl_weight=1.0, samples=1):
        """The evidence lower bound of each series, (B,), in nats: E_q[log p(x | z(t_0))] -
        kl_weight KL(q || N(0, I)), the mean estimated by so many draws. A kl_weight that grows from
        0 to 1 in training keeps q from collapsing to the prior. given: bool, like mask: what of it
        the recognition network reads, for instance the first half, so that it learns to predict the
        rest (Rubanova et al., sec. 4); by default all."""
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

    def sample(self, n, at):
        """n series drawn from the model, without noise, at the times at, (T',): (n, T',
        data_dim)."""
        return self.decode(self._prior(self.encoder.head[0].weight).sample((n,)), at)

    def decode(self, z, at):
        """x, (..., B, T', data_dim), at the times at, of z(t_0), (..., B, latent_dim); NaN where a
        time is NaN."""
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
        grid, place = _distinct(at.reshape(-1, at.shape[-1]), self.t0)
        if at.dim() == 1:
            path = self.flow(z, grid[0])[place[0]].movedim(0, -2)
        else:
            count = z.shape[:-1].numel() // len(at)
            rows = z.reshape(-1, self.latent_dim)
            times = grid.repeat(count, 1).T
            path = self.flow._solved(self.flow._timed, rows, times, batched=True).transpose(0, 1)
            place = place.repeat(count, 1).unsqueeze(-1).expand(-1, -1, self.latent_dim)
            path = path.gather(1, place).reshape(*z.shape[:-1], at.shape[-1], self.latent_dim)
        x = self.decoder(path)
        if x.shape != (*path.shape[:-1], self.data_dim):
            raise ValueError(
                f"the decoder returned shape {tuple(x.shape)} for states of shape"
                f" {tuple(path.shape)}; its last dimension must be data_dim = {self.data_dim}, the"
                " others those of the states"
            )
        return x.masked_fill(at.isnan().unsqueeze(-1), torch.nan)

    def extra_repr(self):
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
        """The times with NaN for those that can only fill up: not finite, or before t_0."""
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
                f"nothing was seen of series {blind[0]}: leave it out, or draw such series by"
                " sample()"
            )
        if not bool(torch.isfinite(x[seen]).all()):
            raise ValueError(
                "x has values that are not finite where the mask says that they were seen: correct"
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
    """A mask (B, T, data_dim) or (B, T) in the shape of x."""
    mask = torch.as_tensor(mask, dtype=torch.bool, device=x.device)
    if mask.shape not in (x.shape[:2], x.shape):
        raise ValueError(
            f"a mask must be {tuple(x.shape)} or {tuple(x.shape[:2])}, not {tuple(mask.shape)}"
        )
    return (mask if mask.dim() == 3 else mask.unsqueeze(-1)).expand(x.shape)


def _latest(t, anything, first):
    """(B, T): the latest time before each at which something was seen, and first where there is
    none."""
    latest = t.masked_fill(~anything, -math.inf).cummax(1).values
    latest = torch.cat((latest.new_full((len(t), 1), -math.inf), latest[:, :-1]), 1)
    return latest.masked_fill(latest.isinf(), first)


def _distinct(t, t0):
    """Strictly increasing times from t_0 on, (R, K), for each row of t (R, M), and where among them
    its times are, (R, M).

    NaN counts as t_0. Rows with fewer distinct times than others are filled up just behind the
    last, where no further step is needed.
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
