"""Compiled code on disk, one file for each key."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from pathlib import Path

DIGEST = 32  # bytes of a file's checksum, before its contents


def folder() -> Path:
    """PYNODE_CACHE, or pynode's folder in the user's cache."""
    chosen = os.environ.get("PYNODE_CACHE")
    if chosen:
        return Path(chosen) / "loops"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home()))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "pynode" / "loops"


def read(key: str) -> bytes | None:
    """The contents for a key. None if there are none, or if the file is damaged."""
    try:
        data = (folder() / key).read_bytes()
    except OSError:
        return None
    contents = data[DIGEST:]
    if hashlib.sha256(contents).digest() != data[:DIGEST]:
        return None
    return contents


def write(key: str, contents: bytes) -> None:
    """Store the contents. A folder that cannot be written is no error: the next process compiles
    again."""
    with contextlib.suppress(OSError):
        place = folder()
        place.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(contents).digest() + contents)
        os.replace(name, place / key)
