"""Where the Julia package PyNODE is, and what its Project.toml asks for: the one place where
versions are written."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

PYTHONCALL = ("PythonCall", "6099a3de-0909-46bc-b1f4-468b9a2dfc0d")
# By the option that installs it.
OPTIONS = {
    "sensitivity": "SciMLSensitivity",
    "radau": "OrdinaryDiffEqFIRK",
    "sundials": "Sundials",
    "gpu": "CUDA",
}


def package() -> Path:
    """The folder of the Julia package PyNODE: inside the wheel, or beside the Python package in a
    checkout."""
    here = Path(__file__).resolve().parents[3]  # the package pynode
    for folder in (here / "_julia" / "PyNODE", here.parent / "julia"):
        if (folder / "src" / "PyNODE.jl").is_file():
            return folder
    raise FileNotFoundError(
        "the Julia package PyNODE is missing from this installation of pynode: install pynode again"
    )


@cache
def _tables() -> dict:
    """The tables of one-line strings in that file, which is all that it holds of interest here."""
    tables: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in (package() / "Project.toml").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line.strip()):
            current = tables.setdefault(heading[1], {})
        elif entry := re.match(r'(\w+)\s*=\s*"([^"]*)"', line):
            current[entry[1]] = entry[2]
    return tables


def required() -> dict:
    """Name -> (uuid, bounds in Julia's notation, None for a standard library) of the packages that
    PyNODE cannot do without."""
    tables = _tables()
    return {name: (uuid, tables["compat"].get(name)) for name, uuid in tables["deps"].items()}


def optional(option) -> tuple:
    """(name, uuid, bounds) of the package behind one of OPTIONS."""
    name = OPTIONS[option]
    tables = _tables()
    return name, tables["weakdeps"][name], tables["compat"][name]


def julia() -> str:
    """The bounds of Julia itself: this version, or a later one of the same major version."""
    return _tables()["compat"]["julia"]


def fits(version) -> bool:
    """Whether a Julia of this version, '1.10.8', is within its bounds."""
    least, found = (tuple(map(int, re.findall(r"\d+", text)[:3])) for text in (julia(), version))
    return found >= least and found[0] == least[0]
