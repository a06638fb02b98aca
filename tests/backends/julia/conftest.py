"""The fixture of the tests that run without a Julia."""

import sys

import pytest

from pynode.backends.julia import runtime
from tests.support import fakes
from tests.support.machine import Machine


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine that has only the stand-ins."""
    held = {name: sys.modules.get(name) for name in fakes.MODULES}
    fakes.forget_modules()
    for name, value in fakes.bare_environment(tmp_path).items():
        if name != "PYTHONPATH":
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(
                name, value
            )
    monkeypatch.syspath_prepend(fakes.make_packages(tmp_path / "packages"))
    monkeypatch.setattr(runtime, "_RUNTIME", None)
    monkeypatch.setattr(runtime, "_FAILURE", None)
    found = Machine(tmp_path, monkeypatch)
    monkeypatch.setenv("FAKE_JULIA", found.julia)
    yield found
    fakes.forget_modules()
    sys.modules.update({name: module for name, module in held.items() if module is not None})
