"""A function that only compiled functions call is compiled without machine code of its own."""

import pytest

from pynode.backends.native import parts

numba = pytest.importorskip("numba")


def twice(x):
    return 2 * x


def shifted(x):
    if x < 0:
        return 0.0
    return twice(x) + 1.0


def test_the_callers_take_in_the_code():
    assert set(parts.part_options()) == set(parts.whole_options()) == {"pipeline_class"}
    for function in (twice, shifted):
        numba.extending.register_jitable(**parts.part_options())(function)

    @numba.njit(**parts.whole_options())
    def whole(x):
        return shifted(x) + twice(x)

    assert [whole(x) for x in (-1.0, 0.5, 3.0)] == [-2.0, 3.0, 13.0]


def test_another_numba(monkeypatch):
    """If numba's classes changed, it compiles as usual."""
    monkeypatch.setattr(parts, "_REPLACED", ("a_method_of_the_future",))
    assert parts._pipelines.__wrapped__() == ({}, {})
