"""The options of ``pynode adjoints``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..common import Command

EPILOGUE = ""


@dataclass(frozen=True, kw_only=True)
class Adjoints(Command):
    """List the adjoints.

    The default comes first. An adjoint computes the gradient of a solve, see docs/adjoints.md.
    """

    work: ClassVar[str] = "adjoints:run"
    json: bool = False
    """Print a JSON list of objects."""


COMMAND = Adjoints
