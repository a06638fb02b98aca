"""Small linear systems."""

from __future__ import annotations

from ..graph import View
from .call import Call, rule

# Rows of a system at most: the elimination is written out, row by row.
_MOST_ROWS = 8


def _transposed(view: View) -> View:
    axes = tuple(range(len(view.shape)))
    return view.permute((*axes[:-2], axes[-1], axes[-2]))


def _row(view: View, k: int) -> View:
    """Row k of matrices (..., n, m)."""
    axis = len(view.shape) - 2
    return view.narrow(axis, k, 1).drop(axis)


def _entry(view: View, i: int, j: int) -> View:
    """Entry (i, j) of matrices, with an axis of one element at the end."""
    return _row(view, i).narrow(len(view.shape) - 2, j, 1)


def _solution(call: Call, matrix: View, right: View) -> View:
    """X of A X = B by elimination with partial pivoting, for A (..., n, n) and B (..., n, m).

    Golub & Van Loan, Matrix Computations, sec. 3.4. Rows change places one pair after the other,
    until the largest entry of the column stands on the diagonal.
    """
    rows = matrix.shape[-1]
    if rows > _MOST_ROWS:
        raise call.refuse(f"for more than {_MOST_ROWS} unknowns")
    a = call.fresh(matrix.shape)
    call.copy(a, matrix)
    b = call.fresh(right.shape)
    call.copy(b, right)
    for k in range(rows):
        for i in range(k + 1, rows):
            _exchange(call, a, b, k, i)
        for i in range(k + 1, rows):
            factor = call.made("div", _entry(a, i, k), _entry(a, k, k))
            for part in (a, b):
                product = call.made("mul", factor, _row(part, k))
                call.map(_row(part, i), "sub", _row(part, i), product)
    for k in reversed(range(rows)):
        for j in range(k + 1, rows):
            product = call.made("mul", _entry(a, k, j), _row(b, j))
            call.map(_row(b, k), "sub", _row(b, k), product)
        call.map(_row(b, k), "div", _row(b, k), _entry(a, k, k))
    return b


def _exchange(call: Call, a: View, b: View, k: int, i: int) -> None:
    """Rows k and i change places where row i has the larger entry in column k."""
    larger = call.made("gt", call.made("abs", _entry(a, i, k)), call.made("abs", _entry(a, k, k)))
    for part in (a, b):
        upper = call.made("where", larger, _row(part, i), _row(part, k))
        lower = call.made("where", larger, _row(part, k), _row(part, i))
        call.copy(_row(part, k), upper)
        call.copy(_row(part, i), lower)


def _solved(call: Call, matrix: View, right: View, left: bool) -> View:
    """X of A X = B, or of X A = B."""
    if left:
        return _solution(call, matrix, right)
    return _transposed(_solution(call, _transposed(matrix), _transposed(right)))


def _identity(call: Call, like: View) -> View:
    """Unit matrices in the shape of like, (..., n, n)."""
    unit = call.fresh(like.shape)
    call.fill(unit, 0.0)
    for k in range(like.shape[-1]):
        call.fill(_entry(unit, k, k), 1.0)
    return unit


@rule("_linalg_solve_ex")
def _linalg_solve(call: Call) -> None:
    matrix = call.view("A")
    right = call.view("B")
    vector = len(call.out.shape) == len(matrix.shape) - 1
    out = call.out
    if vector:
        right = right.insert(len(right.shape))
        out = out.insert(len(out.shape))
    right = right.expand(out.shape)
    matrix = matrix.expand((*out.shape[:-2], *matrix.shape[-2:]))
    call.copy(out, _solved(call, matrix, right, bool(call["left"])))
    # Only linalg_lu_solve reads the factors: here they are the matrix.
    call.copy(call.outs[1], matrix.expand(call.outs[1].shape))
    for rest in call.outs[2:]:
        call.fill(rest, 0.0)


@rule("linalg_lu_solve")
def _lu_solve(call: Call) -> None:
    matrix = call.view("LU")
    if call["adjoint"]:
        matrix = _transposed(matrix)
    out = call.out
    matrix = matrix.expand((*out.shape[:-2], *matrix.shape[-2:]))
    right = call.view("B").expand(out.shape)
    call.copy(out, _solved(call, matrix, right, bool(call["left"])))


@rule("linalg_inv_ex")
def _inverse(call: Call) -> None:
    matrix = call.view("A")
    call.copy(call.outs[0], _solution(call, matrix, _identity(call, matrix)))
    for rest in call.outs[1:]:
        call.fill(rest, 0.0)
