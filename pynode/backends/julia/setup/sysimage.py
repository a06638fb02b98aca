"""Compiles a system image: PyNODE and the solvers in one file, with which Julia starts faster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ....core.files import save_text
from ..runtime import JuliaUnavailable
from . import image, process, versions
from .image import COMMAND
from .locate import Location, locate
from .packages import adding, check

LIMIT = 7200.0  # seconds
COMPILERS = ("g++", "clang++", "gcc", "clang")  # in the order in which PackageCompiler looks
OPTION = "sysimage"


def make(
    progress: Callable[[str], object] = print,
    run: Callable[..., process.ProcessResult] = process.run,
) -> Path:
    """Compile the system image of the Julia that a start would use. Returns its file.

    Later starts use it until a package, PyNODE or Julia changes. progress(line) receives a line for
    each stage. run: runs the process that compiles, as ``process.run`` does. Raises
    JuliaUnavailable, with the remedy, if something is missing or the compilation fails.
    """
    location = locate()
    if not location.ready:
        raise JuliaUnavailable(str(location))
    target = image.path(location.exe, location.project)
    if target is None:
        raise JuliaUnavailable(
            "PYNODE_CACHE=off forbids files in the folder for caches, where the system image would"
            " be: unset it, or name a folder."
        )
    _need_compiler()
    names = _packages(location)
    progress(
        f"Compiling a system image with PyNODE{''.join(f', {name}' for name in names)} into"
        f" {target}: 0.3 to 1 GB, and 5 to 30 minutes. You can interrupt it."
    )
    # What the image holds is what these files say now, not at the end.
    told = image.fingerprint(location.exe, location.project)
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_name(f"new-{os.getpid()}-{target.name}")
    script = versions.package() / "sysimage.jl"
    command = [location.exe, "--startup-file=no", f"--project={location.project}", str(script)]
    try:
        finished = run(
            [*command, str(made), *names],
            LIMIT,
            location.environment,
            lambda seconds: progress(f"  still compiling, {seconds:.0f} s"),
            60.0,
        )
        if not (finished.ok and made.is_file()):
            raise JuliaUnavailable(
                f"The system image was not made: PackageCompiler {finished.end}. Julia works"
                " without it; if you report this, add the message."
            )
        image.mark(target).unlink(missing_ok=True)
        made.replace(target)
        save_text(image.mark(target), told)
    finally:
        made.unlink(missing_ok=True)
    progress(
        f"The system image is ready, {target.stat().st_size / 1e6:.0f} MB, after"
        f" {finished.seconds:.0f} s. A change of a package makes it void: run {COMMAND} again then."
    )
    return target


def remove() -> bool:
    """Remove the system image of the Julia that a start would use. Returns False if there is
    none."""
    location = locate()
    file = image.path(location.exe, location.project)
    if file is None or not file.exists():
        return False
    image.mark(file).unlink(missing_ok=True)
    file.unlink()
    return True


def _need_compiler() -> None:
    """Raise JuliaUnavailable if there is no C compiler. On Windows PackageCompiler brings one."""
    if os.name == "nt" or os.environ.get("JULIA_CC"):
        return
    if not any(shutil.which(name) for name in COMPILERS):
        raise JuliaUnavailable(
            f"A system image needs a C compiler, and none of {', '.join(COMPILERS)} is here:"
            " install one, or name it in JULIA_CC. Julia works without a system image."
        )


def _packages(location: Location) -> list[str]:
    """The optional packages that the image gets, all that the project has. Raises JuliaUnavailable
    if the packages do not fit, or PackageCompiler is missing."""
    packages, problem = check(location)
    if problem:
        raise JuliaUnavailable(f"{location.exe} {problem}: see pynode doctor")
    found = {package.name: package for package in packages}
    for package in packages:
        if not package.optional and not package.within:
            raise JuliaUnavailable(f"{package.fault(location)}.")
    compiler = versions.OPTIONS[OPTION]
    if not found[compiler].within:
        raise JuliaUnavailable(
            f"A system image needs the Julia package {compiler}: {adding(location, OPTION)}."
        )
    optional = (found[name] for option, name in versions.OPTIONS.items() if option != OPTION)
    return [package.name for package in optional if package.within]
