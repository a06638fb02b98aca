"""Stand-ins for juliacall, juliapkg and Julia itself, for what must be seen without any of them."""

import json
import os
import sys
from pathlib import Path

from pynode.backends.julia.setup import versions
from tests.support import ROOT

JULIACALL = "raise RuntimeError('this juliacall cannot start')\n"
METADATA = "Metadata-Version: 2.1\nName: juliacall\nVersion: 0.9.34\n"
STATE = """\
import os
project = os.environ["FAKE_PROJECT"]
STATE = {
    "project": project,
    "deps": project + "/pyjuliapkg/juliapkg.json",
    "meta": project + "/pyjuliapkg/meta.json",
    "offline": os.environ.get("PYTHON_JULIAPKG_OFFLINE") == "yes",
    "override_executable": None,
    "executable": None,
}
"""
JULIAPKG = """\
import json, os
from pathlib import Path
from .state import STATE

class PkgSpec:
    def __init__(self, name, uuid, version=None, preferences=None):
        self.name, self.told = name, {"uuid": uuid, "version": version, "preferences": preferences}

def _write(name, content):
    path = Path(STATE[name])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))

def require_julia(compat):
    _write("deps", {"julia": compat})

def add(packages):
    deps = json.loads(Path(STATE["deps"]).read_text())
    _write("deps", deps | {"packages": {package.name: package.told for package in packages}})

def resolve():
    project = Path(STATE["project"])
    (project / "Project.toml").write_text(Path(STATE["deps"]).read_text())
    (project / "Manifest.toml").write_text("resolved")
    STATE["executable"] = os.environ["FAKE_JULIA"]
    _write("meta", {"executable": STATE["executable"]})
"""
MODULES = ("juliacall", "juliapkg", "juliapkg.state")


def make_packages(folder) -> Path:
    """A folder for sys.path with a juliacall that cannot start and a juliapkg that downloads
    nothing."""
    files = {
        "juliacall/__init__.py": JULIACALL,
        "juliacall-0.9.34.dist-info/METADATA": METADATA,
        "juliapkg/__init__.py": JULIAPKG,
        "juliapkg/state.py": STATE,
    }
    for name, text in files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Path(folder)


def make_julia(path, version="1.10.8", **changes) -> str:
    """A program that answers as Julia does when asked for its version and its packages.

    changes: name -> version, '' for a package that is not there, None for one outside its bounds.
    """
    held = {name: "1.0.0" for name in versions.required()} | {"PythonCall": "0.9.34"}
    held |= {name: "" for name in versions.OPTIONS.values()} | changes
    lines = [f"julia\t{version}\ttrue"]
    for name, found in held.items():
        lines.append(
            f"{name}\t{'0.0.1' if found is None else found}\t{'true' if found else 'false'}"
        )
    answers = "\n".join(lines)
    path.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo julia version {version}; else echo'
        f" '{answers}'; fi\n"
    )
    path.chmod(0o755)
    return str(path)


def bare_environment(tmp_path, **more) -> dict:
    """The variables of a process that can find no Julia but by those in more: {name: None} stands
    for an unset one."""
    names = [name for name in os.environ if name.startswith(("JULIA_", "PYTHON_JULIA"))]
    return (
        dict.fromkeys(names)
        | {
            "PATH": str(tmp_path / "nowhere"),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "HOME": str(tmp_path / "home"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "FAKE_PROJECT": str(tmp_path / "project"),
        }
        | more
    )


def forget_modules():
    for name in MODULES:
        sys.modules.pop(name, None)


def read(path):
    return json.loads(Path(path).read_text())
