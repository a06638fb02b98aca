"""The symbols of reaction models, and the names that pynode gives to derived quantities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import sympy as sp

# The name is no identifier of any format. So a model can have a quantity called "time".
TIME = sp.Symbol("<time>", real=True)


def symbol(name: str) -> sp.Symbol:
    """The symbol of a named quantity. petab's formulas have the same: real, by name."""
    return sp.Symbol(name, real=True)


def initial_value(name: str) -> str:
    """The name of the constant that holds the initial value of a quantity, as the file gives it."""
    return f"init({name})"


def at_start(name: str) -> str:
    """The name of the value that a quantity has at the first time."""
    return f"start({name})"


def amount(name: str) -> str:
    """The name of the amount of a species. The name of the species means the concentration."""
    return f"amount({name})"


def rate_of(name: str) -> str:
    """The name of the derivative of a quantity in time."""
    return f"rateOf({name})"


def names(expressions: Iterable[sp.Basic]) -> set[str]:
    """The names in expressions."""
    return {found.name for expression in expressions for found in expression.free_symbols}


def needed(expressions: Iterable[sp.Basic], definitions: Mapping[str, sp.Basic]) -> set[str]:
    """All names on which expressions depend, through definitions."""
    found: set[str] = set()
    todo = names(expressions)
    while todo:
        name = todo.pop()
        found.add(name)
        if name in definitions:
            todo |= names([definitions[name]]) - found
    return found


def expanded(expression: sp.Basic, definitions: Mapping[str, sp.Basic]) -> sp.Basic:
    """The expression with definitions in the place of the names that they define."""
    for _ in range(len(definitions) + 1):
        found = [part for part in expression.free_symbols if part.name in definitions]
        if not found:
            break
        expression = expression.xreplace({part: definitions[part.name] for part in found})
    return expression


def renamed(expression: sp.Basic, change: Callable[[str], str]) -> sp.Basic:
    """The expression with every name changed."""
    pairs = {found: symbol(change(found.name)) for found in expression.free_symbols}
    return expression.xreplace({old: new for old, new in pairs.items() if old != new})
