"""A vector field in two parts, one stiff and one not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .layout import State


class SplitField(nn.Module):
    """f(t, y, *args) = implicit(t, y, *args) + explicit(t, y, *args), both in the structure of y.

    KenCarp4 and KenCarp47 treat the first part implicitly and the second explicitly, so Newton's
    iterations and Jacobians need only the first. Every other method integrates the sum.
    """

    def __init__(self, implicit: Callable, explicit: Callable) -> None:
        super().__init__()
        for part, what in ((implicit, "implicit"), (explicit, "explicit")):
            if not callable(part):
                kind = type(part).__name__
                raise TypeError(
                    f"the {what} part must be a function f(t, y) or an nn.Module, not {kind}"
                )
        self.implicit = implicit
        self.explicit = explicit

    def forward(self, t: Tensor, y: State, *args: Any) -> State:
        return _add(self.implicit(t, y, *args), self.explicit(t, y, *args))


def _add(a, b):
    if isinstance(a, torch.Tensor):
        return a + b
    if isinstance(a, dict):
        return {key: _add(a[key], b[key]) for key in a}
    return tuple(_add(x, y) for x, y in zip(a, b))
