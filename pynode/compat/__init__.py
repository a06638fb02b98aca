"""The interfaces of other packages to pynode's methods."""

from __future__ import annotations

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    if name != "torchdiffeq":
        raise AttributeError(f"module 'pynode.compat' has no attribute {name!r}")
    return importlib.import_module("pynode.compat.torchdiffeq")


def __dir__() -> list[str]:
    return sorted({*globals(), "torchdiffeq"})
