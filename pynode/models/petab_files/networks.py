"""Neural networks of hybrid problems: in the dynamics, in observables, and before them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp
import torch
from torch import Tensor, nn

from ...core.switches import Switches
from ..reactions.model import ReactionModel
from ..reactions.refusal import UnsupportedFeature
from ..reactions.symbols import symbol
from ..reactions.torch_source import FunctionSource, compiled


@dataclass(frozen=True)
class Network:
    """A network of a hybrid problem.

    module: takes one tensor for each argument, without a batch dimension. tensors: name of a tensor
    of the module -> (shape, name of the first element among the parameters; the others follow).
    arguments: for each argument the names of the components, or the name of an array.
    outputs: name -> (number of the output, flat place in it). first: whether it is evaluated before
    the simulation. inputs: name -> expression, for all experiments. arrays: name -> condition ->
    array; "0" stands for all conditions.
    """

    name: str
    module: nn.Module
    tensors: dict[str, tuple[tuple[int, ...], str]]
    arguments: tuple[tuple[str, ...] | str, ...]
    outputs: dict[str, tuple[int, int]]
    first: bool
    inputs: dict[str, sp.Expr] = field(default_factory=dict)
    arrays: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def array(self, name: str, conditions: tuple[str, ...]) -> Tensor:
        """The array of an input under these conditions. Raise ValueError if there is none."""
        for names, values in self.arrays.get(name, {}).items():
            if names == "0" or set(names.split(";")) & set(conditions):
                return values
        raise ValueError(f"no array file has values of {name!r} for the condition {conditions}")

    def components(self) -> list[str]:
        """The names of all components of arguments that are no arrays."""
        return [name for names in self.arguments if not isinstance(names, str) for name in names]

    def evaluated(self, weights: dict[str, Tensor], components: Tensor, arrays: Any) -> Tensor:
        """The outputs, (len(outputs),). components: (c,); arrays: name -> array."""
        arguments = []
        begin = 0
        for names in self.arguments:
            if isinstance(names, str):
                arguments.append(arrays[names])
                continue
            arguments.append(components[begin : begin + len(names)])
            begin += len(names)
        found = torch.func.functional_call(self.module, weights, tuple(arguments))
        if isinstance(found, Tensor):
            found = (found,)
        return torch.stack(
            [found[number].reshape(-1)[place] for number, place in self.outputs.values()]
        )


class HybridField(nn.Module):
    """dy/dt of a model in which networks compute constants.

    networks: the ones that depend on the state. replaced: constant -> (network, output). The field
    is called as f(t, y, p, *arrays of the networks by rows, *weights of the networks).
    """

    def __init__(
        self,
        model: ReactionModel,
        networks: list[Network],
        replaced: dict[str, tuple[int, str]],
    ) -> None:
        super().__init__()
        self.model = model
        self.networks = networks
        self.modules_of_networks = nn.ModuleList([network.module for network in networks])
        self.formulas = [
            model.function_of([network.inputs[name] for name in network.components()])
            for network in networks
        ]
        self.array_names = [
            [names for names in network.arguments if isinstance(names, str)] for network in networks
        ]
        self.replaced = {
            model.constants.index(name): (number, list(networks[number].outputs).index(output))
            for name, (number, output) in replaced.items()
        }

        layout = [
            (network.arguments, network.outputs, list(network.tensors)) for network in networks
        ]
        self._layout = repr((layout, self.array_names, self.replaced))

    def __field_parts__(self) -> tuple:
        """What the field computes with, for the native engine's key (translate/key.py)."""
        return self.model, *self.formulas, *self.modules_of_networks, self._layout

    def forward(self, t: Tensor, y: Tensor, p: Tensor, *rest: Tensor) -> Tensor:
        """dy/dt, (rows, n)."""
        return self.model(t, y, self._constants(t, y, p, rest))

    def _constants(self, t: Tensor, y: Tensor, p: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
        """The constants of the model, (rows, p), with those that networks compute."""
        count = sum(len(names) for names in self.array_names)
        outputs = self.outputs(t, y, p, rest[:count], rest[count:])
        columns = list(p.unbind(-1))
        for i, (number, place) in self.replaced.items():
            columns[i] = outputs[number][:, place]
        return torch.stack(columns, -1)

    @property
    def pynode_switches(self) -> Switches:
        """Where the model jumps while its states, or the outputs of the networks, move."""
        own = self.model.switches([self.model.constants[i] for i in self.replaced])

        def changed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def with_networks(t: Tensor, y: Tensor, sides: Tensor, p: Tensor, *rest: Any) -> Tensor:
                return function(t, y, sides, self._constants(t, y, p, rest))

            return with_networks

        # The simulation gives the times that are known.
        return replace(own, jumps=None).within(changed)

    def outputs(self, t: Tensor, y: Tensor, p: Tensor, arrays: Any, weights: Any) -> list[Tensor]:
        """The outputs of each network, (rows, outputs)."""
        arrays = list(arrays)
        weights = list(weights)
        found = []
        for network, formula, names in zip(
            self.networks, self.formulas, self.array_names, strict=True
        ):
            own = dict(zip(network.tensors, weights, strict=False))
            weights = weights[len(network.tensors) :]
            given = dict(zip(names, arrays, strict=False))
            arrays = arrays[len(names) :]
            components = formula(t.reshape(t.shape[:-1]), y, p, None)
            components = components.expand(len(y), components.shape[-1])
            rows = [
                network.evaluated(
                    own, components[i], {name: values[i] for name, values in given.items()}
                )
                for i in range(len(components))
            ]
            found.append(torch.stack(rows))
        return found


class FirstNetworks:
    """Networks that are evaluated before the simulations. Their outputs become further parameters,
    one for each experiment: "output@experiment".

    parameters: names of all parameters of the table. inputs: (network, experiment) -> expressions
    of the components.
    """

    def __init__(
        self,
        networks: list[Network],
        parameters: list[str],
        inputs: dict[tuple[str, str], list[sp.Expr]],
        conditions: dict[str, tuple[str, ...]],
    ) -> None:
        self.networks = networks
        self.parameters = parameters
        self.inputs = inputs
        self.conditions = conditions
        self.names = [
            derived_name(output, experiment)
            for network in networks
            for experiment in conditions
            for output in network.outputs
        ]
        flat = [expression for expressions in inputs.values() for expression in expressions]
        self._inputs = None
        if flat:
            self._inputs = function_of_parameters(parameters, flat, "<inputs of networks>")

    def __call__(self, values: Tensor) -> Tensor:
        """The outputs, (K, len(names)), of parameters (K, P)."""
        return torch.stack([self._of_one(one) for one in values])

    def _of_one(self, values):
        flat = values[:0]
        if self._inputs is not None:
            flat = self._inputs(values, torch.zeros((), dtype=values.dtype))
        found = []
        begin = 0
        for network in self.networks:
            weights = weights_of(network, self.parameters, values)
            names = [x for x in network.arguments if isinstance(x, str)]
            for experiment, conditions in self.conditions.items():
                count = len(self.inputs[network.name, experiment])
                components = flat[begin : begin + count]
                begin += count
                arrays = {name: network.array(name, conditions) for name in names}
                found.append(network.evaluated(weights, components, arrays))
        return torch.cat(found)


def function_of_parameters(
    names: list[str], formulas: list[sp.Expr], origin: str
) -> Callable[..., Tensor]:
    """(values (..., P) of the parameters with these names, t) -> (..., len(formulas)). origin: the
    name of the source in tracebacks."""
    source = FunctionSource(
        name="value",
        vectors={"p": names},
        times={},
        definitions={},
        arguments=("p", "t"),
    )
    return compiled(source.text(formulas), "value", origin)


def weights_of(network: Network, names: list[str], values: Tensor) -> dict[str, Tensor]:
    """The tensors of a network's module. values: (P,) of the parameters with these names."""
    found = {}
    for name, (shape, first) in network.tensors.items():
        begin = names.index(first)
        size = int(torch.Size(shape).numel())
        found[name] = values[begin : begin + size].reshape(shape)
    return found


def derived_name(output: str, experiment: str) -> str:
    """The name of the parameter that holds an output of a network in an experiment."""
    return f"{output}@{experiment}"


def derived_symbol(output: str, experiment: str) -> sp.Symbol:
    """The symbol of that parameter."""
    return symbol(derived_name(output, experiment))


class LateNetworks:
    """Networks that depend on the state: their field, and their arguments in a simulation.

    networks: at least one. field: of the solves. outputs: name -> (number of the network, number of
    the output).
    """

    def __init__(
        self,
        model: ReactionModel,
        networks: list[Network],
        names: list[str],
        assigned: dict[str, sp.Expr],
    ) -> None:
        self.networks = networks
        self.names = names
        self.outputs = {
            output: (number, place)
            for number, network in enumerate(networks)
            for place, output in enumerate(network.outputs)
        }
        replaced = {}
        for target, value in assigned.items():
            if not {found.name for found in value.free_symbols} & set(self.outputs):
                continue
            if not value.is_Symbol or target not in model.constants:
                raise UnsupportedFeature(
                    f"{target} = {value}, a formula of a network in the dynamics",
                    "a constant of the model can be an output of a network",
                )
            replaced[target] = (self.outputs[value.name][0], value.name)
        for network in networks:
            for name in network.components():
                if name not in network.inputs:
                    raise UnsupportedFeature(
                        f"{name!r}, an input of a network in the dynamics that is no formula",
                        "give it in the hybridization table",
                    )
        self.field = HybridField(model, networks, replaced)

    def weights(self, values: Tensor) -> list[Tensor]:
        """The weights of all networks. values: (P,)."""
        return [
            tensor
            for network in self.networks
            for tensor in weights_of(network, self.names, values).values()
        ]

    def arrays(self, conditions: list[tuple[str, ...]]) -> list[Tensor]:
        """The array inputs of all networks, (rows, ...), by the conditions of rows."""
        return [
            torch.stack([network.array(name, names) for names in conditions])
            for network, own in zip(self.networks, self.field.array_names, strict=True)
            for name in own
        ]

    def values_of(
        self, names: list[str], t: Tensor, y: Tensor, p: Tensor, arrays: Any, weights: Any
    ) -> Tensor:
        """Outputs by name, (rows, len(names)), at times (rows, 1), states and constants."""
        found = self.field.outputs(t, y, p, arrays, weights)
        places = [self.outputs[name] for name in names]
        return torch.stack([found[number][:, place] for number, place in places], -1)
