"""The options of ``pynode compare``."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from cyclopts import Parameter

from ...compare.defaults import MAX_NFE, METHODS, REFERENCE_RTOLS, RTOLS
from ...core.option_kinds import Names, Numbers, OwnBackend, Whole
from ..common import FLAT, Command, Threads, one_of
from ..target_help import MANY

EPILOGUE = """\
Files written to --out, named after the target:

    compare-NAME.csv   the table
    compare-NAME.png   the error against evaluations and against time
    stiffness.png      with --stiffness
    compare.html       with --report; you can read it offline, and send it by mail

Examples:

    pynode compare out/robertson/model.pt
    pynode compare vanderpol --methods fbdf,qndf,tsit5 --rtol 1e-4,1e-6,1e-8
    pynode compare vanderpol --backend native
    pynode compare out/before/model.pt out/after/model.pt --report
    pynode compare out/robertson/epochs/*.pt --stiffness
"""
_KIND = one_of("Kind of comparison", 1)


@dataclass(frozen=True)
class Compare(Command):
    """Compare methods on one vector field.

    Solve the same dynamics with each method, and compare accuracy with work: steps, evaluations of
    f, Jacobians, LU factorisations, time, and the error against a tight reference. The table also
    shows whether each solve finished within --max-nfe.

    --report writes one page with pictures. It adds a diagnosis of the stiffness, the gradients of
    different adjoints, and a test whether another solver makes another model of the dynamics. For
    several targets, such as a model before and after training, the page shows the change from one
    target to the next.
    """

    work: ClassVar[str] = "compare:run"
    targets: Annotated[tuple[str, ...], Parameter(metavar="TARGET", help=MANY, negative="")]
    _: KW_ONLY
    methods: Names = METHODS
    """Names separated by commas, see pynode methods. julia:NAME is a method of SciML."""
    rtol: Numbers = RTOLS
    """Tolerances, separated by commas."""
    reference_rtol: Numbers = REFERENCE_RTOLS
    """Tolerances of the reference solve, which uses the first that succeeds."""
    max_nfe: Whole = MAX_NFE
    """Maximum evaluations of f in one solve. 0 sets no limit."""
    backend: OwnBackend = "auto"
    """Engine of the methods and of the reference: torch, or native code, see docs/native.md. auto
    is torch."""
    stiffness: Annotated[bool, Parameter(group=_KIND)] = False
    """Show only the stiffness of each target and its change. Compare no methods."""
    report: Annotated[bool, Parameter(group=_KIND)] = False
    """Write compare.html. This takes a minute or more per target."""
    out: Annotated[Path, Parameter(metavar="DIR")] = Path("out")
    """Folder for the files."""
    threads: Annotated[Threads, FLAT] = Threads()
    json: bool = False
    """Print the rows as JSON instead of the table."""


COMMAND = Compare
