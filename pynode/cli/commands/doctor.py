"""The options of ``pynode doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from cyclopts import Parameter

from ...core.option_kinds import Positive
from ..common import Command

EPILOGUE = ""


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Check the installation.

    Examine the installation and try it. Each trial runs in its own process with a time limit. The
    trials cover where Julia is, its version, its packages, both orders of importing torch and
    juliacall, a solve with its gradient, and the GPU. Each finding has a remedy. The exit code is 0
    if everything that is installed works, and 1 otherwise. Julia may be absent: pynode works
    without it.
    """

    work: ClassVar[str] = "doctor:run"
    limit: Annotated[Positive, Parameter(metavar="S")] = 900.0
    """Time limit of one trial in seconds. The first start after an update takes minutes."""
    json: bool = False
    """Print one JSON object at the end."""


COMMAND = Doctor
