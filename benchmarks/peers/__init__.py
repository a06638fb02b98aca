"""The peers of the benchmarks. Each file of this folder registers one package, and no other list
names it. The package itself is imported when one of its solvers runs for the first time.

A solver is a function (case, field) that makes a function of no arguments; this one solves once and
returns (states (T, n) or None where it gave up, counts). case: a Case of benchmarks.case; field:
its torch field, perhaps watched, which packages with a language of their own do not call. For the
kinds with "gradient" in their name, the case is a Gradient, and the gradient, (n + p,), stands for
the states.
"""

import benchmarks.pairs  # noqa: F401, isort: skip  (before torch: one thread)

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

EAGER = "torch"  # the language of packages that call the torch module


class Solver(NamedTuple):
    """label: its name in the tables."""

    label: str
    make: Callable


@dataclass(frozen=True)
class Peer:
    """A package that the benchmarks run beside pynode.

    module: what is imported of it.
    place: where it stands in the tables.
    language: that of its field.
    suite: {kind of problem: solvers} for `python -m benchmarks`.
    ladder: the same for `python -m benchmarks.workprecision`.
    """

    name: str
    module: str
    place: int
    language: str = EAGER
    suite: dict[str, list[Solver]] = field(default_factory=dict)
    ladder: dict[str, list[Solver]] = field(default_factory=dict)


_FOUND: list[Peer] = []


def register(peer: Peer) -> Peer:
    """Add a peer. Raises ValueError if another one has its name."""
    if any(peer.name == other.name for other in _FOUND):
        raise ValueError(f"two peers are named {peer.name}: rename one of them")
    _FOUND.append(peer)
    return peer


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
PEERS = {peer.name: peer for peer in sorted(_FOUND, key=lambda peer: peer.place)}
