"""Starts Julia once a process, and says in a sentence why where it cannot."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from pathlib import Path

from .setup import versions
from .setup.locate import INSTALL, Location, locate, why
from .setup.packages import first_fault
from .setup.process import version
from .setup.versions import package

THREADS = (
    "Julia was started by another thread and must be called from that one. Autograd runs the"
    " backward pass of CUDA tensors on threads of its own: wrap it in `with"
    " pynode.julia.same_thread(): loss.backward()`"
)


class JuliaUnavailable(RuntimeError):
    """Julia cannot serve here; the message says why and what to do."""


class Runtime:
    """The running Julia: ``package`` is the module PyNODE, ``main`` Julia's Main."""

    def __init__(self, main, location):
        self.main = main
        self.location = location
        self.package = main.PyNODE
        self.thread = threading.get_ident()
        self._algorithms = {}
        self._optional = {}

    def check_thread(self):
        """RuntimeError where this is not the thread that started Julia: entering it from another
        one would crash."""
        if threading.get_ident() != self.thread:
            raise RuntimeError(THREADS)

    def algorithm(self, name, krylov=False):
        """SciML's algorithm of this name; JuliaUnavailable where the package that has it is not in
        the project."""
        key = name, krylov
        if key not in self._algorithms:
            for option, part in (("radau", "Radau"), ("sundials", "CVODE")):
                if part in name and not self.loads(versions.OPTIONS[option]):
                    raise JuliaUnavailable(
                        f"{name} needs the Julia package {versions.OPTIONS[option]}: {INSTALL}"
                        f" --{option}"
                    )
            self._algorithms[key] = self.package.algorithm(name, krylov=krylov)
        return self._algorithms[key]

    def loads(self, name) -> bool:
        """Whether an optional Julia package could be loaded; tried once."""
        if name not in self._optional:
            present = self.main.seval(f'Base.identify_package("{name}") !== nothing')
            if present:
                self.main.seval(f"import {name}")
            self._optional[name] = bool(present)
        return self._optional[name]


_RUNTIME = _FAILURE = None


def running() -> bool:
    return _RUNTIME is not None


def start() -> Runtime:
    """The running Julia with PyNODE loaded, started at the first call (seconds). JuliaUnavailable
    says why it cannot.

    A start that failed is not tried again: a second one in the same process would crash it.
    """
    global _RUNTIME, _FAILURE
    if _FAILURE is not None:
        raise JuliaUnavailable(_FAILURE)
    if _RUNTIME is None:
        location = locate()
        if not location.ready:
            raise JuliaUnavailable(str(location))
        try:
            _RUNTIME = started(location)
        except JuliaUnavailable as error:
            _FAILURE = str(error)
            raise
    _RUNTIME.check_thread()
    return _RUNTIME


def started(location: Location) -> Runtime:
    """Start the Julia of this location; JuliaUnavailable says why it cannot."""
    already = "juliacall" in sys.modules
    for name, value in location.environment.items():
        if not already and not os.environ.get(name):
            os.environ[name] = value
    os.environ.setdefault("PYTHON_JULIAPKG_OFFLINE", "yes")
    os.environ.setdefault("PYTHON_JULIACALL_HANDLE_SIGNALS", "no")  # Ctrl-C belongs to Python
    try:
        with warnings.catch_warnings():
            # It warns where torch was imported first: on Linux both orders work (see `pynode
            # doctor`, which tries them).
            warnings.filterwarnings("ignore", message=".*torch was imported before juliacall.*")
            from juliacall import Main
    except Exception as error:  # a broken Julia can fail in any way
        raise JuliaUnavailable(why(_starting(error, location))) from error
    try:
        Main.seval(f'let path = raw"{package()}"; path in LOAD_PATH || push!(LOAD_PATH, path); end')
        Main.seval("import PyNODE")
    except Exception as error:
        raise JuliaUnavailable(why(_loading(error, Main, already))) from error
    return Runtime(Main, location)


def _starting(error, location) -> str:
    """Why Julia did not start, looked for afterwards in processes of their own."""
    found = version(location.exe)
    if not found:
        return f"{location.exe} is not a Julia that runs here: see pynode doctor"
    if not versions.fits(found):
        return (
            f"{location.exe} is Julia {found}, but {versions.julia()} or a later 1.x is needed:"
            " install one"
        )
    return first_fault(location) or f"it did not start ({_first_line(error)}): see pynode doctor"


def _loading(error, main, already) -> str:
    """Why PyNODE could not be loaded into the Julia that runs."""
    exe = Path(str(main.seval("Sys.BINDIR"))) / ("julia.exe" if os.name == "nt" else "julia")
    project = Path(str(main.seval('something(Base.active_project(), "")'))).parent
    fault = first_fault(Location("", str(exe), str(project)))
    told = (
        fault
        or f"PyNODE did not load in the project {project} ({_first_line(error)}): see pynode doctor"
    )
    if already:
        return f"another package had started Julia, with its own project, and {told}"
    return told


def _first_line(error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
