"""The equation as the schemes see it: drift and diffusion at float times, counted, and their
derivatives."""

from __future__ import annotations

import torch

from ..core.double_backward import DoubleBackward, pull
from ..core.stats import Stats


class SDE:
    """dy = f(t, y) dt + g(t, y) dW, rows of y (..., d) independent of one another.

    noise_dim: None for diagonal noise, g and dW (..., d); m for g (..., d, m) and dW (..., m).
    """

    def __init__(self, f, g, y0, noise_dim=None):
        self.f = f
        self.g = g
        self.stats = Stats()
        self.dtype = y0.dtype
        self.device = y0.device
        self.diagonal = noise_dim is None
        if self.diagonal:
            self.noise_shape = tuple(y0.shape)
        else:
            self.noise_shape = (*y0.shape[:-1], noise_dim)
        if self.diagonal:
            self.matrix_shape = tuple(y0.shape)
        else:
            self.matrix_shape = (*y0.shape, noise_dim)

    def drift(self, t, y):
        """f, (..., d), at the float t."""
        self.stats.nfe += 1
        return self._checked("drift", self.f(self._time(t), y), y.shape)

    def diffusion(self, t, y):
        """g, (..., d) or (..., d, m), at the float t."""
        return self._checked("diffusion", self.g(self._time(t), y), self.matrix_shape)

    def with_slope(self, t, y):
        """(g, g_i dg_i/dy_i), both (..., d), of diagonal noise: g, and the derivative of g along
        itself, transposed."""
        # A transform of torch.func, for its graph lives on where the step is differentiated.
        g, pull = torch.func.vjp(lambda y: self.diffusion(t, y), y)
        return g, pull(g)[0]

    def jacobian(self, t, y):
        """df/dy of every row, (..., d, d), without a graph: one backward pass for each state of a
        row."""
        self.stats.njac += 1
        with torch.inference_mode(False), torch.enable_grad():
            # Of a tensor of inference mode a clone alone may have a graph.
            leaf = y.detach().clone().requires_grad_()
            out = self.drift(t, leaf)
            if out.requires_grad:
                parts = out.reshape(-1, y.shape[-1]).sum(0).unbind()
            else:
                parts = ()
            rows = [
                torch.autograd.grad(part, leaf, retain_graph=True, allow_unused=True)[0]
                for part in parts
            ]
        rows = [torch.zeros_like(y) if row is None else row for row in rows]
        if rows:
            return torch.stack(rows, -2)
        return y.new_zeros(*y.shape, y.shape[-1])

    def check_rows(self, t, y):
        """ValueError where a row of f depends on another: an implicit step takes each row by
        itself."""
        with torch.no_grad():
            y, tangent = _near(y), _random(y)
            whole = self._along(self.drift, t, y, tangent)
            alone = (self.jacobian(t, y) @ tangent.unsqueeze(-1)).squeeze(-1)
        if not torch.allclose(
            whole,
            alone,
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

    def check_diagonal(self, t, y):
        """ValueError where g_i depends on another component than y_i, which Milstein's scheme for
        diagonal noise leaves out."""
        with torch.no_grad():
            y, one, two = _near(y), _random(y), _random(y, 1)
            both = self._along(self.diffusion, t, y, one * two)
            apart = self._along(self.diffusion, t, y, one) * two
        if not torch.allclose(
            both, apart, rtol=1e-3, atol=1e-4 * float(both.nan_to_num().abs().max()), equal_nan=True
        ):
            raise ValueError(
                "Milstein's scheme is for diffusions whose component i depends on y_i alone, and"
                " this one couples components: take 'em' or 'implicitem', or a diffusion by"
                " component"
            )

    def _along(self, f, t, y, tangent):
        """The derivative of f at (t, y) along the tangent, (..., d), without a graph.

        By two backward passes, because forward mode may be under way; by forward mode where f has
        no second derivative.
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
            except RuntimeError:
                with torch.no_grad():
                    return torch.func.jvp(lambda y: f(t, y), (y,), (tangent,))[1]
            if pulled is None:
                found = None
            else:
                found = torch.autograd.grad(pulled, w, tangent, allow_unused=True)[0]
        if found is None:
            return torch.zeros_like(out)
        return found

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
    """A state like y without its zeros, which hide what they are multiplied with."""
    size = y.abs().max()
    return y + 0.1 * torch.where(size > 0, size, 1.0) * _random(y, 2)


def _random(y, seed=0):
    """Numbers in (0.5, 1.5), the same each time."""
    generator = torch.Generator().manual_seed(seed)
    return (0.5 + torch.rand(y.shape, generator=generator, dtype=torch.float64)).to(y)
