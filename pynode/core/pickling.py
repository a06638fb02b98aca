"""Pickled tensors, deep copies, and tensors sent to another process. They keep their values and
refuse a lost gradient."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

NO_GRAPH = (
    "this solution was loaded, copied or sent from another process and has lost its graph, so it"
    " has no gradient: call backward() on the solution that solve returned, solve again here, or"
    " use only the values with detach()"
)


class _Lost(torch.autograd.Function):
    """A tensor that has lost its graph. Without this node its gradient would silently be missing
    from a sum."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, leaf: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> NoReturn:
        raise RuntimeError(NO_GRAPH)


class Detached:
    """Replaces a tensor in a pickle or a deep copy. It unpickles to a tensor of the same values. If
    the tensor had a graph, the new one refuses a gradient.

    graph: whether the tensor had a graph; by default whether it requires a gradient.
    """

    def __init__(self, tensor: Tensor, graph: bool | None = None) -> None:
        self.tensor = tensor
        if graph is None:
            self.graph = tensor.requires_grad
        else:
            self.graph = graph

    def __reduce__(self) -> tuple:
        # A copy, because a view would pickle the whole memory of its base.
        return rebuild, (self.tensor.detach().clone(), self.graph)


def rebuild(values: Tensor, graph: bool) -> Tensor:
    """Make a tensor from a Detached."""
    if not graph:
        return values
    with torch.enable_grad():
        return _Lost.apply(values, torch.empty(0, requires_grad=True))


def detached(tree: Any) -> Any:
    """The nested tuples, lists and dicts, with a Detached for each tensor."""
    return pytree.tree_map(lambda x: Detached(x) if isinstance(x, torch.Tensor) else x, tree)


def has_graph(tree: Any) -> bool:
    """Whether a tensor in the structure requires a gradient."""
    return any(x.requires_grad for x in pytree.tree_leaves(tree) if isinstance(x, torch.Tensor))
