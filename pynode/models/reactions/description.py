"""A model as text: reactions, rates, rules and events as chemists write them."""

from __future__ import annotations

import sympy as sp

from .formula_text import FormulaPrinter, number
from .records import ModelEvent, Network, Reaction


def description(network: Network) -> str:
    """The whole model, a line for each reaction, rule and event."""
    printer = FormulaPrinter(network.constants)
    head = (
        f"{network.name}: {_count(len(network.states), 'state')},"
        f" {_count(len(network.reactions), 'reaction')},"
        f" {_count(len(network.constants), 'constant')}"
    )
    lines = [head, *_reactions(network, printer)]
    for name, state in network.states.items():
        if state.algebraic:
            lines.append(f"  0 = {printer.doprint(state.rate)}, for {name}")
        elif state.rate is not None and state.rate != 0:
            lines.append(f"  d{name}/dt = {printer.doprint(state.rate)}")
    for name, formula in network.definitions.items():
        if name not in network.reactions and "(" not in name:
            # A constant that follows from others has the value of its start.
            shown = network.definitions.get(str(formula), formula)
            lines.append(f"  {name} = {printer.doprint(shown)}")
    lines += [_event(event, printer) for event in network.events]
    return "\n".join(lines)


def equation(reaction: Reaction) -> str:
    """The equation of a reaction: "2 A + B -> C"."""
    arrow = "->"
    if reaction.reversible:
        arrow = "<->"
    return f"{_side(reaction.reactants)} {arrow} {_side(reaction.products)}".strip()


def _count(n, noun):
    if n == 1:
        return f"1 {noun}"
    return f"{n} {noun}s"


def _reactions(network, printer):
    equations = {name: equation(reaction) for name, reaction in network.reactions.items()}
    width = max(map(len, equations.values()), default=0)
    lines = []
    for name, text in equations.items():
        line = f"  {text.ljust(width)} ; {name} = {printer.doprint(network.definitions[name])}"
        if network.reactions[name].fast:
            line += "  (fast)"
        lines.append(line)
    return lines


def _side(parts: tuple[tuple[str, sp.Expr], ...]) -> str:
    terms = []
    for species, count in parts:
        if count == 1:
            terms.append(species)
        elif count.is_number:
            terms.append(f"{number(count)} {species}")
        else:
            terms.append(f"({FormulaPrinter().doprint(count)}) {species}")
    return " + ".join(terms)


def _event(event: ModelEvent, printer: FormulaPrinter) -> str:
    changes = ", ".join(f"{name} = {printer.doprint(value)}" for name, value in event.assignments)
    moment = printer.doprint(event.trigger)
    if event.delay is not None:
        moment += f" after {printer.doprint(event.delay)}"
    return f"  {event.name}: when {moment}: {changes}"
