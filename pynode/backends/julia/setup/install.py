"""Installs Julia and the solvers. juliapkg downloads them into the project that juliacall uses by
default."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ....core.files import save_text
from ..runtime import JuliaUnavailable, running, started
from . import process, versions
from .locate import INSTALL, MARK, PAIR, Location, configuration, fingerprint, options_installed

LIMIT = 3600.0  # seconds for the precompilation
ANNOUNCEMENT = """\
{INSTALL} downloads {julia}the solvers of DifferentialEquations.jl{extra}
into {project}:
about {size}, and {minutes} minutes, most of them for precompilation. You can interrupt it and run
it again."""
_COST = {  # what an option adds: GB at most, minutes at most, package
    "sensitivity": (0.7, 15, "SciMLSensitivity"),
    "radau": (0.1, 5, "OrdinaryDiffEqFIRK"),
    "sundials": (0.1, 5, "Sundials"),
    "exponential": (0.1, 2, "OrdinaryDiffEqExponentialRK"),
    "gpu": (3.0, 10, "CUDA"),
    "sysimage": (0.1, 1, "PackageCompiler"),
}


class InstallError(JuliaUnavailable):
    """The installation failed; the message says why and what to do."""


class Juliapkg:
    """juliapkg, which comes with juliacall: it downloads Julia and packages. state: its paths and
    options. Raises InstallError if it cannot install."""

    def __init__(self) -> None:
        try:
            import juliapkg
            from juliapkg.state import STATE
        except ImportError:
            raise InstallError(
                "juliacall and juliapkg are not installed: pip install 'torch-stiff-ode[julia]',"
                " then try again."
            ) from None
        except Exception as error:  # juliapkg raises plain exceptions for variables that it refuses
            raise InstallError(f"juliapkg cannot be used: {error}.") from error
        if STATE["offline"]:
            raise InstallError(
                "PYTHON_JULIAPKG_OFFLINE forbids downloads: unset it, or install on a machine with"
                " internet into a depot that both see (docs/julia.md)."
            )
        self._module = juliapkg
        self.state: dict[str, Any] = STATE

    def download(self, julia: str, packages: list[dict[str, Any]]) -> None:
        """Put these packages into the project, with a Julia of this version or a later one.
        packages: keywords of PkgSpec. Raises what juliapkg raises."""
        module = self._module
        module.require_julia(julia)
        # Older versions of juliapkg have no preferences.
        known = inspect.signature(module.PkgSpec).parameters
        specs = [{k: v for k, v in package.items() if k in known} for package in packages]
        module.add([module.PkgSpec(**spec) for spec in specs])
        module.resolve()


def install(
    options: Iterable[str] = (),
    progress: Callable[[str], object] = print,
    installer: Callable[[], Juliapkg] = Juliapkg,
    run: Callable[..., process.ProcessResult] = process.run,
) -> Path:
    """Download the solvers and the packages of these versions.OPTIONS, and precompile them.
    Download Julia too, if there is none.

    The options of earlier installations stay. The installation counts only when it is complete; if
    it fails, the earlier state returns. progress(line) receives a line for each stage. installer():
    makes the object that downloads. run: runs the process that precompiles, as ``process.run``
    does. Returns the project. Raises InstallError if the installation fails.
    """
    _refuse_a_useless_installation()
    source = installer()
    state = source.state
    project = Path(state["project"])
    options = sorted({*options, *options_installed(project)})
    progress(_announcement(project, options, state))
    files = [project / name for name in ("Project.toml", "Manifest.toml", MARK)] + [
        Path(state[n]) for n in ("deps", "meta")
    ]
    before = {path: path.read_bytes() if path.is_file() else None for path in files}
    # Without the mark, an incomplete installation does not count, even if the process is killed.
    (project / MARK).unlink(missing_ok=True)
    try:
        source.download(versions.julia(), packages(options))
        _precompile(options, progress, run)
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


def _refuse_a_useless_installation() -> None:
    """Raise InstallError if this process, or a later one, would use another Julia."""
    if running() or "juliacall" in sys.modules:
        raise InstallError(f"Julia already runs in this process: run {INSTALL} in a fresh one.")
    if any(os.environ.get(name) for name in PAIR):
        raise InstallError(
            f"{PAIR[0]} and {PAIR[1]} name a Julia that you manage, and pynode would use it instead"
            " of this installation: unset both, or add the packages to that project"
            " (docs/julia.md)."
        )
    if configuration().exists():
        raise InstallError(
            f"{configuration()} names a Julia that you manage, and pynode would use it instead of"
            " this installation: pynode julia use --forget, or add the packages to that project"
            " (docs/julia.md)."
        )


def _announcement(project: Path, options: list[str], state: dict[str, Any]) -> str:
    extra = [_COST[option] for option in options]
    gigabytes = 1.0 + sum(cost[0] for cost in extra)
    minutes = 20 + sum(cost[1] for cost in extra)
    names = "".join(f", {cost[2]}" for cost in extra)
    if state["override_executable"]:
        julia = ""
    else:
        julia = "Julia, if there is none yet, and "
    return ANNOUNCEMENT.format(
        INSTALL=INSTALL,
        julia=julia,
        extra=names,
        project=project,
        size=f"0.5 to {gigabytes:.1f} GB",
        minutes=f"5 to {minutes}",
    )


def packages(options: Iterable[str]) -> list[dict[str, Any]]:
    """The packages that juliapkg must add, as keywords of its PkgSpec.

    PyNODE itself is not among them. pynode finds it next to the Python package, so that several
    users, or a new version, can share one project.
    """
    wanted = [(name, uuid, limits) for name, (uuid, limits) in versions.required().items()]
    wanted += [versions.optional(option) for option in options]
    found: list[dict[str, Any]] = [
        {"name": name, "uuid": uuid} | ({"version": limits} if limits else {})
        for name, uuid, limits in wanted
    ]
    for package in found:
        # The linear systems are small: MKL takes longer to load than it saves.
        if package["name"] == "LinearSolve":
            package["preferences"] = {"LoadMKL_JLL": False}
    return found


def _precompile(
    options: list[str], progress: Callable[[str], object], run: Callable[..., process.ProcessResult]
) -> None:
    """Load everything once in another process."""
    progress("Precompiling the solvers ...")
    code = (
        "from pynode.backends.julia.setup.install import load;"
        f" load({[versions.OPTIONS[option] for option in options]!r})"
    )

    def waiting(seconds: float) -> None:
        progress(f"  still precompiling, {seconds:.0f} s")

    finished = run([sys.executable, "-c", code], LIMIT, waiting=waiting, every=20.0)
    if not finished.ok:
        raise InstallError(
            f"Julia and its packages were downloaded, but loading them {finished.end}. Run"
            f" {INSTALL} again; if it fails again, report the message."
        )
    progress(f"Precompiled in {finished.seconds:.0f} s.")


def load(names: Iterable[str]) -> None:
    """Start Julia as a solve does, and load these optional packages. Raises JuliaUnavailable if one
    of them is missing.

    ``_precompile`` calls this function in another process.
    """
    julia = started(Location("installation"))
    for name in names:
        if not julia.loads(name):
            raise JuliaUnavailable(f"the Julia package {name} is not in the project")


def _write_mark(project: Path, options: list[str]) -> None:
    mark = {"required": fingerprint(), "options": options, "installed": time.strftime("%Y-%m-%d")}
    save_text(project / MARK, json.dumps(mark, indent=2) + "\n")


def _restore(before: dict[Path, bytes | None]) -> None:
    for path, content in before.items():
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _why(error: Exception) -> str:
    again = f"What was downloaded is kept; run {INSTALL} again"
    network = (
        f"Check the connection (and HTTPS_PROXY behind a proxy). {again}; without internet see"
        " docs/julia.md"
    )
    if isinstance(error, urllib.error.URLError):
        return f"Julia could not be downloaded ({error.reason}). {network}."
    if isinstance(error, subprocess.CalledProcessError):
        clash = (
            "If it finds versions that clash, another Python package here needs other versions:"
            " install pynode into a separate environment"
        )
        return f"Julia's package manager gave up, with its own message above. {clash}. {network}."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'writing'}: {error.strerror}. {again}."
    return f"{(str(error).strip().splitlines() or [type(error).__name__])[0]}. {again}."
