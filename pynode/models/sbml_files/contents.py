"""What an SBML model says, by what determines each quantity."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import libsbml
import sympy as sp

from ..reactions.formulas import as_number, as_truth
from ..reactions.records import ModelEvent, Reaction, Species
from ..reactions.symbols import names, symbol
from .mathematics import expression_of
from .time_unit import time_unit_of


@dataclass
class Contents:
    """The statements of a model.

    values: name -> the number that the file gives for a compartment, parameter, species or species
    reference, NaN where it gives none. local: the same for local parameters, "reaction.name".
    initial, assigned, rate_ruled: name -> expression. algebraic: expressions that are zero.
    constant: names that the file declares constant. reacting: species that reactions change.
    conversion: species -> factor from extents to the unit of the species. time_unit: such as 's',
    '' if the file does not say it.
    """

    name: str
    values: dict[str, float] = field(default_factory=dict)
    local: dict[str, float] = field(default_factory=dict)
    initial: dict[str, sp.Expr] = field(default_factory=dict)
    assigned: dict[str, sp.Expr] = field(default_factory=dict)
    rate_ruled: dict[str, sp.Expr] = field(default_factory=dict)
    algebraic: list[sp.Expr] = field(default_factory=list)
    constant: set[str] = field(default_factory=set)
    compartments: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    species: dict[str, Species] = field(default_factory=dict)
    reacting: set[str] = field(default_factory=set)
    conversion: dict[str, sp.Expr] = field(default_factory=dict)
    reactions: dict[str, Reaction] = field(default_factory=dict)
    events: tuple[ModelEvent, ...] = ()
    time_unit: str = ""

    @property
    def changed(self) -> set[str]:
        """The quantities that events change."""
        return {name for event in self.events for name, _ in event.assignments}


def contents_of(model: libsbml.Model, free: frozenset[str] = frozenset()) -> Contents:
    """The statements of a flat model without function definitions. free: names whose initial
    assignments do not count."""
    result = Contents(model.getId() or model.getName() or "model")
    result.time_unit = time_unit_of(model)
    _read_rules(model, result, free)
    _read_events(model, result)
    _read_compartments(model, result)
    _read_parameters(model, result)
    _read_species(model, result)
    _read_reactions(model, result)
    return result


def formula_of(item: Any, local: dict[str, str] | None = None) -> sp.Expr:
    """The formula of a part of the model, as a number."""
    return as_number(expression_of(item.getMath(), local))


def _read_rules(model, result, free):
    for item in model.getListOfInitialAssignments():
        if item.isSetMath() and item.getSymbol() not in free:
            result.initial[item.getSymbol()] = formula_of(item)
    for rule in model.getListOfRules():
        if not rule.isSetMath():
            continue
        if rule.isAlgebraic():
            result.algebraic.append(formula_of(rule))
        elif rule.isRate():
            result.rate_ruled[rule.getVariable()] = formula_of(rule)
        else:
            result.assigned[rule.getVariable()] = formula_of(rule)


def _read_events(model, result):
    events = []
    for i, event in enumerate(model.getListOfEvents()):
        trigger = event.getTrigger()
        if trigger is None or not trigger.isSetMath():
            continue
        assignments = tuple(
            (item.getVariable(), formula_of(item))
            for item in event.getListOfEventAssignments()
            if item.isSetMath()
        )
        # Before Level 3 triggers are true before the first time, and events are persistent.
        options = {}
        if model.getLevel() >= 3:
            options["priority"] = _optional(event.getPriority())
            options["initial"] = trigger.getInitialValue()
            options["persistent"] = trigger.getPersistent()
        events.append(
            ModelEvent(
                name=event.getId() or f"event{i + 1}",
                trigger=as_truth(expression_of(trigger.getMath())),
                assignments=assignments,
                delay=_optional(event.getDelay()),
                from_trigger=event.getUseValuesFromTriggerTime(),
                **options,
            )
        )
    result.events = tuple(events)


def _optional(part):
    """The formula of an optional part, or None."""
    if part is None or not part.isSetMath():
        return None
    return formula_of(part)


def _read_compartments(model, result):
    for item in model.getListOfCompartments():
        name = item.getId()
        result.compartments.append(name)
        # A size that the file leaves out is 1, as in Level 1.
        result.values[name] = 1.0
        if item.isSetSize():
            result.values[name] = item.getSize()
        if item.getConstant():
            result.constant.add(name)


def _read_parameters(model, result):
    for item in model.getListOfParameters():
        name = item.getId()
        result.parameters.append(name)
        result.values[name] = _value_of(item)
        if item.getConstant():
            result.constant.add(name)


def _value_of(parameter):
    """The value of a parameter, NaN where the file gives none."""
    if parameter.isSetValue():
        return parameter.getValue()
    return math.nan


def _read_species(model, result):
    for item in model.getListOfSpecies():
        name = item.getId()
        compartment = model.getCompartment(item.getCompartment())
        point = (
            compartment is not None
            and compartment.isSetSpatialDimensions()
            and compartment.getSpatialDimensions() == 0
        )
        result.species[name] = Species(
            name,
            item.getCompartment(),
            is_amount=item.getHasOnlySubstanceUnits() or point,
            starts_as_amount=item.isSetInitialAmount(),
        )
        result.values[name] = math.nan
        if item.isSetInitialConcentration():
            result.values[name] = item.getInitialConcentration()
        elif item.isSetInitialAmount():
            result.values[name] = item.getInitialAmount()
        if item.getConstant():
            result.constant.add(name)
        factor = item.getConversionFactor() or model.getConversionFactor()
        result.conversion[name] = sp.Integer(1)
        if factor:
            result.conversion[name] = symbol(factor)


def _read_reactions(model, result):
    mentioned = _mentioned(model, result)
    for item in model.getListOfReactions():
        name = item.getId()
        reactants = _side(item.getListOfReactants(), result, mentioned)
        products = _side(item.getListOfProducts(), result, mentioned)
        for species, _ in (*reactants, *products):
            if not model.getSpecies(species).getBoundaryCondition():
                result.reacting.add(species)
        result.reactions[name] = Reaction(
            name,
            reactants,
            products,
            _law(item, result),
            tuple(part.getSpecies() for part in item.getListOfModifiers()),
            item.getReversible(),
            item.getFast(),
        )
    result.reacting -= result.constant


def _law(item, result):
    """The rate of a reaction. Its local parameters become constants."""
    law = item.getKineticLaw()
    if law is None or not law.isSetMath():
        return sp.Integer(0)
    local = {}
    parts = law.getListOfParameters()
    if item.getLevel() >= 3:
        parts = law.getListOfLocalParameters()
    for part in parts:
        full = f"{item.getId()}.{part.getId()}"
        local[part.getId()] = full
        result.local[full] = _value_of(part)
    return formula_of(law, local)


def _side(references, result, mentioned):
    """Pairs of a species and a stoichiometric coefficient, an expression."""
    side = []
    for item in references:
        name = item.getId()
        if item.isSetStoichiometryMath() and item.getStoichiometryMath().isSetMath():
            number = formula_of(item.getStoichiometryMath())
        elif name and name in mentioned:
            number = symbol(name)
            result.references.append(name)
            result.values[name] = item.getStoichiometry()
            if item.getConstant():
                result.constant.add(name)
        else:
            number = exact(item.getStoichiometry()) / int(item.getDenominator() or 1)
        side.append((item.getSpecies(), number))
    return tuple(side)


def exact(value: float) -> sp.Expr:
    """A number as the file writes it: 0.1 is 1/10."""
    if not math.isfinite(value):
        return sp.Float(value)
    return sp.Rational(repr(value))


def _mentioned(model, result):
    """All names in formulas, and all that rules and events determine."""
    formulas = [*result.initial.values(), *result.assigned.values(), *result.rate_ruled.values()]
    formulas += result.algebraic
    for event in result.events:
        formulas += event.formulas
    for item in model.getListOfReactions():
        law = item.getKineticLaw()
        if law is not None and law.isSetMath():
            formulas.append(expression_of(law.getMath()))
    found = {*result.initial, *result.assigned, *result.rate_ruled, *result.changed}
    found |= {name.removeprefix("rateOf(").removesuffix(")") for name in names(formulas)}
    return found
