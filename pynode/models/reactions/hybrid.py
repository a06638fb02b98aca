"""Reaction models of which a part is learned: networks in the place of rate laws, and networks that
add to them.

A learned rate enters the states through the stoichiometry of its reaction, so that everything that
the reactions conserve stays conserved. Rackauckas et al., Universal differential equations for
scientific machine learning, 2020, have the idea of mechanisms with unknown terms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import sympy as sp
import torch
from torch import Tensor, nn

from .model import ReactionModel
from .records import Network, Reaction
from .symbols import at_start, names, symbol

if TYPE_CHECKING:
    import os

Sign = Literal["positive", "reversible", "free"]
SIGNS = ("positive", "reversible", "free")


@dataclass(frozen=True)
class LearnedRate:
    """What a network gives to a reaction.

    name: of the quantity in formulas. inputs: the quantities that the network sees. reactants,
    products: states; a positive rate vanishes with each of the reactants. scale: the size of the
    rate.
    """

    name: str
    reaction: str
    inputs: tuple[str, ...]
    sign: str
    reactants: tuple[str, ...]
    products: tuple[str, ...]
    scale: float

    def value(self, net: nn.Module, x: Tensor, before: Tensor, behind: Tensor) -> Tensor:
        """The rate, (...,). x: the inputs, (..., k). before, behind: the states of the reactants and
        the products, (..., r) each."""
        out = net(x)
        wanted = 2 if self.sign == "reversible" else 1
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
    total = torch.ones_like(states[..., :1]).sum(-1) if states.shape[-1] else 1.0
    for state in states.unbind(-1):
        total = total * state
    return total


class HybridModel(ReactionModel):
    """A ReactionModel with learned rates, made by ``ReactionModel.replace`` and ``add_term``.

    nets: the networks, by the names of ``terms``, the LearnedRates. All that a ReactionModel offers
    works with them.
    """

    def __init__(
        self,
        network: Network,
        terms: Mapping[str, LearnedRate],
        nets: Mapping[str, nn.Module],
        learn: Mapping[str, str],
        dtype: torch.dtype,
    ) -> None:
        super().__init__(network, learn, dtype)
        self.terms = dict(terms)
        self.nets = nn.ModuleList([nets[name] for name in terms])
        # What the networks see: their inputs, then the reactants and the products, term by term.
        seen: list[str] = []
        for term in self.terms.values():
            seen += [*term.inputs, *term.reactants, *term.products]
        self._seen = [self.expression(name) for name in seen]
        for name, expression in zip(seen, self._seen, strict=True):
            self._check_input(name, expression)

    def _check_input(self, name: str, expression: sp.Basic) -> None:
        needed = self.network.needed([expression])
        learned = sorted(needed & set(self.terms))
        if learned:
            raise ValueError(
                f"{name!r} is an input of a network, but depends on a learned rate,"
                f" {', '.join(learned)}: give inputs that only the states and constants determine"
            )

    def learned_rates(self, t: float | Tensor, y: Tensor, p: Tensor | None = None) -> Tensor:
        """What the networks add, (..., terms), at the state y and the constants p."""
        seen = super()._evaluated("seen", lambda: self._seen, t, y, p, None)
        rates = []
        start = 0
        for term, net in zip(self.terms.values(), self.nets, strict=True):
            counts = (len(term.inputs), len(term.reactants), len(term.products))
            parts = seen[..., start : start + sum(counts)].split(counts, -1)
            start += sum(counts)
            rates.append(term.value(net, *parts))
        return torch.stack(rates, -1)

    def _evaluated(
        self,
        key: Any,
        outputs: Any,
        t: float | Tensor,
        y: Tensor,
        p: Tensor | None,
        e: Tensor | None,
        extra: Sequence[str] = (),
    ) -> Tensor:
        learned = self.learned_rates(t, y, p)
        if e is not None:
            shape = torch.broadcast_shapes(e.shape[:-1], learned.shape[:-1])
            e = e.expand(*shape, e.shape[-1])
            learned = torch.cat((e, learned.expand(*shape, learned.shape[-1])), -1)
        return super()._evaluated(key, outputs, t, y, p, learned, (*extra, *self.terms))

    def __field_parts__(self) -> tuple:
        self._make_once("seen", lambda: self._seen, ())
        self._make_once("derivatives", self._derivatives, tuple(self.terms))
        parts = super().__field_parts__()
        return (*parts, self._functions["seen"], *self.terms.values(), *self.nets)

    def _make_once(self, key: Any, outputs: Any, extra: tuple[str, ...]) -> None:
        if key not in self._functions:
            self._make(key, outputs, extra)

    def rate_over(
        self,
        reaction: str,
        state: str,
        values: Any,
        *,
        y: Tensor | None = None,
        p: Tensor | None = None,
        t: float = 0.0,
    ) -> Tensor:
        """The rate of a reaction, (k,), where a state has the values (k,) and the others those of
        y, by default the start."""
        return rate_over(self, reaction, state, values, y=y, p=p, t=t)

    def picture(
        self,
        reaction: str,
        state: str,
        values: Any,
        file: str | os.PathLike | None = None,
        *,
        law: ReactionModel | None = None,
        y: Tensor | None = None,
        p: Tensor | None = None,
    ) -> Any:
        """A picture of the learned rate over a state: matplotlib's Figure, also written to file.
        values, y, p: as for ``rate_over``. law: another model whose rate is drawn beside it."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.0, 3.4), layout="constrained")
        axes = figure.subplots()
        given = torch.as_tensor(values, dtype=self.given.dtype)
        if law is not None:
            known = rate_over(law, reaction, state, given, y=y, p=p)
            axes.plot(given, known.detach(), color="0.6", linewidth=4, label="rate law")
        learned = self.rate_over(reaction, state, given, y=y, p=p)
        axes.plot(given, learned.detach(), color="C0", label="learned")
        axes.set_xlabel(state)
        axes.set_ylabel(f"rate of {reaction}")
        axes.legend(frameon=False)
        if file is not None:
            figure.savefig(file, dpi=150)
        return figure


def rate_over(
    model: ReactionModel,
    reaction: str,
    state: str,
    values: Any,
    *,
    y: Tensor | None = None,
    p: Tensor | None = None,
    t: float = 0.0,
) -> Tensor:
    """See ``HybridModel.rate_over``; for any ReactionModel."""
    if reaction not in model.reactions or state not in model.states:
        raise ValueError(
            f"{reaction!r} must be one of the reactions {', '.join(model.reactions)}, and {state!r}"
            f" one of the states {', '.join(model.states)}"
        )
    values = torch.as_tensor(values, dtype=model.given.dtype)
    start = model.initial(p) if y is None else y
    rows = start.expand(len(values), -1).clone()
    rows[:, model.states.index(state)] = values
    return model.rates(t, rows, p)[:, model.reactions.index(reaction)]


def replaced(
    model: ReactionModel,
    reaction: str,
    net: nn.Module,
    inputs: Sequence[str],
    sign: Sign = "positive",
    scale: float = 1.0,
) -> HybridModel:
    """See ``ReactionModel.replace``."""
    _check(model, reaction, net, inputs, sign)
    network = _copied(model.network)
    term = _term(network, reaction, inputs, sign, scale, _terms(model))
    _define(network, reaction, symbol(term.name))
    terms = {name: known for name, known in _terms(model).items() if known.reaction != reaction}
    return _made(model, network, {**terms, term.name: term}, {term.name: net})


def with_term(
    model: ReactionModel,
    reaction: str,
    net: nn.Module,
    inputs: Sequence[str],
    stoichiometry: Mapping[str, float] | None = None,
    sign: Sign = "positive",
    scale: float = 1.0,
) -> HybridModel:
    """See ``ReactionModel.add_term``."""
    network = _copied(model.network)
    if stoichiometry is not None:
        _add_reaction(network, reaction, stoichiometry)
        _check(model, None, net, inputs, sign)
    else:
        _check(model, reaction, net, inputs, sign)
    term = _term(network, reaction, inputs, sign, scale, _terms(model))
    before = network.definitions.get(reaction, sp.Integer(0))
    _define(network, reaction, before + symbol(term.name))
    return _made(model, network, {**_terms(model), term.name: term}, {term.name: net})


def _check(
    model: ReactionModel, reaction: str | None, net: Any, inputs: Sequence[str], sign: str
) -> None:
    if reaction is not None and reaction not in model.reactions:
        raise ValueError(
            f"the model has no reaction {reaction!r}: it has {', '.join(model.reactions)}"
        )
    if not isinstance(net, nn.Module):
        raise TypeError(f"a learned rate is an nn.Module, not {type(net).__name__}")
    if isinstance(inputs, str) or not len(inputs):
        raise ValueError("inputs are the names of the quantities that the network sees, a list")
    if sign not in SIGNS:
        raise ValueError(f"sign must be one of {', '.join(SIGNS)}, not {sign!r}")


def _copied(network: Network) -> Network:
    """The same network with tables of its own."""
    return dataclasses.replace(
        network,
        definitions=dict(network.definitions),
        reactions=dict(network.reactions),
        effects={state: dict(found) for state, found in network.effects.items()},
    )


def _terms(model: ReactionModel) -> dict[str, LearnedRate]:
    return model.terms if isinstance(model, HybridModel) else {}


def _term(
    network: Network,
    reaction: str,
    inputs: Sequence[str],
    sign: str,
    scale: float,
    others: Mapping[str, LearnedRate],
) -> LearnedRate:
    """The LearnedRate of a reaction, under a new name."""
    count = sum(known.reaction == reaction for known in others.values())
    name = f"learned({reaction})" if not count else f"learned({reaction}){count + 1}"
    reactants = []
    products = []
    for state, found in network.effects.items():
        number = found.get(reaction)
        if number is None:
            continue
        if network.states[state].algebraic:
            continue
        if number.could_extract_minus_sign():
            reactants.append(state)
        else:
            products.append(state)
    if sign == "free":
        reactants = []
        products = []
    if sign == "positive":
        products = []
    return LearnedRate(
        name, reaction, tuple(inputs), sign, tuple(reactants), tuple(products), float(scale)
    )


def _define(network: Network, reaction: str, rate: sp.Expr) -> None:
    """Give a reaction another rate. Its value at the first time is no longer known."""
    network.definitions[reaction] = rate
    network.definitions.pop(at_start(reaction), None)
    old = network.reactions[reaction]
    known = set(names([rate])) & set(network.species)
    network.reactions[reaction] = dataclasses.replace(
        old, rate=rate, modifiers=tuple(sorted(known))
    )


def _add_reaction(network: Network, name: str, stoichiometry: Mapping[str, float]) -> None:
    """A new reaction without a rate."""
    taken = {*network.constants, *network.states, *network.definitions}
    if name in taken:
        raise ValueError(f"{name!r} is already a name of the model: choose another one")
    unknown = [state for state in stoichiometry if state not in network.states]
    if unknown or not stoichiometry:
        raise ValueError(
            f"stoichiometry names states of the model, {', '.join(network.states)}, and says how"
            f" much of each the reaction makes{', not ' + ', '.join(unknown) if unknown else ''}"
        )
    fixed = [state for state in stoichiometry if network.states[state].rate is not None]
    if fixed:
        raise ValueError(f"{', '.join(fixed)}: states with a rate rule take no reactions")
    numbers = {state: sp.nsimplify(number) for state, number in stoichiometry.items()}
    sides: dict[bool, list] = {True: [], False: []}
    for state, number in numbers.items():
        network.effects.setdefault(state, {})[name] = number
        sides[number < 0].append((network.states[state].quantity, abs(number)))
    network.reactions[name] = Reaction(name, tuple(sides[True]), tuple(sides[False]), sp.Integer(0))
    network.definitions[name] = sp.Integer(0)


def _made(
    model: ReactionModel,
    network: Network,
    terms: Mapping[str, LearnedRate],
    new: Mapping[str, nn.Module],
) -> HybridModel:
    """The model with these terms, whose learned constants are those of the model now."""
    nets = dict(new)
    if isinstance(model, HybridModel):
        nets.update(zip(model.terms, model.nets, strict=True))
    nets = {**nets, **new}
    made = HybridModel(network, terms, nets, model.scales, model.given.dtype)
    with torch.no_grad():
        made.given.copy_(model.given)
        for own, old in zip(made.learned, model.learned, strict=True):
            own.copy_(old)
    return made.to(model.given.device)
