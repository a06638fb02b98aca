"""Products of the Jacobian, and of its transpose, with vectors: all that a structured Jacobian is
made of."""

from __future__ import annotations

import torch

from ..core.double_backward import DoubleBackward, pull


class Products:
    """J v and v^T J at one point (t, y), from one evaluation of f; results without a graph.

    J v is the derivative of w -> w^T J in w along v: reverse mode twice costs one evaluation a
    product, a third of forward mode in torch 2, whose first use moreover loads its decompositions
    for a second (benchmarks/brusselator.py).
    """

    def __init__(self, field, t: float, y):
        self.field = field
        with torch.inference_mode(False), torch.enable_grad():
            self.t = torch.full((), t, dtype=field.dtype, device=field.device)
            self.y = y.detach().clone().requires_grad_()
            with DoubleBackward():
                self.out = field.at(self.t, self.y)
            self._pulled = None
            self._twice = True

    def jvps(self, vectors):
        """J v for the rows v of vectors: (m, n) -> (m, n)."""
        if not self.out.requires_grad:
            return torch.zeros_like(vectors)
        with torch.inference_mode(False):
            if self._pulled is None and self._twice:
                self._pulled = self._pull()
            return torch.stack([self._forward(v) for v in vectors])

    def vjps(self, vectors):
        """v^T J for the rows v of vectors: (m, n) -> (m, n)."""
        with torch.inference_mode(False):
            return torch.stack([self._reverse(self.out, self.y, v) for v in vectors])

    def _pull(self):
        """w -> w^T J with a graph in w; None where f does not depend on y, or has a part that is
        differentiable once."""
        with torch.enable_grad():
            w = torch.zeros_like(self.out, requires_grad=True)
            try:
                (pulled,) = pull(self.out, (self.y,), w)
            except RuntimeError:
                pulled = None
                self._twice = False
        if pulled is None:
            return None
        return (pulled, w)

    def _forward(self, v):
        if self._pulled is None and self._twice:
            return torch.zeros_like(v)
        if self._twice:
            try:
                return self._reverse(*self._pulled, v)
            except RuntimeError:
                self._twice = False
        if v.is_inference():
            v = v.clone()
        try:
            with torch.no_grad():
                return torch.func.jvp(lambda x: self.field.at(self.t, x), (self.y.detach(),), (v,))[
                    1
                ]
        except RuntimeError as error:
            raise RuntimeError(
                "a structured Jacobian is made of products with vectors, and an operation in f has"
                f" neither second derivatives nor forward-mode ones ({error}): take"
                " jacobian='dense', or write this operation in others"
            ) from error

    @staticmethod
    def _reverse(out, at, v):
        if v.is_inference():
            v = v.clone()
        if not out.requires_grad:
            return torch.zeros_like(v)
        found = torch.autograd.grad(out, at, v, retain_graph=True, allow_unused=True)[0]
        if found is None:
            return torch.zeros_like(v)
        return found
