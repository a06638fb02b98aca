"""Functions as models whose arguments are their parameters."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .bound_model import BoundModel, NamedModel, default_start, state_names, with_rows


class FunctionModel(NamedModel):
    """A function f(t, y, k1, k2, ...) -> dy/dt, whose further arguments are its parameters, except
    those that are conditions. Defaults are the values of the parameters."""

    def __init__(self, function: Callable[..., Tensor], conditions: Sequence[str]) -> None:
        self.function = function
        arguments = list(inspect.signature(function).parameters.values())[2:]
        own = [a for a in arguments if a.name not in conditions]
        if any(a.kind in (a.VAR_POSITIONAL, a.VAR_KEYWORD) for a in own) or not own:
            name = getattr(function, "__name__", str(function))
            raise ValueError(
                f"{name} has no named parameters to estimate: write it as f(t, y, k1, k2), or pass"
                " an nn.Module"
            )
        self.names = tuple(a.name for a in own)
        self.values = torch.full((len(own),), math.nan, dtype=torch.float64)
        for i, argument in enumerate(own):
            if argument.default is not argument.empty:
                self.values[i] = float(argument.default)
        self.states = state_names(function)
        self.default_start = default_start(function)

    def bind(
        self, free: Sequence[str], conditions: Sequence[str], columns: Sequence[str], sample: Tensor
    ) -> BoundModel:
        fixed = {
            name: value
            for name, value in zip(self.names, self.values.tolist(), strict=True)
            if name not in free
        }
        bound = _BoundFunction(self.function, tuple(free), tuple(conditions), fixed)
        return with_rows(bound, sample, len(free), len(conditions))


class _BoundFunction(BoundModel):
    def __init__(
        self,
        function: Callable[..., Tensor],
        free: tuple[str, ...],
        conditions: tuple[str, ...],
        fixed: dict[str, float],
    ) -> None:
        super().__init__()
        self.function = function
        self.free = free
        self.conditions = conditions
        self.fixed = fixed

    def rate(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        named = dict(zip(self.free, free.unbind(-1), strict=True))
        named.update(zip(self.conditions, given.unbind(-1), strict=True))
        return self.function(t, y, **named, **self.fixed)
