"""The options of ``pynode adjoints``."""

from __future__ import annotations

from dataclasses import dataclass

from ..common import Command
from ..signals import Ending

EPILOGUE = ""


@dataclass(frozen=True, kw_only=True)
class Adjoints(Command):
    """List the adjoints.

    The default comes first. An adjoint computes the gradient of a solve, see docs/adjoints.md.
    """

    json: bool = False
    """Print a JSON list of objects."""

    def run(self, ending: Ending) -> int:
        from ..adjoints import run

        return run(self)


COMMAND = Adjoints
