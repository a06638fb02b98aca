"""The families of methods that run in native code, and the tables of a method."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...methods.base import ByFamily
from ...methods.bdf.step import BDF
from ...methods.esdirk import DIRK
from ...methods.explicit import ExplicitRungeKutta
from ...methods.radau import Radau
from ...methods.rosenbrock import RosenbrockMethod
from . import bdf, esdirk, explicit, radau, rosenbrock

# By family of methods: the module with its attempts (steps.py).
FAMILIES = ByFamily()
FAMILIES.register(ExplicitRungeKutta)(explicit)
FAMILIES.register(RosenbrockMethod)(rosenbrock)
FAMILIES.register(DIRK)(esdirk)
FAMILIES.register(Radau)(radau)
FAMILIES.register(BDF)(bdf)


def tables_of(family: ModuleType, method: Any) -> Any:
    """The tables of a method. Each method makes its own once."""
    kept = method.__dict__.get("_native_tables")
    if kept is None:
        kept = family.tables_of(method)
        object.__setattr__(method, "_native_tables", kept)
    return kept
