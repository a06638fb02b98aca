"""The command ``pynode methods``: a list."""

from __future__ import annotations

from dataclasses import asdict

from ..core.text_table import text_table
from . import catalogue
from .call import Call
from .commands.methods import Methods
from .output import print_json

KINDS = ["explicit", "implicit", "switching"]

LEGEND = """
Jacobian: d dense, s sparse, b banded, k Krylov. engines: t torch, n native,
j Julia. pynode methods --references shows where the methods are published."""


def run(command: Methods, call: Call) -> int:
    """List them; returns the exit code."""
    entries = [entry for entry in catalogue.methods() if _matches(entry, command)]
    if command.json:
        print_json([asdict(entry) for entry in entries])
        return 0
    if not entries:
        raise ValueError("no method has all of these properties: remove one of the options")
    if command.references:
        cells = [("name", "order", "reference")]
        cells += [(entry.name, entry.order, entry.reference) for entry in entries]
        print("\n".join(text_table(cells, (0, 1, 2), wrapped=2)))
        return 0
    head = ("name", "kind", "order", "Jacobian", "mass", "batched", "engines")
    rows = [
        (
            entry.name,
            entry.kind,
            entry.order,
            _letters(entry.structures),
            _yes(entry.mass),
            _yes(entry.batched),
            _letters(entry.backends),
        )
        for entry in entries
    ]
    print("\n".join(text_table([head, *rows], left=range(7))))
    command.talk.say(LEGEND)
    return 0


def _letters(words) -> str:
    return " ".join(word[0] for word in words) or "-"


def _matches(entry, command) -> bool:
    text = " ".join((entry.name, entry.family, entry.reference)).lower()
    kinds = [kind for kind in KINDS if getattr(command, kind)] or KINDS
    return (
        (not command.name or command.name.lower() in text)
        and entry.kind in kinds
        and (command.order is None or int(entry.order.split()[-1]) >= command.order)
        and (command.backend is None or command.backend in entry.backends)
        and (command.structure is None or command.structure in entry.structures)
        and (entry.mass or not command.mass)
        and (entry.batched or not command.batched)
    )


def _yes(value) -> str:
    if value:
        return "yes"
    return "-"
