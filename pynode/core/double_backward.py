"""Where f is differentiated twice: in Rosenbrock methods, whose steps contain its Jacobian, and for
second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.backends import cuda

from .leaves import own_leaf

P = ParamSpec("P")
R = TypeVar("R")

# Errors of torch for an operation that has only first derivatives.
_REFUSALS = ("is not implemented", "once_differentiable", "differentiate twice")
_EXPLAINED = "needs second derivatives of f"


class DoubleBackward:
    """A block in which f is evaluated and differentiated twice.

    Inside, attention uses its plain formula, because the fused kernels have only first derivatives.
    If another operation has no second derivative, the block raises RuntimeError with a remedy.
    """

    def __enter__(self) -> None:
        fused = cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()
        self.before = (*fused, cuda.math_sdp_enabled())
        _choose(False, False, False, True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _choose(*self.before)
        if not isinstance(error, RuntimeError) or _EXPLAINED in str(error):
            return
        if "derivative" in str(error).lower() and any(words in str(error) for words in _REFUSALS):
            raise _refused(error) from error


def _refused(reason):
    return RuntimeError(
        f"this {_EXPLAINED}, but an operation in f has only first derivatives ({reason}). For a"
        " gradient use a method that needs no second derivatives: an explicit one such as 'tsit5',"
        " or 'fbdf', 'kvaerno5', 'radauiia5'. For second derivatives replace this operation by"
        " others"
    )


def pull(out: Tensor, inputs: Sequence[Tensor], cotangents: Tensor) -> tuple[Tensor | None, ...]:
    """The cotangents of the inputs, with a graph, for those of out. None for an input that out does
    not depend on.

    Raise RuntimeError if f uses a function with once_differentiable. In a second derivative
    torch.autograd.grad treats it as a constant, and its part would be missing.
    """
    # Such a function marks its node only if the cotangents have a graph.
    if not cotangents.requires_grad:
        cotangents = own_leaf(cotangents.detach())
    grads = torch.autograd.grad(out, inputs, cotangents, create_graph=True, allow_unused=True)
    seen = set()
    todo = [x.grad_fn for x in grads if x is not None]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if "Error" in node.name():
            raise _refused(
                "a torch.autograd.Function whose backward is marked with @once_differentiable"
            )
        todo.extend(parent for parent, _ in node.next_functions)
    return grads


def _choose(flash, efficient, cudnn, plain):
    cuda.enable_flash_sdp(flash)
    cuda.enable_mem_efficient_sdp(efficient)
    cuda.enable_cudnn_sdp(cudnn)
    cuda.enable_math_sdp(plain)


def with_double_backward(function: Callable[P, R]) -> Callable[P, R]:
    """The function, running inside a DoubleBackward block."""

    @wraps(function)
    def called(*arguments, **keywords):
        with DoubleBackward():
            return function(*arguments, **keywords)

    return called
