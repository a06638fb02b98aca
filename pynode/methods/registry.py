"""Every method by name, discovered from the tables and the families."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from dataclasses import fields, replace
from functools import cache
from typing import Any

from ..core.suggestions import no_option
from . import tables
from .adams import AdamsPECE
from .base import Method, of_tableau
from .bdf.abdf2 import ABDF2
from .bdf.step import FBDF, QNDF
from .esdirk import DIRK
from .explicit import ExplicitRungeKutta
from .radau import RadauIIA3, RadauIIA5, RadauIIA9
from .rkc import RKC
from .rosenbrock import RosenbrockMethod
from .switching import AutoSwitch
from .tableau import Rosenbrock
from .verlet import VelocityVerlet

# Methods without a tableau. Those with one are found in the folder of tables.
_OTHERS: tuple[type[Method], ...] = (
    QNDF,
    FBDF,
    ABDF2,
    AdamsPECE,
    RKC,
    VelocityVerlet,
    RadauIIA3,
    RadauIIA5,
    RadauIIA9,
)
# Pairs in the list of methods. A name such as 'AutoDP5(KenCarp4())' makes any other pair.
SWITCHING = (("tsit5", "rodas5p"), ("vern7", "rodas5p"))
_PAIR = re.compile(r"auto(?P<explicit>\w+)(?:\((?P<stiff>\w+)(?:\(\))?\))?")


def _class_of(tableau: Any, companion: Any) -> type[Method]:
    """The class of the method that runs a tableau; companion: the explicit part of an additive
    pair, or None."""
    if isinstance(tableau, Rosenbrock):
        return of_tableau(RosenbrockMethod, tableau)
    if tableau.explicit:
        return of_tableau(ExplicitRungeKutta, tableau)
    return of_tableau(DIRK, tableau, companion=companion)


@cache
def classes() -> dict[str, type[Method]]:
    """The class of every method by its SciML name, without the pairs that switch."""
    by_name: dict[str, Any] = {kind.__name__: kind for kind in _OTHERS}
    for info in pkgutil.iter_modules(tables.__path__):
        module = importlib.import_module(f"{tables.__name__}.{info.name}")
        tableau = getattr(module, info.name.upper())
        companion = getattr(module, f"{info.name.upper()}_EXPLICIT", None)
        by_name[tableau.name] = _class_of(tableau, companion)
    return by_name


@cache
def _methods() -> dict:
    by_name = {name.lower(): kind() for name, kind in classes().items()}
    for explicit, stiff in SWITCHING:
        method = AutoSwitch(by_name[explicit], by_name[stiff])
        by_name[method.name.lower()] = method
    order = sorted(by_name.items(), key=lambda item: (item[1].implicit, item[1].order, item[0]))
    return dict(order)


def AutoTsit5(stiff: str | type[Method] | Method = "rodas5p") -> AutoSwitch:
    """Tsit5, which switches to a stiff method while the problem is stiff."""
    return AutoSwitch(get("tsit5"), get(stiff))


def AutoVern7(stiff: str | type[Method] | Method = "rodas5p") -> AutoSwitch:
    """Vern7, which switches to a stiff method while the problem is stiff."""
    return AutoSwitch(get("vern7"), get(stiff))


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


def get(name: str | type[Method] | Method, **options: Any) -> Method:
    """The method of this name (any case), a class of methods or a Method, with these options.

    Raises ValueError with similar names if there is none, and TypeError for an option that the
    method does not have.
    """
    method = _named(name)
    options = {key: value for key, value in options.items() if not _has(method, key, value)}
    if not options:
        return method
    known = [f.name for f in fields(method) if f.repr]
    for option in options:
        if option not in known:
            raise TypeError(no_option(method.name, option, known))
    return replace(method, **options)


def _has(method: Method, option: str, value: Any) -> bool:
    """Whether the method has this value already. Every method takes the default of an option."""
    current = getattr(method, option, None)
    return isinstance(value, (str, bool)) and type(current) is type(value) and current == value


def _named(name: str | type[Method] | Method) -> Method:
    if isinstance(name, Method):
        return name
    if isinstance(name, type) and issubclass(name, Method):
        return name()
    if not isinstance(name, str):
        raise TypeError(
            f"method must be a name such as 'fbdf' or a Method, not {type(name).__name__}"
        )
    key = name.lower()
    method = _methods().get(ALIASES.get(key, key))
    if (
        method is None
        and (pair := _PAIR.fullmatch(key.replace(" ", "")))
        and pair["explicit"] in _methods()
    ):
        return AutoSwitch(get(pair["explicit"]), get(pair["stiff"] or "rodas5p"))
    if method is None:
        near = difflib.get_close_matches(key, list(_methods()) + list(ALIASES), n=3, cutoff=0.4)
        if near:
            hint = f"did you mean {' or '.join(repr(n) for n in near)}?"
        else:
            hint = f"choose one of {', '.join(names())}"
        raise ValueError(f"unknown method {name!r}: {hint}")
    return method
