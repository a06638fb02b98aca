"""The native loop compiles the rules of core/step_control.py, and keeps the code on disk."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pynode import methods
from pynode.backends.native import compiler, explicit, loop, rosenbrock
from pynode.core import step_control
from tests.support.native_solves import forced, native

ROOT = Path(__file__).parents[3]
RULES = ["next_step", "shortened", "controlled", "vanishes", "planned", "trial_step", "judged_step"]


@pytest.mark.parametrize("family", [explicit, rosenbrock])
def test_the_loop_uses_the_rules(family):
    functions = set(compiler.reached(loop.advance, family))
    assert {getattr(step_control, name) for name in RULES} <= functions
    assert family.attempt in functions


def test_the_key_knows_the_sources(monkeypatch):
    """A change of a rule, far from the loop, gives another key."""
    functions = list(compiler.reached(loop.advance, explicit))
    before = compiler.key_of(functions, [])
    assert before == compiler.key_of(functions, [])
    assert before != compiler.key_of(functions, ["more"])
    source = compiler.inspect.getsource
    changed = [step_control]
    monkeypatch.setattr(
        compiler.inspect, "getsource", lambda module: source(module) + "#" * (module in changed)
    )
    assert before != compiler.key_of(functions, [])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path))
    return tmp_path


SCRIPT = """
import sys
from tests.support.native_solves import forced
from pynode import methods
from pynode.translate.field import translate
from pynode.backends.native.solve import integrate
from pynode.core.options import Options
sys.modules.pop("numba", None)
class Refused:
    def find_spec(self, name, path=None, target=None):
        assert not name.startswith("numba"), "numba was imported"
sys.meta_path.insert(0, Refused())
f, y0, times = forced()
path = integrate(
    translate(f, y0, 0.0), methods.Tsit5(), y0.numpy(), times.tolist(), Options(), 1e-9
)
print(path.status.name, path.accepted)
"""


def test_the_next_process_compiles_nothing(folder):
    """A process that finds the code on disk does not import numba."""
    f, y0, times = forced()
    compiler.forget()
    trajectory = native(f, y0, times, "Tsit5")
    assert len(list(folder.rglob("*.loop"))) == 1
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )
    assert done.stdout.split() == ["SUCCESS", str(trajectory.accepted)], done.stderr


def test_without_numba(folder, monkeypatch):
    """The error says what to install. Code on the disk needs no numba."""
    f, y0, times = forced()
    native(f, y0, times, "Tsit5")
    monkeypatch.setitem(sys.modules, "numba", None)
    compiler.forget()
    with pytest.raises(ImportError, match=r"pip install 'torch-stiff-ode\[native\]'"):
        native(f, y0, times, "Tsit5")


def test_one_compilation_for_each_family(monkeypatch):
    """Another method of the family, and another field, compile nothing."""
    f, y0, times = forced()
    native(f, y0, times, "Tsit5")
    monkeypatch.setattr(compiler, "load", lambda *_: pytest.fail("the loop was compiled again"))
    native(f, y0, times, "Vern7")
    native(lambda t, y: -y * t, torch.ones(5, dtype=torch.float64), times, "DP5")


def test_tables():
    """The tables hold the numbers of the tableau."""
    tables = rosenbrock.tables_of(methods.Rodas5P())
    tableau = methods.Rodas5P().tableau
    assert tables.a.shape == (tableau.stages + 2, tableau.stages)
    np.testing.assert_array_equal(tables.a[-2], [float(x) for x in tableau.b])
    np.testing.assert_array_equal(tables.couplings[-1, : len(tableau.C[-1])], tableau.C[-1])
    tables = explicit.tables_of(methods.Tsit5())
    assert tables.counts.tolist() == [7, 1]
