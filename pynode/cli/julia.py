"""The command ``pynode julia install | status | use | sysimage``."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ..backends.julia import api as julia
from ..backends.julia.setup import sysimage, versions
from .command import finish, print_json

JULIA = """\
SciML's solvers for solve(..., backend="julia"). The rest of pynode does not need them.
"""
INSTALL = """\
Download the solvers of DifferentialEquations.jl and precompile them. Download Julia too, if no
suitable Julia is installed. This takes 0.5 to 1 GB and 5 to 20 minutes; the command prints a closer
estimate before it begins. The files go where juliacall looks for them: into the active virtual or
conda environment, or into ~/.julia if there is none.
"""
STATUS = """\
Show which Julia pynode would start, without starting it. The exit code is 0 if there is one, and 1
otherwise.
"""
USE = """\
Remember your own Julia, so that later processes find it without environment variables. The project
must contain the solvers, and PythonCall at the version of juliacall. pynode doctor shows what is
missing.
"""
SYSIMAGE = """\
Compile PyNODE and the solvers into a system image, with which later processes start Julia faster.
This takes 5 to 30 minutes and 0.3 to 1 GB in the folder for caches. It needs a C compiler and the
Julia package PackageCompiler. Starts use the image until Julia or a package changes; pynode doctor
says whether they do.
"""


def add_options(own: argparse.ArgumentParser) -> None:
    """Add the actions of 'pynode julia' and their options."""
    own.description = JULIA
    below = own.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=type(own)
    )
    install = below.add_parser(
        "install", help="download Julia and the solvers", description=INSTALL
    )
    install.add_argument(
        "--sensitivity",
        action="store_true",
        help="add SciMLSensitivity for its adjoints; the native adjoint does not need it",
    )
    install.add_argument(
        "--radau", action="store_true", help="add OrdinaryDiffEqFIRK for the Radau IIA methods"
    )
    install.add_argument(
        "--sundials", action="store_true", help="add Sundials for CVODE_BDF and ARKODE"
    )
    install.add_argument(
        "--exponential",
        action="store_true",
        help="add OrdinaryDiffEqExponentialRK for ETDRK2, ETDRK3 and ETDRK4",
    )
    install.add_argument(
        "--gpu",
        action="store_true",
        help="add CUDA.jl for states on the GPU, JuliaBackend(state='cuda')",
    )
    install.add_argument(
        "--sysimage", action="store_true", help="add PackageCompiler for pynode julia sysimage"
    )
    finish(install, _install)
    status = below.add_parser(
        "status", help="show which Julia pynode would start", description=STATUS
    )
    finish(status, _status, "print one JSON object")
    use = below.add_parser("use", help="remember your own Julia", description=USE)
    use.add_argument("--exe", metavar="FILE", help="the julia program")
    use.add_argument(
        "--project", metavar="DIR", help="the folder of the Julia project with the solvers"
    )
    use.add_argument("--forget", action="store_true", help="forget the remembered Julia")
    finish(use, _use)
    made = below.add_parser(
        "sysimage", help="compile Julia's packages into one file", description=SYSIMAGE
    )
    made.add_argument("--remove", action="store_true", help="remove the file")
    finish(made, _sysimage)


def _log(arguments) -> Callable[[str], None]:
    """Prints lines about progress, unless --quiet."""

    def log(line: str) -> None:
        if not arguments.quiet:
            print(line, flush=True)

    return log


def _install(arguments) -> int:
    chosen = {option: getattr(arguments, option) for option in versions.OPTIONS}
    julia.install(**chosen, progress=_log(arguments))
    return 0


def _sysimage(arguments) -> int:
    if arguments.remove:
        print("Removed." if sysimage.remove() else "There was no system image.")
    else:
        sysimage.make(_log(arguments))
    return 0


def _status(arguments) -> int:
    location = julia.status()
    if arguments.json:
        print_json({"ready": location.ready, "text": str(location)})
    else:
        print(location)
    if location.ready:
        return 0
    return 1


def _use(arguments) -> int:
    if arguments.forget:
        if arguments.exe or arguments.project:
            raise ValueError("--forget takes neither --exe nor --project: remove them")
        print("Forgotten." if julia.forget() else "No Julia was remembered.")
        return 0
    if not (arguments.exe and arguments.project):
        raise ValueError("give both --exe and --project, or --forget")
    print(f"Remembered in {julia.use(arguments.exe, arguments.project)}. Try it: pynode doctor")
    return 0
