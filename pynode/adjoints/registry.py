"""Every adjoint by name. ``direct`` has no class: it is the graph of the solve itself and has no
pullback."""

from __future__ import annotations

import difflib

from .base import Adjoint
from .continuous.backsolve import BacksolveAdjoint
from .continuous.gauss import GaussAdjoint, GaussKronrodAdjoint, QuadratureAdjoint
from .continuous.interpolating import InterpolatingAdjoint
from .discrete.adjoint import DiscreteAdjoint
from .forward import ForwardSensitivity
from .julia import JuliaAdjoint

CLASSES = (
    DiscreteAdjoint,
    GaussAdjoint,
    GaussKronrodAdjoint,
    QuadratureAdjoint,
    InterpolatingAdjoint,
    BacksolveAdjoint,
    ForwardSensitivity,
)
DIRECT = "direct"


def short_name(name: str) -> str:
    """'GaussAdjoint', 'gauss_adjoint' and 'gauss' give the same key, and so do 'ForwardSensitivity'
    and 'forward'."""
    key = name.lower().replace("_", "")
    return key.removesuffix("adjoint").removesuffix("sensitivity") or key


_BY_KEY = {short_name(c.name): c for c in CLASSES}


def names() -> list:
    """SciML's names of all adjoints, and 'direct'."""
    return [*(c.name for c in CLASSES), DIRECT]


def get(adjoint: str | Adjoint | type[Adjoint], backend: str = "torch") -> Adjoint | str:
    """The Adjoint of this name, in any case, with or without 'Adjoint'. An Adjoint passes through,
    and 'direct' as well.

    For a solve by Julia it is SciMLSensitivity's adjoint of this name, or Gauss for 'auto'. For a
    native solve it is the discrete adjoint, or ForwardSensitivity, in compiled code.

    Raise ValueError with the nearest names if there is none, and TypeError if the argument is
    neither a name nor an Adjoint.
    """
    if backend == "julia":
        return JuliaAdjoint.of(adjoint)
    if backend in ("native", "cuda"):
        return _native(adjoint)
    if isinstance(adjoint, Adjoint):
        return adjoint
    if isinstance(adjoint, type) and issubclass(adjoint, Adjoint):
        return adjoint()
    if not isinstance(adjoint, str):
        raise TypeError(
            f"adjoint must be a name such as 'discrete' or an Adjoint, not {type(adjoint).__name__}"
        )
    key = short_name(adjoint)
    if key == DIRECT:
        return DIRECT
    if key in _BY_KEY:
        return _BY_KEY[key]()
    near = difflib.get_close_matches(key, [*_BY_KEY, DIRECT], n=2, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(repr(n) for n in near)}?"
    else:
        hint = f"choose one of 'auto', {', '.join(names())}"
    raise ValueError(f"unknown adjoint {adjoint!r}: {hint}")


def _native(adjoint):
    """The adjoint of a native solve."""
    if adjoint == "auto":
        adjoint = DiscreteAdjoint()
    found = get(adjoint)
    if type(found) is DiscreteAdjoint:  # a subclass has a pullback of its own
        from .native.adjoint import NativeDiscreteAdjoint

        return NativeDiscreteAdjoint(found.checkpoints, found.max_memory, found.keep_graphs)
    if type(found) is ForwardSensitivity:
        from .native.forward.adjoint import NativeForwardSensitivity

        return NativeForwardSensitivity()
    name = getattr(found, "name", found)
    raise ValueError(
        f"adjoint={name!r} needs the torch engine: take adjoint='discrete' or 'forward', or leave"
        " out backend='native'"
    )
