"""Solves with M - c J without forming it: GMRES with Jacobian-vector products and the user's
preconditioner."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core.norm import NEWTON
from .gmres import gmres
from .products import Products

if TYPE_CHECKING:
    from ..core.vector_field import VectorField
    from .structure import Krylov


class MatrixFree:
    """Linearises a field by products. A Jacobian is (t, y, the products at this point)."""

    def __init__(self, field: VectorField, structure: Krylov) -> None:
        self.field = field
        self.structure = structure
        self.stats = field.stats

    def __call__(self, t: float, y: Tensor) -> tuple[float, Tensor, Products]:
        self.stats.njac += 1
        return t, y.detach(), Products(self.field, t, y)

    def factorised(
        self, jac: tuple[float, Tensor, Products], c: float, scale: Tensor | None = None
    ) -> KrylovSolver:
        """Prepare solves with M - c J. scale: weights, (n,), of the norm in which Newton's
        iteration converges. Without scale the solver uses adjoint_tol."""
        t, y, products = jac
        return KrylovSolver(self, t, y, products, c, scale)


class KrylovSolver:
    """Solves with W = M - c J, J at (t, y), and with its transpose. The preconditioner acts from
    the right, so residuals are true residuals.

    In the steps the solver measures the residual in the norm of the error test. It reduces it to a
    fraction of Newton's tolerance (Brown & Hindmarsh 1989, sec. 3).
    """

    ok = True

    def __init__(
        self,
        linear: MatrixFree,
        t: float,
        y: Tensor,
        products: Products,
        c: float,
        scale: Tensor | None,
    ) -> None:
        self.products = products
        self.t = t
        self.c = c
        self.size = len(y)
        self.mass = linear.field.mass
        self.stats = linear.field.stats
        structure = linear.structure
        if scale is None:
            self.weights = None
        else:
            self.weights = 1 / (scale.detach() * math.sqrt(len(y)))
        self.tol = structure.tol * NEWTON
        self.relative = structure.adjoint_tol
        self.sizes = structure.restart, structure.cycles
        self.lift = self._lift()
        self.inverse = None
        if structure.precond is not None:
            with torch.inference_mode(False):
                self.inverse = structure.precond(t, y.clone(), c)
            if not callable(self.inverse):
                raise TypeError(
                    f"precond(t, y, c) returned a {type(self.inverse).__name__}: it must return a"
                    " function of v"
                )

    def solve(self, b: Tensor, factor: float = 1.0) -> Tensor:
        """factor W^-1 b, (n,)."""
        with torch.inference_mode(False), torch.no_grad():
            b = b.detach().clone() * factor
            if self.weights is None:
                return self._solve(
                    lambda v: self._balanced(self._times(v)), self._precondition, self._balanced(b)
                )
            w = self.weights.clone()
            b = self._balanced(b)
            x, residual = gmres(
                lambda v: w * self._balanced(self._times(self._precondition(v / w))),
                w * b,
                self.tol,
                *self.sizes,
            )
            x = self._precondition(x / w)
            if math.isnan(residual):
                self._blame(b)
            return x

    def solve_transposed(self, b: Tensor) -> Tensor:
        """W^-T b, (n,)."""
        with torch.inference_mode(False), torch.no_grad():
            b = b.detach().clone()
            return self._solve(self._times_transposed, self._precondition_transposed, b)

    def _solve(self, times, precondition, b):
        tol = self.relative * float(b.norm())
        x, residual = gmres(lambda v: times(precondition(v)), b, tol, *self.sizes)
        if math.isnan(residual):
            self._blame(b)
        if not residual <= 100 * tol:
            raise RuntimeError(
                f"GMRES left a residual of {residual / max(float(b.norm()), 1e-300):.1e} of the"
                f" right-hand side at t = {self.t:.6g}, where the gradient or the initial values"
                f" need {self.relative:.0e}: give a (better) preconditioner, raise restart or"
                " cycles, or loosen adjoint_tol"
            )
        return precondition(x)

    def _lift(self):
        """The scaling factor of the algebraic equations, minus one. It brings the rows c J to the
        size of the rows of M.

        Without it, a residual that is small for the differential equations leaves an error
        proportional to 1/c in the algebraic components. One product with random signs estimates the
        size of the algebraic rows.
        """
        if self.mass is None or not self.mass.singular:
            return 0.0
        with torch.inference_mode(False), torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            signs = (
                torch.randint(0, 2, (1, self.size), generator=generator).to(self.products.y) * 2 - 1
            )
            rows = self.mass.left_null(self.products.jvps(signs)[0])
            count = float(self.mass.left_null(signs[0]).square().sum())
            size = float(rows.norm()) / max(count, 1.0) ** 0.5
        if math.isfinite(size) and size > 0:
            return 1 / (abs(self.c) * size) - 1
        return 0.0

    def _balanced(self, v):
        if self.lift:
            return torch.add(v, self.mass.left_null(v), alpha=self.lift)
        return v

    def _times(self, v):
        self.stats.njvp += 1
        product = self.products.jvps(v.unsqueeze(0))[0]
        if self.mass is not None:
            v = self.mass.times(v)
        return torch.sub(v, product, alpha=self.c)

    def _times_transposed(self, v):
        self.stats.backward_nvjp += 1
        product = self.products.vjps(v.unsqueeze(0))[0]
        if self.mass is not None:
            v = self.mass.times_transposed(v)
        return torch.sub(v, product, alpha=self.c)

    def _precondition(self, v):
        if self.inverse is None:
            return v
        out = self.inverse(v)
        if not isinstance(out, torch.Tensor) or out.shape != v.shape:
            if isinstance(out, torch.Tensor):
                got = tuple(out.shape)
            else:
                got = type(out).__name__
            raise ValueError(
                f"the preconditioner returned {got} for a vector of shape {tuple(v.shape)}: return"
                " the same shape"
            )
        return out

    def _precondition_transposed(self, v):
        """P^T v by autograd. If P has no graph, return v: this costs iterations, but no
        accuracy."""
        if self.inverse is None:
            return self._balanced(v)
        with torch.enable_grad():
            x = torch.zeros_like(v, requires_grad=True)
            out = self._precondition(x)
            if out.requires_grad:
                return torch.autograd.grad(out, x, v)[0]
            return v

    def _blame(self, b):
        """Find the source of a NaN. Raise ValueError if the preconditioner made it. Otherwise
        Newton's iteration handles it."""
        if self.inverse is not None and not bool(torch.isfinite(self._precondition(b)).all()):
            raise ValueError(
                f"the preconditioner returned NaN or infinity at t = {self.t:.6g} with c ="
                f" {self.c:.3g}: it must map finite vectors to finite vectors, approximately by (M"
                " - c J)^-1"
            )
