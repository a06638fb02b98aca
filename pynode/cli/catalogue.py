"""Every method and adjoint with its properties, from the registries."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from ..adjoints import registry as adjoint_registry
from ..backends.julia import algorithms
from ..backends.native.families import FAMILIES
from ..methods import registry
from ..methods.adams import AdamsPECE
from ..methods.bdf.step import BDF
from ..methods.switching import AutoSwitch
from ..solve_batched import serves


@dataclass(frozen=True)
class MethodEntry:
    """One method. kind: 'explicit', 'implicit' or 'switching'; order: a number, or a range as text;
    structures: of the Jacobian that it takes; mass: constant mass matrices; batched: a step for
    every row; backends: the engines that have it."""

    name: str
    kind: str
    family: str
    order: str
    structures: tuple[str, ...]
    mass: bool
    batched: bool
    backends: tuple[str, ...]
    reference: str


@dataclass(frozen=True)
class AdjointEntry:
    """One adjoint: its name, its short name for ``adjoint=``, and a sentence that describes it."""

    name: str
    short: str
    what: str


def methods() -> list[MethodEntry]:
    """Every method; the methods of the torch engine come first."""
    shared = {name.lower() for name in algorithms.SHARED}
    entries = []
    for name in registry.names():
        method = registry.get(name)
        if isinstance(method, (BDF, AdamsPECE)) and method.order > 2:
            order = f"1 to {method.order}"
        else:
            order = str(method.order)
        engines = ["torch"]
        if FAMILIES.get(method) is not None:
            engines.append("native")
        if name.lower() in shared or isinstance(method, AutoSwitch):
            engines.append("julia")
        entries.append(
            MethodEntry(
                name,
                _kind(method),
                method.family,
                order,
                tuple(method.structures) if method.implicit else (),
                bool(method.takes_mass),
                serves(method),
                tuple(engines),
                method.reference,
            )
        )
    for name in algorithms.ONLY:
        method = algorithms.get(name)
        entries.append(
            MethodEntry(
                name,
                "implicit" if method.implicit else "explicit",
                method.family,
                str(method.order),
                tuple(method.structures) if method.implicit else (),
                bool(method.takes_mass),
                False,
                ("julia",),
                method.reference,
            )
        )
    return entries


def _kind(method) -> str:
    if isinstance(method, AutoSwitch):
        return "switching"
    if method.implicit:
        return "implicit"
    return "explicit"


def adjoints() -> list[AdjointEntry]:
    """Every adjoint, the default first."""
    entries = [
        AdjointEntry(
            kind.name,
            adjoint_registry.short_name(kind.name),
            " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()),
        )
        for kind in adjoint_registry.CLASSES
    ]
    direct = adjoint_registry.DIRECT
    return [
        *entries,
        AdjointEntry(
            direct, direct, "Autograd records a graph of the whole loop and differentiates it."
        ),
    ]
