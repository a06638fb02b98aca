"""Where Julia is, found without starting it, downloading anything, importing juliacall or changing
the environment."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from ....core.files import save_text
from .versions import required

INSTALL = "pynode julia install"
USE = "pynode julia use --exe ... --project ..."
PAIR = ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT")
MARK = "pynode.json"  # left in the project by a successful installation
# A user-managed Julia may not be found without.
_KEPT = ("JULIA_DEPOT_PATH", "JULIA_LOAD_PATH", "JULIA_CPU_TARGET")


@dataclass(frozen=True)
class Location:
    """What a start would use. source: 'variables', 'configuration', 'installation', or '' where
    there is no Julia.

    problem: why Julia cannot be started, with the remedy; '' where it can, as far as looking at
    files tells. environment: variables that a start sets where they are not set.
    """

    source: str
    exe: str = ""
    project: str = ""
    problem: str = ""
    environment: dict = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return not self.problem

    def __str__(self):
        if self.problem:
            return why(self.problem)
        chosen = {
            "variables": f"the variables {PAIR[0]} and {PAIR[1]}",
            "configuration": f"{configuration()} (pynode julia use)",
            "installation": INSTALL,
        }
        return f"Julia at {self.exe} with the project {self.project}, by {chosen[self.source]}."


def why(problem) -> str:
    """The sentence of a problem."""
    return f"Julia cannot be used here: {problem}."


def configuration() -> Path:
    """The file in which ``pynode julia use`` remembers a Julia."""
    if os.name == "nt":
        base = os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "pynode" / "julia.json"


def remember(exe, project) -> Path:
    """Write the configuration; ValueError where exe or project is not what it should be."""
    found = shutil.which(str(Path(exe).expanduser()) if os.sep in str(exe) else str(exe))
    if found is None:
        raise ValueError(f"{exe} is not an executable: give the path of the julia program")
    project = Path(project).expanduser().resolve()
    if not any((project / name).is_file() for name in ("Project.toml", "JuliaProject.toml")):
        raise ValueError(
            f"{project} holds no Project.toml: give the folder of the Julia project with the"
            " solvers in it"
        )
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = configuration()
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = {"exe": os.path.abspath(found), "project": str(project), "environment": kept}
    return save_text(path, json.dumps(saved, indent=2) + "\n")


def forget() -> bool:
    """Remove the configuration; False where there was none."""
    path = configuration()
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed


def locate() -> Location:
    """The Julia that a start would use, in the order of what the user said most explicitly."""
    if importlib.util.find_spec("juliacall") is None:
        return Location(
            "",
            problem=(
                f"juliacall is not installed: pip install 'torch-stiff-ode[julia]', then {INSTALL}"
            ),
        )
    given = {name: os.environ.get(name) for name in PAIR}
    if any(given.values()):
        return _by_variables(given)
    path = configuration()
    if path.exists():
        return _configured(path)
    return _installed()


def _by_variables(given):
    exe, project = (given[name] for name in PAIR)
    if not (exe and project):
        if project:
            missing = PAIR[0]
        else:
            missing = PAIR[1]
        problem = f"{missing} is not set, but its twin is: set both, or unset both"
        return Location("variables", exe or "", project or "", problem)
    return _checked("variables", exe, project, "correct the variable, or unset both", {})


def _configured(path):
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
    remedy = f"say where it is now by {USE}, or pynode julia use --forget"
    return _checked(
        "configuration", exe, project, remedy, environment | dict(zip(PAIR, (exe, project)))
    )


def _checked(source, exe, project, remedy, environment):
    problem = ""
    if shutil.which(exe) is None:
        problem = f"there is no Julia at {exe}: {remedy}"
    elif not Path(project).is_dir():
        problem = f"there is no Julia project at {project}: {remedy}"
    return Location(source, exe, project, problem, environment)


def _installed():
    try:
        state = _juliapkg_state()
    except Exception as error:  # juliapkg refuses its variables by plain exceptions
        return Location(
            "",
            problem=(
                f"juliapkg, which comes with juliacall, cannot be asked ({error}): correct that"
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
        return Location("", own or "", problem=f"{seen}: {INSTALL}")
    problem = ""
    if shutil.which(exe) is None:
        problem = f"the Julia that {INSTALL} used, {exe}, is gone: {INSTALL} again"
    elif mark.get("required") != fingerprint():
        problem = (
            f"this version of pynode needs other Julia packages than {INSTALL} found needed:"
            f" {INSTALL} again"
        )
    return Location("installation", exe, str(project), problem)


def fingerprint() -> list:
    """What an installation must have provided, as a mark file keeps it."""
    return [[name, bounds] for name, (_, bounds) in sorted(required().items())]


def options_installed(project) -> set:
    """The options that an earlier installation in this project was made with."""
    return set((_read(Path(project) / MARK) or {}).get("options", ()))


def _read(path):
    """The object in a JSON file; None where there is none, or another thing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if isinstance(found, dict):
        return found
    return None


def _juliapkg_state() -> dict:
    """juliapkg's paths, by its own file alone: importing juliapkg takes a third of a second and
    reads its options for good."""
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
