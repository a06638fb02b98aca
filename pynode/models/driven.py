"""Models whose constants are inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.switches import Switches
from ..core.unseen_events import refuse_events
from .inputs import InputTable


class DrivenModel(torch.nn.Module):
    """dy/dt of a model of which some constants follow inputs u(t): a temperature, a feed, light.

    model: a ReactionModel, or another module model(t, y, p) with the names of its ``constants``.
    inputs: name of a constant -> InputTable of one channel.

    It is called as f(t, y, p, *tables). ``args(p)`` are its arguments in a solve, and ``stops()``
    the options of solve that the inputs need. The values in p of these constants have no effect.

    >>> driven = DrivenModel(model, {"k1": InputTable([0.0, 5.0], [0.4, 0.1])})
    >>> solve(driven, model.initial(), t, args=driven.args(model.values), **driven.stops())

    Raises ValueError for names that the model does not have, for inputs of several channels, and
    for a model with events, which a solve would leave out.
    """

    places: Tensor

    def __init__(self, model: torch.nn.Module, inputs: Mapping[str, InputTable]) -> None:
        super().__init__()
        refuse_events(model, "an input")
        constants = tuple(model.constants)  # type: ignore[arg-type]  # a tuple of names
        for name, u in inputs.items():
            if name not in constants:
                raise ValueError(
                    f"the model has no constant {name!r} to drive: it has {', '.join(constants)}"
                )
            if not u.single:
                raise ValueError(f"the input of {name!r} has several channels: give one for each")
        self.model = model
        self.names = tuple(inputs)
        self.inputs = torch.nn.ModuleList(inputs.values())
        places = [constants.index(name) for name in inputs]
        self.register_buffer("places", torch.tensor(places), persistent=False)

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the components of y."""
        return self.model.states  # type: ignore[return-value]

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the components of y."""
        return self.states

    def args(self, p: Tensor) -> tuple[Tensor, ...]:
        """p, (p,) or (B, p), and the tables of the inputs."""
        return (p, *(tensor for u in self.inputs for tensor in u.args))  # type: ignore[union-attr]

    def stops(self, **options: Any) -> dict[str, Any]:
        """Options of ``solve``: the jumps and kinks of all inputs. options: the user's, kept."""
        for u in self.inputs:
            options = u.stops(**options)  # type: ignore[operator]
        return options

    @property
    def pynode_switches(self) -> Switches | None:
        """Where the model jumps while its states or inputs move."""
        found = getattr(self.model, "switches", None)
        if found is None:
            return None

        def changed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def with_inputs(t: Tensor, *args: Tensor) -> Tensor:
                count = len(args) - 2 * len(self.names)
                p = self._driven(t, args[count - 1], args[count:])
                return function(t, *args[: count - 1], p)

            return with_inputs

        return found(self.names).within(changed)

    def forward(self, t: Tensor, y: Tensor, p: Tensor, *tables: Tensor) -> Tensor:
        return self.model(t, y, self._driven(t, p, tables))

    def _driven(self, t: Tensor, p: Tensor, tables: tuple[Tensor, ...]) -> Tensor:
        """The constants, with the inputs at the time t."""
        values = [u(t, *tables[2 * i : 2 * i + 2]) for i, u in enumerate(self.inputs)]
        driven = torch.stack(values, -1)
        p = p.expand(*driven.shape[:-1], p.shape[-1])
        return p.index_copy(-1, self.places, driven)
