"""Where the system image of a Julia is, and whether it still fits its packages."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from .versions import package

COMMAND = "pynode julia sysimage"
VARIABLE = "PYTHON_JULIACALL_SYSIMAGE"
_ENDINGS = {"win32": "dll", "darwin": "dylib"}


def path(exe: str, project: str) -> Path | None:
    """The file of the system image for this Julia and this project, in the folder for caches; None
    for PYNODE_CACHE=off."""
    from ....translate import store  # which a start of pynode does not need

    folder = store.directory()
    if folder is None:
        return None
    name = hashlib.blake2b(f"{exe}\n{project}".encode(), digest_size=10).hexdigest()
    return folder.parent / "julia" / f"{name}.{_ENDINGS.get(sys.platform, 'so')}"


def mark(image: Path) -> Path:
    """The file that says for which packages an image was compiled."""
    return image.with_suffix(".txt")


def fingerprint(exe: str, project: str) -> str:
    """A hash of what an image holds: Julia, the versions and preferences of the packages, and the
    source of PyNODE."""
    own = package()
    files = [*Path(project).glob("*.toml"), *own.glob("*.toml"), *own.glob("src/*.jl")]
    files += own.glob("ext/*.jl")
    digest = hashlib.blake2b(digest_size=20)
    try:
        julia = os.stat(exe)
        digest.update(f"{julia.st_size} {julia.st_mtime_ns}".encode())
        for file in sorted(files):
            digest.update(file.read_bytes())
    except OSError:
        return ""
    return digest.hexdigest()


def state(exe: str, project: str) -> tuple[Path | None, bool]:
    """(the image of this Julia and project, whether it fits), or (None, False) if there is none."""
    image = path(exe, project)
    if image is None or not image.is_file():
        return None, False
    try:
        told = mark(image).read_text(encoding="utf-8")
    except OSError:
        return image, False
    return image, bool(told) and told == fingerprint(exe, project)


def environment(exe: str, project: str) -> dict[str, str]:
    """The variable by which juliacall starts with the image; empty if none fits."""
    image, fits = state(exe, project)
    if image is not None and fits:
        return {VARIABLE: str(image)}
    return {}
