"""Finds Julia. The search does not start Julia, import juliacall, download anything or change the
environment."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....core.files import save_text
from . import image
from .versions import required

INSTALL = "pynode julia install"
USE = "pynode julia use --exe ... --project ..."
PAIR = ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT")
MARK = "pynode.json"  # a successful installation writes this file into the project
# A Julia that the user manages may need these variables.
_REMEMBERED = ("JULIA_DEPOT_PATH", "JULIA_LOAD_PATH", "JULIA_CPU_TARGET")


@dataclass(frozen=True)
class Location:
    """The Julia that a start would use.

    source: what named it, 'variables', 'configuration' or 'installation'; '' if there is no Julia.
    absent: whether nobody has installed or chosen a Julia for pynode.
    problem: why Julia cannot start, with the remedy; '' if the files show no problem. environment:
    variables that a start sets if they are not set yet.
    """

    source: str
    exe: str = ""
    project: str = ""
    problem: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    absent: bool = False

    @property
    def ready(self) -> bool:
        return not self.problem

    def __str__(self) -> str:
        if self.problem:
            return why(self.problem)
        chosen = {
            "variables": f"the variables {PAIR[0]} and {PAIR[1]}",
            "configuration": f"{configuration()} (pynode julia use)",
            "installation": INSTALL,
        }
        return f"Julia at {self.exe} with the project {self.project}, by {chosen[self.source]}."


def why(problem: str) -> str:
    """The sentence that tells a user about a problem."""
    return f"Julia cannot be used here: {problem}."


def configuration() -> Path:
    """The file in which ``pynode julia use`` remembers a Julia."""
    if os.name == "nt":
        base = os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "pynode" / "julia.json"


def remember(exe: str | os.PathLike[str], project: str | os.PathLike[str]) -> Path:
    """Write the configuration, and return its file.

    Raises ValueError if exe is not an executable, or project is not a Julia project.
    """
    executable = shutil.which(str(Path(exe).expanduser()) if os.sep in str(exe) else str(exe))
    if executable is None:
        raise ValueError(f"{exe} is not an executable: give the path of the julia program")
    project = Path(project).expanduser().resolve()
    if not any((project / name).is_file() for name in ("Project.toml", "JuliaProject.toml")):
        raise ValueError(
            f"{project} holds no Project.toml: give the folder of the Julia project with the"
            " solvers in it"
        )
    environment = {name: os.environ[name] for name in _REMEMBERED if name in os.environ}
    path = configuration()
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = {
        "exe": os.path.abspath(executable),
        "project": str(project),
        "environment": environment,
    }
    return save_text(path, json.dumps(saved, indent=2) + "\n")


def forget() -> bool:
    """Remove the configuration. Returns False if there was none."""
    path = configuration()
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed


def locate() -> Location:
    """The Julia that a start would use. The variables go before the configuration, and the
    configuration before the installation."""
    if importlib.util.find_spec("juliacall") is None:
        return Location(
            "",
            problem=(
                f"juliacall is not installed: pip install 'torch-stiff-ode[julia]', then {INSTALL}"
            ),
            absent=True,
        )
    variables = {name: os.environ.get(name) for name in PAIR}
    if any(variables.values()):
        return _by_variables(variables)
    path = configuration()
    if path.exists():
        return _configured(path)
    return _installed()


def _by_variables(given: dict[str, str | None]) -> Location:
    exe, project = (given[name] for name in PAIR)
    if not (exe and project):
        if project:
            missing = PAIR[0]
        else:
            missing = PAIR[1]
        problem = f"{missing} is not set, but its twin is: set both, or unset both"
        return Location("variables", exe or "", project or "", problem)
    return _checked("variables", exe, project, "correct the variable, or unset both", {})


def _configured(path: Path) -> Location:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        exe = saved["exe"]
        project = saved["project"]
        environment = saved["environment"]
        if not all(isinstance(x, str) for x in (exe, project, *environment, *environment.values())):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Location(
            "configuration",
            problem=f"{path} cannot be read: write it anew by {USE}, or pynode julia use --forget",
        )
    remedy = f"name its new place by {USE}, or pynode julia use --forget"
    return _checked(
        "configuration", exe, project, remedy, environment | dict(zip(PAIR, (exe, project)))
    )


def _checked(
    source: str, exe: str, project: str, remedy: str, environment: dict[str, str]
) -> Location:
    problem = ""
    if shutil.which(exe) is None:
        problem = f"there is no Julia at {exe}: {remedy}"
    elif not Path(project).is_dir():
        problem = f"there is no Julia project at {project}: {remedy}"
    else:
        environment = environment | image.environment(exe, project)
    return Location(source, exe, project, problem, environment)


def _installed() -> Location:
    try:
        state = _juliapkg_state()
    except Exception as error:  # juliapkg raises plain exceptions for variables that it refuses
        return Location(
            "",
            problem=(
                f"juliapkg, which comes with juliacall, cannot be used ({error}): correct that"
            ),
        )
    project = Path(state["project"])
    mark = _read(project / MARK)
    exe = (_read(Path(state["meta"])) or {}).get("executable", "")
    if mark is None:
        own = shutil.which("julia") or shutil.which("juliaup")
        if own:
            seen = f"Julia is at {own}, but the solvers are not installed"
        else:
            seen = "Julia is not installed"
        return Location("", own or "", problem=f"{seen}: {INSTALL}", absent=True)
    problem = ""
    if shutil.which(exe) is None:
        problem = f"the Julia that {INSTALL} used, {exe}, is gone: {INSTALL} again"
    elif mark.get("required") != fingerprint():
        problem = (
            "this version of pynode needs other Julia packages than the installed ones:"
            f" {INSTALL} again"
        )
    environment = {} if problem else image.environment(exe, str(project))
    return Location("installation", exe, str(project), problem, environment)


def fingerprint() -> list[list[str | None]]:
    """The [name, bounds] of all required packages, as a mark file stores them."""
    return [[name, bounds] for name, (_, bounds) in sorted(required().items())]


def options_installed(project: str | os.PathLike[str]) -> set[str]:
    """The options of the installation in this project."""
    return set((_read(Path(project) / MARK) or {}).get("options", ()))


def _read(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if the file is missing or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if isinstance(content, dict):
        return content
    return None


def _juliapkg_state() -> dict[str, Any]:
    """The paths of juliapkg.

    This function executes only juliapkg's file state.py. An import of juliapkg takes a third of a
    second, and juliapkg then keeps the options that it has read.
    """
    juliapkg = importlib.util.find_spec("juliapkg")
    if juliapkg is None or juliapkg.origin is None:
        raise ImportError("juliapkg is not installed, or has no file")
    spec = importlib.util.spec_from_file_location(
        "juliapkg_state_for_pynode", Path(juliapkg.origin).with_name("state.py")
    )
    if spec is None or spec.loader is None:
        raise ImportError("juliapkg has no module state")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.STATE
