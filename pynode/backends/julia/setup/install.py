"""Installation of Julia and the solvers by juliapkg, into the project that juliacall uses by
itself."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

from ....core.files import save_text
from ..runtime import JuliaUnavailable, running, started
from . import process, versions
from .locate import INSTALL, MARK, PAIR, Location, configuration, fingerprint, options_installed

LIMIT = 3600.0  # of the precompilation, in seconds
ANNOUNCEMENT = """\
{INSTALL} downloads {julia}the solvers of DifferentialEquations.jl{extra}
into {project}:
about {size}, and {minutes} minutes, most of them for precompilation. You can interrupt it and run
it again."""
_COST = {  # GB at most and minutes at most that an option adds
    "sensitivity": (0.7, 15, "SciMLSensitivity"),
    "radau": (0.1, 5, "OrdinaryDiffEqFIRK"),
    "sundials": (0.1, 5, "Sundials"),
    "gpu": (3.0, 10, "CUDA"),
}


class InstallError(JuliaUnavailable):
    """The installation failed; the message says why and what to do."""


def install(options=(), progress=print) -> Path:
    """Download Julia, where there is none, with the solvers and the packages of these
    bounds.OPTIONS, and precompile them.

    Options of earlier installations are kept. Nothing counts as installed before all of it is: what
    was there before is restored where it fails. progress(line) is told what happens. Returns the
    project. InstallError where it fails.
    """
    _refuse_what_would_not_be_used()
    juliapkg, state = _juliapkg()
    project = Path(state["project"])
    options = sorted({*options, *options_installed(project)})
    progress(_announcement(project, options, state))
    files = [project / name for name in ("Project.toml", "Manifest.toml", MARK)] + [
        Path(state[n]) for n in ("deps", "meta")
    ]
    before = {path: path.read_bytes() if path.is_file() else None for path in files}
    # Even if the process is killed, half an installation does not look whole.
    (project / MARK).unlink(missing_ok=True)
    try:
        juliapkg.require_julia(versions.julia())
        # Older ones, for Python 3.10, have no preferences.
        known = inspect.signature(juliapkg.PkgSpec).parameters
        packages = [
            {k: v for k, v in package.items() if k in known} for package in _packages(options)
        ]
        juliapkg.add([juliapkg.PkgSpec(**package) for package in packages])
        juliapkg.resolve()
        _precompile(options, progress)
        _write_mark(project, options)
    except BaseException as error:
        _restore(before)
        if isinstance(error, InstallError) or not isinstance(error, Exception):
            raise
        raise InstallError(f"The installation failed: {_why(error)}") from error
    progress(
        f"Julia is ready: {state['executable']}, with the project {project}. Try it: pynode doctor"
    )
    return project


def _refuse_what_would_not_be_used():
    if running() or "juliacall" in sys.modules:
        raise InstallError(f"Julia runs in this process already: run {INSTALL} in a fresh one.")
    if any(os.environ.get(name) for name in PAIR):
        raise InstallError(
            f"{PAIR[0]} and {PAIR[1]} name a Julia that you manage, and it would be used instead of"
            " what is installed here: unset both, or add the packages to that project"
            " (docs/julia.md)."
        )
    if configuration().exists():
        raise InstallError(
            f"{configuration()} names a Julia that you manage, and it would be used instead of what"
            " is installed here: pynode julia use --forget, or add the packages to that project"
            " (docs/julia.md)."
        )


def _juliapkg():
    try:
        import juliapkg
        from juliapkg.state import STATE
    except ImportError:
        raise InstallError(
            "juliacall and juliapkg are not installed: pip install 'torch-stiff-ode[julia]', then"
            " try again."
        ) from None
    except Exception as error:  # it refuses its variables by plain exceptions
        raise InstallError(f"juliapkg cannot be used: {error}.") from error
    if STATE["offline"]:
        raise InstallError(
            "PYTHON_JULIAPKG_OFFLINE forbids downloads: unset it, or install on a machine with"
            " internet into a depot that both see (docs/julia.md)."
        )
    return juliapkg, STATE


def _announcement(project, options, state) -> str:
    extra = [_COST[option] for option in options]
    gigabytes = 1.0 + sum(cost[0] for cost in extra)
    minutes = 20 + sum(cost[1] for cost in extra)
    names = "".join(f", {cost[2]}" for cost in extra)
    if state["override_executable"]:
        julia = ""
    else:
        julia = "Julia, where there is none yet, and "
    return ANNOUNCEMENT.format(
        INSTALL=INSTALL,
        julia=julia,
        extra=names,
        project=project,
        size=f"0.5 to {gigabytes:.1f} GB",
        minutes=f"5 to {minutes}",
    )


def _packages(options) -> list:
    """What juliapkg shall add, as keywords of its PkgSpec. PyNODE itself is not among them: it is
    found beside the Python package, so that the environments of several users, or a new version,
    can share one project."""
    found = [(name, uuid, limits) for name, (uuid, limits) in versions.required().items()]
    found += [versions.optional(option) for option in options]
    packages = [
        {"name": name, "uuid": uuid} | ({"version": limits} if limits else {})
        for name, uuid, limits in found
    ]
    for package in packages:
        # The systems are small, and loading MKL takes longer than it saves.
        if package["name"] == "LinearSolve":
            package["preferences"] = {"LoadMKL_JLL": False}
    return packages


def _precompile(options, progress):
    """Load everything once, in a process of its own."""
    progress("Precompiling the solvers ...")
    code = (
        "from pynode.backends.julia.setup.install import load;"
        f" load({[versions.OPTIONS[option] for option in options]!r})"
    )

    def waiting(seconds):
        progress(f"  still precompiling, {seconds:.0f} s")

    done = process.run([sys.executable, "-c", code], LIMIT, waiting=waiting, every=20.0)
    if not done.ok:
        raise InstallError(
            f"Julia and its packages were downloaded, but loading them {done.end}. Run {INSTALL}"
            " again; if it fails again, report what it says."
        )
    progress(f"Precompiled in {done.seconds:.0f} s.")


def load(names):
    """Start Julia as a solve would, with these optional packages; run in the process that
    precompiles."""
    julia = started(Location("installation"))
    for name in names:
        if not julia.loads(name):
            raise JuliaUnavailable(f"the Julia package {name} is not in the project")


def _write_mark(project, options):
    mark = {"required": fingerprint(), "options": options, "installed": time.strftime("%Y-%m-%d")}
    save_text(project / MARK, json.dumps(mark, indent=2) + "\n")


def _restore(before):
    for path, content in before.items():
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _why(error) -> str:
    again = f"What was downloaded is kept; run {INSTALL} again"
    network = (
        f"Check the connection (and HTTPS_PROXY behind a proxy). {again}; without internet see"
        " docs/julia.md"
    )
    if isinstance(error, urllib.error.URLError):
        return f"Julia could not be downloaded ({error.reason}). {network}."
    if isinstance(error, subprocess.CalledProcessError):
        clash = (
            "If it finds versions that clash, another Python package here asks for others: take an"
            " environment of its own"
        )
        return f"Julia's package manager gave up, with its own message above. {clash}. {network}."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'writing'}: {error.strerror}. {again}."
    return f"{(str(error).strip().splitlines() or [type(error).__name__])[0]}. {again}."
