"""Where the Julia package PyNODE is, and which packages and versions its Project.toml requires. No
other file states versions."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

PYTHONCALL = ("PythonCall", "6099a3de-0909-46bc-b1f4-468b9a2dfc0d")
# The key is the option of `pynode julia install` that adds the package.
OPTIONS = {
    "sensitivity": "SciMLSensitivity",
    "radau": "OrdinaryDiffEqFIRK",
    "sundials": "Sundials",
    "exponential": "OrdinaryDiffEqExponentialRK",
    "gpu": "CUDA",
    "sysimage": "PackageCompiler",
}
# Parts of the names of the methods that an optional package adds.
_METHODS = {"radau": ("Radau",), "sundials": ("CVODE", "ARKODE"), "exponential": ("ETDRK",)}


def package() -> Path:
    """The folder of the Julia package PyNODE. A wheel holds it inside pynode; in a checkout it
    stands next to pynode."""
    here = Path(__file__).resolve().parents[3]  # the package pynode
    for folder in (here / "_julia" / "PyNODE", here.parent / "julia"):
        if (folder / "src" / "PyNODE.jl").is_file():
            return folder
    raise FileNotFoundError(
        "the Julia package PyNODE is missing from this installation of pynode: install pynode again"
    )


@cache
def _tables() -> dict[str, dict[str, str]]:
    """The tables of Project.toml: the entries with a string on one line, which is all we need."""
    tables: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in (package() / "Project.toml").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line.strip()):
            current = tables.setdefault(heading[1], {})
        elif entry := re.match(r'(\w+)\s*=\s*"([^"]*)"', line):
            current[entry[1]] = entry[2]
    return tables


def required() -> dict[str, tuple[str, str | None]]:
    """The packages that PyNODE needs: name -> (uuid, bounds). The bounds are in Julia's notation,
    None for a standard library."""
    tables = _tables()
    return {name: (uuid, tables["compat"].get(name)) for name, uuid in tables["deps"].items()}


def optional(option: str) -> tuple[str, str, str]:
    """(name, uuid, bounds) of the package that one of OPTIONS adds."""
    name = OPTIONS[option]
    tables = _tables()
    return name, (tables["weakdeps"] | tables["extras"])[name], tables["compat"][name]


def option_of(method: str) -> str | None:
    """The one of OPTIONS whose package has the method of this name; None if PyNODE has it
    itself."""
    for option, parts in _METHODS.items():
        if any(part in method for part in parts):
            return option
    return None


def julia() -> str:
    """The lowest version of Julia. A later version with the same major number fits, too."""
    return _tables()["compat"]["julia"]


def fits(version: str) -> bool:
    """Whether a Julia of this version, such as '1.10.8', is within the bounds."""
    least, actual = (tuple(map(int, re.findall(r"\d+", text)[:3])) for text in (julia(), version))
    return actual >= least and actual[0] == least[0]
