"""Which packages an engine lacks."""

from __future__ import annotations

import functools
from importlib.util import find_spec


@functools.cache
def missing_for_native() -> tuple[str, ...]:
    """The packages that the native engine needs, and that are not installed."""
    return tuple(name for name in ("numba", "llvmlite") if find_spec(name) is None)
