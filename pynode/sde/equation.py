"""The equation as the schemes see it: drift and diffusion at float times, with counts and
derivatives."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..core.double_backward import DoubleBackward, pull
from ..core.memory import raise_if_exhausted
from ..core.stats import Stats


class SDE:
    """dy = f(t, y) dt + g(t, y) dW, with independent rows of y (..., d).

    noise_dim: None for diagonal noise, g and dW (..., d); m for g (..., d, m) and dW (..., m).
    """

    def __init__(
        self,
        f: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        g: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        y0: torch.Tensor,
        noise_dim: int | None = None,
    ) -> None:
        self.f = f
        self.g = g
        self.stats = Stats()
        self.dtype = y0.dtype
        self.device = y0.device
        self.diagonal = noise_dim is None
        self.noise_shape: tuple[int, ...] = tuple(y0.shape)
        self.matrix_shape: tuple[int, ...] = tuple(y0.shape)
        if noise_dim is not None:
            self.noise_shape = (*y0.shape[:-1], noise_dim)
            self.matrix_shape = (*y0.shape, noise_dim)

    def drift(self, t: float, y: torch.Tensor) -> torch.Tensor:
        """f, (..., d), at the float t."""
        self.stats.nfe += 1
        return self._checked("drift", self.f(self._time(t), y), y.shape)

    def diffusion(self, t: float, y: torch.Tensor) -> torch.Tensor:
        """g, (..., d) or (..., d, m), at the float t."""
        return self._checked("diffusion", self.g(self._time(t), y), self.matrix_shape)

    def with_slope(self, t: float, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(g, g_i dg_i/dy_i), both (..., d), for diagonal noise: g, and the transposed derivative
        of g along itself."""
        # torch.func keeps the graph, so that the step can be differentiated.
        g, pullback, *_ = torch.func.vjp(lambda y: self.diffusion(t, y), y)
        return g, pullback(g)[0]

    def jacobian(self, t: float, y: torch.Tensor) -> torch.Tensor:
        """df/dy of every row, (..., d, d), without a graph: one backward pass for each state of a
        row."""
        self.stats.njac += 1
        with torch.inference_mode(False), torch.enable_grad():
            # A tensor of inference mode cannot have a graph, but its clone can.
            leaf = y.detach().clone().requires_grad_()
            out = self.drift(t, leaf)
            parts: tuple[torch.Tensor, ...] = ()
            if out.requires_grad:
                parts = out.reshape(-1, y.shape[-1]).sum(0).unbind()
            rows = [
                torch.autograd.grad(part, leaf, retain_graph=True, allow_unused=True)[0]
                for part in parts
            ]
        rows = [torch.zeros_like(y) if row is None else row for row in rows]
        if rows:
            return torch.stack(rows, -2)
        return y.new_zeros(*y.shape, y.shape[-1])

    def check_rows(self, t: float, y: torch.Tensor) -> None:
        """Raises ValueError if a row of f depends on another, because an implicit step solves each
        row separately."""
        with torch.no_grad():
            y = _near(y)
            tangent = _random(y)
            whole = self._along(self.drift, t, y, tangent)
            by_row = (self.jacobian(t, y) @ tangent.unsqueeze(-1)).squeeze(-1)
        if not torch.allclose(
            whole,
            by_row,
            rtol=1e-3,
            atol=1e-4 * float(whole.nan_to_num().abs().max()),
            equal_nan=True,
        ):
            raise ValueError(
                "an implicit scheme takes every row of the state, (..., d), by itself, but here"
                " rows of the drift influence one another (batch normalisation, a mean over the"
                " batch); put what belongs together in the last dimension, or take 'em' or"
                " 'milstein'"
            )

    def check_diagonal(self, t: float, y: torch.Tensor) -> None:
        """Raises ValueError if g_i depends on a component other than y_i, which Milstein's scheme
        for diagonal noise does not allow."""
        with torch.no_grad():
            y = _near(y)
            one = _random(y)
            two = _random(y, 1)
            together = self._along(self.diffusion, t, y, one * two)
            separate = self._along(self.diffusion, t, y, one) * two
        atol = 1e-4 * float(together.nan_to_num().abs().max())
        if not torch.allclose(together, separate, rtol=1e-3, atol=atol, equal_nan=True):
            raise ValueError(
                "Milstein's scheme is for diffusions whose component i depends on y_i alone, and"
                " this one couples components: take 'em' or 'implicitem', or a diffusion by"
                " component"
            )

    def _along(self, f, t, y, tangent):
        """The derivative of f at (t, y) along the tangent, (..., d), without a graph.

        It uses two backward passes, because forward mode may be active already. It uses forward
        mode if f has no second derivative.
        """
        with DoubleBackward(), torch.inference_mode(False), torch.enable_grad():
            leaf = y.detach().clone().requires_grad_()
            tangent = tangent.clone()
            out = f(t, leaf)
            if not out.requires_grad:
                return torch.zeros_like(out)
            w = torch.zeros_like(out, requires_grad=True)
            try:
                (pulled,) = pull(out, (leaf,), w)
            except RuntimeError as error:
                raise_if_exhausted(error)
                with torch.no_grad():
                    return torch.func.jvp(lambda y: f(t, y), (y,), (tangent,))[1]
            pushed = None
            if pulled is not None:
                pushed = torch.autograd.grad(pulled, w, tangent, allow_unused=True)[0]
        if pushed is None:
            return torch.zeros_like(out)
        return pushed

    def _time(self, t):
        return torch.scalar_tensor(t, dtype=self.dtype, device=self.device)

    def _checked(self, name, out, shape):
        if not isinstance(out, torch.Tensor) or out.shape != shape or out.dtype != self.dtype:
            if isinstance(out, torch.Tensor):
                what = f"{tuple(out.shape)} {out.dtype}"
            else:
                what = type(out).__name__
            raise ValueError(
                f"the {name} must return {tuple(shape)} {self.dtype}, not {what}; general noise,"
                " (..., d, m), needs noise_dim=m, and modules the dtype of the state"
            )
        return out


def _near(y):
    """A state near y without zeros, which would hide the factors that they are multiplied with."""
    size = y.abs().max()
    return y + 0.1 * torch.where(size > 0, size, 1.0) * _random(y, 2)


def _random(y, seed=0):
    """Numbers in (0.5, 1.5), the same in each call."""
    generator = torch.Generator().manual_seed(seed)
    return (0.5 + torch.rand(y.shape, generator=generator, dtype=torch.float64)).to(y)
