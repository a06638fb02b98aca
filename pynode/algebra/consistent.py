"""Initial values of M y' = f with a singular M: they must satisfy the algebraic equations.

Every linear solve here uses M - c J with a small c, in the structure that the steps use. On
right-hand sides outside the range of M, such a solve is, up to O(c), a Newton step on the algebraic
equations; it keeps the differential components. This holds for index 1. For a higher index the
solution grows like 1/c, and the code uses this growth to recognise the case.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core.norm import ROUNDING
from .mass import RANK
from .newton import ImplicitCorrection, ImplicitSolve
from .structure import linearise

if TYPE_CHECKING:
    from ..core.batched_field import RowField
    from ..core.vector_field import VectorField

MODES = ("check", "solve")
ITERATIONS = 20
_UNDETERMINED = (
    "the algebraic equations of M y' = f do not determine the algebraic components at y0 (the"
    " index is above 1, or an equation is redundant): differentiate the constraint, or check"
    " mass and f"
)
NEGLIGIBLE = 1e-4  # a correction this small, in units of the tolerance, is the last one


def consistent(
    field: VectorField,
    t: float,
    end: float,
    flat: Tensor,
    atol: Tensor,
    rtol: float,
    mode: str,
    origin: str | None = None,
) -> Tensor:
    """Return the state flat, (n,), checked or made consistent. The result is differentiable in y0
    and the parameters.

    mode 'check' raises ValueError if a Newton correction of the algebraic components exceeds the
    tolerance. mode 'solve' applies corrections until they are negligible. origin: what made the
    state, for example "the reset of 'kick'"; None for y0. Hairer & Wanner II, sec. VI.1.
    """
    if mode not in MODES:
        raise ValueError(f"consistent must be 'check' or 'solve', not {mode!r}")
    if field.mass is None or not field.mass.singular:
        return flat
    with torch.no_grad():
        corrected = _corrected(
            field,
            linearise(field),
            t,
            abs(end - t),
            flat.detach().clone(),
            atol,
            rtol,
            mode,
            origin,
        )
    if corrected is None:
        return flat
    return _differentiable(field, t, flat, *corrected)


def _corrected(field, linear, t, span, y, atol, rtol, mode, origin):
    """Return (consistent y, factorised M - c J at y, c). Return None if mode is 'check' and y
    passes."""
    c, solver = _choose_c(field, linear, linear(t, y), y, span)
    noise = ROUNDING * torch.finfo(y.dtype).eps
    for _ in range(ITERATIONS):
        residual = field.mass.left_null(field(t, y))
        change = field.mass.right_null(solver.solve(residual, c))
        size = float((change.abs() / (atol + rtol * y.abs())).max())
        if mode == "check":
            if size <= 1:
                return None
            raise ValueError(_violated(residual, size, t, origin))
        if not math.isfinite(size):
            break
        y = y + change
        solver = linear.factorised(linear(t, y), c)
        if size <= max(NEGLIGIBLE, float((noise * y.abs() / (atol + rtol * y.abs())).max())):
            return y, solver, c
    raise ValueError(
        "consistent='solve' found no algebraic components near the state that satisfy their"
        " equations: give a state that is closer to them."
        f" {_violated(residual, size, t, origin)}"
    )


def _choose_c(field, linear, jac, y, span):
    """Return (c, factorised M - c J). c is so small that only the algebraic equations determine the
    solution."""
    c = span * math.sqrt(torch.finfo(y.dtype).eps)
    last_trial = None
    probe = field.mass.left_null(
        1.0 + torch.arange(len(y), dtype=y.dtype, device=y.device) / len(y)
    )
    for _ in range(6):
        solver = linear.factorised(jac, c)
        if solver.ok:
            trial = field.mass.right_null(solver.solve(probe, c))
        else:
            trial = None
        if (
            last_trial is not None
            and trial is not None
            and float((trial - last_trial).norm()) <= 0.05 * float(trial.norm())
        ):
            return c, solver
        last_trial = trial
        c = c * 1e-2
    raise ValueError(_UNDETERMINED)


def _violated(residual, size, t, origin) -> str:
    sizes = residual.abs()
    worst = [
        i
        for i in sizes.argsort(descending=True)[:5].tolist()
        if not float(sizes[i]) <= 1e-3 * float(sizes.max())
    ]
    named = ", ".join(f"f[{i}] = {float(residual[i]):.3g}" for i in worst)
    what = "y0"
    where = "at y0"
    remedy = "give a y0 that satisfies them"
    if origin is not None:
        what = f"the state after {origin} at t = {t:.6g}"
        where = "there"
        remedy = "let a reset return a state that satisfies them"
    return (
        f"{what} is not consistent: the algebraic equations require f = 0, but {named} {where},"
        f" {size:.3g} times the tolerance away from a solution; {remedy}, or pass"
        " consistent='solve'"
    )


def _differentiable(field, t, flat, y, solver, c):
    """y with its derivatives in y0 and the parameters, by the implicit function theorem."""
    if not torch.is_grad_enabled():
        return y
    moved = y + (flat - flat.detach())
    time = torch.full((), t, dtype=y.dtype, device=y.device)
    for solve in (ImplicitSolve, ImplicitCorrection):  # see newton.implicit_diff
        residual = field.mass.left_null(field.eval(time, moved))
        moved = moved + field.mass.right_null(
            solve.apply(c * (residual - residual.detach()), solver)
        )
    return moved


def consistent_rows(
    field: RowField, t: Tensor, y: Tensor, atol: Tensor, rtol: float, mode: str
) -> Tensor:
    """``consistent`` for rows: the states y, (m, n), at the times t, (m,), of a field with a
    singular mass matrix. atol: 0-d, (n,) or (m, n). The result has first derivatives.

    The limit of M - c J for small c is M + P J, where P projects onto the algebraic equations: the
    solution of (M + P J) d = -P f is a Newton step on them, and M d = 0.
    """
    if mode not in MODES:
        raise ValueError(f"consistent must be 'check' or 'solve', not {mode!r}")
    with torch.no_grad():
        corrected = _corrected_rows(field, t, y.detach(), atol, rtol, mode)
    if corrected is None:
        return y
    states, limit = corrected
    if not torch.is_grad_enabled():
        return states
    moved = states + (y - y.detach())
    residual = field.mass.left_null(field.eval(t, moved))
    return moved - torch.linalg.solve(limit, residual - residual.detach())


def _corrected_rows(field, t, y, atol, rtol, mode):
    """Return (consistent y, M + P J). Return None if mode is 'check' and all rows pass."""
    noise = ROUNDING * torch.finfo(y.dtype).eps
    for _ in range(ITERATIONS):
        limit = _limit(field, t, y)
        residual = field.mass.left_null(field(t, y))
        change = -torch.linalg.solve(limit, residual)
        scale = atol + rtol * y.abs()
        sizes = (change.abs() / scale).amax(1)
        if mode == "check":
            if bool((sizes <= 1).all()):
                return None
            break
        if not bool(sizes.isfinite().all()):
            break
        y = y + change
        enough = (noise * y.abs() / scale).amax(1).clamp_min(NEGLIGIBLE)
        if bool((sizes <= enough).all()):
            return y, _limit(field, t, y)
    row = int(torch.argmax(sizes.nan_to_num(math.inf)))
    sentence = _violated(residual[row], float(sizes[row]), float(t[row]), None)
    raise ValueError(f"row {row} of the batch: {sentence}")


def _limit(field, t, y):
    """M + P J, (m, n, n), with equations of like sizes."""
    rows = torch.arange(len(y), device=y.device)
    jacobian = field.jacobian(t, y, rows)
    lifted = torch.matmul(field.mass.projector, jacobian)
    mass = field.mass.to_dense()
    size = torch.linalg.matrix_norm(lifted, keepdim=True) / torch.linalg.matrix_norm(mass)
    limit = size.nan_to_num(1.0) * mass + lifted
    singular = torch.linalg.svdvals(limit)
    if not bool((singular[:, -1] > RANK * singular[:, 0]).all()):
        raise ValueError(_UNDETERMINED)
    return limit
