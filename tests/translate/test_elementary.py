"""The functions that native code has instead of the C mathematics library, against many digits."""

import ctypes
import math

import numpy as np
import pytest

from pynode.translate.elementary import FUNCTIONS
from pynode.translate.instructions import LANES, OWN
from pynode.translate.llvm import Module
from pynode.translate.machine import Loaded, compiled
from pynode.translate.nests import Nest

mpmath = pytest.importorskip("mpmath")

COUNT = 2048
UNITS = 2.0  # in the last place: the largest error
# Where each function is tried, besides sizes from 1e-320 to 1 of both signs.
RANGES = {
    "exp": [(-1.0, 1.0), (-745.2, 709.7)],
    "expm1": [(-1.0, 1.0), (-40.0, 40.0), (-1.0, 709.7)],
    "tanh": [(-1.0, 1.0), (-25.0, 25.0)],
    "erf": [(-1.2, 1.2), (-7.0, 7.0)],
    "log": [(0.5, 2.0), (0.0, 1e3)],
    "log1p": [(-0.5, 0.5), (-1.0, 1e3)],
}
INFINITY = math.inf
# At -infinity, -1, 0, infinity and NaN.
EDGES = {
    "exp": (0.0, math.exp(-1), 1.0, INFINITY),
    "expm1": (-1.0, math.expm1(-1), 0.0, INFINITY),
    "tanh": (-1.0, math.tanh(-1), 0.0, 1.0),
    "erf": (-1.0, math.erf(-1), 0.0, 1.0),
    "log": (math.nan, math.nan, -INFINITY, INFINITY),
    "log1p": (math.nan, -INFINITY, 0.0, INFINITY),
}


def looped(module, name):
    """The function in a loop over COUNT numbers."""
    body = module.body()
    nest = Nest(module, body, lambda body, buffer: ("%out", 0))

    def one(i, carried):
        body.store(body.call(name, [body.load("%y", i)]), "%out", i)
        return []

    nest.loop(COUNT, one)
    return body


def grouped(module, name):
    """The function of LANES numbers at once, COUNT / LANES times."""
    body = module.body()
    nest = Nest(module, body, lambda body, buffer: ("%out", 0))

    def some(i, carried):
        places = [nest.plus(i, k) for k in range(LANES)]
        values = body.calls(name, [body.load("%y", place) for place in places])
        for place, value in zip(places, values, strict=True):
            body.store(value, "%out", place)
        return []

    nest.loop(COUNT, some, step=LANES)
    return body


def evaluated(write, name, numbers):
    """The values of a function written by one of these."""
    module = Module("double", looped=write is looped)
    module.add("entry", write(module, name))
    loaded = Loaded(compiled(module.text()))
    call = ctypes.CFUNCTYPE(None, ctypes.c_double, *[ctypes.c_void_p] * 5)(loaded.address("entry"))
    values = np.empty(COUNT)
    padded = np.resize(np.asarray(numbers, dtype=float), COUNT)
    call(0.0, padded.ctypes.data, None, None, values.ctypes.data, None)
    return values[: len(numbers)]


def sample(name):
    generator = np.random.default_rng(3)
    small = 10 ** generator.uniform(-320, 0, 200)
    if name == "log":
        small = 1 + small
    signs = np.where(np.arange(200) % 2, 1.0, -1.0)
    if name in ("log", "log1p"):
        signs = np.ones(200)
    each = (COUNT - 200) // len(RANGES[name])
    parts = [generator.uniform(low, high, each) for low, high in RANGES[name]]
    return np.concatenate([*parts, signs * small])


def error(name, x, value):
    """In units of the last place of the exact value."""
    with mpmath.workprec(200):
        exact = getattr(mpmath, name)(mpmath.mpf(x))
        return float(abs(mpmath.mpf(value) - exact) / mpmath.mpf(math.ulp(float(exact))))


def test_all_functions_are_tried():
    assert set(FUNCTIONS) == OWN == set(RANGES)


@pytest.mark.parametrize("name", sorted(OWN))
def test_errors_are_in_the_last_place(name):
    numbers = sample(name)
    values = evaluated(looped, name, numbers)
    worst = max(error(name, x, v) for x, v in zip(numbers.tolist(), values.tolist(), strict=True))
    assert worst < UNITS


@pytest.mark.parametrize("name", sorted(OWN))
def test_several_at_once(name):
    numbers = sample(name)
    values = evaluated(grouped, name, numbers)
    np.testing.assert_allclose(values, evaluated(looped, name, numbers), rtol=1e-15, atol=0.0)


@pytest.mark.parametrize("write", [looped, grouped])
@pytest.mark.parametrize("name", sorted(OWN))
def test_edges(name, write):
    values = evaluated(write, name, [-INFINITY, -1.0, 0.0, INFINITY, math.nan, -0.0, 1e300])
    np.testing.assert_allclose(values[:4], EDGES[name], rtol=1e-15)
    assert math.isnan(values[4])
    if EDGES[name][2] == 0.0:
        assert math.copysign(1.0, values[5]) == -1.0
    assert values[6] in (1.0, INFINITY) or values[6] == pytest.approx(300 * math.log(10))
