"""Every method by name, discovered from the tables and the families."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from functools import cache

from . import tables
from .adams import ADAMS
from .base import Method
from .bdf.abdf2 import ABDF2
from .bdf.step import FBDF, QNDF
from .esdirk import DIRK
from .explicit import ExplicitRungeKutta
from .radau import RADAUS
from .rkc import RKC
from .rosenbrock import RosenbrockMethod
from .switching import AutoSwitch
from .tableau import Rosenbrock
from .verlet import VELOCITYVERLET


def _runner(tableau, companion):
    """The method that runs a tableau; companion: the explicit part of an additive pair, None where
    there is none."""
    if isinstance(tableau, Rosenbrock):
        return RosenbrockMethod.of(tableau)
    if tableau.explicit:
        return ExplicitRungeKutta.of(tableau)
    return DIRK.of(tableau, companion)


@cache
def _methods() -> dict:
    found = {m.name.lower(): m for m in (QNDF, FBDF, ABDF2, ADAMS, RKC, VELOCITYVERLET, *RADAUS)}
    for info in pkgutil.iter_modules(tables.__path__):
        module = importlib.import_module(f"{tables.__name__}.{info.name}")
        tableau = getattr(module, info.name.upper())
        companion = getattr(module, f"{info.name.upper()}_EXPLICIT", None)
        found[tableau.name.lower()] = _runner(tableau, companion)
    for explicit, stiff in SWITCHING:
        method = AutoSwitch.of(found[explicit], found[stiff])
        found[method.name.lower()] = method
    return dict(sorted(found.items(), key=lambda item: (item[1].implicit, item[1].order, item[0])))


# Pairs that stand in the list; any other is made where it is asked for, as 'AutoDP5(KenCarp4())'.
SWITCHING = (("tsit5", "rodas5p"), ("vern7", "rodas5p"))
_PAIR = re.compile(r"auto(?P<explicit>\w+)(?:\((?P<stiff>\w+)(?:\(\))?\))?")

ALIASES = {
    "bdf": "qndf",
    "dopri5": "dp5",
    "dop853": "dp8",
    "ode23s": "rosenbrock23",
    "bosh3": "bs3",
    "vcabm": "adamspece",
    "adams": "adamspece",
    "rkc2": "rkc",
    "verlet": "velocityverlet",
    "radau": "radauiia5",
    "radau5": "radauiia5",
}


def names() -> list:
    """SciML's names of all methods, explicit ones first."""
    return [method.name for method in _methods().values()]


def get(name) -> Method:
    """The method of this name (any case; a Method passes through). ValueError with the nearest
    names if there is none."""
    if isinstance(name, Method):
        return name
    if not isinstance(name, str):
        raise TypeError(
            f"method must be a name such as 'fbdf' or a Method, not {type(name).__name__}"
        )
    key = name.lower()
    found = _methods().get(ALIASES.get(key, key))
    if (
        found is None
        and (pair := _PAIR.fullmatch(key.replace(" ", "")))
        and pair["explicit"] in _methods()
    ):
        return AutoSwitch.of(get(pair["explicit"]), get(pair["stiff"] or "rodas5p"))
    if found is None:
        near = difflib.get_close_matches(key, list(_methods()) + list(ALIASES), n=3, cutoff=0.4)
        if near:
            hint = f"did you mean {' or '.join(repr(n) for n in near)}?"
        else:
            hint = f"choose one of {', '.join(names())}"
        raise ValueError(f"unknown method {name!r}: {hint}")
    return found
