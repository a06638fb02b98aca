"""Single numbers of a module's parameters, which an estimation frees."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

# A number of a parameter: the parameter's name, and the place in its flat vector.
Place = tuple[str, int]


def labelled(parameters: Mapping[str, Tensor]) -> dict[str, Place]:
    """A name for each number of the parameters: k, or k[0], or w[0,1]."""
    places = {}
    for name, parameter in parameters.items():
        labels = [name]
        if parameter.dim():
            indices = itertools.product(*map(range, parameter.shape))
            labels = [f"{name}[{','.join(map(str, index))}]" for index in indices]
        places.update({label: (name, i) for i, label in enumerate(labels)})
    return places


def of_networks(module: nn.Module) -> dict[str, str]:
    """The parameters that belong to layers of torch.nn, with the name of their network."""
    found = {}
    for prefix, part in module.named_modules():
        if type(part).__module__.startswith("torch.nn.modules"):
            names = [name for name, _ in part.named_parameters(prefix, recurse=False)]
            found.update({name: network_of(name) for name in names})
    return found


def network_of(name: str) -> str:
    """The network of a weight: 'net' for 'net.0.weight', without the numbers of layers."""
    parts = name.split(".")[:-1]
    while parts and parts[-1].isdecimal():
        parts.pop()
    return ".".join(parts) or "network"


class FreeNumbers:
    """Makes parameters of a module from a vector of free numbers; the others keep their values.

    parameters: those of the module by name. places: the number of the parameter that each component
    of the vector is.
    """

    def __init__(self, parameters: Mapping[str, Tensor], places: Sequence[Place]) -> None:
        column = {place: i for i, place in enumerate(places)}
        # For each parameter with free numbers its shape and, number by number, the place in its
        # pool: the free numbers, and then the values of the parameter.
        self.recipe: list[tuple[str, tuple[int, ...], list[int]]] = []
        self.values: dict[str, list[float]] = {}
        for name in _in_order(name for name, _ in places):
            parameter = parameters[name].detach()
            self.values[name] = parameter.reshape(-1).tolist()
            count = len(self.values[name])
            source = [column.get((name, i), len(places) + i) for i in range(count)]
            self.recipe.append((name, tuple(parameter.shape), source))

    def parameters(self, free: Tensor) -> dict[str, Tensor]:
        """The parameters with free numbers, by name. free: (k,)."""
        made = {}
        for name, shape, source in self.recipe:
            if source == list(range(source[0], source[0] + len(source))):
                flat = free[source[0] : source[0] + len(source)]
            else:
                pool = torch.cat((free, free.new_tensor(self.values[name])))
                flat = torch.stack([pool[i] for i in source])
            made[name] = flat.reshape(shape)
        return made


def with_numbers(module: nn.Module, numbers: Mapping[Place, float]) -> nn.Module:
    """A copy of the module with these numbers in its parameters."""
    made = copy.deepcopy(module)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            flat = parameter.view(-1)
            for place, number in numbers.items():
                if place[0] == name:
                    flat[place[1]] = number
    return made


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
