"""Products of the Jacobian, and of its transpose, with vectors: all that a structured Jacobian is made of."""

from __future__ import annotations

import torch

VALUES = 1 << 22  # numbers in one batch of products: 32 MB in float64

# What torch raises where a field has no forward-mode derivative or cannot be vectorised.
_REFUSALS = (RuntimeError, NotImplementedError, ValueError, TypeError)


class Products:
    """J v and v^T J at (t, y), for one vector or for the rows of a matrix; results without a graph."""

    def __init__(self, field):
        self.field = field
        self._ways = [self._batched, self._forward, self._twice_reversed]

    def jvps(self, t: float, y, vectors):
        """J v for the rows v of vectors: (m, n) -> (m, n). Forward mode, batched where f allows it."""
        with torch.inference_mode(False), torch.no_grad():
            time, y, vectors = self._point(t, y, vectors)
            rows = max(1, VALUES // max(1, y.numel()))
            while True:
                try:
                    return torch.cat([self._ways[0](time, y, vectors[i : i + rows]) for i in range(0, len(vectors), rows)])
                except _REFUSALS:
                    if len(self._ways) == 1:
                        raise
                    self._ways = self._ways[1:]

    def vjps(self, t: float, y, vectors):
        """v^T J for the rows v of vectors: (m, n) -> (m, n)."""
        with torch.inference_mode(False), torch.enable_grad():
            time, y, vectors = self._point(t, y, vectors)
            y.requires_grad_()
            out = self.field.at(time, y)
            if not out.requires_grad:
                return torch.zeros_like(vectors)
            found = [torch.autograd.grad(out, y, v, retain_graph=True, allow_unused=True)[0] for v in vectors]
            return torch.zeros_like(vectors) if found[0] is None else torch.stack(found)

    def _point(self, t, y, vectors):
        time = torch.full((), t, dtype=self.field.dtype, device=self.field.device)
        return time, y.detach().clone(), vectors.clone() if vectors.is_inference() else vectors

    def _batched(self, t, y, vectors):
        if len(vectors) == 1:
            return self._forward(t, y, vectors)
        return torch.func.vmap(lambda v: self._forward_one(t, y, v))(vectors)

    def _forward(self, t, y, vectors):
        return torch.stack([self._forward_one(t, y, v) for v in vectors])

    def _forward_one(self, t, y, v):
        return torch.func.jvp(lambda x: self.field.at(t, x), (y,), (v,))[1]

    def _twice_reversed(self, t, y, vectors):
        """J v as the derivative of w -> w^T J in w along v."""
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            out = self.field.at(t, y)
            if not out.requires_grad:
                return torch.zeros_like(vectors)
            w = torch.zeros_like(out, requires_grad=True)
            (pulled,) = torch.autograd.grad(out, y, w, create_graph=True, allow_unused=True)
            if pulled is None or not pulled.requires_grad:
                return torch.zeros_like(vectors)
            return torch.stack([torch.autograd.grad(pulled, w, v, retain_graph=True)[0] for v in vectors])
