"""The families of methods that run in native code, and the tables of a method."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...methods.base import ByFamily
from ...methods.bdf.step import BDF
from ...methods.esdirk import DIRK
from ...methods.explicit import ExplicitRungeKutta
from ...methods.radau import Radau
from ...methods.rosenbrock import RosenbrockMethod
from . import bdf, esdirk, explicit, radau, rosenbrock

if TYPE_CHECKING:
    from ...algebra.mass import Mass

# By family of methods: the module with its attempts (steps.py).
FAMILIES = ByFamily()
FAMILIES.register(ExplicitRungeKutta)(explicit)
FAMILIES.register(RosenbrockMethod)(rosenbrock)
FAMILIES.register(DIRK)(esdirk)
FAMILIES.register(Radau)(radau)
FAMILIES.register(BDF)(bdf)


def tables_of(family: ModuleType, method: Any, mass: Mass | None = None) -> Any:
    """The tables of a method. Each method makes its own once, and once for all mass matrices."""
    name = "_native_tables"
    if mass is not None:
        name = "_native_tables_with_mass"
    kept = method.__dict__.get(name)
    if kept is None:
        kept = family.tables_of(method, mass)
        object.__setattr__(method, name, kept)
    return kept
