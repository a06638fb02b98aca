"""Julia for the user: installing it, choosing it, starting it. Nothing here starts Julia but
``start``."""

from __future__ import annotations

from pathlib import Path

import torch

from . import runtime as _runtime
from .runtime import JuliaUnavailable
from .setup import locate as _locate
from .setup import process, versions
from .setup.locate import Location

__all__ = [
    "JuliaUnavailable",
    "Location",
    "forget",
    "install",
    "same_thread",
    "start",
    "status",
    "use",
]


def status() -> Location:
    """Which Julia a solve would start, and by what it was chosen, or the problem; str() of it is a
    sentence.

    Looks at variables and files alone (milliseconds): nothing is started, imported, downloaded or
    changed.
    """
    return _locate.locate()


def install(gpu=False, sensitivity=False, radau=False, sundials=False, progress=print) -> Path:
    """Download Julia, where there is none, and the solvers, and precompile them: 0.5 to 1 GB, 5 to
    20 minutes.

    sensitivity: SciMLSensitivity, for its adjoints beside the native one. radau:
    OrdinaryDiffEqFIRK, for the Radau IIA methods. sundials: Sundials, for CVODE_BDF. gpu: CUDA.jl,
    for JuliaBackend(state='cuda') and Julia code of your own. progress(line) is told what happens,
    first of all what will be downloaded. What earlier installations had is kept. Returns the folder
    of the Julia project. JuliaUnavailable where it fails; nothing counts as installed then.
    """
    from .setup.install import install as run

    wanted = {"gpu": gpu, "sensitivity": sensitivity, "radau": radau, "sundials": sundials}
    return run([option for option, chosen in wanted.items() if chosen], progress)


def use(exe, project) -> Path:
    """Remember a Julia that you manage, in the user's configuration, for this and later processes;
    returns the file.

    exe: path of the julia program; project: folder of a project with the solvers and PythonCall at
    juliacall's version. JULIA_DEPOT_PATH, JULIA_LOAD_PATH and JULIA_CPU_TARGET are remembered with
    it. The variables PYTHON_JULIACALL_EXE and PYTHON_JULIACALL_PROJECT, where set, come first.
    ValueError for what is no Julia, no project, or too old.
    """
    path = Path(exe).expanduser()
    found = process.version(str(path))
    if path.exists() and not found:
        raise ValueError(f"{exe} is not a Julia that runs here: give the path of the julia program")
    if found and not versions.fits(found):
        raise ValueError(f"{exe} is Julia {found}, but {versions.julia()} or a later 1.x is needed")
    return _locate.remember(path, project)


def forget() -> bool:
    """Undo ``use``; False where nothing was remembered."""
    return _locate.forget()


def start() -> None:
    """Start Julia now (seconds) instead of at the first solve, in the thread that will solve.
    JuliaUnavailable if it cannot."""
    _runtime.start()


def same_thread():
    """A context manager that keeps the backward pass of CUDA tensors on the thread that started
    Julia.

    Autograd runs it on a thread of its own otherwise, which must not enter Julia:

        with pynode.julia.same_thread():
            loss.backward()
    """
    return torch.autograd.set_multithreading_enabled(False)
