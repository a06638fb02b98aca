"""Parameters and networks of a model under names that a person reads.

``named_parameters`` gives ``learned.k1`` for a constant and ``nets.v3.0.weight`` for a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import nn


def torch_names(names: Iterable[str], kind: type[nn.Module] = nn.Module) -> list[str]:
    """The names under which a module of this kind can keep parts.

    torch forbids a dot, and the names of the module's own attributes. A dot becomes a colon:
    "J0.k" is "J0:k". A name such as "half" gets a colon at the end. Names of SBML have no colon,
    so no two names become one.
    """
    found = []
    for name in names:
        name = name.replace(".", ":")
        if hasattr(kind, name) or name == "training":
            name += ":"
        found.append(name)
    return found


class LearnedConstants(nn.Module):
    """The learned constants of a model, each a parameter of its name. ``learned["k1"]`` is one of
    them, on the scale on which it is learned."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self._keys = dict(zip(parameters, torch_names(parameters, LearnedConstants), strict=True))
        for name, parameter in parameters.items():
            self.register_parameter(self._keys[name], parameter)

    def __getitem__(self, name: str) -> nn.Parameter:
        return getattr(self, self._keys[name])

    def __iter__(self) -> Iterator[nn.Parameter]:
        """The parameters, in the order of the names."""
        return (self[name] for name in self._keys)
