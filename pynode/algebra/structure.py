"""The structures of Jacobians that the option ``jacobian`` of implicit methods accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from ..core.suggestions import suggests_options
from .banded import BandedPlan
from .compressed import CompressedJacobian
from .jacobian import Jacobian
from .krylov import MatrixFree
from .pattern import Pattern, detect
from .sparse import SparsePlan, scipy

if TYPE_CHECKING:
    from ..core.layout import State
    from ..core.problem import ODEProblem
    from ..core.vector_field import VectorField
    from ..methods.base import Method

# precond(t, y, c) -> P, where P(v) approximates (M - c J)^-1 v.
Preconditioner: TypeAlias = Callable[[float, Tensor, float], Callable[[Tensor], Tensor]]

DENSE_UP_TO = 20_000


def check_dense(field: VectorField, instead: str) -> None:
    """Raise ValueError if the dense Jacobian of a field does not fit in memory. instead: what to
    do."""
    n = field.size
    if n > DENSE_UP_TO:
        gigabytes = n * n * field.dtype.itemsize / 1e9
        raise ValueError(
            f"a dense Jacobian of {n} states takes {gigabytes:.0f} GB, and its factorisation takes"
            f" as much again: {instead}"
        )


class Dense:
    """The full Jacobian, (n, n), with an LU factorisation or, for small n, an inverse."""

    name = "dense"

    def linearise(self, field: VectorField) -> Jacobian:
        """The dense Jacobian of a field."""
        check_dense(
            field,
            "pass the method with jacobian='sparse' (or pynode.Sparse(pattern)), as"
            " pynode.QNDF(jacobian='sparse'), with jacobian=pynode.Banded(lower, upper), or,"
            " without any matrix, with jacobian='krylov' (or pynode.Krylov(precond))",
        )
        return Jacobian(field)


class Sparse:
    """Makes the entries of the Jacobian that a pattern has, from a few products by colouring.
    Solves with SuperLU on the CPU.

    pattern: (n, n), a scipy.sparse matrix or a sparse or boolean torch tensor. It is non-zero if
        f_i may depend on y_j. With None, the first solve detects the pattern by products with the
        Jacobian.

    The code checks every Jacobian with one product with a random vector. If a detected pattern is
    too small, it grows. If a given pattern is too small, this is an error. Keep the object for
    further solves with the same f: it keeps the pattern, the colouring and the elimination order.
    """

    name = "sparse"

    @suggests_options
    def __init__(self, pattern: object = None) -> None:
        self.given = pattern
        self._plan: SparsePlan | None = None

    def linearise(self, field: VectorField) -> CompressedJacobian:
        """The sparse Jacobian of a field."""
        scipy()  # raises for a missing package before any work
        return CompressedJacobian(field, self)

    def plan(self, field: VectorField, t: float, y: Tensor) -> SparsePlan:
        """The plan for this field. The first call makes it; another mass matrix or dtype makes a
        new one."""
        if self._plan is None or not self._plan.fits(field):
            if self.given is not None:
                pattern = Pattern.of(self.given, field.size)
            elif self._plan is not None and self._plan.pattern.size == field.size:
                pattern = self._plan.pattern
            else:
                pattern = detect(field, t, y)
            self._plan = SparsePlan(pattern, field)
        return self._plan

    def extended(self, field: VectorField, t: float, y: Tensor, row: int) -> SparsePlan:
        """A larger plan, for a row whose entries are incomplete at (t, y)."""
        if self.given is not None:
            raise ValueError(
                f"the sparsity pattern lacks an entry in row {row}: there f depends on a component"
                " that the pattern leaves out; complete it, or pass jacobian='sparse' to have it"
                " detected"
            )
        pattern = detect(field, t, y)
        if self._plan is not None:
            pattern = self._plan.pattern.union(pattern)
        self._plan = SparsePlan(pattern, field)
        return self._plan


class Banded:
    """The band of the Jacobian, from lower + upper + 1 products, and LAPACK's banded LU.

    f_i depends only on y_j with i - lower <= j <= i + upper. Periodic boundaries have no band: use
    Sparse.
    """

    name = "banded"

    @suggests_options
    def __init__(self, lower: int, upper: int) -> None:
        for name, value in (("lower", lower), ("upper", upper)):
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a number of diagonals, 0 or more, not {value!r}")
        self.lower = lower
        self.upper = upper
        self._plan: BandedPlan | None = None

    def linearise(self, field: VectorField) -> CompressedJacobian:
        """The banded Jacobian of a field."""
        scipy()
        return CompressedJacobian(field, self)

    def plan(self, field: VectorField, t: float, y: Tensor) -> BandedPlan:
        """The plan for this field. The first call makes it; another mass matrix or dtype makes a
        new one."""
        if self._plan is None or not self._plan.fits(field):
            self._plan = BandedPlan(self.lower, self.upper, field)
        return self._plan

    def extended(self, field: VectorField, t: float, y: Tensor, row: int) -> BandedPlan:
        """Raise ValueError: row has an entry outside the band."""
        raise ValueError(
            f"row {row} of the Jacobian has an entry outside the band of {self.lower} diagonals"
            f" below and {self.upper} above: widen the band, or use jacobian='sparse'"
        )


class Krylov:
    """No matrix: restarted GMRES with Jacobian-vector products. Brown & Hindmarsh, Appl. Math.
    Comput. 31 (1989).

    precond: precond(t, y, c) -> P. P(v), (n,) -> (n,), approximates (M - c J)^-1 v at the float t
        and the flat y, (n,). The gradient needs P^T, which autograd computes. If P has no graph,
        GMRES runs without P there.
    restart: the number of stored vectors, each of n numbers.
    cycles: the largest number of restarts.
    tol: residual of the linear solves, as a fraction of Newton's tolerance.
    adjoint_tol: residual of the transposed solves, relative to the right-hand side.
    """

    name = "krylov"

    @suggests_options
    def __init__(
        self,
        precond: Preconditioner | None = None,
        restart: int = 40,
        cycles: int = 10,
        tol: float = 0.05,
        adjoint_tol: float = 1e-10,
    ) -> None:
        if precond is not None and not callable(precond):
            raise TypeError(
                "precond must be a function precond(t, y, c) that returns a function of v"
            )
        if restart < 1 or cycles < 1 or not 0 < tol < 1 or not 0 < adjoint_tol < 1:
            raise ValueError(
                "restart and cycles must be at least 1, tol and adjoint_tol between 0 and 1"
            )
        self.precond = precond
        self.restart = restart
        self.cycles = cycles
        self.tol = tol
        self.adjoint_tol = adjoint_tol

    def linearise(self, field: VectorField) -> MatrixFree:
        """The matrix-free Jacobian of a field."""
        return MatrixFree(field, self)


Structure: TypeAlias = Dense | Sparse | Banded | Krylov
Linearisation: TypeAlias = Jacobian | CompressedJacobian | MatrixFree


def structure_of(given: object, method: Method, problem: ODEProblem) -> Structure | None:
    """The structure that the option ``jacobian`` names; None for dense. Raise ValueError if it does
    not fit the method."""
    if problem.mass is not None and not method.takes_mass:
        raise ValueError(
            f"{method.name} cannot solve M y' = f with a mass matrix: use 'qndf', 'rodas5p' or"
            " 'radauiia5'"
        )
    structure = _named(given)
    if structure.name == "dense":
        return None
    if not method.implicit:
        raise ValueError(
            f"{method.name} is explicit and needs no Jacobian: remove jacobian, or use 'qndf' or"
            " 'rodas5p'"
        )
    if structure.name not in method.structures:
        reason = (
            f"{method.name} works with {', '.join(method.structures)} Jacobians, not with"
            f" {structure.name!r} ones"
        )
        if structure.name == "krylov" and "sparse" in method.structures:
            reason += (
                ": its order requires exact solutions of its linear systems (a matrix-free method"
                " would be a Krylov W-method)"
            )
        raise ValueError(f"{reason}; use 'qndf' or 'fbdf'")
    if problem.jac is not None:
        raise ValueError(
            f"jac returns a dense matrix, but jacobian={structure.name!r} avoids dense matrices:"
            " remove one of them"
        )
    return structure


def is_dense(given: object) -> bool:
    """Whether the user's argument is the default. A pattern can be an array, and == compares its
    entries."""
    return isinstance(given, str) and given == "dense"


def block_diagonal(given: object, y0: State) -> object:
    """The structure of a batch y0, (B, ...), solved as one system: the given one, or one block of
    the Jacobian for each row."""
    if not is_dense(given):
        return given
    if not isinstance(y0, torch.Tensor) or y0.dim() < 2:
        raise ValueError("batched=True with backend='julia' takes a tensor y0 of shape (B, n)")
    batch = len(y0)
    n = y0[0].numel()
    rows = torch.arange(batch * n).view(batch, n, 1).expand(batch, n, n)
    pattern = torch.stack((rows.reshape(-1), rows.transpose(1, 2).reshape(-1)))
    return Sparse(
        torch.sparse_coo_tensor(
            pattern, torch.ones(batch * n * n), (batch * n, batch * n), check_invariants=True
        )
    )


def _named(given):
    if isinstance(given, (Dense, Sparse, Banded, Krylov)):
        return given
    if isinstance(given, str):
        makers = {"dense": Dense, "sparse": Sparse, "krylov": Krylov}
        if given in makers:
            return makers[given]()
        if given == "banded":
            raise ValueError(
                "jacobian='banded' needs the width of the band: pass"
                " jacobian=pynode.Banded(lower, upper)"
            )
        raise ValueError(
            f"unknown structure {given!r}: choose 'dense', 'sparse', 'krylov' or"
            " pynode.Banded(lower, upper)"
        )
    if given is None:
        return Dense()
    return Sparse(given)


def linearise(field: VectorField) -> Linearisation:
    """The linearisation of a field in its structure. It makes Jacobians and factorises M - c J."""
    return (field.structure or Dense()).linearise(field)
