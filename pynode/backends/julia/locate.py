"""Where Julia is, found without starting it, downloading anything or importing juliacall."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

INSTALL = "pynode julia install"
PAIR = ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT")
MARK = "pynode.json"  # left in the project by a successful installation


@dataclass(frozen=True)
class Location:
    """What a start would use. source: 'variables', 'configuration', 'installation', or '' where there is no Julia.

    problem: a sentence where Julia cannot be started, with the remedy; '' otherwise.
    """

    source: str
    exe: str = ""
    project: str = ""
    problem: str = ""

    @property
    def ready(self) -> bool:
        return not self.problem


def configuration() -> Path:
    """The file in which ``pynode julia use`` remembers a Julia."""
    if os.name == "nt":
        base = os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "pynode" / "julia.json"


def remember(exe, project) -> Path:
    """Write the configuration; ValueError where exe or project is not what it should be."""
    found = shutil.which(str(exe))
    if found is None:
        raise ValueError(f"{exe} is not an executable: give the path of the julia program")
    project = Path(project).expanduser().resolve()
    if not (project / "Project.toml").is_file():
        raise ValueError(f"{project} holds no Project.toml: give the folder of the Julia project with the solvers in it")
    path = configuration()
    path.parent.mkdir(parents=True, exist_ok=True)
    keep = {name: os.environ[name] for name in ("JULIA_DEPOT_PATH", "JULIA_LOAD_PATH") if name in os.environ}
    path.write_text(json.dumps({"exe": found, "project": str(project), "environment": keep}, indent=2) + "\n")
    return path


def forget() -> bool:
    """Remove the configuration; False where there was none."""
    path = configuration()
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed


def locate() -> Location:
    """The Julia that a start would use, in the order of what the user said most explicitly."""
    if importlib.util.find_spec("juliacall") is None:
        return Location("", problem="juliacall, which connects Python to Julia, is not installed: pip install 'pynode[julia]'")
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
        missing = PAIR[0] if project else PAIR[1]
        return Location("variables", exe or "", project or "", f"{missing} is not set, but its twin is: set both, or none")
    return _checked("variables", exe, project, "correct the variable, or unset both")


def _configured(path):
    try:
        saved = json.loads(path.read_text())
        exe, project, extra = saved["exe"], saved["project"], saved.get("environment", {})
    except (OSError, ValueError, KeyError, TypeError):
        return Location("configuration", problem=f"{path} cannot be read: write it anew by pynode julia use, or delete it")
    for name, value in extra.items():
        os.environ.setdefault(name, value)
    return _checked("configuration", exe, project, "say where it is now by pynode julia use, or pynode julia use --forget")


def _checked(source, exe, project, remedy):
    problem = ""
    if shutil.which(exe) is None:
        problem = f"there is no Julia at {exe}: {remedy}"
    elif not Path(project).is_dir():
        problem = f"there is no Julia project at {project}: {remedy}"
    return Location(source, exe, project, problem)


def _installed():
    state = _juliapkg_state()
    if state is None:
        return Location("", problem=f"juliapkg, which comes with juliacall, cannot be imported: {INSTALL} needs it; reinstall")
    project = Path(state["project"])
    if not (project / MARK).exists():
        own = shutil.which("julia") or shutil.which("juliaup")
        seen = f"Julia is at {own}, but the solvers are not installed" if own else "Julia is not installed"
        return Location("", own or "", problem=f"{seen}: {INSTALL}")
    return Location("installation", project=str(project))


def _juliapkg_state():
    """juliapkg's view of the world, computed from the environment alone; None where it fails."""
    os.environ.setdefault("PYTHON_JULIAPKG_OFFLINE", "yes")  # read at import: nothing may be downloaded by looking
    try:
        from juliapkg.state import STATE
    except Exception:  # whatever is broken there, the answer is that there is none
        return None
    return STATE


def package() -> Path:
    """The folder of the Julia package PyNODE: inside the wheel, or beside the Python package in a checkout."""
    here = Path(__file__).resolve().parents[2]
    for folder in (here / "_julia" / "PyNODE", here.parent / "julia"):
        if (folder / "src" / "PyNODE.jl").is_file():
            return folder
    raise FileNotFoundError("the Julia package PyNODE is missing from this installation of pynode: install pynode again")
