"""Which packages an engine lacks."""

from __future__ import annotations

import functools
import os
from importlib.util import find_spec


@functools.cache
def missing_for_native() -> tuple[str, ...]:
    """The packages that the native engine needs, and that are not installed."""
    return tuple(name for name in ("numba", "llvmlite") if find_spec(name) is None)


@functools.cache
def missing_for_cuda() -> tuple[str, ...]:
    """The same for the native engine's kernel on a GPU. numba's simulator needs numba alone."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0":
        return missing_for_native()
    names = {"numba": "numba", "llvmlite": "llvmlite", "numba_cuda": "numba-cuda"}
    return tuple(package for module, package in names.items() if find_spec(module) is None)
