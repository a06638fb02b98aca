"""The equations of an SBML model, as a Network."""

from __future__ import annotations

import sympy as sp

from ..reactions.records import Compartment, Network, State
from ..reactions.symbols import amount, at_start, initial_value, symbol
from ..reactions.time_derivatives import define_rates
from .algebraic import match, solve_linear
from .contents import Contents


def network_of(contents: Contents) -> Network:
    """The Network of what a model says."""
    return _Translation(contents).network()


class _Translation:
    """Each quantity becomes a constant, a state or a definition."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.result = Network(contents.name, events=contents.events, time_unit=contents.time_unit)
        self.result.species = dict(contents.species)
        self.result.reactions = dict(contents.reactions)
        # Constants that follow from others by initial assignments.
        self.derived: list[str] = []
        self.unknown: dict[str, sp.Expr] = {}
        # species -> the state that its reactions change
        self.carrier: dict[str, str] = {}
        # species -> the start as the name means it, where another state carries the species
        self.starts: dict[str, sp.Expr] = {}

    def network(self) -> Network:
        """The equations of all quantities."""
        contents = self.contents
        result = self.result
        if contents.algebraic:
            equations = match(contents)
            solved = solve_linear(contents, equations)
            contents.assigned.update(solved)
            self.unknown = {name: rule for name, rule in equations.items() if name not in solved}
        result.constants.update(contents.local)
        for name in contents.compartments:
            self._place(name)
            result.compartments[name] = Compartment(name, self._is_constant(name))
        for name in (*contents.parameters, *contents.references):
            self._place(name)
        for name in contents.species:
            self._place_species(name)
        for name, reaction in contents.reactions.items():
            result.definitions[name] = reaction.rate
            self._place_effects(name, reaction)
        for name in self.derived:
            result.definitions[at_start(name)] = result.to_start(contents.initial[name])
            result.definitions[name] = symbol(at_start(name))
        define_rates(result, contents.initial.values())
        for name, start in self.starts.items():
            result.definitions[at_start(name)] = result.to_start(start)
        result.complete()
        result.check()
        return result

    def _is_constant(self, name):
        return name in self.result.constants or name in self.derived

    def _place(self, name):
        """A compartment, parameter or stoichiometry."""
        contents = self.contents
        if name in contents.assigned:
            self.result.definitions[name] = contents.assigned[name]
        elif name in self.unknown or name in contents.rate_ruled or name in contents.changed:
            self._integrate(name, self._start(name))
        elif name in contents.initial:
            self.derived.append(name)
        else:
            self.result.constants[name] = contents.values[name]

    def _integrate(self, name, start):
        """A state that is the quantity itself, with an equation, a rate or neither."""
        algebraic = name in self.unknown
        rate = self.unknown.get(name, self.contents.rate_ruled.get(name, sp.Integer(0)))
        self.result.states[name] = State(name, name, start, rate, algebraic=algebraic)

    def _start(self, name):
        """The value at the first time of what a name means in formulas."""
        contents = self.contents
        if name in contents.initial:
            return contents.initial[name]
        constant = initial_value(name)
        self.result.constants[constant] = contents.values[name]
        record = contents.species.get(name)
        if record is None or record.starts_as_amount == record.is_amount:
            return symbol(constant)
        volume = symbol(record.compartment)
        if record.starts_as_amount:
            return symbol(constant) / volume
        return symbol(constant) * volume

    def _place_species(self, name):
        contents = self.contents
        result = self.result
        record = contents.species[name]
        steady = record.is_amount or result.compartments[record.compartment].constant
        if name in contents.assigned:
            result.definitions[name] = contents.assigned[name]
        elif name in self.unknown or name in contents.rate_ruled:
            self._integrate(name, self._start(name))
        elif name in contents.reacting or name in contents.changed:
            self._place_carrier(name, record, steady)
        elif name in contents.initial and steady:
            self.derived.append(name)
        elif steady:
            self.starts[name] = self._start(name)
            result.definitions[name] = symbol(at_start(name))
        else:
            # The amount stays, and the concentration follows the volume.
            start = symbol(at_start(name)) * symbol(at_start(record.compartment))
            self.starts[name] = self._start(name)
            result.definitions[name] = start / symbol(record.compartment)

    def _place_carrier(self, name, record, steady):
        """A species that reactions or events change. The state is the concentration or, where the
        volume changes, the amount."""
        result = self.result
        start = self._start(name)
        volume = symbol(record.compartment)
        if steady:
            scale = 1 / volume
            if record.is_amount:
                scale = sp.Integer(1)
            result.states[name] = State(name, name, start, scale=scale)
            self.carrier[name] = name
            return
        own = amount(name)
        result.states[own] = State(own, name, symbol(name) * volume)
        result.definitions[name] = symbol(own) / volume
        self.starts[name] = start
        self.carrier[name] = own

    def _place_effects(self, name, reaction):
        for side, sign in ((reaction.reactants, -1), (reaction.products, 1)):
            for species, number in side:
                state = self.carrier.get(species)
                if state is None or species not in self.contents.reacting:
                    continue
                effects = self.result.effects.setdefault(state, {})
                change = sign * number * self.contents.conversion[species]
                effects[name] = effects.get(name, sp.Integer(0)) + change
        for effects in self.result.effects.values():
            if effects.get(name) == 0:
                del effects[name]
