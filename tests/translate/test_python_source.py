"""The Python source of a function gives the native function's numbers."""

import numpy as np
import pytest
import torch

from pynode.translate import TranslationRefused, translate
from tests.support.native_fields import DOUBLE, Autonomous, fields, mlp, native, vector

FIELDS = [entry for entry in fields() if entry[2].dtype == DOUBLE and entry[0] != "wide network"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path_factory.getbasetemp() / "native"))


def called(field, name, t, y, v, compiled=lambda function: function):
    """out of the Python function."""
    space = {}
    exec(field.python_source(name), space)
    out = np.zeros(field.function(name).size)
    arrays = [x.detach().reshape(-1).numpy() for x in field.targets]
    compiled(space[name])(t, y, v, *arrays, out, np.zeros(1))
    return out


@pytest.mark.parametrize("entry", FIELDS, ids=[entry[0] for entry in FIELDS])
def test_python_and_native_agree(entry):
    _, f, y0, args = entry
    field = translate(f, y0, 0.3, args)
    y = y0.numpy()
    for name in ("f", "jac", "pullback"):
        v = vector(field, name)
        try:
            found = called(field, name, 0.4, y, v)
        except TranslationRefused:
            assert "loop" in field.text(name)
            continue
        wanted = native(field, name, 0.4, y, v)
        np.testing.assert_allclose(
            found, wanted, rtol=1e-12, atol=1e-13 * np.abs(wanted).max(initial=0.0)
        )


def test_what_is_faster_in_loops_has_source_too():
    """Native code of layers consists of loops, and the Jacobian's numbers have the same places."""
    net = Autonomous(mlp(3, 20, 3))
    y = torch.rand(3, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    field = translate(net, y, 0.0)
    for name in ("f", "jac", "jac_time", "pullback"):
        assert "loop" in field.text(name)
        v = vector(field, name)
        found = called(field, name, 0.4, y.numpy(), v)
        wanted = native(field, name, 0.4, y.numpy(), v)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)


def test_numba_compiles_it():
    numba = pytest.importorskip("numba")
    _, f, y0, args = FIELDS[0]
    field = translate(f, y0, 0.3, args)
    found = called(field, "jac", 0.4, y0.numpy(), np.zeros(3), numba.njit)
    wanted = native(field, "jac", 0.4, y0.numpy())
    np.testing.assert_allclose(found, wanted, rtol=1e-13)


def test_what_is_too_large_says_so():
    net = Autonomous(mlp(5, 60, 60, 5))
    field = translate(net, torch.ones(5, dtype=DOUBLE), 0.0)
    with pytest.raises(TranslationRefused, match="too large for Python source"):
        field.python_source("jac")
