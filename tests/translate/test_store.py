"""What is kept: in the process by the function, on disk by the code and the data behind it."""

import gc
import os
import subprocess
import sys
import textwrap
import weakref

import pytest
import torch

from pynode.translate import field_code, store, translate
from tests.support.native_fields import DOUBLE, Autonomous, difference, mlp

SCRIPT = """
import sys
import torch
from pynode.translate import derivatives, field_code, translate

counts = {"recorded": 0, "compiled": 0}

def counted(name, function):
    def inner(*args, **kwargs):
        counts[name] += 1
        return function(*args, **kwargs)
    return inner

field_code.record_value = counted("recorded", field_code.record_value)
field_code.compiled = counted("compiled", field_code.compiled)

SCALE = 2.0

class Field(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 3).double()
        self.register_buffer("place", torch.tensor([2, 0, 1]))
        self.gain = 1.5

    def shaped(self, z):
        return torch.tanh(z) * SCALE

    def forward(self, t, y):
        return self.shaped(self.layer(y))[self.place] * self.gain

torch.manual_seed(0)
field = Field()
EXTRA
y0 = torch.ones(3, dtype=torch.float64)
native = translate(field, y0, 0.0)
sizes = [native.function(name).size for name in ("f", "jac", "pullback")]
print(counts["recorded"], counts["compiled"], sizes, len(native.targets), native.pattern()[0].size)
"""


def _run(directory, extra="", script=SCRIPT):
    """The counts of recordings and compilations of a fresh process."""
    path = directory / "script.py"
    path.write_text(textwrap.dedent(script.replace("EXTRA", extra)))
    environment = {**os.environ, "PYNODE_CACHE": str(directory / "cache")}
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    recorded, compiled, rest = done.stdout.split(" ", 2)
    return int(recorded), int(compiled), rest


@pytest.fixture
def filled(tmp_path):
    """A store that knows the script's field."""
    recorded, compiled, rest = _run(tmp_path)
    assert (recorded, compiled) == (2, 3)
    return tmp_path, rest


def test_a_second_process_records_and_compiles_nothing(filled):
    directory, rest = filled
    assert _run(directory) == (0, 0, rest)


@pytest.mark.parametrize(
    "change",
    [
        ("torch.tanh(z) * SCALE", "torch.sinh(z) * SCALE"),
        ("SCALE = 2.0", "SCALE = 3.0"),
        ("self.gain = 1.5", "self.gain = 1.25"),
        ("torch.tensor([2, 0, 1])", "torch.tensor([1, 0, 2])"),
        ("Linear(3, 3)", "Linear(3, 3, bias=False)"),
    ],
    ids=["code", "global", "attribute", "indices", "structure"],
)
def test_a_changed_field_misses(filled, change):
    directory, _ = filled
    recorded, compiled, _ = _run(directory, script=SCRIPT.replace(*change))
    assert recorded == 2
    assert compiled > 0


def test_other_weights_hit(filled):
    directory, rest = filled
    extra = "field.layer.weight.data.mul_(3.0)"
    assert _run(directory, extra) == (0, 0, rest)


def test_gradients_wanted_or_not_hit(filled):
    directory, rest = filled
    assert _run(directory, "field.requires_grad_(False)") == (0, 0, rest)


def test_a_damaged_file_is_made_again(filled):
    directory, rest = filled
    damaged = list((directory / "cache").rglob("*.o"))
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-7])
    assert _run(directory)[1:] == (3, rest)
    assert _run(directory) == (0, 0, rest)


def test_equal_code_of_other_fields_is_shared(tmp_path, monkeypatch):
    """Two fields with other names and one graph have one object on disk."""
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path))
    y0 = torch.ones(2, dtype=DOUBLE)

    def first(t, y):
        return -y * y

    def second(t, y):
        z = y
        return -z * z

    for f in (first, second):
        translate(f, y0, 0.0).function("f")
    assert len(list(tmp_path.rglob("*.json"))) == 2
    assert len(list(tmp_path.rglob("*.o"))) == 1


def test_what_has_no_key_is_compiled_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path))
    generator = torch.Generator()

    # No assert: pytest's reaches all of pytest, which changes while f is recorded.
    def f(t, y):
        return -2.0 * y if generator is not None else y

    field = translate(f, torch.ones(2, dtype=DOUBLE), 0.0)
    assert field.function("f").size == 2
    assert not list(tmp_path.rglob("*.json"))


def test_the_store_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path))
    monkeypatch.setattr(store, "LIMIT", 5_000)
    for i in range(64 * 3 + 1):
        store.write(f"{i:040d}", "o", bytes(100))
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.o"))
    assert size < 5_000 + 64 * 120


def test_no_store_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", "off")
    store.write("0" * 40, "o", b"x")
    assert store.read("0" * 40, "o") is None


class Counting(torch.nn.Module):
    """Counts its calls, as many fields do, and has a mode."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.factor = 2.0
        self.weight = torch.nn.Parameter(torch.tensor(1.5, dtype=DOUBLE))

    def forward(self, t, y):
        self.calls += 1
        return -self.factor * self.weight * y if self.training else self.weight * y


@pytest.fixture
def off(monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", "off")


def test_the_same_field_again(off):
    f = Counting()
    y0 = torch.ones(2, dtype=DOUBLE)
    field = translate(f, y0, 0.0)
    f(0.0, y0)
    assert f.calls > 1
    assert translate(f, y0, 0.0) is field
    assert translate(f, torch.ones(1, dtype=DOUBLE), 0.0).n == 1


@pytest.mark.parametrize("change", ["attribute", "mode", "submodule", "code", "class"])
def test_a_change_in_the_process_is_seen(off, change):
    f = Counting()
    y0 = torch.tensor([0.3, 0.4], dtype=DOUBLE)
    field = translate(f, y0, 0.0)
    field.function("f")
    if change == "attribute":
        f.factor = 3.0
    elif change == "mode":
        f.eval()
    elif change == "submodule":
        f.weight = torch.nn.Parameter(torch.tensor(2.0, dtype=DOUBLE))
    elif change == "code":
        f.forward = lambda t, y: y * f.weight * 7.0
    else:
        f.__class__ = type("Other", (Counting,), {"forward": lambda self, t, y: self.weight + y})
    other = translate(f, y0, 0.0)
    assert other is not field
    assert difference(other, f, (), "f", 0.0, y0.numpy()) < 1e-14


def test_indices_changed_in_place_are_seen(off):
    place = torch.tensor([1, 0])

    def f(t, y):
        return y[place]

    y0 = torch.tensor([0.3, 0.4], dtype=DOUBLE)
    translate(f, y0, 0.0).function("f")
    place.copy_(torch.tensor([0, 0]))
    assert difference(translate(f, y0, 0.0), f, (), "f", 0.0, y0.numpy()) < 1e-14


def test_a_function_that_is_gone_frees_its_code(off):
    def made():
        net = Autonomous(mlp(2, 4, 2))

        def f(t, y):
            return net(t, y)

        translate(f, torch.ones(2, dtype=DOUBLE), 0.0).function("f")
        return weakref.ref(net), weakref.ref(f)

    gone = made()
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_args_do_not_pile_up(off):
    def f(t, y, rate):
        return -rate * y

    y0 = torch.ones(2, dtype=DOUBLE)
    for i in range(40):
        translate(f, y0, 0.0, (0.1 * i,))
    from pynode.translate import field as module

    assert len(module._CODES[f]) <= 16


def test_keys_have_the_versions(monkeypatch):
    before = store.key("x")
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert store.key("x") != before
    assert field_code.NativeFunction.__dataclass_params__.frozen
