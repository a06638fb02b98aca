"""The derivative in time of every quantity that a formula asks for: rateOf(x)."""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp

from .records import Network
from .refusal import UnsupportedFeature
from .symbols import TIME, names, rate_of, symbol


def define_rates(network: Network, others: Iterable[sp.Basic] = ()) -> None:
    """Define rateOf(x) for all x whose derivative the network's formulas use, or others."""
    todo = _asked([*_formulas(network), *others])
    while todo:
        name = todo.pop()
        if rate_of(name) in network.definitions:
            continue
        expression = _derivative(network, name)
        network.definitions[rate_of(name)] = expression
        todo |= _asked([expression])


def _formulas(network: Network) -> list[sp.Basic]:
    found = list(network.definitions.values())
    for state in network.states.values():
        found += [part for part in (state.start, state.rate, state.scale) if part is not None]
    for effects in network.effects.values():
        found += effects.values()
    for event in network.events:
        found += event.formulas
    return found


def _asked(expressions: Iterable[sp.Basic]) -> set[str]:
    """The quantities whose derivative occurs."""
    return {
        name.removeprefix("rateOf(").removesuffix(")")
        for name in names(expressions)
        if name.startswith("rateOf(")
    }


def _derivative(network: Network, name: str) -> sp.Expr:
    if name in network.states:
        if network.states[name].algebraic:
            raise UnsupportedFeature(
                f"rateOf({name}), of a quantity that an algebraic rule determines",
                "write the rule as an assignment rule of the quantity",
            )
        return network.derivative(name)
    if name in network.definitions:
        return _chain(network, network.definitions[name])
    return sp.Integer(0)


def _chain(network: Network, expression: sp.Basic) -> sp.Expr:
    """The derivative of an expression in time, by the chain rule."""
    result = sp.diff(expression, TIME)
    for part in expression.free_symbols - {TIME}:
        name = part.name
        if name in network.states or (
            name in network.definitions and not name.startswith("start(")
        ):
            result += sp.diff(expression, part) * symbol(rate_of(name))
    return result
