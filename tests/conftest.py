"""Settings and fixtures of every test: one thread, because the systems are small, and the same
random numbers each time.

``engine`` runs a test on every engine, or on those that
``@pytest.mark.parametrize("engine", [...], indirect=True)`` names. A test that needs a feature says
so: ``@pytest.mark.uses("callback")``. On an engine that refuses the feature, the test must end with
the engine's error (``refuses`` in support/engines.py).
"""

import os

import pytest
import torch

from tests.support.clock import Clock
from tests.support.engines import ENGINES

torch.set_num_threads(1)

# What a machine may lack. Every other reason to skip is a package that the extra `dev` installs.
MAY_LACK = (
    "no Julia",
    "the Julia package",
    "Pkg.test takes",
    "no GPU",
    "no numba-cuda",
    "petab_sciml is not installed",
    "mlflow is not installed",
    "wandb is not installed",
    "no libNVVM",
    "times on another device",
    "no C++ compiler",
    "no Chromium",
    "this torch has no",
    "torch was built without",
    "torch 2",  # older than a feature, or without devices made in Python
    "this system has no",
    "Windows",
    "the stand-in for Julia",
    "the processes here",
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def figures(monkeypatch):
    """The matplotlib figures that the test saves, in their order."""
    figure = pytest.importorskip("matplotlib.figure", reason="plots need matplotlib").Figure
    found, save = [], figure.savefig

    def noted(self, *arguments, **options):
        found.append(self)
        return save(self, *arguments, **options)

    monkeypatch.setattr(figure, "savefig", noted)
    return found


@pytest.fixture(params=ENGINES)
def engine(request):
    found = ENGINES[request.param]
    found.require()
    return found


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    uses = [name for marker in pyfuncitem.iter_markers("uses") for name in marker.args]
    engine = pyfuncitem.funcargs.get("engine")
    refused = [engine.refuses[name] for name in uses if name in engine.refuses]
    if not refused:
        return (yield)
    with pytest.raises(ValueError) as caught:
        yield
    refused[0].check(caught.value)
    return True


# With STRICT_SKIPS in the environment, as in continuous integration, a test that is skipped for
# another reason than these fails the run.
unexpected = []


def note_skip(report):
    if report.skipped and isinstance(report.longrepr, tuple):
        path, line, reason = report.longrepr
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(MAY_LACK):
            unexpected.append(f"{path}:{line}: {reason}")


def pytest_runtest_logreport(report):
    note_skip(report)


def pytest_collectreport(report):
    note_skip(report)


def pytest_sessionfinish(session, exitstatus):
    if os.environ.get("STRICT_SKIPS") and unexpected and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    if os.environ.get("STRICT_SKIPS") and unexpected:
        terminalreporter.section("unexpected skips: they fail this run")
        for line in dict.fromkeys(unexpected):
            terminalreporter.write_line(line)
