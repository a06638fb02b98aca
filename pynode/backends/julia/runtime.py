"""Starts Julia once in a process. If Julia cannot start, an error says why in one sentence.

Every thread may then call Julia: Julia adopts it. The thread that has started Julia stays in a
state in which Julia's garbage collector does not wait for it, except while it is in Julia.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, TypeAlias

from ...core.explained import ExplainedError
from . import signals
from .entries import Entries
from .setup import versions
from .setup.locate import INSTALL, Location, locate, why
from .setup.packages import first_fault
from .setup.process import version
from .setup.versions import package

# What juliacall returns: a proxy of a Julia value, whose attributes only Julia knows.
JuliaValue: TypeAlias = Any

FIRST_CALL = (
    "another package has started Julia in another thread, which pynode has to prepare once: call"
    " pynode.julia.start() there"
)


class JuliaUnavailable(ExplainedError):
    """Julia cannot be used here. The message says why, and what to do."""


class _OtherThread(JuliaUnavailable):
    """Another thread has to do this. There it can succeed."""


class Runtime:
    """The running Julia.

    package: the module PyNODE; main: Julia's module Main; location: which Julia it is; entries: its
    C functions; threads: how many threads Julia has of its own.
    """

    def __init__(self, main: JuliaValue, location: Location):
        self.main = main
        self.location = location
        self.package = main.PyNODE
        known = _connected(main)
        self.entries = Entries(known, parallel=known["signals"] != 0)
        self.threads = known["threads"]
        self._algorithms: dict[tuple[str, bool], int] = {}
        self._objects: dict[int, tuple[JuliaValue, int]] = {}
        self._optional: dict[str, bool] = {}

    def algorithm(self, name: str, krylov: bool = False) -> int:
        """The number, in a Request, of SciML's algorithm of this name. krylov: whether GMRES solves
        its linear systems. Raises JuliaUnavailable if the project lacks the package of the
        algorithm."""
        key = name, krylov
        if key not in self._algorithms:
            option = versions.option_of(name)
            if option is not None and not self.loads(versions.OPTIONS[option]):
                raise JuliaUnavailable(
                    f"{name} needs the Julia package {versions.OPTIONS[option]}: {INSTALL}"
                    f" --{option}"
                )
            self._algorithms[key] = self.entries.choose(name, krylov)
        return self._algorithms[key]

    def chosen(self, algorithm: JuliaValue) -> int:
        """The number of an algorithm object."""
        found = self._objects.get(id(algorithm))
        if found is None:
            found = (algorithm, int(self.package.choose(algorithm)))
            self._objects[id(algorithm)] = found
        return found[1]

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
# Of several threads with a first solve, one starts Julia and the others wait.
_STARTING = threading.Lock()


def running() -> bool:
    """Whether pynode has started Julia in this process."""
    return _RUNTIME is not None


def start() -> Runtime:
    """The running Julia, with PyNODE loaded. The first call starts it (seconds). Raises
    JuliaUnavailable, with the reason, if Julia cannot start.

    After a failure, further calls raise the same error without a new attempt, because a second
    start in one process crashes.
    """
    if _RUNTIME is not None:
        return _RUNTIME
    with _STARTING:
        return _started_once()


def _started_once() -> Runtime:
    global _RUNTIME, _FAILURE
    if _FAILURE is not None:
        raise JuliaUnavailable(_FAILURE)
    if _RUNTIME is None:
        location = locate()
        if not location.ready:
            raise JuliaUnavailable(str(location))
        try:
            _RUNTIME = started(location)
        except _OtherThread:
            raise
        except JuliaUnavailable as error:
            _FAILURE = str(error)
            raise
    return _RUNTIME


def started(location: Location) -> Runtime:
    """Start the Julia of this location. Raises JuliaUnavailable, with the reason, if it cannot
    start."""
    already = "juliacall" in sys.modules
    for name, value in location.environment.items():
        if not already and not os.environ.get(name):
            os.environ[name] = value
    os.environ.setdefault("PYTHON_JULIAPKG_OFFLINE", "yes")
    # Without it only one thread at a time can be in Julia. Ctrl-C stays with Python (signals.py).
    os.environ.setdefault("PYTHON_JULIACALL_HANDLE_SIGNALS", "yes")
    threads = os.environ.get("JULIA_NUM_THREADS", "auto")
    os.environ.setdefault("PYTHON_JULIACALL_THREADS", threads)
    try:
        with warnings.catch_warnings(), signals.kept():
            # juliacall warns if torch was imported first. On Linux both orders work; `pynode
            # doctor` tries both.
            warnings.filterwarnings("ignore", message=".*torch was imported before juliacall.*")
            from juliacall import Main
    except Exception as error:  # a broken Julia can raise any exception
        raise JuliaUnavailable(why(_starting(error, location))) from error
    if already and not _is_first_thread():
        raise _OtherThread(FIRST_CALL)
    try:
        Main.seval(f'let path = raw"{package()}"; path in LOAD_PATH || push!(LOAD_PATH, path); end')
        Main.seval("import PyNODE")
    except Exception as error:
        raise JuliaUnavailable(why(_loading(error, Main, already))) from error
    runtime = Runtime(Main, location)
    _park()
    return runtime


def _connected(main: JuliaValue) -> dict[str, int]:
    """What Julia tells of itself. It gets what it needs to run the handlers of signals during a
    solve (python.jl)."""
    names = ("PyGILState_Ensure", "PyGILState_Release", "PyErr_CheckSignals", "PyErr_Fetch")
    functions = [getattr(ctypes.pythonapi, name) for name in names]
    addresses = [str(ctypes.cast(f, ctypes.c_void_p).value) for f in functions]
    told = str(main.seval(f"PyNODE.connect({', '.join(addresses)})"))
    return {name: int(number) for name, number in (pair.split("=") for pair in told.split())}


def _is_first_thread() -> bool:
    """Whether this thread has started Julia.

    The answer comes from C. Any work of Julia here, a short expression included, may begin to
    collect garbage, and would then wait for the other thread without end.
    """
    library = ctypes.CDLL(None)
    library.jl_get_pgcstack.restype = ctypes.c_void_p
    if not library.jl_get_pgcstack():
        return False  # Julia does not know this thread
    library.jl_threadid.restype = ctypes.c_int16
    return library.jl_threadid() == 0


def _park() -> None:
    """Let Julia's garbage collector run without this thread. Functions of Julia that are called
    from here leave this state while they run."""
    ctypes.CDLL(None).jl_gc_safe_enter()
    atexit.register(_unpark)


def _unpark() -> None:
    """Prepare the end of Julia, which juliacall brings about next in this thread: Julia wants a
    thread that it knows in the state that it has in Julia, and adopts any other."""
    library = ctypes.CDLL(None)
    library.jl_get_pgcstack.restype = ctypes.c_void_p
    if library.jl_get_pgcstack():
        library.jl_gc_unsafe_enter()


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
