"""The memory that Python and Julia share: both name the same fields in the same order."""

import ctypes
import re

import pytest

from pynode.backends.julia import request
from tests.support import ROOT

SOURCE = (ROOT / "julia" / "src" / "request.jl").read_text(encoding="utf-8")
STRUCTURES = {
    "Outcome": request.Outcome,
    "Request": request.Request,
    "GradientRequest": request.GradientRequest,
}


def kind_in_julia(name):
    """'real', 'integer', 'pointer', 'outcome' or 'three pointers'."""
    if name.startswith("Ptr{"):
        return "pointer"
    kinds = {"Float64": "real", "Int64": "integer", "Outcome": "outcome"}
    return kinds.get(name, "three pointers" if name == "NTuple{3, Ptr{Cvoid}}" else name)


def kind_in_python(kind):
    """The same. An address is a whole number here."""
    if kind is ctypes.c_double:
        return "real"
    if kind is request.Outcome:
        return "outcome"
    if issubclass(kind, ctypes.Array):
        return "three pointers" if kind._length_ == 3 else "other"
    return "integer" if kind in (ctypes.c_int64, ctypes.c_void_p) else "other"


@pytest.mark.parametrize("name", STRUCTURES)
def test_fields_are_those_of_julia(name):
    body = re.search(rf"(?m)^struct {name}\n(.*?)^end$", SOURCE, re.DOTALL).group(1)
    fields = re.findall(r"(?m)^    (\w+)::(.+)$", body)
    structure = STRUCTURES[name]
    assert [field for field, _ in fields] == [field[0] for field in structure._fields_]
    for (field, there), (_, here) in zip(fields, structure._fields_, strict=True):
        kind = kind_in_julia(there)
        found = kind_in_python(here)
        assert found == kind or (kind == "pointer" and found == "integer"), field


def test_sizes_and_version():
    """Eight bytes a number, without gaps, as Julia lays out the same fields."""
    numbers = len(request.Outcome._fields_)
    assert ctypes.sizeof(request.Outcome) == 8 * numbers
    assert ctypes.sizeof(request.Request) == 8 * (len(request.Request._fields_) - 2 + numbers + 3)
    assert ctypes.sizeof(request.GradientRequest) == 8 * (
        len(request.GradientRequest._fields_) - 1 + 3
    )
    version = re.search(r"(?m)^const VERSION = (\d+)$", SOURCE).group(1)
    assert int(version) == request.VERSION
