"""Products of matrices and vectors."""

from __future__ import annotations

from ..graph import Contract, View
from .call import Call, rule


def _product(call: Call, left: View, right: View, scale: float = 1.0) -> None:
    """Add scale left @ right to the result; both views are matrices or batches of them."""
    batch = len(left.shape) - 2
    rows = left.shape[batch]
    inner = left.shape[batch + 1]
    columns = right.shape[batch + 1]
    out = call.out
    # Axes of the products: batch, row, column, inner.
    first = left.insert(batch + 1, columns)
    order = (*range(batch), batch + 1, batch)
    second = right.permute(order).insert(batch, rows)
    shape = out.shape
    assert first.shape == second.shape == (*shape, inner)
    call.statements.append(Contract(out, first, second, scale))


def _vector_product(call: Call, matrix: View, vector: View, scale: float = 1.0) -> None:
    rows = matrix.shape[0]
    right = vector.insert(0, rows)
    call.statements.append(Contract(call.out, matrix, right, scale))


@rule("mm")
def _mm(call: Call) -> None:
    call.fill(call.out, 0.0)
    _product(call, call.view("self"), call.view("mat2"))


@rule("bmm")
def _bmm(call: Call) -> None:
    call.fill(call.out, 0.0)
    _product(call, call.view("self"), call.view("mat2"))


@rule("mv")
def _mv(call: Call) -> None:
    call.fill(call.out, 0.0)
    _vector_product(call, call.view("self"), call.view("vec"))


@rule("dot", "vdot")
def _dot(call: Call) -> None:
    call.fill(call.out, 0.0)
    right = call.view("tensor" if call.name == "dot" else "other")
    call.statements.append(Contract(call.out, call.view("self"), right))


def _start(call: Call) -> None:
    """beta times the first argument of addmm and its kin."""
    beta = float(call["beta"])
    if beta == 0.0:
        call.fill(call.out, 0.0)
    else:
        call.map(call.out, "mul", call.view("self"), beta)


@rule("addmm", "baddbmm")
def _addmm(call: Call) -> None:
    names = ("mat1", "mat2") if call.name == "addmm" else ("batch1", "batch2")
    _start(call)
    _product(call, call.view(names[0]), call.view(names[1]), float(call["alpha"]))


@rule("addmv")
def _addmv(call: Call) -> None:
    _start(call)
    _vector_product(call, call.view("mat"), call.view("vec"), float(call["alpha"]))


@rule("addr")
def _addr(call: Call) -> None:
    rows = call.view("vec1").insert(1)
    columns = call.view("vec2").insert(0)
    product = call.made("mul", rows, columns)
    scaled = call.made("mul", product, float(call["alpha"]))
    start = call.made("mul", call.view("self"), float(call["beta"]))
    call.map(call.out, "add", start, scaled)
