"""Models of ``pynode.models`` as models with named parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..core.switches import Switches, switches_of
from .bound_model import BoundModel, NamedModel
from .free_numbers import FreeNumbers, Place, labelled, network_of, with_numbers
from .unknown_columns import unknown_column


class ReactionsModel(NamedModel):
    """A model of ``pynode.models`` with named constants (ReactionModel): of an SBML file, for
    example. Conditions are constants, too. Any quantity of the model can be measured. The weights
    of its networks are numbers behind the constants, as nets.v3.0.weight[0,1]."""

    has_initial = True

    def __init__(self, model: Any) -> None:
        self.model = model
        weights = _weights(model)
        self.places = labelled(weights)
        self.networks = {label: network_of(name) for label, (name, _) in self.places.items()}
        self.names = (*model.constants, *self.places)
        numbers = [torch.as_tensor(model.values), *weights.values()]
        self.values = torch.cat([part.detach().double().reshape(-1) for part in numbers])
        self.states = tuple(model.states)
        self.events = model.events
        if getattr(model, "mass", None) is not None:
            raise ValueError(
                "the model has algebraic equations, which estimation from a table does not take:"
                " give a PEtab problem"
            )
        self.bound: _BoundReactions | None = None

    @property
    def proposed(self) -> tuple[str, ...]:
        """The constants that are learned, and the weights of the networks."""
        learned = [name for name in self.model.constants if name in self.model.scales]
        return (*learned, *self.places)

    def trained(self, values: Mapping[str, float]) -> Any:
        """The model with these weights in its networks. The constants are the argument p of its
        functions."""
        return with_numbers(
            self.model, {self.places[x]: value for x, value in values.items() if x in self.places}
        )

    def bind(
        self, free: Sequence[str], conditions: Sequence[str], columns: Sequence[str], sample: Tensor
    ) -> BoundModel:
        constants = self.model.constants
        unknown = [name for name in conditions if name not in constants]
        if unknown:
            raise ValueError(
                f"the model has no constant {unknown[0]!r} that a condition could set: name the"
                " column after a parameter of the model, or drop it"
            )
        for column in columns:
            try:
                self.model.expression(column)
            except ValueError:
                names = [*self.model.states, *self.model.expressions, *self.names]
                known = [name for name in names if "(" not in name]
                raise unknown_column(column, known) from None
        places = [self.places.get(name) for name in free]
        kind: Callable[..., _BoundReactions] = _BoundReactions
        if any(places):
            kind = _BoundHybrid
        self.bound = kind(
            self.model,
            self.values[: len(constants)],
            [None if place else constants.index(name) for name, place in zip(free, places)],
            [constants.index(name) for name in conditions],
            columns,
            places,
        )
        return self.bound

    def initial(self, free: Tensor, given: Tensor) -> Tensor:
        assert self.bound is not None
        return self.model.initial(self.bound.constants(free, given))

    def jumps(self, free: Tensor, given: Tensor) -> Tensor | None:
        assert self.bound is not None
        known = self.model.jumps(self.bound.constants(free, given))
        if known is None or known.numel() == 0:
            return None
        return known.expand(len(free), -1)


def _weights(model: Any) -> dict[str, Tensor]:
    """The parameters of the networks of a hybrid model that require a gradient, by name."""
    nets = getattr(model, "nets", None)
    if nets is None:
        return {}
    found = {f"nets.{name}": weight for name, weight in nets.named_parameters()}
    return {name: weight for name, weight in found.items() if weight.requires_grad}


class _BoundReactions(BoundModel):
    """free: the constant that each free number is, None for a weight. given: those of the
    conditions. columns: the measured quantities. places: the weight that each free number is."""

    by_row = True

    def __init__(
        self,
        model: Any,
        values: Tensor,
        free: Sequence[int | None],
        given: Sequence[int],
        columns: Sequence[str],
        places: Sequence[Place | None],
    ) -> None:
        super().__init__()
        self.model = model
        self.places = places
        self.register_buffer("values", values)
        self.quantities = model.quantities(list(columns))
        # Where each constant comes from: the values, then the conditions, then the free ones.
        count = len(values)
        source = list(range(count))
        for i, place in enumerate(given):
            source[place] = count + i
        for i, constant in enumerate(free):
            if constant is not None:
                source[constant] = count + len(given) + i
        self.register_buffer("source", torch.tensor(source))

    def constants(self, free: Tensor, given: Tensor) -> Tensor:
        """All constants, (rows, P)."""
        own = self.values.expand(*free.shape[:-1], -1)  # type: ignore[operator]  # a buffer
        return torch.cat((own, given, free), -1).index_select(-1, self.source)  # type: ignore[arg-type]

    @property
    def pynode_switches(self) -> Switches | None:
        """Where the model jumps while its states move."""
        found = switches_of(self.model)
        if found is None:
            return None

        def changed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def of_numbers(*args: Tensor) -> Tensor:
                return function(*args[:-2], self.constants(*args[-2:]))

            return of_numbers

        return found.within(changed)

    def rate(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        return self.model(t, y, self.constants(free, given))

    def measure(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        return self.quantities(t, y, self.constants(free, given))


class _BoundHybrid(_BoundReactions):
    """A model with networks, some of whose weights are free. Each row has weights of its own."""

    by_row = False

    def __init__(self, model: Any, *numbers: Any) -> None:
        super().__init__(model, *numbers)
        self.parts = _Parts(model)
        weights = dict(self.parts.named_parameters())
        self.chosen = [i for i, place in enumerate(self.places) if place is not None]
        places = [place for place in self.places if place is not None]
        self.weights = FreeNumbers(weights, [(f"model.{name}", i) for name, i in places])

    def __field_parts__(self) -> tuple:
        """What dy/dt computes with (translate/key.py); the quantities are no part of it."""
        return self.model, self.source, self.values, self.weights, self.chosen

    @property
    def pynode_switches(self) -> Switches | None:
        """Where the model jumps while its states move."""
        found = switches_of(self.model)
        if found is None:
            return None

        def changed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def of_row(t: Tensor, *args: Tensor) -> Tensor:
                *states, free, given = args
                return self._with_weights(function, free, t, *states, self.constants(free, given))

            return lambda t, *args: torch.vmap(of_row)(t[..., 0], *args)

        return found.within(changed)

    def _with_weights(self, function: Callable[..., Tensor], free: Tensor, *args: Tensor) -> Tensor:
        """function(*args), while the networks have the weights of one row."""
        weights = self.weights.parameters(torch.stack([free[i] for i in self.chosen]))
        return functional_call(self.parts, weights, (function, *args))

    def rate(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        return self._with_weights(self.model, free, t, y, self.constants(free, given))

    def measure(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        return self._with_weights(self.quantities, free, t, y, self.constants(free, given))


class _Parts(nn.Module):
    """The model as a part of a module, whose weights functional_call replaces."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Tensor], *args: Tensor) -> Tensor:
        return function(*args)
