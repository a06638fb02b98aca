"""The module ``pynode.julia``: functions to install, choose and start Julia. Only ``start`` starts
Julia in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from . import algorithms
from . import runtime as _runtime
from .algorithms import JuliaMethod
from .runtime import JuliaUnavailable, JuliaValue
from .setup import locate as _locate
from .setup import process, versions
from .setup.locate import Location

__all__ = [
    "JuliaUnavailable",
    "Location",
    "compile_image",
    "forget",
    "install",
    "method",
    "start",
    "status",
    "use",
]


def status() -> Location:
    """The Julia that a solve would start and what named it, or the problem. str() of the result is
    a sentence.

    This function reads variables and files (milliseconds). It starts, imports, downloads and
    changes nothing.
    """
    return _locate.locate()


def install(
    gpu: bool = False,
    sensitivity: bool = False,
    radau: bool = False,
    sundials: bool = False,
    exponential: bool = False,
    sysimage: bool = False,
    progress: Callable[[str], object] = print,
) -> Path:
    """Download the solvers and precompile them. Download Julia too, if there is none. This takes
    0.5 to 1 GB and 5 to 20 minutes.

    sensitivity: add SciMLSensitivity for its adjoints; the native adjoint does not need it. radau:
    add OrdinaryDiffEqFIRK for the Radau IIA methods. sundials: add Sundials for CVODE_BDF and
    ARKODE. exponential: add OrdinaryDiffEqExponentialRK for ETDRK2 to ETDRK4. gpu: add CUDA.jl for
    JuliaBackend(state='cuda') and for your own Julia code. sysimage: add PackageCompiler for
    ``compile_image``. progress(line) receives a line for each stage; the first one says what the
    installation downloads. The options of earlier installations stay. Returns the folder of the
    Julia project. Raises JuliaUnavailable if the installation fails; then the earlier state
    returns.
    """
    from .setup.install import install as run

    wanted = {
        "gpu": gpu,
        "sensitivity": sensitivity,
        "radau": radau,
        "sundials": sundials,
        "exponential": exponential,
        "sysimage": sysimage,
    }
    return run([option for option, chosen in wanted.items() if chosen], progress)


def compile_image(progress: Callable[[str], object] = print) -> Path:
    """Compile a system image, with which later processes start Julia faster. This takes 5 to 30
    minutes, 0.3 to 1 GB, a C compiler, and the Julia package PackageCompiler.

    Returns the file, which is in the folder for caches. Starts use it until Julia or a package
    changes. progress(line) receives a line for each stage. Raises JuliaUnavailable, with the
    remedy, if something is missing.
    """
    from .setup.sysimage import make

    return make(progress)


def use(exe: str | os.PathLike[str], project: str | os.PathLike[str]) -> Path:
    """Remember your own Julia for this process and later ones. Returns the configuration file that
    stores it.

    exe: path of the julia program. project: folder of a project that contains the solvers, and
    PythonCall at the version of juliacall. The file also stores JULIA_DEPOT_PATH, JULIA_LOAD_PATH
    and JULIA_CPU_TARGET, if they are set. The variables PYTHON_JULIACALL_EXE and
    PYTHON_JULIACALL_PROJECT have priority over the file. Raises ValueError if exe is no Julia or is
    too old, or if project is no project.
    """
    path = Path(exe).expanduser()
    version = process.version(str(path))
    if path.exists() and not version:
        raise ValueError(f"{exe} is not a Julia that runs here: give the path of the julia program")
    if version and not versions.fits(version):
        raise ValueError(
            f"{exe} is Julia {version}, but {versions.julia()} or a later 1.x is needed"
        )
    return _locate.remember(path, project)


def forget() -> bool:
    """Undo ``use``. Returns False if no Julia was remembered."""
    return _locate.forget()


def method(name: str | JuliaValue, jacobian: object = "dense") -> JuliaMethod:
    """A method of SciML with its options, for ``solve(..., method=...)``.

    name: the name of the method, such as 'KenCarp5', or an algorithm object of diffeqpy. jacobian:
    'dense', 'sparse', 'krylov', or a structure such as pynode.Sparse(pattern). Methods with a class
    of the same name need no call: pynode.FBDF(jacobian='sparse') means the same on both engines.
    Raises ValueError if Julia has no method of this name.
    """
    return replace(algorithms.get(name), jacobian=jacobian)


def start() -> None:
    """Start Julia now instead of at the first solve (seconds). Raises JuliaUnavailable if Julia
    cannot start.

    Afterwards every thread may solve. If another package has started Julia, call this function
    once in the thread that did so.
    """
    _runtime.start()
