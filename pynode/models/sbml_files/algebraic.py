"""Algebraic rules: which quantity each one determines, and its formula where there is one."""

from __future__ import annotations

import sympy as sp

from ..reactions.symbols import symbol
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
    known = {symbol(name): value for name, value in {**laws, **contents.assigned}.items()}
    for _ in range(len(known) + 1):
        found = rule.free_symbols & known.keys()
        if not found:
            break
        rule = rule.xreplace({name: known[name] for name in found})
    return rule


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
    """The formulas of those unknowns in which their equations are linear, unless the formulas go in
    a circle: unknown -> expression."""
    found: dict[str, sp.Expr] = {}
    for name, equation in equations.items():
        unknown = symbol(name)
        slope = sp.diff(_expanded(equation, contents), unknown)
        if slope == 0 or unknown in slope.free_symbols or slope.has(sp.Derivative):
            continue
        rest = _expanded(equation, contents).xreplace({unknown: sp.Integer(0)})
        if unknown in rest.free_symbols or rest.has(sp.zoo, sp.nan):
            continue
        formula = -rest / slope
        if not _circular(name, formula, found):
            found[name] = formula
    return found


def _circular(name, formula, found):
    """Whether a formula depends on its own unknown through those found so far."""
    todo = [part.name for part in formula.free_symbols]
    seen = set()
    while todo:
        part = todo.pop()
        if part == name:
            return True
        if part in found and part not in seen:
            seen.add(part)
            todo.extend(other.name for other in found[part].free_symbols)
    return False
