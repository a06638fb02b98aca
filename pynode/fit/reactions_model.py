"""Models of ``pynode.models`` as models with named parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.switches import Switches, switches_of
from .bound_model import BoundModel, NamedModel


class ReactionsModel(NamedModel):
    """A model of ``pynode.models`` with named constants (ReactionModel): of an SBML file, for
    example. Conditions are constants, too. Any quantity of the model can be measured."""

    has_initial = True

    def __init__(self, model: Any) -> None:
        self.model = model
        self.names = tuple(model.constants)
        self.values = torch.as_tensor(model.values).detach().double().clone()
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
        return tuple(name for name in self.names if name in self.model.scales)

    def bind(
        self, free: Sequence[str], conditions: Sequence[str], columns: Sequence[str], sample: Tensor
    ) -> BoundModel:
        unknown = [name for name in conditions if name not in self.names]
        if unknown:
            raise ValueError(
                f"the model has no constant {unknown[0]!r} that a condition could set: name the"
                " column after a parameter of the model, or drop it"
            )
        self.bound = _BoundReactions(
            self.model,
            self.values,
            [self.names.index(name) for name in free],
            [self.names.index(name) for name in conditions],
            columns,
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


class _BoundReactions(BoundModel):
    by_row = True

    def __init__(
        self,
        model: Any,
        values: Tensor,
        free: Sequence[int],
        given: Sequence[int],
        columns: Sequence[str],
    ) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("values", values)
        self.quantities = model.quantities(list(columns))
        # Where each constant comes from: the values, then the conditions, then the free ones.
        count = len(values)
        source = list(range(count))
        for i, place in enumerate(given):
            source[place] = count + i
        for i, place in enumerate(free):
            source[place] = count + len(given) + i
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
