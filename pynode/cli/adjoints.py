"""The command ``pynode adjoints``."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ..compare.tables import aligned
from . import catalogue
from .command import finish, print_json

ADJOINTS = """\
List the adjoints, the default first. An adjoint computes the gradient of a solve, see
docs/adjoints.md.
"""


def add_options(own: argparse.ArgumentParser) -> None:
    """Add the options of 'pynode adjoints'."""
    own.description = ADJOINTS
    finish(own, _run, "print a JSON list of objects")


def _run(arguments) -> int:
    entries = catalogue.adjoints()
    if arguments.json:
        print_json([asdict(entry) for entry in entries])
        return 0
    cells = [
        ("name", "adjoint=", "what it is"),
        *((e.name, repr(e.short), e.what) for e in entries),
    ]
    print("\n".join(aligned(cells, left=(0, 1, 2))))
    return 0
