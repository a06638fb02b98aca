"""Reaction models with learned parts: networks that replace rate laws or add to them.

A learned rate enters the states through the stoichiometry of the reaction. So everything that the
reactions conserve stays conserved. Rackauckas et al., Universal differential equations for
scientific machine learning, 2020, have the idea of mechanisms with unknown terms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import sympy as sp
import torch
from torch import Tensor, nn

from ...core.drawing.figures import figure_with_panels, finish, legend_below
from ...core.drawing.palette import look
from ...core.files import save_figure
from .learned_rate import LearnedRate, WithNetworks, learned_rates
from .named_parts import torch_names
from .records import Network, Reaction
from .symbols import at_start, names, symbol

if TYPE_CHECKING:
    import os

Sign = Literal["positive", "reversible", "free"]
SIGNS = ("positive", "reversible", "free")
# The key of the function of all that the networks see.
SEEN = "seen by networks"


class LearnedTerms:
    """What a ReactionModel has for learned rates. ReactionModel inherits it, and has the tables and
    functions that it uses.

    terms: the LearnedRates by name. nets: their networks, by the names of the reactions; that of
    a second term of v3 is "v3:2".
    """

    terms: Mapping[str, LearnedRate] = {}
    nets: nn.ModuleDict
    # Of the ReactionModel.
    network: Network
    states: tuple[str, ...]
    reactions: tuple[str, ...]
    given: Any
    expression: Callable
    initial: Callable
    rates: Callable
    _functions: dict[Any, Callable]
    _evaluated: Callable
    _make: Callable
    _seen: Sequence[sp.Basic] = ()

    def replace(
        self,
        reaction: str,
        net: nn.Module,
        inputs: Sequence[str],
        sign: Sign = "positive",
        scale: float = 1.0,
    ) -> Any:
        """The model with a network in the place of a rate law; this model stays as it is.

        net: maps the values of the inputs, (..., k), to (..., 1).
        inputs: names of quantities or formulas, as ``quantities`` takes them.
        sign: "positive": the rate is scale softplus(net) times the states of all reactants. It is
            never negative, and vanishes with each reactant, so that no state becomes negative.
            "reversible": net returns (..., 2), for the two directions, and the rate backwards
            vanishes with the products. "free": scale times net.
        scale: the size of the rate.

        The rate enters through the stoichiometry of the reaction: what the reactions conserve stays
        conserved. Returns a ReactionModel with the parameters of net. ``rates``, ``quantities``,
        ``simulate`` and solves work with it, also in the native engine.
        """
        _check(self, reaction, net, inputs, sign)
        network = _copied(self.network)
        others = {name: known for name, known in self.terms.items() if known.reaction != reaction}
        term = _term(network, reaction, inputs, sign, scale, others)
        _define(network, reaction, symbol(term.name))
        return _made(self, network, {**others, term.name: term}, {term.name: net})

    def add_term(
        self,
        reaction: str,
        net: nn.Module,
        inputs: Sequence[str],
        stoichiometry: Mapping[str, float] | None = None,
        sign: Sign = "positive",
        scale: float = 1.0,
    ) -> Any:
        """The model with a learned term in the rate of a reaction. With stoichiometry (state -> how
        much of it the reaction makes) it is a new reaction of this name. net, inputs, sign, scale:
        as for ``replace``."""
        network = _copied(self.network)
        if stoichiometry is not None:
            _add_reaction(network, reaction, stoichiometry)
            _check(self, None, net, inputs, sign)
        else:
            _check(self, reaction, net, inputs, sign)
        term = _term(network, reaction, inputs, sign, scale, self.terms)
        before = network.definitions.get(reaction, sp.Integer(0))
        _define(network, reaction, before + symbol(term.name))
        return _made(self, network, {**self.terms, term.name: term}, {term.name: net})

    def learned_rates(self, t: float | Tensor, y: Tensor, p: Tensor | None = None) -> Tensor:
        """What the networks give, (..., terms), at the state y and the constants p."""
        seen = self._evaluated(SEEN, lambda: self._seen, t, y, p, None)
        return learned_rates(tuple(self.terms.values()), tuple(self.nets.values()), seen)

    def _with_learned(
        self, t: float | Tensor, y: Tensor, p: Tensor | None, e: Tensor | None
    ) -> Tensor:
        """Further values e, (..., k) or None, and after them what the networks give."""
        learned = self.learned_rates(t, y, p)
        if e is None:
            return learned
        shape = torch.broadcast_shapes(e.shape[:-1], learned.shape[:-1])
        parts = [x.expand(*shape, x.shape[-1]) for x in (e, learned)]
        return torch.cat(parts, -1)

    def _seen_by_networks(self) -> Callable:
        """The plain function of all that the networks see."""
        if SEEN not in self._functions:
            self._make(SEEN, lambda: self._seen, ())
        return self._functions[SEEN]

    def _with_networks(self, function: Callable) -> Callable:
        """A plain function whose last argument is the learned rates, with the networks."""
        terms = tuple(self.terms.values())
        return WithNetworks(function, self._seen_by_networks(), terms, tuple(self.nets.values()))

    def _learned_parts(self) -> tuple:
        """What the learned rates compute with, for the native engine's key."""
        if not self.terms:
            return ()
        return (self._seen_by_networks(), *self.terms.values(), *self.nets.values())

    def _set_terms(self, terms: Mapping[str, LearnedRate], nets: Mapping[str, nn.Module]) -> None:
        """Take learned rates, with their networks by name."""
        self.terms = dict(terms)
        labels = torch_names([term.label for term in terms.values()], nn.ModuleDict)
        self.nets = nn.ModuleDict({label: nets[name] for label, name in zip(labels, terms)})
        # What the networks see: their inputs, then the reactants and the products, term by term.
        seen: list[str] = []
        for term in self.terms.values():
            seen += [*term.inputs, *term.reactants, *term.products]
        self._seen = [self.expression(name) for name in seen]
        for name, expression in zip(seen, self._seen, strict=True):
            learned = sorted(self.network.needed([expression]) & set(self.terms))
            if learned:
                raise ValueError(
                    f"{name!r} is an input of a network, but depends on a learned rate,"
                    f" {', '.join(learned)}: give inputs that only the states and constants"
                    " determine"
                )

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
        """The rate of a reaction, (k,), where a state has the values (k,). The other states are as
        in y, by default the start."""
        if reaction not in self.reactions or state not in self.states:
            raise ValueError(
                f"{reaction!r} must be one of the reactions {', '.join(self.reactions)}, and"
                f" {state!r} one of the states {', '.join(self.states)}"
            )
        values = torch.as_tensor(values, dtype=self.given.dtype)
        if y is None:
            y = self.initial(p)
        rows = y.expand(len(values), -1).clone()
        rows[:, self.states.index(state)] = values
        return self.rates(t, rows, p)[:, self.reactions.index(reaction)]

    def picture_of_rate(
        self,
        reaction: str,
        state: str,
        values: Any,
        file: str | os.PathLike | None = None,
        *,
        law: Any = None,
        y: Tensor | None = None,
        p: Tensor | None = None,
    ) -> Any:
        """A picture of the learned rate over a state: matplotlib's Figure, also written to file.
        values, y, p: as for ``rate_over``. law: another ReactionModel, whose rate is drawn
        beside it."""
        figure, (axis,) = figure_with_panels(1)
        given = torch.as_tensor(values, dtype=self.given.dtype)
        if law is not None:
            known = law.rate_over(reaction, state, given, y=y, p=p)
            axis.plot(given, known.detach(), color="0.7", lw=4, label="rate law")
        learned = self.rate_over(reaction, state, given, y=y, p=p)
        axis.plot(given, learned.detach(), color=look(0).colour, label="learned")
        finish(axis, state, f"rate of {reaction}")
        legend_below(figure, axis.get_legend_handles_labels()[0])
        if file is not None:
            save_figure(file, figure, 150)
        return figure


def _check(model: Any, reaction: str | None, net: Any, inputs: Sequence[str], sign: str) -> None:
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
    """The same network with new tables."""
    return dataclasses.replace(
        network,
        definitions=dict(network.definitions),
        reactions=dict(network.reactions),
        effects={state: dict(found) for state, found in network.effects.items()},
    )


def _term(
    network: Network,
    reaction: str,
    inputs: Sequence[str],
    sign: str,
    scale: float,
    others: Mapping[str, LearnedRate],
) -> LearnedRate:
    """The LearnedRate of a reaction, under a name that the others do not have."""
    count = sum(known.reaction == reaction for known in others.values())
    label = reaction
    name = f"learned({reaction})"
    if count:
        label = f"{reaction}:{count + 1}"
        name = f"learned({reaction}, {count + 1})"
    reactants = []
    products = []
    for state, found in network.effects.items():
        number = found.get(reaction)
        if number is None or network.states[state].algebraic:
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
        name, label, reaction, tuple(inputs), sign, tuple(reactants), tuple(products), float(scale)
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
        wrong = ""
        if unknown:
            wrong = f", not {', '.join(unknown)}"
        raise ValueError(
            "stoichiometry says how much of each state the reaction makes. The states are"
            f" {', '.join(network.states)}{wrong}"
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
    model: Any,
    network: Network,
    terms: Mapping[str, LearnedRate],
    new: Mapping[str, nn.Module],
) -> Any:
    """The model with these terms. It takes the learned constants as they are now."""
    nets = dict(new)
    if model.terms:
        nets = {**dict(zip(model.terms, model.nets.values(), strict=True)), **nets}
    made = type(model)(network, model.scales, model.given.dtype)
    with torch.no_grad():
        made.given.copy_(model.given)
        for own, old in zip(made.learned, model.learned, strict=True):
            own.copy_(old)
    made._set_terms(terms, nets)
    return made.to(model.given.device)
