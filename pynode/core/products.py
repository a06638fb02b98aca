"""Products of matrices in the full precision of their dtype.

A user can let torch round the operands of float32 products, to 10 bits on a GPU (TF32), by
``torch.set_float32_matmul_precision("high")``. A network bears this. A solver does not: with
rounded histories the errors of QNDF grow twentyfold, and FBDF's steps become too small. So the
products of pynode itself keep all bits. Products in f follow the user's setting.

torch has this setting for the whole process. It changes here only if it is not full, and only for
the time of a product. Products of a matrix and a vector are never rounded on a GPU. On the CPU the
setting stays the user's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")

# A GPU's batched routines are made for larger matrices. Up to this size their arithmetic is written
# out there.
SMALL = 8

# torch 2.8 has one setting for all kinds of devices.
_OF_CUDA = hasattr(torch._C, "_get_fp32_precision_getter")
_FULL = "ieee" if _OF_CUDA else "highest"


def _get() -> str:
    if _OF_CUDA:
        return torch._C._get_fp32_precision_getter("cuda", "matmul")
    return torch.get_float32_matmul_precision()


def _set(precision: str) -> None:
    if _OF_CUDA:
        torch._C._set_fp32_precision_setter("cuda", "matmul", precision)
    else:
        torch.set_float32_matmul_precision(precision)


class _FullPrecision:
    """A block in which float32 products are not rounded. Threads can be in it at the same time: the
    last one restores the user's setting."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._users = ""

    def needed(self) -> bool:
        """Whether the user's setting rounds."""
        with self._lock:
            return self._inside > 0 or _get() not in (_FULL, "none")

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._users = _get()
                _set(_FULL)
            self._inside += 1

    def __exit__(self, *failure: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                _set(self._users)


_full_precision = _FullPrecision()


def _run(function: Callable[..., Any], *operands: Any, **options: Any) -> Any:
    if not _full_precision.needed():
        return function(*operands, **options)
    with _full_precision:
        return function(*operands, **options)


class _Product(torch.autograd.Function):
    """a b of (i, k) and (k, j), or of as many of them, (m, i, k) and (m, k, j). Its derivatives
    have full precision, too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        with _full_precision:
            return torch.matmul(a, b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return _product(grad, b.mT), _product(a.mT, grad)

    @staticmethod
    def jvp(ctx: Any, of_a: Tensor, of_b: Tensor) -> Tensor:
        a, b = ctx.saved_tensors
        return _product(of_a, b) + _product(a, of_b)


def _product(a: Tensor, b: Tensor) -> Tensor:
    if not _full_precision.needed():
        return torch.matmul(a, b)
    return _Product.apply(a, b)


# On the CPU these only call torch. A small solve notices the cost of more.
def mm(a: Tensor, b: Tensor) -> Tensor:
    """torch.mm."""
    if a.is_cpu:
        return torch.mm(a, b)
    return _product(a, b)


def bmm(a: Tensor, b: Tensor) -> Tensor:
    """torch.bmm."""
    if a.is_cpu:
        return torch.bmm(a, b)
    if max(*a.shape[1:], b.shape[2]) <= SMALL:
        return written_out(a, b)
    return _product(a, b)


def addmm(c: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """torch.addmm."""
    if c.is_cpu:
        return torch.addmm(c, a, b)
    if not _full_precision.needed():
        return torch.addmm(c, a, b)
    return c + _product(a, b)


def written_out(a: Tensor, b: Tensor) -> Tensor:
    """The product of (m, i, k) and (m, k, j) by multiplications and sums, one operation for all
    matrices."""
    if b.shape[2] == 1:
        return (a * b.transpose(1, 2)).sum(2, keepdim=True)
    total = a[:, :, :1] * b[:, :1]
    for k in range(1, a.shape[2]):
        total = torch.addcmul(total, a[:, :, k : k + 1], b[:, k : k + 1])
    return total


def _exact(function: Callable[P, Any]) -> Callable[P, Any]:
    """The function of torch, with its options, in full precision. Its first operand is a
    tensor."""

    @wraps(function)
    def exact(*operands: Any, **options: Any) -> Any:
        if operands[0].is_cpu:
            return function(*operands, **options)
        return _run(function, *operands, **options)

    return exact


mm_into = _exact(torch.mm)
bmm_into = _exact(torch.bmm)
matmul = _exact(torch.matmul)
inv = _exact(torch.linalg.inv)
inv_ex = _exact(torch.linalg.inv_ex)
lu_factor = _exact(torch.linalg.lu_factor)
lu_factor_ex = _exact(torch.linalg.lu_factor_ex)
lu_solve = _exact(torch.linalg.lu_solve)
solve = _exact(torch.linalg.solve)
solve_ex = _exact(torch.linalg.solve_ex)


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """torch.einsum in full precision."""
    if operands[0].is_cpu:
        return torch.einsum(equation, *operands)
    return _run(torch.einsum, equation, *operands)
