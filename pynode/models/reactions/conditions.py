"""Boolean conditions by the signs of differences, which a solver can watch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sympy as sp
from sympy.core.relational import Relational

from .records import START_OF_TIME, Network
from .symbols import TIME, expanded, names

_TRUE_FOR = {
    sp.StrictGreaterThan: (1,),
    sp.GreaterThan: (0, 1),
    sp.StrictLessThan: (-1,),
    sp.LessThan: (-1, 0),
    sp.Equality: (0,),
    sp.Unequality: (-1, 1),
}


def differences(conditions: Sequence[sp.Basic]) -> list[sp.Expr]:
    """The differences a - b of all relations between a and b in conditions, each once."""
    found: dict[sp.Expr, None] = {}
    for condition in conditions:
        for relation in sorted(condition.atoms(Relational), key=sp.default_sort_key):
            found.setdefault(difference(relation))
    return list(found)


def difference(relation: Relational) -> sp.Expr:
    """a - b of a relation between a and b."""
    return relation.lhs - relation.rhs


def truth(condition: sp.Basic, places: Mapping[sp.Expr, int]) -> Callable[[Sequence[int]], bool]:
    """A function of the signs (-1, 0 or 1) of differences that says whether a condition holds.

    places: difference -> where its sign stands.
    """
    if isinstance(condition, Relational):
        place = places[difference(condition)]
        wanted = _TRUE_FOR[type(condition)]
        return lambda signs: signs[place] in wanted
    parts = [truth(part, places) for part in condition.args]
    if isinstance(condition, sp.And):
        return lambda signs: all(part(signs) for part in parts)
    if isinstance(condition, sp.Or):
        return lambda signs: any(part(signs) for part in parts)
    if isinstance(condition, sp.Xor):
        return lambda signs: sum(part(signs) for part in parts) % 2 == 1
    if isinstance(condition, sp.Not):
        return lambda signs: not parts[0](signs)
    always = condition == sp.true
    return lambda signs: always


def frozen(network: Network) -> set[str]:
    """The states that only events change."""
    return {
        name
        for name, state in network.states.items()
        if not state.algebraic
        and not network.effects.get(name)
        and (state.rate is None or state.rate == 0)
    }


def moves(expression: sp.Expr, network: Network, still: set[str]) -> bool:
    """Whether an expression can change between events. still: states that do not."""
    found = names([expanded(expression, network.definitions)])
    return TIME.name in found or bool(_moving(found, network, still))


def _moving(found: set[str], network: Network, still: set[str]) -> set[str]:
    """The names among found, without the time, that can change between events: states, and what
    the model does not define, such as learned rates."""
    fixed = {*network.constants, *still, TIME.name, START_OF_TIME}
    return found - fixed


def crossing_time(expression: sp.Expr, network: Network, still: set[str]) -> sp.Expr | None:
    """The time at which an expression is zero, if it is linear in the time and depends on nothing
    else that changes between events; None otherwise. still: states that do not change."""
    full = expanded(expression, network.definitions)
    if _moving(names([full]), network, still) or TIME not in full.free_symbols:
        return None
    slope = sp.diff(full, TIME)
    if TIME in slope.free_symbols or slope.has(sp.Derivative) or full.has(sp.Piecewise):
        return None
    return -full.xreplace({TIME: sp.Integer(0)}) / slope
