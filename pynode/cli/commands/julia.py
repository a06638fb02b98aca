"""The options of ``pynode julia install | status | use | sysimage``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from cyclopts import Parameter

from ..common import Command

ABOUT = """\
Install, choose or show Julia.

SciML's solvers for solve(..., backend="julia"). The rest of pynode does not need them.
"""


@dataclass(frozen=True, kw_only=True)
class Install(Command):
    """Download Julia and the solvers.

    Download the solvers of DifferentialEquations.jl and precompile them. Download Julia too, if no
    suitable Julia is installed. This takes 0.5 to 1 GB and 5 to 20 minutes; the command prints a
    closer estimate before it begins. The files go where juliacall looks for them: into the active
    virtual or conda environment, or into ~/.julia if there is none.
    """

    work: ClassVar[str] = "julia:install"
    sensitivity: bool = False
    """Add SciMLSensitivity for its adjoints. The native adjoint does not need it."""
    radau: bool = False
    """Add OrdinaryDiffEqFIRK for the Radau IIA methods."""
    sundials: bool = False
    """Add Sundials for CVODE_BDF and ARKODE."""
    exponential: bool = False
    """Add OrdinaryDiffEqExponentialRK for ETDRK2, ETDRK3 and ETDRK4."""
    gpu: bool = False
    """Add CUDA.jl for states on the GPU, JuliaBackend(state='cuda')."""
    sysimage: bool = False
    """Add PackageCompiler for pynode julia sysimage."""


@dataclass(frozen=True, kw_only=True)
class Status(Command):
    """Show which Julia pynode would start.

    This does not start it. The exit code is 0 if there is one, and 1 otherwise.
    """

    work: ClassVar[str] = "julia:status"
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True, kw_only=True)
class Use(Command):
    """Remember your own Julia.

    Later processes then find it without environment variables. The project must contain the
    solvers, and PythonCall at the version of juliacall. pynode doctor shows what is missing.
    """

    work: ClassVar[str] = "julia:use"
    exe: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """The julia program."""
    project: Annotated[Path | None, Parameter(metavar="DIR")] = None
    """The folder of the Julia project with the solvers."""
    forget: bool = False
    """Forget the remembered Julia."""


@dataclass(frozen=True, kw_only=True)
class Sysimage(Command):
    """Compile Julia's packages into one file.

    Later processes start Julia faster with this system image of PyNODE and the solvers. Making it
    takes 5 to 30 minutes and 0.3 to 1 GB in the folder for caches. It needs a C compiler and the
    Julia package PackageCompiler. Starts use the image until Julia or a package changes; pynode
    doctor says whether they do.
    """

    work: ClassVar[str] = "julia:sysimage"
    remove: bool = False
    """Remove the file."""


ACTIONS = {"install": Install, "status": Status, "use": Use, "sysimage": Sysimage}
