"""Every adjoint by name. ``direct`` is not among the classes: it is the graph of the solve itself, and has no pullback."""

from __future__ import annotations

import difflib

from .base import Adjoint
from .discrete import DiscreteAdjoint
from .julia import JuliaAdjoint

CLASSES = (DiscreteAdjoint,)
DIRECT = "direct"


def _key(name: str) -> str:
    """'GaussAdjoint', 'gauss_adjoint' and 'gauss' are the same."""
    key = name.lower().replace("_", "")
    return key.removesuffix("adjoint") or key


_BY_KEY = {_key(c.name): c for c in CLASSES}


def names() -> list:
    """SciML's names of all adjoints, and 'direct'."""
    return [*(c.name for c in CLASSES), DIRECT]


def of_julia(adjoint, method):
    """The same for a solve by Julia with this method: SciMLSensitivity's twin of an adjoint, Gauss for 'auto'."""
    return JuliaAdjoint.of(adjoint if isinstance(adjoint, str) else get(adjoint), method)


def get(adjoint):
    """The Adjoint of this name (any case, with or without 'Adjoint'; an Adjoint passes through), 'direct' itself.

    ValueError with the nearest names if there is none; TypeError for what is neither a name nor an Adjoint.
    """
    if isinstance(adjoint, Adjoint):
        return adjoint
    if isinstance(adjoint, type) and issubclass(adjoint, Adjoint):
        return adjoint()
    if not isinstance(adjoint, str):
        raise TypeError(f"adjoint must be a name such as 'discrete' or an Adjoint, not {type(adjoint).__name__}")
    key = _key(adjoint)
    if key == DIRECT:
        return DIRECT
    if key in _BY_KEY:
        return _BY_KEY[key]()
    near = difflib.get_close_matches(key, [*_BY_KEY, DIRECT], n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"choose one of 'auto', {', '.join(names())}"
    raise ValueError(f"unknown adjoint {adjoint!r}: {hint}")
