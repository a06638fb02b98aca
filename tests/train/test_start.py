"""Which random start a run takes."""

import math
from dataclasses import replace
from importlib import import_module

import pytest

from pynode.train import Options, fit
from pynode.train import start as module
from pynode.train.progress import SilentProgress
from pynode.train.start import STARTS, Clock, TrainingError, first_field
from tests.support.training import QUICK, stiff_linear

WARM = Options(warm_start=10)
COLD = replace(WARM, warm_start=0)


class Losses:
    """An objective whose fields are numbers: their losses. Constant states have the loss 1."""

    def baseline(self):
        return 1.0

    def value(self, field):
        return field, 0.0


class Said(SilentProgress):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def chosen(monkeypatch):
    """chosen(options, losses): (the start that is taken, how many were tried, the messages)."""

    def choose(options, losses):
        left = list(losses)
        monkeypatch.setattr(module, "_prepared", lambda *arguments: left.pop(0))
        said = Said()
        field = first_field(None, None, Losses(), options, None, said, Clock(math.inf))
        return field, len(losses) - len(left), said.lines

    return choose


@pytest.mark.parametrize(
    ("options", "losses", "start", "tried"),
    [
        (WARM, (0.05, 0.01, 0.01), 0.05, 1),
        (WARM, (0.3, 0.05, 0.01), 0.05, 2),
        (WARM, (0.3, 0.9, 0.5), 0.3, 3),
        (WARM, (math.inf, 30.0, 0.5), 0.5, 3),
        (COLD, (1.5, 0.1, 0.1), 1.5, 1),
        (COLD, (math.inf, 40.0, 3.0), 3.0, 3),
    ],
)
def test_starts(chosen, options, losses, start, tried):
    """A warm start should be much better than constant states, another only solvable."""
    found = chosen(options, losses)
    assert found[:2] == (start, tried)
    assert len(found[2]) == tried - 1
    assert all("drawing new weights" in line for line in found[2])


def test_no_start_that_can_be_solved(chosen):
    with pytest.raises(TrainingError, match="could be solved"):
        chosen(WARM, (math.inf,) * STARTS)


def test_the_start_ends_with_its_share_of_the_time(clock, monkeypatch):
    """Of a limit of 100 seconds, collocation takes a quarter at most, and no new start is drawn."""
    clock.serve("pynode.train.run", "pynode.train.start")
    monkeypatch.setattr(import_module("pynode.train.collocate"), "time", clock)
    done = []

    class Slow(SilentProgress):
        def warm(self, at, of, loss):
            clock.now += 1.0
            done.append(at)

    options = replace(QUICK, warm_start=0, collocation=10**6, epochs=0, polish=0, time_limit=100.0)
    fit(stiff_linear(), options, progress=Slow())
    assert len(done) == 25
