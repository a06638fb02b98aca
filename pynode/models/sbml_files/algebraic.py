"""Algebraic rules: which quantity each rule determines, and formulas where they are explicit."""

from __future__ import annotations

import sympy as sp

from ..reactions.symbols import expanded, needed, symbol
from .contents import Contents


def match(contents: Contents) -> dict[str, sp.Expr]:
    """Unknown -> its equation, expression = 0. Raise ValueError where the rules do not determine
    as many quantities as there are rules."""
    candidates = _candidates(contents)
    equations = [_expanded(rule, contents) for rule in contents.algebraic]
    options = [
        [name for name in candidates if symbol(name) in equation.free_symbols]
        for equation in equations
    ]
    owner: dict[str, int] = {}
    for i in range(len(equations)):
        if not _augment(i, options, owner, set()):
            raise ValueError(
                f"the algebraic rule {contents.algebraic[i]} = 0 determines no quantity: all that"
                " it names are constant or determined by other rules and reactions"
            )
    return {name: contents.algebraic[i] for name, i in owner.items()}


def _candidates(contents):
    """Names that nothing else determines; those that events change come last."""
    determined = {*contents.assigned, *contents.rate_ruled, *contents.reacting, *contents.constant}
    names = [
        *contents.species,
        *contents.parameters,
        *contents.compartments,
        *contents.references,
    ]
    free = [name for name in names if name not in determined]
    return sorted(free, key=lambda name: name in contents.changed)


def _expanded(rule, contents):
    """The rule with the assigned quantities and rates replaced by what they depend on."""
    laws = {name: reaction.rate for name, reaction in contents.reactions.items()}
    return expanded(rule, {**laws, **contents.assigned})


def _augment(i, options, owner, tried):
    """Kuhn's algorithm: give the equation i an unknown, and others another one if needed."""
    for name in options[i]:
        if name in tried:
            continue
        tried.add(name)
        if name not in owner or _augment(owner[name], options, owner, tried):
            owner[name] = i
            return True
    return False


def solve_linear(contents: Contents, equations: dict[str, sp.Expr]) -> dict[str, sp.Expr]:
    """Unknown -> formula, where an equation is linear in the unknown. Formulas that would go in a
    circle are left out."""
    found: dict[str, sp.Expr] = {}
    for name, equation in equations.items():
        unknown = symbol(name)
        full = _expanded(equation, contents)
        slope = sp.diff(full, unknown)
        if slope == 0 or unknown in slope.free_symbols or slope.has(sp.Derivative):
            continue
        rest = full.xreplace({unknown: sp.Integer(0)})
        if unknown in rest.free_symbols or rest.has(sp.zoo, sp.nan):
            continue
        formula = -rest / slope
        if name not in needed([formula], found):
            found[name] = formula
    return found
