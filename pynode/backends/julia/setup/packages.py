"""Which of PyNODE's packages a Julia project holds. That Julia answers itself, in another
process."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

from . import process, versions
from .locate import INSTALL, Location

LIMIT = 120.0


@dataclass(frozen=True)
class Package:
    """A package in a project.

    version: '' if the project lacks the package, or the package was not downloaded. bounds: the
    versions that PyNODE accepts, in Julia's notation; '' for any. within: whether the version is
    within the bounds.
    """

    name: str
    version: str
    bounds: str
    within: bool
    optional: bool = False

    def fault(self, location: Location) -> str:
        """What is wrong with the package in the project of a location, and the remedy; '' if
        nothing is wrong."""
        if self.within:
            return ""
        name = self.name
        project = location.project
        if location.source == "installation":
            remedy = f"{INSTALL} again"
        else:
            remedy = f'in that project, Pkg.add("{name}")'
        if name == versions.PYTHONCALL[0]:
            wanted = self.bounds.lstrip("=")
            if self.version:
                reason = f"has PythonCall {self.version}"
            else:
                reason = "lacks PythonCall"
            if location.source != "installation":
                remedy = f'in that project, Pkg.add(name="PythonCall", version="{wanted}")'
                if self.version:
                    remedy += f", or pip install juliacall=={self.version}"
            return (
                f"the project {project} {reason}, and juliacall is {wanted}, but both must have the"
                f" same version: {remedy}"
            )
        if self.version:
            return (
                f"the project {project} has {name} {self.version}, outside the bounds"
                f" {self.bounds}: {remedy}"
            )
        return (
            f"the project {project} lacks the package {name} ({self.bounds or 'any version'}):"
            f" {remedy}"
        )


def adding(location: Location, option: str) -> str:
    """How to add the package behind one of versions.OPTIONS to the project of a location."""
    if location.source == "installation":
        return f"{INSTALL} --{option}"
    return f'in the project {location.project}, Pkg.add("{versions.OPTIONS[option]}")'


def check(location: Location) -> tuple[tuple[Package, ...], str]:
    """(the packages of a location, ''), or ((), what went wrong) if its Julia does not answer."""
    wanted = {
        name: (uuid, limits or "", False) for name, (uuid, limits) in versions.required().items()
    }
    name, uuid = versions.PYTHONCALL
    wanted[name] = uuid, f"={metadata.version('juliacall')}", False
    for option in versions.OPTIONS:
        name, uuid, limits = versions.optional(option)
        wanted[name] = uuid, limits, True
    command = [
        location.exe,
        "--startup-file=no",
        f"--project={location.project}",
        str(versions.package() / "check.jl"),
    ]
    command += [f"{name}:{uuid}:{limits}" for name, (uuid, limits, _) in wanted.items()]
    try:
        finished = process.run(command, LIMIT, location.environment)
    except OSError as error:
        return (), f"cannot be run ({error.strerror})"
    if not finished.ok:
        return (), finished.end
    answers = [line.split("\t") for line in finished.out.splitlines() if line.count("\t") == 2]
    answers_by_name = {name: (version, within == "true") for name, version, within in answers}
    packages = []
    for name, (_, limits, optional) in wanted.items():
        version, within = answers_by_name[name]
        packages.append(Package(name, version, limits, within, optional))
    return tuple(packages), ""


def first_fault(location: Location) -> str:
    """The first fault of a required package that keeps Julia from working at this location; '' if
    the packages show none."""
    packages, problem = check(location)
    if problem:
        return f"{location.exe} {problem}"
    faults = (package.fault(location) for package in packages if not package.optional)
    return next((fault for fault in faults if fault), "")
