"""What a reaction model consists of, without the language of any file."""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy as sp

from .symbols import TIME, at_start, names, needed, renamed, symbol

# A fast reaction is this many times as fast as its rate law. The slow part then differs from the
# limit of infinite speed by some 1e-8 of itself, and rounding of the fast rates by as much.
FAST = sp.Integer(10) ** 8


@dataclass(frozen=True)
class Compartment:
    """A volume with species. constant: whether its size never changes."""

    name: str
    constant: bool = True


@dataclass(frozen=True)
class Species:
    """A substance in a compartment.

    is_amount: whether the name means an amount in formulas, instead of a concentration.
    starts_as_amount: whether the file gives the initial value as an amount.
    """

    name: str
    compartment: str
    is_amount: bool = False
    starts_as_amount: bool = False


@dataclass(frozen=True)
class Reaction:
    """Reactants become products with a rate, in amounts (extents) per time.

    reactants, products: pairs of a species and a number, an expression. modifiers: species that
    the rate uses. fast: whether the reaction is always at its equilibrium.
    """

    name: str
    reactants: tuple[tuple[str, sp.Expr], ...]
    products: tuple[tuple[str, sp.Expr], ...]
    rate: sp.Expr
    modifiers: tuple[str, ...] = ()
    reversible: bool = False
    fast: bool = False


@dataclass(frozen=True)
class State:
    """One integrated component.

    The derivative is ``rate`` where there is one. Otherwise it is ``scale`` times the sum of the
    reactions. algebraic: ``rate`` is an equation, rate = 0, that determines the component.
    quantity: the named quantity that it carries. start: the value at the first time.
    """

    name: str
    quantity: str
    start: sp.Expr
    rate: sp.Expr | None = None
    scale: sp.Expr = sp.Integer(1)
    algebraic: bool = False


@dataclass(frozen=True)
class ModelEvent:
    """Assignments that are made when a trigger becomes true. SBML Level 3, sec. 4.11.

    trigger: a boolean expression. delay, priority: expressions, or None. initial: the value of the
    trigger before the first time. persistent: whether the event happens even if the trigger becomes
    false during the delay. from_trigger: whether the values are computed when the trigger becomes
    true, instead of after the delay. assignments: quantity -> expression.
    """

    name: str
    trigger: sp.Basic
    assignments: tuple[tuple[str, sp.Expr], ...]
    delay: sp.Expr | None = None
    priority: sp.Expr | None = None
    initial: bool = True
    persistent: bool = True
    from_trigger: bool = True

    @property
    def formulas(self) -> list[sp.Basic]:
        """All expressions of the event."""
        found = [self.trigger, *(value for _, value in self.assignments)]
        return found + [part for part in (self.delay, self.priority) if part is not None]


@dataclass
class Network:
    """All quantities of a model and their equations.

    constants: name -> value, what never changes in a solve. states: name -> State, in the order of
    the components. definitions: name -> expression of every other quantity. reactions: name ->
    Reaction. effects: state -> reaction -> how many of it one reaction makes, an expression.
    time_unit: such as 's', '' if unknown.
    """

    name: str = "model"
    constants: dict[str, float] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    definitions: dict[str, sp.Basic] = field(default_factory=dict)
    reactions: dict[str, Reaction] = field(default_factory=dict)
    effects: dict[str, dict[str, sp.Expr]] = field(default_factory=dict)
    species: dict[str, Species] = field(default_factory=dict)
    compartments: dict[str, Compartment] = field(default_factory=dict)
    events: tuple[ModelEvent, ...] = ()
    time_unit: str = ""

    def derivative(self, state: str) -> sp.Expr:
        """The derivative of a state in time, or the left side of an algebraic equation."""
        record = self.states[state]
        if record.rate is not None:
            return record.rate
        terms = []
        for reaction, number in self.effects.get(state, {}).items():
            term = number * symbol(reaction)
            if self.reactions[reaction].fast:
                term = term * FAST
            terms.append(term)
        return record.scale * sp.Add(*terms)

    def fast_derivative(self, state: str) -> sp.Expr:
        """The part of the derivative from fast reactions, with the rates of the file."""
        terms = [
            number * symbol(reaction)
            for reaction, number in self.effects.get(state, {}).items()
            if self.reactions[reaction].fast
        ]
        return self.states[state].scale * sp.Add(*terms)

    def to_start(self, expression: sp.Basic) -> sp.Basic:
        """The expression with the values of the first time: constants keep their names."""

        def start(name: str) -> str:
            if name in self.constants:
                return name
            return at_start(name)

        return renamed(expression, start)

    def complete(self) -> None:
        """Define the start of every quantity that changes: start(x), from the definition of x or
        the start of the state x."""
        for name, state in self.states.items():
            self.definitions.setdefault(at_start(name), self.to_start(state.start))
        for name, expression in list(self.definitions.items()):
            if not name.startswith("start("):
                self.definitions.setdefault(at_start(name), self.to_start(expression))

    def check(self) -> None:
        """Raise ValueError if a formula names what the model does not have."""
        formulas = [*self.definitions.values(), *map(self.derivative, self.states)]
        for event in self.events:
            formulas += event.formulas
        known = {*self.constants, *self.states, *self.definitions, TIME.name, START_OF_TIME}
        unknown = sorted(names(formulas) - known)
        if unknown:
            raise ValueError(
                f"formulas of the model {self.name} name {', '.join(unknown)}, which it does not"
                " define"
            )

    def needed(self, expressions: list[sp.Basic]) -> set[str]:
        """All names on which expressions depend, through definitions."""
        return needed(expressions, self.definitions)


START_OF_TIME = at_start(TIME.name)
