"""How the Jacobian of a large system is made and solved with: the option ``jacobian`` of implicit
methods."""

from __future__ import annotations

import torch

from .banded import BandedPlan
from .compressed import CompressedJacobian
from .jacobian import Jacobian
from .krylov import MatrixFree
from .pattern import Pattern, detect
from .sparse import SparsePlan, scipy

DENSE_UP_TO = 20_000


def check_dense(field, instead):
    """ValueError where the dense Jacobian of a field would not fit in memory, with what to do
    instead."""
    n = field.size
    if n > DENSE_UP_TO:
        gigabytes = n * n * field.dtype.itemsize / 1e9
        raise ValueError(
            f"a dense Jacobian of {n} states takes {gigabytes:.0f} GB, and its factorisation as"
            f" much again: {instead}"
        )


class Dense:
    """The full Jacobian, (n, n), and an LU factorisation or, for small n, an inverse."""

    name = "dense"

    def linearise(self, field):
        check_dense(
            field,
            "pass the method with jacobian='sparse' (or pynode.Sparse(pattern)), as"
            " pynode.QNDF(jacobian='sparse'), with jacobian=pynode.Banded(lower, upper), or,"
            " without any matrix, with jacobian='krylov' (or pynode.Krylov(precond))",
        )
        return Jacobian(field)


class Sparse:
    """Entries of the Jacobian where the pattern has them, from a few products by colouring, and
    SuperLU on the CPU.

    pattern: (n, n), a scipy.sparse matrix, a sparse or a boolean torch tensor; non-zero where f_i
    may depend on y_j. None detects it at the first solve by products with the Jacobian. Every
    Jacobian is checked against one product with a random vector: a detected pattern grows where it
    was too small, a given one is then an error. Keep the object for further solves with the same f:
    pattern, colouring and elimination order are made once.
    """

    name = "sparse"

    def __init__(self, pattern=None):
        self.given = pattern
        self._plan = None

    def linearise(self, field):
        scipy()  # a missing package is told before any work
        return CompressedJacobian(field, self)

    def plan(self, field, t, y):
        """The plan for this field, made at the first call; for another mass matrix or dtype it is
        made anew."""
        if self._plan is None or not self._plan.fits(field):
            if self.given is not None:
                pattern = Pattern.of(self.given, field.size)
            elif self._plan is not None and self._plan.pattern.size == field.size:
                pattern = self._plan.pattern
            else:
                pattern = detect(field, t, y)
            self._plan = SparsePlan(pattern, field)
        return self._plan

    def extended(self, field, t, y, row):
        """A larger plan, after the entries of a row were found to be incomplete at (t, y)."""
        if self.given is not None:
            raise ValueError(
                f"the sparsity pattern lacks an entry in row {row}: there f depends on a component"
                " that the pattern leaves out; complete it, or pass jacobian='sparse' to have it"
                " detected"
            )
        self._plan = SparsePlan(self._plan.pattern.union(detect(field, t, y)), field)
        return self._plan


class Banded:
    """The band of the Jacobian, from lower + upper + 1 products, and LAPACK's banded LU.

    f_i depends on y_j for i - lower <= j <= i + upper alone. Periodic boundaries are no band: use
    Sparse.
    """

    name = "banded"

    def __init__(self, lower: int, upper: int):
        for name, value in (("lower", lower), ("upper", upper)):
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a number of diagonals, 0 or more, not {value!r}")
        self.lower = lower
        self.upper = upper
        self._plan = None

    def linearise(self, field):
        scipy()
        return CompressedJacobian(field, self)

    def plan(self, field, t, y):
        if self._plan is None or not self._plan.fits(field):
            self._plan = BandedPlan(self.lower, self.upper, field)
        return self._plan

    def extended(self, field, t, y, row):
        raise ValueError(
            f"row {row} of the Jacobian has an entry outside the band of {self.lower} diagonals"
            f" below and {self.upper} above: widen the band, or use jacobian='sparse'"
        )


class Krylov:
    """No matrix: restarted GMRES with Jacobian-vector products. Brown & Hindmarsh, Appl. Math.
    Comput. 31 (1989).

    precond: precond(t, y, c) -> P, where P(v), (n,) -> (n,), approximates (M - c J)^-1 v at the
    float t and the flat y, (n,).
        For the gradient its transpose is taken by autograd; where P has no graph, GMRES runs
        without it there.
    restart: vectors kept, each of n; cycles: restarts at most. tol: what the linear solve may
    leave, as a fraction of what Newton's iteration may leave. adjoint_tol: residual of the
    transposed solves, relative to the right-hand side.
    """

    name = "krylov"

    def __init__(self, precond=None, restart=40, cycles=10, tol=0.05, adjoint_tol=1e-10):
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

    def linearise(self, field):
        return MatrixFree(field, self)


def structure_of(given, method, problem):
    """The structure that the option ``jacobian`` names, None for dense; ValueError where it does
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
            f"{method.name} is explicit and needs no Jacobian: leave out jacobian, or use 'qndf'"
            " or 'rodas5p'"
        )
    if structure.name not in method.structures:
        reason = (
            f"{method.name} works with {', '.join(method.structures)} Jacobians, not with"
            f" {structure.name!r} ones"
        )
        if structure.name == "krylov" and "sparse" in method.structures:
            reason += (
                ": its order rests on the exact solution of its linear systems (matrix-free needs a"
                " W-method of Krylov type)"
            )
        raise ValueError(f"{reason}; use 'qndf' or 'fbdf'")
    if problem.jac is not None:
        raise ValueError(
            f"jac returns a dense matrix, which jacobian={structure.name!r} is there to avoid:"
            " leave one out"
        )
    return structure


def is_dense(given) -> bool:
    """Whether the option ``jacobian`` is the default; a pattern may be an array, which == compares
    by its entries."""
    return isinstance(given, str) and given == "dense"


def blocks(given, y0):
    """The structure of a batch y0, (B, ...), taken as one system: given, or a block of the Jacobian
    for each row."""
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


def linearise(field):
    """The linearisation of a field: makes Jacobians, and factorises M - c J, in the field's
    structure."""
    return (field.structure or Dense()).linearise(field)
