"""The methods: how to step. Each is a class by its SciML name: ``from pynode.methods import QNDF,
Rodas5P``. ``registry`` finds them by names."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

# Methods that switch between two methods, in addition to the classes of single methods.
_SWITCHING = ("AutoSwitch", "AutoTsit5", "AutoVern7")


def _registry() -> ModuleType:
    return importlib.import_module(f"{__name__}.registry")


def __getattr__(name: str) -> Any:
    if not name[0].isupper():
        raise AttributeError(f"module 'pynode.methods' has no attribute {name!r}")
    if name in _SWITCHING:
        return getattr(_registry(), name)
    method_class = _registry().classes().get(name)
    if method_class is None:
        raise AttributeError(f"module 'pynode.methods' has no attribute {name!r}")
    return method_class


def __dir__() -> list[str]:
    return sorted([*_registry().classes(), *_SWITCHING])
