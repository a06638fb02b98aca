"""Compiled functions on disk, so that the next process compiles nothing.

Every file begins with the hash of its content; a damaged file counts as absent.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Bytes on disk above which the files that were used the longest time ago go.
LIMIT = 256 * 2**20
_DIGEST = 20
_WRITES = itertools.count()


def directory() -> Path | None:
    """Where the files stand: PYNODE_CACHE, or the user's directory for caches; None for
    PYNODE_CACHE=off."""
    named = os.environ.get("PYNODE_CACHE")
    if named == "off":
        return None
    if named:
        return Path(named) / "translate"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "pynode" / "translate"


@functools.cache
def source_digest() -> str:
    """The hash of this room's source: another translator has other keys."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def key(*parts: object) -> str:
    """The name of a file: a hash of the parts, of this room's source and of the versions."""
    versions = (torch.__version__, np.__version__, sys.version_info[:3], source_digest())
    text = repr((versions, parts))
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST).hexdigest()


def read(name: str, ending: str) -> bytes | None:
    """The content of a file; None if it isn't there or is damaged."""
    path = _path(name, ending)
    if path is None:
        return None
    try:
        found = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    content = found[_DIGEST:]
    if found[:_DIGEST] != hashlib.blake2b(content, digest_size=_DIGEST).digest():
        return None
    return content


def write(name: str, ending: str, content: bytes) -> None:
    """Write a file in one step. A disk that refuses costs no more than the next compilation."""
    path = _path(name, ending)
    if path is None:
        return
    digest = hashlib.blake2b(content, digest_size=_DIGEST).digest()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(digest + content)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
        if next(_WRITES) % 64 == 0:
            _trim(path.parent.parent)


def read_table(name: str) -> dict[str, Any] | None:
    """A file of JSON."""
    content = read(name, "json")
    return None if content is None else json.loads(content)


def write_table(name: str, table: dict[str, Any]) -> None:
    """Write a file of JSON."""
    write(name, "json", json.dumps(table).encode())


def _path(name: str, ending: str) -> Path | None:
    base = directory()
    return None if base is None else base / name[:2] / f"{name}.{ending}"


def _trim(base: Path) -> None:
    """Remove the oldest files if all together are too large."""
    files = []
    total = 0
    for path in base.glob("*/*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            total += status.st_size
            files.append((status.st_mtime, status.st_size, path))
    for _, size, path in sorted(files):
        if total <= LIMIT:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size
