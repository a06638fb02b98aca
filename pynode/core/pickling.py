"""Tensors that are pickled, copied deeply or sent to another process: their values, and a mark
where a graph is lost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

NO_GRAPH = (
    "this solution was loaded, copied or sent from another process, and its graph stayed behind, so"
    " that it has no gradient: call backward() on the solution that solve returned, solve again"
    " here, or use the values alone by detach()"
)


class _Lost(torch.autograd.Function):
    """A tensor whose gradient cannot be had: without this node it would be missing from a sum,
    silently."""

    @staticmethod
    def forward(ctx, values, leaf):
        return values.view_as(values)

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError(NO_GRAPH)


class Detached:
    """Stands for a tensor in what is pickled or copied deeply. What comes out is a tensor of the
    same values, which refuses a gradient where the tensor had one.

    graph: whether it had one, by default whether it requires a gradient.
    """

    def __init__(self, tensor: Tensor, graph: bool | None = None) -> None:
        self.tensor = tensor
        if graph is None:
            self.graph = tensor.requires_grad
        else:
            self.graph = graph

    def __reduce__(self) -> tuple:
        # A copy: a view would bring all the memory that it looks into.
        return rebuild, (self.tensor.detach().clone(), self.graph)


def rebuild(values: Tensor, graph: bool) -> Tensor:
    """What Detached becomes."""
    if not graph:
        return values
    with torch.enable_grad():
        return _Lost.apply(values, torch.empty(0, requires_grad=True))


def detached(tree: Any) -> Any:
    """The nested tuples, lists and dicts of tensors with Detached in the place of each tensor."""
    return pytree.tree_map(lambda x: Detached(x) if isinstance(x, torch.Tensor) else x, tree)


def has_graph(tree: Any) -> bool:
    """Whether a tensor in the structure requires a gradient."""
    return any(x.requires_grad for x in pytree.tree_leaves(tree) if isinstance(x, torch.Tensor))
