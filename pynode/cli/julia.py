"""The commands about Julia: ``pynode julia install | status | use`` and ``pynode doctor``."""

from __future__ import annotations

from .. import doctor
from ..backends.julia import api as julia
from .command import finish, print_json
from .values import positive

JULIA = """\
SciML's solvers behind solve(..., backend="julia"). Nothing of pynode needs them but that backend.
"""
INSTALL = """\
Download Julia, where there is none that fits, and the solvers of DifferentialEquations.jl, and
precompile them: 0.5 to 1 GB and 5 to 20 minutes, said more exactly before it begins. They go where
juliacall looks by itself: the virtual or conda environment in use, or ~/.julia outside of one.
"""
STATUS = (
    "Say which Julia would be started, without starting it. Exit code 0 where there is one, 1"
    " otherwise."
)
USE = """\
Remember a Julia that you manage yourself, so that later processes find it without variables. The
project must hold the solvers and PythonCall at the version of juliacall; pynode doctor says what is
missing.
"""
DOCTOR = """\
Look at what is installed and try it, each trial in a process of its own with a limit on its time:
where Julia is, its version, its packages, both orders of importing torch and juliacall, a solve
with its gradient, the GPU. Each finding has its remedy. Exit code 0 where all is well, 1 otherwise.
"""


def add_commands(commands):
    """Add 'julia' and 'doctor' to the subparsers of the top parser."""
    own = commands.add_parser("julia", help="install, choose or look at Julia", description=JULIA)
    below = own.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=type(own)
    )
    install = below.add_parser(
        "install", help="download Julia and the solvers", description=INSTALL
    )
    install.add_argument(
        "--sensitivity",
        action="store_true",
        help="with SciMLSensitivity: its adjoints beside the native one",
    )
    install.add_argument(
        "--radau", action="store_true", help="with OrdinaryDiffEqFIRK: the Radau IIA methods"
    )
    install.add_argument("--sundials", action="store_true", help="with Sundials: CVODE_BDF")
    install.add_argument(
        "--gpu",
        action="store_true",
        help="with CUDA.jl, for states on the GPU: JuliaBackend(state='cuda')",
    )
    finish(install, _install)
    status = below.add_parser("status", help="say which Julia would be started", description=STATUS)
    finish(status, _status, "print one JSON object")
    use = below.add_parser("use", help="remember a Julia of your own", description=USE)
    use.add_argument("--exe", metavar="FILE", help="the julia program")
    use.add_argument(
        "--project", metavar="DIR", help="the folder of the Julia project with the solvers"
    )
    use.add_argument("--forget", action="store_true", help="forget it again")
    finish(use, _use)
    look = commands.add_parser("doctor", help="find out whether all works here", description=DOCTOR)
    look.add_argument(
        "--limit",
        type=positive,
        default=doctor.LIMIT,
        metavar="S",
        help=(
            "seconds for one trial (default: %(default)g; the first start after an update takes"
            " minutes)"
        ),
    )
    finish(look, _doctor, "print one JSON object at the end")


def _install(arguments) -> int:
    def say(line):
        if not arguments.quiet:
            print(line, flush=True)

    julia.install(
        arguments.gpu, arguments.sensitivity, arguments.radau, arguments.sundials, progress=say
    )
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
            raise ValueError("--forget goes without --exe and --project")
        print("Forgotten." if julia.forget() else "No Julia had been remembered.")
        return 0
    if not (arguments.exe and arguments.project):
        raise ValueError("give both --exe and --project, or --forget")
    print(f"Remembered in {julia.use(arguments.exe, arguments.project)}. Try it: pynode doctor")
    return 0


def _doctor(arguments) -> int:
    findings = doctor.examine(
        arguments.limit,
        report=None if arguments.json else lambda finding: print(finding, flush=True),
    )
    if arguments.json:
        print(doctor.as_json(findings))
    if doctor.healthy(findings):
        return 0
    return 1
