"""Torch modules as models with named parameters."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .bound_model import BoundModel, NamedModel, default_start, state_names, with_rows
from .unknown_columns import unknown_column


class ModuleModel(NamedModel):
    """An nn.Module f(t, y, *conditions), whose parameters are estimated; it works in float64, as a
    copy.

    A parameter k of several numbers has the names k[0], k[1], ..., a matrix w has w[0,1]. The
    module may name its states (``columns`` or ``species``), and may have an initial state (``y0``).
    It may have ``observables``, names, and observe(t, y, *conditions) -> (m,), the quantities of
    these names.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).double().requires_grad_(False)
        self.places: dict[str, tuple[str, int]] = {}
        numbers = []
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                numbers.append(parameter.detach().double().reshape(-1))
                for i, label in enumerate(_labels(name, tuple(parameter.shape))):
                    self.places[label] = (name, i)
        if not numbers:
            raise ValueError(
                f"{type(module).__name__} has no parameter that requires a gradient, so there is"
                " nothing to estimate: make its unknown numbers an nn.Parameter"
            )
        self.names = tuple(self.places)
        self.values = torch.cat(numbers)
        self.states = state_names(module)
        self.default_start = default_start(module)
        observables = getattr(module, "observables", None)
        if observables is not None:
            self.observables = tuple(observables)

    def bind(
        self, free: Sequence[str], conditions: Sequence[str], columns: Sequence[str], sample: Tensor
    ) -> BoundModel:
        places = [self.places[name] for name in free]
        values = dict(zip(self.names, self.values.tolist(), strict=True))
        own = {self.places[name]: value for name, value in values.items()}
        picked = _picked(self.observables, columns)
        bound = _BoundModule(self.module, places, own, picked)
        return with_rows(bound, sample, len(free), len(conditions))


class _BoundModule(BoundModel):
    """places: (parameter, index) of the free numbers. own: the value of each place. picked: of the
    observables, or of the states."""

    def __init__(
        self,
        module: nn.Module,
        places: Sequence[tuple[str, int]],
        own: dict[tuple[str, int], float],
        picked: Sequence[int] | None,
    ) -> None:
        super().__init__()
        self.inner = _Parts(module)
        self.picked = picked
        column = {place: i for i, place in enumerate(places)}
        shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
        # For each parameter with free numbers its shape and, number by number, the place in its
        # pool: the free numbers, and then the values of the parameter.
        self.recipe: list[tuple[str, tuple[int, ...], list[int]]] = []
        self.values: dict[str, list[float]] = {}
        for name in dict.fromkeys(name for name, _ in places):
            count = math.prod(shapes[name])
            self.values[name] = [own[(name, i)] for i in range(count)]
            source = [column.get((name, i), len(places) + i) for i in range(count)]
            self.recipe.append((name, shapes[name], source))

    @property
    def shares_parameters(self) -> bool:
        """True for a module that takes rows itself: its parameters are those of all rows."""
        return self.by_row

    def _replaced(self, free: Tensor) -> dict[str, Tensor]:
        """The parameters with free numbers, for one row."""
        made = {}
        for name, shape, source in self.recipe:
            if source == list(range(source[0], source[0] + len(source))):
                flat = free[source[0] : source[0] + len(source)]
            else:
                pool = torch.cat((free, free.new_tensor(self.values[name])))
                flat = torch.stack([pool[i] for i in source])
            made[f"module.{name}"] = flat.reshape(shape)
        return made

    def _call(self, part, t, y, free, given):
        if self.by_row:
            # All rows have the same parameters here.
            free = free[0]
        return functional_call(
            self.inner, self._replaced(free), (part, t, y, *given.unbind(-1)), tie_weights=True
        )

    def rate(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        return self._call("forward", t, y, free, given)

    def measure(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        found = self._call("observe", t, y, free, given)
        return found[..., self.picked]


class _Parts(nn.Module):
    """A module of which functional_call can call each method."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, part: str, *arguments: Tensor) -> Tensor:
        if part == "forward":
            return self.module(*arguments)
        return self.module.observe(*arguments)  # type: ignore[operator]  # a method


def _labels(name: str, shape: tuple[int, ...]) -> list[str]:
    """A name for each number of a parameter: k, or k[0], or w[0,1]."""
    if not shape:
        return [name]
    indices = itertools.product(*(range(size) for size in shape))
    return [f"{name}[{','.join(map(str, index))}]" for index in indices]


def _picked(observables, columns):
    """The places of the columns among the observables; None without observables."""
    if observables is None:
        return None
    for name in columns:
        if name not in observables:
            raise unknown_column(name, observables)
    return [observables.index(name) for name in columns]
