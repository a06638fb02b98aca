"""The constant mass matrix of M y' = f(t, y), regular or singular."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core import products
from ..core.memory import raise_if_exhausted

if TYPE_CHECKING:
    from ..core.layout import Layout

# A singular value below this fraction of the largest one counts as zero. In floating point the
# zero singular values of a rank-deficient matrix are about this size.
RANK = 1e-10


class Mass:
    """M over the flat state: a diagonal, (n,), or a matrix, (n, n).

    ``pinv_apply`` applies the Moore-Penrose inverse. If M y' = f has a solution, y' = pinv_apply(f)
    is one, with no change in the null space of M. ``left_null(v)`` projects v onto the left null
    space of M: for f this is the residual of the algebraic equations. ``right_null(v)`` projects v
    onto the null space of M: for y these are the algebraic components. Both projections are
    orthogonal, hence symmetric.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.given = matrix
        self.diagonal: Tensor | None = matrix if matrix.dim() == 1 else None
        self.matrix: Tensor | None = matrix if matrix.dim() == 2 else None
        if self.diagonal is not None:
            regular = matrix != 0
            self._inverse = torch.where(regular, 1 / torch.where(regular, matrix, 1.0), 0.0)
            self.singular = not bool(regular.all())
        else:
            exact = matrix.to(torch.float64)
            self._inverse = torch.linalg.pinv(exact, rtol=RANK).to(matrix)
            self.singular = int(torch.linalg.matrix_rank(exact, rtol=RANK)) < len(matrix)

    @classmethod
    def of(cls, mass: object, layout: Layout) -> Mass | None:
        """Make a Mass from the user's argument; None gives None. Raise ValueError or TypeError if
        the argument is not a mass matrix of these states."""
        if mass is None:
            return None
        n = layout.size
        expected = (
            f"for {n} states it must be a matrix ({n}, {n}), or a vector ({n},) that is its"
            " diagonal"
        )
        if (
            not isinstance(mass, torch.Tensor)
            and not layout.single
            and isinstance(mass, (tuple, list, dict))
        ):
            mass = layout.ravel(mass)
        if hasattr(mass, "toarray"):  # a matrix of scipy.sparse
            mass = mass.toarray()
        try:
            matrix = torch.as_tensor(mass, device=layout.device)
            if matrix.layout is not torch.strided:
                matrix = matrix.to_dense()
        except (TypeError, ValueError, RuntimeError) as error:
            raise_if_exhausted(error)
            raise TypeError(f"mass is a {type(mass).__name__}; {expected}") from None
        if matrix.requires_grad:
            raise ValueError(
                "mass requires a gradient, but pynode treats M as constant: pass mass.detach(), or"
                " divide f by it"
            )
        matrix = matrix.to(layout.dtype)
        if matrix.shape != (n, n):
            if matrix.numel() != n or tuple(matrix.shape) not in (
                (n,),
                *map(tuple, layout.shapes[:1]),
            ):
                raise ValueError(f"mass has shape {tuple(matrix.shape)}; {expected}")
            matrix = matrix.reshape(n)
        if not bool(torch.isfinite(matrix).all()):
            raise ValueError("mass holds NaN or infinity: give finite values")
        if not bool((matrix != 0).any()):
            raise ValueError(
                "mass is zero, so there is no differential equation: solve f(t, y) = 0 by Newton's"
                " method instead"
            )
        return cls(matrix)

    def times(self, v: Tensor) -> Tensor:
        """M v over the last dimension of v, (..., n)."""
        if self.matrix is None:
            return self.given * v
        if v.dim() == 1:
            return torch.mv(self.matrix, v)
        return products.matmul(v, self.matrix.t())

    def times_transposed(self, v: Tensor) -> Tensor:
        """M^T v over the last dimension of v, (..., n)."""
        if self.matrix is None:
            return self.given * v
        return products.matmul(v, self.matrix)

    def pinv_apply(self, f: Tensor) -> Tensor:
        """M^+ f over the last dimension of f, (..., n): y' from f."""
        if self.matrix is None:
            return self._inverse * f
        if f.dim() == 1:
            return torch.mv(self._inverse, f)
        return products.matmul(f, self._inverse.t())

    def pinv_apply_transposed(self, v: Tensor) -> Tensor:
        """(M^+)^T v over the last dimension of v, (..., n)."""
        if self.matrix is None:
            return self._inverse * v
        return products.matmul(v, self._inverse)

    def pinv_apply_columns(self, jac: Tensor) -> Tensor:
        """M^+ J, (n, n)."""
        if self.matrix is None:
            return self._inverse.unsqueeze(1) * jac
        return products.mm(self._inverse, jac)

    def left_null(self, v: Tensor) -> Tensor:
        """v - M M^+ v over the last dimension of v, (..., n)."""
        if self.matrix is None:
            return torch.where(self.given == 0, v, 0.0)
        return v - self.times(self.pinv_apply(v))

    def right_null(self, v: Tensor) -> Tensor:
        """v - M^+ M v over the last dimension of v, (..., n)."""
        if self.matrix is None:
            return torch.where(self.given == 0, v, 0.0)
        return v - self.pinv_apply(self.times(v))

    @cached_property
    def projector(self) -> Tensor | None:
        """The matrix, (n, n), that ``left_null`` applies. None if M is regular, because then there
        are no algebraic equations."""
        if not self.singular:
            return None
        with torch.inference_mode(False):
            if self.matrix is None:
                return torch.diag((self.given == 0).to(self.given))
            eye = torch.eye(len(self.matrix), dtype=self.matrix.dtype, device=self.matrix.device)
            return eye - products.mm(self.matrix, self._inverse)

    def to_dense(self) -> Tensor:
        """M, (n, n)."""
        if self.matrix is None:
            return torch.diag(self.given)
        return self.matrix
