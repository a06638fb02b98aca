"""Products of the Jacobian and of its transpose with vectors. Structured Jacobians need nothing
else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core.double_backward import DoubleBackward, pull
from ..core.memory import raise_if_exhausted

if TYPE_CHECKING:
    from ..core.vector_field import VectorField


class Products:
    """J v and v^T J at one point (t, y), from one evaluation of f. The results have no graph.

    J v is the derivative of w -> w^T J in w along v: reverse mode twice. A product costs one
    evaluation, a third of forward mode in torch 2. The first use of forward mode also takes a
    second to load its decompositions (benchmarks/brusselator.py).
    """

    def __init__(self, field: VectorField, t: float, y: Tensor) -> None:
        self.field = field
        with torch.inference_mode(False), torch.enable_grad():
            self.t = torch.full((), t, dtype=field.dtype, device=field.device)
            self.y = y.detach().clone().requires_grad_()
            with DoubleBackward():
                self.out = field.eval(self.t, self.y)
            self._pulled = None
            self._twice = True

    def jvps(self, vectors: Tensor) -> Tensor:
        """J v for the rows v of vectors: (m, n) -> (m, n)."""
        if not self.out.requires_grad:
            return torch.zeros_like(vectors)
        with torch.inference_mode(False):
            if self._pulled is None and self._twice:
                self._pulled = self._pull()
            return torch.stack([self._forward(v) for v in vectors])

    def vjps(self, vectors: Tensor) -> Tensor:
        """v^T J for the rows v of vectors: (m, n) -> (m, n)."""
        with torch.inference_mode(False):
            return torch.stack([self._reverse(self.out, self.y, v) for v in vectors])

    def _pull(self):
        """Return (w^T J with a graph, w). None if f does not depend on y, or if a part of f has no
        second derivative."""
        with torch.enable_grad():
            w = torch.zeros_like(self.out, requires_grad=True)
            try:
                (pulled,) = pull(self.out, (self.y,), w)
            except RuntimeError as error:
                raise_if_exhausted(error)
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
            except RuntimeError as error:
                raise_if_exhausted(error)
                self._twice = False
        if v.is_inference():
            v = v.clone()
        try:
            with torch.no_grad():
                return torch.func.jvp(
                    lambda x: self.field.eval(self.t, x), (self.y.detach(),), (v,)
                )[1]
        except RuntimeError as error:
            raise_if_exhausted(error)
            raise RuntimeError(
                "a structured Jacobian needs products with vectors, but an operation in f has"
                f" neither second nor forward-mode derivatives ({error}): use jacobian='dense', or"
                " replace this operation by others"
            ) from error

    @staticmethod
    def _reverse(out, inputs, v):
        if v.is_inference():
            v = v.clone()
        if not out.requires_grad:
            return torch.zeros_like(v)
        grad = torch.autograd.grad(out, inputs, v, retain_graph=True, allow_unused=True)[0]
        if grad is None:
            return torch.zeros_like(v)
        return grad
