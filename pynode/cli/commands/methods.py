"""The options of ``pynode methods``."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, ClassVar, Literal

from cyclopts import Parameter

from ...core.option_kinds import Count
from ..common import Command, one_of

EPILOGUE = """\
Examples:

    pynode methods rosenbrock
    pynode methods --implicit --structure sparse
"""
_KINDS = one_of("Kind of method", 1)


@dataclass(frozen=True)
class Methods(Command):
    """List the methods.

    Explicit methods come first. The options filter the list, and a method must satisfy all of them:
    --implicit --structure sparse lists the implicit methods that take a sparse Jacobian.
    """

    work: ClassVar[str] = "methods:run"
    name: Annotated[str, Parameter(metavar="TEXT")] = ""
    """Only methods whose name, family or reference contains this text."""
    _: KW_ONLY
    explicit: Annotated[bool, Parameter(group=_KINDS)] = False
    """Only explicit methods."""
    implicit: Annotated[bool, Parameter(group=_KINDS)] = False
    """Only implicit methods."""
    switching: Annotated[bool, Parameter(group=_KINDS)] = False
    """Only methods that switch between an explicit and an implicit one."""
    order: Count | None = None
    """Only methods of at least this order."""
    backend: Literal["torch", "native", "julia"] | None = None
    """Only methods of this engine."""
    structure: Literal["dense", "sparse", "banded", "krylov"] | None = None
    """Only methods that take this kind of Jacobian."""
    mass: bool = False
    """Only methods that take mass matrices."""
    batched: bool = False
    """Only methods that take a separate step for every row of a batch."""
    references: bool = False
    """Show where the methods are published, instead of their properties."""
    json: bool = False
    """Print a JSON list of objects."""


COMMAND = Methods
