"""Where the right-hand side of a model jumps while its states move.

A condition of a piecewise formula whose crossing is not known beforehand becomes a switch
(core/switches.py) if the formula jumps there. Whether it does is asked of numbers: the branches are
compared at random states on the surface. Rounding to whole numbers jumps, too: the parity of the
whole number is then the side.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import sympy as sp
from sympy.core.relational import Relational

from .conditions import crossing_time, frozen, moves
from .guards import Guarded, with_guards
from .records import Network
from .symbols import TIME, expanded, symbol

# A side above this is 1, below its negative -1, and in between f computes the condition itself.
_HALF = sp.Rational(1, 2)
# Points on a surface at which branches are compared, with so many digits. Equal branches differ by
# rounding alone.
_POINTS = 40
_DIGITS = 100
_EQUAL = 1e-60
# Further relations of the same formula: so many of their values are tried at each point.
_CHOICES = 3
# Functions that jump at whole numbers.
_WHOLE = (sp.floor, sp.ceiling, sp.Mod)
_ORDERED = (sp.StrictGreaterThan, sp.GreaterThan, sp.StrictLessThan, sp.LessThan)


@dataclass(frozen=True)
class HeldFormulas:
    """The formulas of a model for held conditions.

    names: of the sides in the formulas. texts: of the conditions, for messages. derivatives: of the
    states. differences: positive where the side is 1. definitions: of the quantities that these
    name.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    derivatives: list[sp.Basic]
    differences: list[sp.Basic]
    definitions: dict[str, sp.Basic]

    @property
    def text(self) -> str:
        """All of it as text."""
        return f"{self.names} {self.derivatives} {self.differences} {self.definitions}"


def held_formulas(
    network: Network,
    derivatives: Iterable[sp.Basic],
    values: Mapping[str, float],
    moving: Collection[str] = (),
) -> HeldFormulas:
    """The HeldFormulas of a model. values: of the constants, at which branches are compared.
    moving: constants that something else changes while the model is solved."""
    return _Finder(network, values, moving).found(list(derivatives))


class _Finder:
    """Collects the switches, in the order in which the formulas name them."""

    def __init__(
        self, network: Network, values: Mapping[str, float], moving: Collection[str]
    ) -> None:
        self.network = network
        self.values = values
        self.moving = frozenset(moving)
        self.still = frozen(network)
        # What the side belongs to -> (its symbol, its difference, its text).
        self.switches: dict[sp.Basic, tuple[sp.Symbol, sp.Basic, str]] = {}

    def found(self, derivatives: list[sp.Basic]) -> HeldFormulas:
        """All formulas with the sides in the place of the conditions."""
        needed = self.network.needed(derivatives)
        formulas = [*derivatives, *map(self.network.definitions.get, needed)]
        if not any(formula is not None and _may_jump(formula) for formula in formulas):
            return HeldFormulas((), (), [], [], {})
        definitions = {
            name: self._held(formula)
            for name, formula in self.network.definitions.items()
            if name in needed
        }
        held = [self._held(formula) for formula in derivatives]
        texts = [text for _, _, text in self.switches.values()]
        names = [side.name for side, _, _ in self.switches.values()]
        differences = [difference for _, difference, _ in self.switches.values()]
        return HeldFormulas(tuple(names), tuple(texts), held, differences, definitions)

    def _held(self, formula: sp.Basic) -> sp.Basic:
        """A formula with sides. Parts of it that must not leave their domains keep the conditions
        of the file (guards.py)."""
        if not _may_jump(formula):
            return formula
        return self._rewritten(with_guards(formula))

    def _rewritten(self, formula: sp.Basic) -> sp.Basic:
        """The same, from the inside to the outside."""
        if not formula.args:
            return formula
        if isinstance(formula, sp.Piecewise):
            return self._piecewise(formula)
        if isinstance(formula, Guarded):
            argument = self._rewritten(formula.args[0])
            return Guarded(argument, self._condition(None, formula.args[1]))
        args = [self._rewritten(arg) for arg in formula.args]
        if isinstance(args[0], Guarded) and _needs_positive(formula):
            # Behind the surface a step may leave the domain. There the function goes on evenly.
            inner, held = args[0].args
            actual = formula.args[0].args[1]
            even = sp.Piecewise((inner, actual), (sp.Abs(inner), True), evaluate=False)
            args[0] = Guarded(even, held)
        same = all(new is old for new, old in zip(args, formula.args, strict=True))
        own = formula
        if not same:
            own = formula.func(*args)
        if isinstance(formula, _WHOLE):
            return self._whole(formula, own, args)
        if isinstance(formula, sp.sign):
            return self._sign(formula, own, args[0])
        return own

    def _piecewise(self, formula: sp.Piecewise) -> sp.Basic:
        # First the conditions: the guards of the branches have the same ones.
        conditions = [self._condition(formula, condition) for _, condition in formula.args]
        values = [self._rewritten(value) for value, _ in formula.args]
        return sp.Piecewise(*zip(values, conditions, strict=True), evaluate=False)

    def _condition(self, formula: sp.Piecewise | None, condition: sp.Basic) -> sp.Basic:
        """A condition of a formula with sides in the place of its relations. Without a formula only
        relations that are known to have sides get them."""
        if isinstance(condition, Relational):
            return self._relation(formula, condition)
        if not condition.args:
            return condition
        return condition.func(*(self._condition(formula, part) for part in condition.args))

    def _relation(self, formula: sp.Piecewise | None, relation: Relational) -> sp.Basic:
        own = self._with_held_parts(relation)
        if not isinstance(relation, _ORDERED):
            # Equality of what moves holds at single times.
            return own
        difference = relation.gts - relation.lts
        # One side serves both directions, and relations that are strict and those that are not.
        key = _primitive(difference)
        way = 1
        if key.could_extract_minus_sign():
            key = -key
            way = -1
        if key not in self.switches and (
            formula is None or not self._crosses(difference) or not self._jumps(formula, relation)
        ):
            return own
        side = way * self._side(key, f"{relation.lhs} = {relation.rhs}", self._rewritten(key))
        return sp.Or(side > _HALF, sp.And(side > -_HALF, own))

    def _with_held_parts(self, relation: Relational) -> sp.Basic:
        """A relation whose own parts have sides. Where whole numbers in it jump, it can change
        without being zero: rem(time, P) > c does so at P."""
        if not _may_jump(relation):
            return relation
        own = relation.func(self._rewritten(relation.lhs), self._rewritten(relation.rhs))
        # sympy allows no choices within conditions, but choices between conditions.
        folded = sp.piecewise_fold(own)
        if isinstance(folded, sp.Piecewise):
            return sp.to_nnf(folded.rewrite(sp.ITE), simplify=False)
        return folded

    def _whole(self, formula: sp.Basic, own: sp.Basic, args: list[sp.Basic]) -> sp.Basic:
        """A function that jumps at whole numbers. With a side the number below its argument is the
        nearest one of its parity: 1 stands for even numbers."""
        number = formula.args[0]
        argument = args[0]
        if isinstance(formula, sp.Mod):
            number = formula.args[0] / formula.args[1]
            argument = args[0] / args[1]
        if not self._moves(number):
            return own
        side = self._side(sp.floor(number), f"floor({number})", sp.sin(sp.pi * argument))
        odd = (1 - sp.sign(side)) / 2
        below = 2 * sp.floor((argument - odd) / 2 + sp.Rational(1, 4)) + odd
        held = below
        if isinstance(formula, sp.ceiling):
            held = below + 1
        if isinstance(formula, sp.Mod):
            # The remainder has the sign of the dividend.
            held = args[0] - args[1] * (below + sp.Max(0, -sp.sign(below)))
        return sp.Piecewise((held, sp.Or(side > _HALF, side < -_HALF)), (own, True))

    def _sign(self, formula: sp.Basic, own: sp.Basic, argument: sp.Basic) -> sp.Basic:
        """A sign."""
        if not self._crosses(formula.args[0]):
            return own
        side = self._side(formula, f"{formula.args[0]} = 0", argument)
        return sp.Piecewise((1, side > _HALF), (-1, side < -_HALF), (own, True))

    def _side(self, key: sp.Basic, text: str, difference: sp.Basic) -> sp.Symbol:
        """The symbol of the side of a condition. text: for messages."""
        if key not in self.switches:
            name = symbol(f"side({len(self.switches)})")
            self.switches[key] = name, difference, text.replace(TIME.name, "time")
        return self.switches[key][0]

    def _crosses(self, expression: sp.Basic) -> bool:
        """Whether an expression moves, and its zeros are not known beforehand."""
        if self._is_driven(expression):
            return True
        if not self._moves(expression):
            return False
        return crossing_time(expression, self.network, self.still) is None

    def _moves(self, expression: sp.Basic) -> bool:
        return self._is_driven(expression) or moves(expression, self.network, self.still)

    def _is_driven(self, expression: sp.Basic) -> bool:
        """Whether an expression depends on constants that move."""
        full = expanded(expression, self.network.definitions)
        return any(part.name in self.moving for part in full.free_symbols)

    # ------------------------------------------------------------ jumps

    def _jumps(self, formula: sp.Piecewise, relation: Relational) -> bool:
        """Whether a formula can jump where a relation changes."""
        definitions = self.network.definitions
        whole = _precise(expanded(formula, definitions))
        full = _precise(expanded(relation, definitions))
        if not isinstance(full, Relational):
            return False
        difference = full.lhs - full.rhs
        solved = self._solved(difference)
        if solved is None:
            return True
        own = {part for part in difference.free_symbols if part.name not in self.values}
        others = [
            part
            for part in sorted(whole.atoms(Relational), key=sp.default_sort_key)
            if part != full and not part.free_symbols & own
        ]
        chance = random.Random(0)
        for point in range(_POINTS):
            for _ in range(_CHOICES if others else 1):
                chosen = {part: sp.sympify(chance.random() < 0.5) for part in others}
                place = self._point(whole.free_symbols | full.free_symbols, solved, chance, point)
                yes = _value(whole, place, {**chosen, full: sp.true})
                no = _value(whole, place, {**chosen, full: sp.false})
                if _differ(yes, no):
                    return True
        return False

    def _solved(self, difference: sp.Basic) -> tuple[sp.Symbol, sp.Basic] | None:
        """(a symbol, its value where the difference is zero), or None if none is linear in it."""
        found = sorted(
            difference.free_symbols, key=lambda part: (part.name in self.values, part.name)
        )
        for part in found:
            slope = difference.diff(part)
            if slope != 0 and part not in slope.free_symbols and not slope.has(sp.Derivative):
                return part, -difference.xreplace({part: sp.Integer(0)}) / slope
        return None

    def _point(self, wanted, solved, chance, number):
        """Numbers for all symbols, on the surface: constants near their values, other ones at
        random."""
        place = {}
        for part in sorted(wanted, key=lambda part: part.name):
            value = self.values.get(part.name, math.nan)
            if not math.isfinite(value):
                value = 10 ** chance.uniform(-2, 2)
                # Most states are positive. The others need their other side.
                if number % 2:
                    value = chance.choice((-1, 1)) * value
            elif number:
                value = value * chance.uniform(0.99, 1.01)
            place[part] = sp.Float(value, _DIGITS)
        place[solved[0]] = solved[1].xreplace(place)
        return place


def _value(
    formula: sp.Basic, place: Mapping[sp.Symbol, sp.Basic], truths: Mapping[sp.Basic, sp.Basic]
) -> sp.Basic:
    """The value of a formula at a place. truths: of relations that are not asked there. sympy's own
    substitution can simplify a piecewise formula without end."""
    if formula in truths:
        return truths[formula]
    if formula in place:
        return place[formula]
    if not formula.args:
        return formula
    if isinstance(formula, sp.Piecewise):
        for branch, condition in formula.args:
            if _value(condition, place, truths) == sp.true:
                return _value(branch, place, truths)
        return sp.nan
    if isinstance(formula, Guarded) and _value(formula.args[1], place, truths) != sp.true:
        return sp.Integer(1)
    if isinstance(formula, Guarded):
        return _value(formula.args[0], place, truths)
    return formula.func(*(_value(part, place, truths) for part in formula.args))


def _differ(first: sp.Basic, second: sp.Basic) -> bool:
    """Whether two numbers differ by more than rounding, or are no numbers."""
    try:
        return not abs(complex((first - second).evalf(_DIGITS))) <= _EQUAL
    except (TypeError, ValueError):
        return True


def _precise(formula: sp.Basic) -> sp.Basic:
    """A formula whose numbers are exact."""
    return formula.xreplace({part: sp.Rational(str(part)) for part in formula.atoms(sp.Float)})


def _may_jump(formula: sp.Basic) -> bool:
    """Whether a formula has parts that can jump."""
    return formula.has(sp.Piecewise, sp.sign, *_WHOLE)


def _needs_positive(formula: sp.Basic) -> bool:
    """Whether a function is defined for positive arguments alone."""
    return isinstance(formula, sp.log) or (formula.is_Pow and not formula.exp.is_Integer)


def _primitive(difference: sp.Basic) -> sp.Basic:
    """A difference without a positive factor."""
    factor, rest = difference.as_content_primitive()
    if factor.is_positive:
        return rest
    return difference
