"""Which engine a training run takes by itself."""

from dataclasses import replace

import torch

from pynode.train import Options, fit
from pynode.train.engine import with_engine
from pynode.train.progress import SilentProgress
from tests.support.training import stiff_linear

QUICK = Options(hidden=(8,), epochs=2, warm_start=0, rtol=1e-4)


class Said(SilentProgress):
    """What a run said."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def test_native_code_serves_by_itself():
    """The loss is that of the torch engine, and one line names the engine."""
    data = stiff_linear()
    said = Said()
    native = fit(data, QUICK, progress=said)
    torch_run = fit(data, replace(QUICK, backend="torch"), progress=SilentProgress())
    assert [line for line in said.lines if "Engine" in line] == ["Engine: native code."]
    for mine, theirs in zip(native.history, torch_run.history, strict=True):
        assert abs(mine["loss"] - theirs["loss"]) < 1e-6 * theirs["loss"]


def test_the_user_chooses():
    assert with_engine(replace(QUICK, backend="torch"), None, None) == (
        replace(QUICK, backend="torch"),
        "",
    )


def test_the_reason_for_torch_is_told():
    class Field(torch.nn.Module):
        def forward(self, t, u):
            return -u if float(u[0]) > 0 else u

    start = torch.ones(2, dtype=torch.float64)
    options, line = with_engine(QUICK, Field(), start)
    assert options.backend == "auto"
    assert line.startswith("Engine: torch. f turns a tensor into a Python number")
    options, line = with_engine(replace(QUICK, method="rkc"), torch.nn.Identity(), start)
    assert "no RKC" in line
