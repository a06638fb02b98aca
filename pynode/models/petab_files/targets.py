"""What the names in PEtab's tables mean in a model, and how conditions change the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sympy as sp

from ..reactions.model import ReactionModel
from ..reactions.refusal import UnsupportedFeature
from ..reactions.symbols import TIME, amount, at_start, initial_value, names, symbol
from .records import Definition


class Names:
    """The quantities of a model by their names in the tables.

    mapping: name in the tables -> name in the model.
    """

    def __init__(self, model: ReactionModel, mapping: dict[str, str]) -> None:
        self.model = model
        self.mapping = mapping
        self.constants = {name: i for i, name in enumerate(model.constants)}
        self.states = {name: i for i, name in enumerate(model.states)}
        self.quantities = {*self.constants, *self.states, *model.network.definitions}

    def of_model(self, name: str) -> str:
        """The name in the model."""
        return self.mapping.get(name, name)

    def in_model(self, expression: sp.Basic) -> sp.Basic:
        """An expression with the names of the model."""
        pairs = {
            found: symbol(self.of_model(found.name))
            for found in expression.free_symbols
            if found != TIME
        }
        return expression.xreplace(pairs)

    def foreign(self, expression: sp.Basic) -> list[str]:
        """The names in an expression that the model does not have, without the time."""
        return sorted(
            name
            for name in names([expression])
            if name not in self.quantities and name not in ("time", "t", TIME.name)
        )

    def component(self, name: str) -> int | None:
        """The number of the state that carries a quantity, or None."""
        for candidate in (name, amount(name)):
            if candidate in self.states:
                return self.states[candidate]
        return None

    def constant(self, name: str) -> int | None:
        """The number of the constant that a quantity is, or None. A species that never changes
        is the constant of the initial value, times ``factor``."""
        if name in self.constants:
            return self.constants[name]
        if self.factor(name) is None:
            return None
        return self.constants[initial_value(name)]

    def factor(self, name: str) -> sp.Expr | None:
        """The quantity divided by the constant that it is: a volume, its inverse, or one. None if
        it is no constant."""
        if name in self.constants:
            return sp.Integer(1)
        definitions = self.model.network.definitions
        definition = definitions.get(name)
        if definition == symbol(at_start(name)):
            definition = definitions.get(at_start(name))
        start = initial_value(name)
        if definition is None or start not in self.constants:
            return None
        factor = sp.cancel(definition / symbol(start))
        if any(found.name not in self.constants for found in factor.free_symbols):
            return None
        if symbol(start) in factor.free_symbols:
            return None
        return factor

    def check_target(self, name: str) -> None:
        """Raise UnsupportedFeature for a quantity that no condition can set."""
        if name in self.quantities and self.component(name) is None:
            if self.constant(name) is None:
                raise UnsupportedFeature(
                    f"a condition that sets {name!r}",
                    "a rule of the model, or its initial assignment, determines it",
                )


def with_free_constants(
    read: Callable[..., ReactionModel], definition: Definition
) -> tuple[ReactionModel, dict[str, sp.Expr]]:
    """(the model of a problem, the initial assignments that it has lost).

    Constants that the tables set lose their initial assignments in the model; these are returned
    as expressions of constants, for the experiments that do not set them. read: read(text,
    free=names) -> ReactionModel.
    """
    model = read(definition.model)
    definitions = model.network.definitions
    derived = {
        name
        for name, found in definitions.items()
        if found == symbol(at_start(name)) and name not in model.states
    }
    everywhere = {definition.mapping.get(item.name, item.name) for item in definition.parameters}
    somewhere = set().union(*(_set_names(x, definition) for x in definition.experiments.values()))
    free = derived & (everywhere | somewhere)
    if not free:
        return model, {}
    known = {name: found for name, found in definitions.items() if isinstance(found, sp.Expr)}
    assigned = {
        name: substituted(definitions[at_start(name)], known, {*model.constants, *free})
        for name in sorted(free - everywhere)
    }
    return read(definition.model, free=tuple(sorted(free))), assigned


def _set_names(experiment: Any, definition: Definition) -> set[str]:
    """The quantities that an experiment sets."""
    return {
        definition.mapping.get(name, name)
        for period in experiment.periods
        for name, value in period.changes.items()
        if value is not None
    }


def substituted(expression: sp.Basic, known: dict[str, sp.Basic], allowed: Iterable[str]) -> Any:
    """The expression with known definitions put in for names. Names in ``allowed`` stand."""
    allowed = set(allowed)
    for _ in range(len(known) + 1):
        pairs = {
            found: known[found.name]
            for found in expression.free_symbols
            if found.name in known and found.name not in allowed
        }
        if not pairs:
            return expression
        expression = expression.xreplace(pairs)
    raise ValueError(f"the definitions of {sorted(known)} go in a circle")
