"""The system (M - c J) x = b of an implicit step, by sparse or by dense elimination. M is the mass
matrix or the identity.

``memory`` has the arrays of matrices.py and sparse.py: those of ``linear_arrays``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .blocks import Own
from .elimination import DENSE, plan_of
from .machine import row
from .mass import (
    NativeMass,
    choose_lift,
    has_mass,
    is_singular,
    lift_rows,
    mass_arrays,
    write_matrix,
)
from .matrices import factorise, fill, solve, solve_transposed
from .sparse import COMPONENT, DIAGONAL, FACTOR, eliminate_sparse

# Rows of Memory.ordered: a vector in the order of the pivots, and bounds (sparse.py).
VECTOR = 0
BOUNDS = 1
SPARSE = -1  # in place of the first pivot row: the factors are sparse


def linear_arrays(
    n: int,
    rows: np.ndarray,
    columns: np.ndarray,
    real: Any,
    sparse: bool,
    mass: NativeMass | None = None,
) -> dict[str, Any]:
    """The arrays of a Blueprint for systems of n components whose Jacobian has its nonzeros at rows
    and columns: the plan, which all solves share, and the factors, which each solve has for itself.
    real: the dtype. sparse: whether sparse elimination is possible. mass: None for the identity."""
    plan = DENSE
    if sparse and mass is None:
        plan = plan_of(n, rows, columns)
    elif sparse and mass is not None and mass.diagonal:
        plan = plan_of(n, rows, columns, mass.without_derivative)
    width = n if plan is not DENSE else 0
    return {
        "plan_rows": plan.rows,
        "plan_entries": plan.entries,
        "plan_columns": plan.columns,
        "factors": Own((len(plan.columns),), real),
        "corner": Own((plan.corner, plan.corner), real),
        "corner_pivots": Own((plan.corner,), np.int64),
        "ordered": Own((2, width), real),
        **mass_arrays(mass, n, real),
    }


def factorise_system(memory: Any, c: float) -> bool:
    """The factors of M - c J, for the Jacobian in memory.jac. Returns whether the matrix is
    regular.

    If a pivot of the sparse elimination is too small, dense elimination with row exchanges takes
    its place: it alone decides what is singular.
    """
    # Here and below the dense functions have one call for both ways: with two, the compiler takes
    # them in twice.
    sparse = len(memory.plan_rows) > 0
    while True:
        matrix = memory.matrix
        pivots = memory.pivots
        eliminated = True
        if sparse:
            matrix = memory.corner
            pivots = memory.corner_pivots
            lift = 1.0
            if is_singular(memory):
                choose_lift(memory, c)
                lift = memory.lift[0]
            eliminated = eliminate_sparse(
                memory.plan_rows,
                memory.plan_entries,
                memory.plan_columns,
                memory.jac,
                c,
                memory.mass_values,
                lift,
                memory.factors,
                matrix,
                row(memory.ordered, VECTOR),
                row(memory.ordered, BOUNDS),
            )
        elif has_mass(memory):
            write_matrix(memory, matrix, c)
        else:
            fill(matrix, c, memory.jac, memory.rows, memory.columns)
        regular = eliminated and factorise(matrix, pivots)
        if sparse and regular:
            memory.pivots[0] = SPARSE
        if regular or not sparse:
            return regular
        sparse = False


def solve_system(memory: Any, b: Any, factor: float) -> None:
    """b = factor (M - c J)^-1 b, (n,), from the factors: with L, the dense corner, and U."""
    if is_singular(memory):
        lift_rows(memory, b)
    sparse = memory.pivots[0] == SPARSE
    matrix = memory.matrix
    pivots = memory.pivots
    rows = memory.plan_rows
    columns = memory.plan_columns
    factors = memory.factors
    vector = row(memory.ordered, VECTOR)
    n = len(b)
    inner = n - len(memory.corner)
    x = b
    if sparse:
        for i in range(n):
            total = factor * b[rows[i, COMPONENT]]
            for p in range(rows[i, FACTOR], rows[i, DIAGONAL]):
                total -= factors[p] * vector[columns[p]]
            vector[i] = total
        matrix = memory.corner
        pivots = memory.corner_pivots
        x = vector[inner:]
        factor = 1.0
    solve(matrix, pivots, x, factor)
    if sparse:
        for i in range(n - 1, -1, -1):
            total = vector[i]
            if i < inner:
                diagonal = rows[i, DIAGONAL]
                for p in range(diagonal + 1, rows[i + 1, FACTOR]):
                    total -= factors[p] * vector[columns[p]]
                total *= factors[diagonal]
                vector[i] = total
            b[rows[i, COMPONENT]] = total


def solve_system_transposed(memory: Any, b: Any) -> None:
    """b = (M - c J)^-T b, (n,), from the factors: with the transposes of U, the corner, and L."""
    sparse = memory.pivots[0] == SPARSE
    matrix = memory.matrix
    pivots = memory.pivots
    rows = memory.plan_rows
    columns = memory.plan_columns
    factors = memory.factors
    vector = row(memory.ordered, VECTOR)
    n = len(b)
    inner = n - len(memory.corner)
    x = b
    if sparse:
        for i in range(n):
            vector[i] = b[rows[i, COMPONENT]]
        for i in range(inner):
            diagonal = rows[i, DIAGONAL]
            value = vector[i] * factors[diagonal]
            vector[i] = value
            for p in range(diagonal + 1, rows[i + 1, FACTOR]):
                vector[columns[p]] -= factors[p] * value
        matrix = memory.corner
        pivots = memory.corner_pivots
        x = vector[inner:]
    solve_transposed(matrix, pivots, x)
    if sparse:
        for i in range(n - 1, -1, -1):
            value = vector[i]
            b[rows[i, COMPONENT]] = value
            for p in range(rows[i, FACTOR], rows[i, DIAGONAL]):
                vector[columns[p]] -= factors[p] * value
    if is_singular(memory):
        lift_rows(memory, b)
