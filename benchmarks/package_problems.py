"""Registers problems of pynode.problems for the benchmarks."""

from functools import partial

from benchmarks import problems as registry
from benchmarks.case import Case
from pynode import problems


def register_stiff(name: str, place: int, **more):
    """Add a stiff problem with reference data in tests/reference. more: fields of Entry."""
    make = partial(problems.get, name)

    def case(rtol):
        return Case.of_data(make(), rtol)

    return registry.register(registry.Entry(name, registry.STIFF, place, make, case, **more))


def register_smooth(name: str, place: int, end: float | None = None, **more):
    """Add a problem that is not stiff. end: the time of the last output; by default the end of the
    problem. more: fields of Entry."""
    make = partial(problems.get, name)

    def case(rtol):
        return Case.smooth(make(), rtol, end)

    return registry.register(registry.Entry(name, registry.SMOOTH, place, make, case, **more))
