"""Changes of f that a walk over its code and data sees badly are noticed all the same."""

import functools
import sys
import types
from collections import deque

import pytest
import torch

from pynode.translate import TranslationRefused, translate
from tests.support.native_fields import DOUBLE, native

Y0 = torch.tensor([1.0, -0.5], dtype=DOUBLE)


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """A store of its own for each test."""
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path))


@pytest.fixture
def settings(monkeypatch):
    """A package of a user, with a module of settings in it."""
    package = types.ModuleType("users_package")
    package.settings = types.ModuleType("users_package.settings")
    package.settings.RATE = 2.0
    monkeypatch.setitem(sys.modules, "users_package", package)
    monkeypatch.setitem(sys.modules, "users_package.settings", package.settings)
    monkeypatch.setitem(globals(), "users_package", package)
    return package.settings


def _dotted(t, y):
    return -users_package.settings.RATE * y  # noqa: F821, the fixture puts it there


def _imported(t, y):
    from users_package import settings

    return -settings.RATE * y


def _named_as_text(t, y):
    return -vars(sys.modules["users_package"])["settings"].RATE * y


def _right(f):
    y = Y0.numpy()
    found = native(translate(f, Y0, 0.0), "f", 0.0, y)
    assert found == pytest.approx(f(torch.tensor(0.0, dtype=DOUBLE), Y0).numpy())


@pytest.mark.parametrize("f", [_dotted, _imported, _named_as_text])
def test_a_number_in_a_module_of_a_package(settings, f):
    _right(f)
    settings.RATE = 5.0
    _right(f)


@pytest.mark.parametrize("f", [_dotted, _imported, _named_as_text])
def test_another_number_than_that_on_the_disk(settings, f):
    def again():
        """The same code as a new function, which only the disk knows."""
        return types.FunctionType(f.__code__, f.__globals__)

    _right(again())
    settings.RATE = 5.0
    _right(again())


def test_a_wrapper_with_the_name_of_torchs_function():
    def field(factor):
        @functools.wraps(torch.nn.functional.relu)
        def act(x):
            return factor * torch.nn.functional.relu(x)

        def steeper(x):
            return torch.exp(act(x))

        return lambda t, y: steeper(y)

    def other():
        @functools.wraps(torch.nn.functional.relu)
        def act(x):
            return torch.tanh(x)

        def steeper(x):
            return torch.exp(act(x))

        return lambda t, y: steeper(y)

    _right(field(2.0))
    _right(other())


def test_a_deque_changes():
    rates = deque([2.0])

    def f(t, y):
        return -rates[0] * y

    _right(f)
    rates[0] = 3.0
    _right(f)


def test_a_key_gets_another_name():
    options = {"decay": 1.0}

    def f(t, y):
        return -y if "decay" in options else 2 * y

    _right(f)
    options["growth"] = options.pop("decay")
    _right(f)


def test_a_state_of_zeros_hides_no_change(settings):
    zeros = torch.zeros(2, dtype=DOUBLE)
    translate(_named_as_text, zeros, 0.0).function("f")
    settings.RATE = 5.0
    changed = translate(_named_as_text, zeros, 0.0)
    assert native(changed, "f", 0.0, Y0.numpy()) == pytest.approx(-5.0 * Y0.numpy())


def test_f_that_asks_whether_gradients_are_computed():
    def f(t, y):
        return -2 * y if torch.is_grad_enabled() else -y

    with pytest.raises(TranslationRefused, match="without gradients"):
        translate(f, Y0, 0.0)


def test_a_nearly_cancelling_f_is_no_change():
    def f(t, y):
        return 1e9 * ((1.0 + 1e-7 * y) - 1.0) * (1.0 + torch.sin(1e9 * y)) - y

    field = translate(f, Y0, 0.0)
    assert translate(f, Y0, 0.0) is field
