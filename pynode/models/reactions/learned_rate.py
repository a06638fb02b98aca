"""What networks give to the reactions of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...core.memory import raise_if_exhausted


@dataclass(frozen=True)
class LearnedRate:
    """What a network gives to a reaction.

    name: of the quantity in formulas. label: of the network among the ``nets`` of the model.
    inputs: the quantities that the network sees. reactants, products: states; a positive rate
    vanishes with each of the reactants. scale: the size of the rate.
    """

    name: str
    label: str
    reaction: str
    inputs: tuple[str, ...]
    sign: str
    reactants: tuple[str, ...]
    products: tuple[str, ...]
    scale: float

    def _called(self, net: nn.Module, x: Tensor) -> Tensor:
        """What the network returns for the inputs."""
        try:
            return net(x)
        except RuntimeError as error:
            raise_if_exhausted(error)
            # torch says so of a size or a dtype that does not fit. Others have their own words.
            if "mat1 and mat2" not in str(error):
                raise
            raise ValueError(
                f"the network of {self.reaction!r} cannot take its {len(self.inputs)} inputs"
                f" ({', '.join(self.inputs)}; {x.dtype}): {error}. Make a first layer of that size"
                " and a network of the model's dtype, such as net.double()"
            ) from error

    def value(self, net: nn.Module, x: Tensor, before: Tensor, behind: Tensor) -> Tensor:
        """The rate, (...,). x: the inputs, (..., k). before, behind: the states of the reactants
        and of the products, (..., r) each."""
        out = self._called(net, x)
        wanted = 1
        if self.sign == "reversible":
            wanted = 2
        if out.shape != (*x.shape[:-1], wanted):
            raise ValueError(
                f"the network of {self.reaction!r} must map {tuple(x.shape)} to"
                f" {(*x.shape[:-1], wanted)}, and returned {tuple(out.shape)}: one number for each"
                " rate, two (forwards and backwards) for a reversible one"
            )
        if self.sign == "free":
            return self.scale * out[..., 0]
        speeds = self.scale * torch.nn.functional.softplus(out)
        rate = speeds[..., 0] * _product(before)
        if self.sign == "reversible":
            rate = rate - speeds[..., 1] * _product(behind)
        return rate


def _product(states: Tensor) -> Tensor:
    """The product over the last axis, 1 for none."""
    total = states.new_ones(states.shape[:-1])
    for state in states.unbind(-1):
        total = total * state
    return total


def learned_rates(terms: Sequence[LearnedRate], nets: Sequence[nn.Module], seen: Tensor) -> Tensor:
    """The learned rates, (..., terms), from all that the networks see, (..., k)."""
    rates = []
    start = 0
    for term, net in zip(terms, nets, strict=True):
        counts = (len(term.inputs), len(term.reactants), len(term.products))
        parts = seen[..., start : start + sum(counts)].split(counts, -1)
        start += sum(counts)
        rates.append(term.value(net, *parts))
    return torch.stack(rates, -1)


@dataclass(frozen=True)
class WithNetworks:
    """A plain function of a model with learned rates, (t, y, p, None) -> (..., k).

    function: the same function, whose last argument is the learned rates. seen: what the networks
    see.
    """

    function: Callable[..., Tensor]
    seen: Callable[..., Tensor]
    terms: tuple[LearnedRate, ...]
    nets: tuple[nn.Module, ...]

    def __call__(self, t: Tensor, y: Tensor, p: Tensor, e: None = None) -> Tensor:
        return self.function(
            t, y, p, learned_rates(self.terms, self.nets, self.seen(t, y, p, None))
        )

    def __field_parts__(self) -> tuple:
        """What it computes with, for the native engine's key (translate/key.py)."""
        return (self.function, self.seen, *self.terms, *self.nets)
