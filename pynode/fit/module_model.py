"""Torch modules as models with named parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .bound_model import BoundModel, NamedModel, default_start, state_names, with_rows
from .free_numbers import FreeNumbers, Place, labelled, of_networks, with_numbers
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
        learned = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not learned:
            raise ValueError(
                f"{type(module).__name__} has no parameter that requires a gradient, so there is"
                " nothing to estimate: make its unknown numbers an nn.Parameter"
            )
        self.places = labelled(learned)
        self.names = tuple(self.places)
        self.values = torch.cat([p.detach().double().reshape(-1) for p in learned.values()])
        networks = of_networks(module)
        self.networks = {
            label: networks[name] for label, (name, _) in self.places.items() if name in networks
        }
        self.states = state_names(module)
        self.default_start = default_start(module)
        observables = getattr(module, "observables", None)
        if observables is not None:
            self.observables = tuple(observables)

    def trained(self, values: Mapping[str, float]) -> nn.Module:
        """The module, in float64, with these numbers."""
        return with_numbers(
            self.module, {self.places[x]: value for x, value in values.items() if x in self.places}
        )

    def bind(
        self, free: Sequence[str], conditions: Sequence[str], columns: Sequence[str], sample: Tensor
    ) -> BoundModel:
        places = [self.places[name] for name in free]
        picked = _picked(self.observables, columns)
        bound = _BoundModule(self.module, places, picked)
        return with_rows(bound, sample, len(free), len(conditions))


class _BoundModule(BoundModel):
    """places: of the free numbers. picked: of the observables, or of the states."""

    def __init__(
        self, module: nn.Module, places: Sequence[Place], picked: Sequence[int] | None
    ) -> None:
        super().__init__()
        self.inner = _Parts(module)
        self.picked = picked
        parameters = dict(self.inner.named_parameters())
        self.free = FreeNumbers(parameters, [(f"module.{name}", i) for name, i in places])

    @property
    def shares_parameters(self) -> bool:
        """True for a module that takes rows itself: its parameters are those of all rows."""
        return self.by_row

    def _call(self, part, t, y, free, given):
        if self.by_row:
            # All rows have the same parameters here.
            free = free[0]
        return functional_call(
            self.inner,
            self.free.parameters(free),
            (part, t, y, *given.unbind(-1)),
            tie_weights=True,
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


def _picked(observables, columns):
    """The places of the columns among the observables; None without observables."""
    if observables is None:
        return None
    for name in columns:
        if name not in observables:
            raise unknown_column(name, observables)
    return [observables.index(name) for name in columns]
