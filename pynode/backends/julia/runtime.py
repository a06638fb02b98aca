"""Starts Julia once in a process. If Julia cannot start, an error says why in one sentence."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, TypeAlias

from .setup import versions
from .setup.locate import INSTALL, Location, locate, why
from .setup.packages import first_fault
from .setup.process import version
from .setup.versions import package

# What juliacall returns: a proxy of a Julia value, whose attributes only Julia knows.
JuliaValue: TypeAlias = Any

THREADS = (
    "Julia was started by another thread and must be called from that one. Autograd runs the"
    " backward pass of CUDA tensors on its own threads: wrap it in `with"
    " pynode.julia.same_thread(): loss.backward()`"
)


class JuliaUnavailable(RuntimeError):
    """Julia cannot be used here. The message says why, and what to do."""


class Runtime:
    """The running Julia.

    package: the module PyNODE; main: Julia's module Main; location: which Julia it is; thread: the
    thread that started it.
    """

    def __init__(self, main: JuliaValue, location: Location):
        self.main = main
        self.location = location
        self.package = main.PyNODE
        self.thread = threading.get_ident()
        self._algorithms: dict[tuple[str, bool], JuliaValue] = {}
        self._optional: dict[str, bool] = {}

    def check_thread(self) -> None:
        """Raise RuntimeError if another thread started Julia. A call from this one would crash the
        process."""
        if threading.get_ident() != self.thread:
            raise RuntimeError(THREADS)

    def algorithm(self, name: str, krylov: bool = False) -> JuliaValue:
        """SciML's algorithm of this name. krylov: whether GMRES solves its linear systems. Raises
        JuliaUnavailable if the project lacks the package of the algorithm."""
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

    def loads(self, name: str) -> bool:
        """Load an optional Julia package at the first call. Returns whether the project contains
        it."""
        if name not in self._optional:
            present = self.main.seval(f'Base.identify_package("{name}") !== nothing')
            if present:
                self.main.seval(f"import {name}")
            self._optional[name] = bool(present)
        return self._optional[name]


_RUNTIME: Runtime | None = None
_FAILURE: str | None = None


def running() -> bool:
    """Whether pynode has started Julia in this process."""
    return _RUNTIME is not None


def start() -> Runtime:
    """The running Julia, with PyNODE loaded. The first call starts it (seconds). Raises
    JuliaUnavailable, with the reason, if Julia cannot start.

    After a failure, further calls raise the same error without a new attempt, because a second
    start in one process crashes.
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
    """Start the Julia of this location. Raises JuliaUnavailable, with the reason, if it cannot
    start."""
    already = "juliacall" in sys.modules
    for name, value in location.environment.items():
        if not already and not os.environ.get(name):
            os.environ[name] = value
    os.environ.setdefault("PYTHON_JULIAPKG_OFFLINE", "yes")
    os.environ.setdefault("PYTHON_JULIACALL_HANDLE_SIGNALS", "no")  # Python handles Ctrl-C
    try:
        with warnings.catch_warnings():
            # juliacall warns if torch was imported first. On Linux both orders work; `pynode
            # doctor` tries both.
            warnings.filterwarnings("ignore", message=".*torch was imported before juliacall.*")
            from juliacall import Main
    except Exception as error:  # a broken Julia can raise any exception
        raise JuliaUnavailable(why(_starting(error, location))) from error
    try:
        Main.seval(f'let path = raw"{package()}"; path in LOAD_PATH || push!(LOAD_PATH, path); end')
        Main.seval("import PyNODE")
    except Exception as error:
        raise JuliaUnavailable(why(_loading(error, Main, already))) from error
    return Runtime(Main, location)


def _starting(error: Exception, location: Location) -> str:
    """Why Julia did not start. Other processes look for the reason afterwards."""
    own = version(location.exe)
    if not own:
        return f"{location.exe} is not a Julia that runs here: see pynode doctor"
    if not versions.fits(own):
        return (
            f"{location.exe} is Julia {own}, but {versions.julia()} or a later 1.x is needed:"
            " install one"
        )
    return first_fault(location) or f"it did not start ({_first_line(error)}): see pynode doctor"


def _loading(error: Exception, main: JuliaValue, already: bool) -> str:
    """Why the running Julia cannot load PyNODE. already: whether another package started this
    Julia."""
    exe = Path(str(main.seval("Sys.BINDIR"))) / ("julia.exe" if os.name == "nt" else "julia")
    project = Path(str(main.seval('something(Base.active_project(), "")'))).parent
    fault = first_fault(Location("", str(exe), str(project)))
    reason = (
        fault
        or f"PyNODE did not load in the project {project} ({_first_line(error)}): see pynode doctor"
    )
    if already:
        return f"another package had started Julia, with its own project, and {reason}"
    return reason


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
