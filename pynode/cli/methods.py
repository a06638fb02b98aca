"""The command ``pynode methods``: a list."""

from __future__ import annotations

from dataclasses import asdict

from ..compare.tables import aligned
from . import catalogue
from .call import Call
from .commands.methods import Methods
from .output import print_json

KINDS = ["explicit", "implicit", "switching"]


def run(command: Methods, call: Call) -> int:
    """List them; returns the exit code."""
    entries = [entry for entry in catalogue.methods() if _matches(entry, command)]
    if command.json:
        print_json([asdict(entry) for entry in entries])
        return 0
    if not entries:
        raise ValueError("no method has all of these properties: remove one of the options")
    head = ("name", "kind", "order", "Jacobians", "mass", "batched", "backends", "reference")
    lines = [
        (
            e.name,
            e.kind,
            e.order,
            ",".join(e.structures) or "-",
            _yes(e.mass),
            _yes(e.batched),
            ",".join(e.backends),
            e.reference,
        )
        for e in entries
    ]
    print("\n".join(aligned([head, *lines], left=(0, 1, 3, 4, 5, 6, 7))))
    return 0


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
