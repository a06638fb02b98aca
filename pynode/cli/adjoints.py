"""The command ``pynode adjoints``."""

from __future__ import annotations

from dataclasses import asdict

from ..core.text_table import text_table
from . import catalogue
from .call import Call
from .commands.adjoints import Adjoints
from .output import print_json


def run(command: Adjoints, call: Call) -> int:
    """List them; returns the exit code."""
    entries = catalogue.adjoints()
    if command.json:
        print_json([asdict(entry) for entry in entries])
        return 0
    cells = [
        ("name", "adjoint=", "what it is"),
        *((e.name, repr(e.short), e.what) for e in entries),
    ]
    print("\n".join(text_table(cells, left=(0, 1, 2), wrapped=2)))
    return 0
