"""Starts Julia once a process, and says in a sentence why where it cannot."""

from __future__ import annotations

import os
import re
import sys
import threading
import warnings

from .locate import INSTALL, Location, locate, package

THREADS = (
    "Julia was started by another thread and must be called from that one. Autograd runs the backward pass of CUDA tensors on "
    "threads of its own: wrap it in `with pynode.julia.same_thread(): loss.backward()`"
)


class JuliaUnavailable(RuntimeError):
    """Julia cannot serve here; the message says why and what to do."""


class Runtime:
    """The running Julia: ``package`` is the module PyNODE, ``main`` Julia's Main."""

    def __init__(self, main, location):
        self.main, self.location, self.package = main, location, main.PyNODE
        self.thread = threading.get_ident()
        self._algorithms, self._optional = {}, {}

    def check_thread(self):
        """RuntimeError where this is not the thread that started Julia: entering it from another one would crash."""
        if threading.get_ident() != self.thread:
            raise RuntimeError(THREADS)

    def algorithm(self, name, krylov=False):
        """SciML's algorithm of this name; JuliaUnavailable where the package that has it is not in the project."""
        key = name, krylov
        if key not in self._algorithms:
            if "Radau" in name and not self.loads("OrdinaryDiffEqFIRK"):
                raise JuliaUnavailable(f"{name} needs the Julia package OrdinaryDiffEqFIRK: {INSTALL} --radau")
            if name == "CVODE_BDF" and not self.loads("Sundials"):
                raise JuliaUnavailable("CVODE_BDF needs the Julia package Sundials: pip install 'pynode[diffeqpy]'")
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


_RUNTIME = None


def running() -> bool:
    return _RUNTIME is not None


def start() -> Runtime:
    """The running Julia with PyNODE loaded, started at the first call (seconds). JuliaUnavailable says why it cannot."""
    global _RUNTIME
    if _RUNTIME is None:
        location = locate()
        if not location.ready:
            raise JuliaUnavailable(_why(location.problem))
        _RUNTIME = _started(location)
    _RUNTIME.check_thread()
    return _RUNTIME


def _why(problem):
    return f"Julia cannot be used here: {problem}."


def _started(location: Location) -> Runtime:
    already = "juliacall" in sys.modules
    if location.source == "configuration" and not already:
        os.environ["PYTHON_JULIACALL_EXE"], os.environ["PYTHON_JULIACALL_PROJECT"] = location.exe, location.project
    os.environ.setdefault("PYTHON_JULIAPKG_OFFLINE", "yes")
    os.environ.setdefault("PYTHON_JULIACALL_HANDLE_SIGNALS", "no")  # Ctrl-C belongs to Python
    try:
        with warnings.catch_warnings():
            # It warns where torch was imported first: on Linux both orders work (see `pynode doctor`, which tries them).
            warnings.filterwarnings("ignore", message=".*torch was imported before juliacall.*")
            from juliacall import Main
    except Exception as error:  # a broken Julia can fail in any way
        raise JuliaUnavailable(_why(f"it did not start ({_first_line(error)}); pynode doctor looks into it")) from error
    try:
        Main.seval("isdefined(Main, :PyNODE)")
        Main.seval(f'let path = raw"{package()}"; path in LOAD_PATH || push!(LOAD_PATH, path); end')
        Main.seval("import PyNODE")
    except Exception as error:
        raise JuliaUnavailable(_why(_loading(error, Main, already))) from error
    return Runtime(Main, location)


def _first_line(error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _loading(error, main, already) -> str:
    """Why PyNODE could not be loaded."""
    text = str(error)
    missing = re.search(r"(?:Package|package|dependency) (\w+)(?: \[[0-9a-f-]+\])? (?:not found|is required but)", text)
    missing = missing or re.search(r"does not have (\w+) in its dependencies", text)
    missing = missing or re.search(r"Could not load library.*?(\w+)", text)
    project = main.seval("something(Base.active_project(), \"\")")
    owner = " (Julia had been started by another package, with its project)" if already else ""
    if missing:
        return f"the project {project}{owner} lacks the package {missing[1]}: {INSTALL}, or add it to the project"
    return f"PyNODE did not load in the project {project}{owner}: {_first_line(error)}; pynode doctor looks into it"
