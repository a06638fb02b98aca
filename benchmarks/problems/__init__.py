"""The problems of the benchmarks. Each file of this folder registers its own, and no other list
names them."""

import benchmarks.pairs  # noqa: F401, isort: skip  (before torch: one thread)

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.case import Case, Gradient
from pynode.problems.base import Problem

STIFF = "stiff"
SMOOTH = "not stiff"
GRADIENTS = {STIFF: "stiff gradient", SMOOTH: "gradient"}


@dataclass(frozen=True)
class Entry:
    """A problem of the benchmarks.

    make: the problem of pynode with its field, its start and its span.
    case: the problem with outputs and reference, at an rtol.
    kind: STIFF, SMOOTH or one of GRADIENTS; it decides which solvers run.
    place: where it stands in the tables.
    network: whether the field is a network.
    suite: whether `python -m benchmarks` has it. The other benchmarks have all but the gradients.
    """

    name: str
    kind: str
    place: int
    make: Callable[[], Problem]
    case: Callable[[float], Case]
    network: bool = False
    suite: bool = True


PROBLEMS: dict[str, Entry] = {}


def register(entry: Entry) -> Entry:
    """Add a problem. Raises ValueError if another one has its name."""
    if entry.name in PROBLEMS:
        raise ValueError(f"two problems are named {entry.name}: rename one of them")
    PROBLEMS[entry.name] = entry
    return entry


def register_gradient(of: Entry, place: int) -> Entry:
    """Add the training gradient of a problem."""
    name = f"{of.name} gradient"

    def case(rtol):
        return Gradient(name, of.case(rtol))

    return register(Entry(name, GRADIENTS[of.kind], place, of.make, case, of.network))


def names(*kinds: str, network: bool | None = None, suite: bool | None = None) -> tuple[str, ...]:
    """The names of the problems of these kinds, in the order of the tables. network, suite: only
    those for which it is so; None for all."""
    found = [
        entry
        for entry in PROBLEMS.values()
        if entry.kind in kinds and network in (None, entry.network) and suite in (None, entry.suite)
    ]
    return tuple(entry.name for entry in sorted(found, key=lambda entry: entry.place))


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
