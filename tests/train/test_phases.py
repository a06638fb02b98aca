"""Segments and a horizon that grow: their order, what they use, and that they resume to the bit."""

from dataclasses import replace

import pytest
import torch

from pynode.train import Options, Scaling, fit
from pynode.train.objective import Objective
from pynode.train.phases import Plan
from pynode.train.progress import SilentProgress
from tests.support.training import QUICK, stiff_linear, weights

GROWING = replace(QUICK, warm_start=0, segments=3, horizon=2, epochs=4, polish=2)


def test_segments_grow_when_a_step_gains_little_or_the_errors_are_small():
    plan = Plan(Options(segments=50, epochs=3))
    assert plan.segment(14) == 4
    plan.grow(error=0.1, gain=0.5, longest=14)
    assert plan.segment(14) == 4
    plan.grow(error=0.1, gain=0.99, longest=14)
    assert plan.segment(14) == 6
    plan.grow(error=1e-4, gain=0.5, longest=14)
    assert plan.segment(14) == 9
    while not plan.ended:
        plan.grow(error=1e-4, gain=0.5, longest=14)
    assert plan.segment(14) == 14 and plan.next(9, 0.0) == "descent"
    plan.enter("descent", 9)
    assert [plan.next(epoch, 0.0) for epoch in (11, 12)] == ["descent", None]


def test_the_horizon_leaves_the_last_times_out():
    data = stiff_linear()
    found = Objective(data, Scaling.of(data), Options(horizon=2))
    found.limit(0.5)
    errors, _, _ = found.errors(lambda t, u: 0 * u, 0)
    assert len(errors) == 8
    found.limit(1.0)
    assert len(found.errors(lambda t, u: 0 * u, 0)[0]) == 15
    with pytest.raises(ValueError, match="horizon takes the first observations"):
        Options(horizon=2, sample=3)


def test_a_run_with_all_phases_resumes_to_the_bit(tmp_path):
    data = stiff_linear()

    class Stop(SilentProgress):
        def __init__(self, epoch):
            self.last = epoch

        def epoch(self, record, epochs, best):
            if record["epoch"] == self.last:
                raise KeyboardInterrupt

    whole = fit(data, GROWING)
    phases = [record["phase"] for record in whole.history[1:]]
    assert phases == ["segments"] * 3 + ["horizon"] * 2 + ["descent"] * 2 + ["polish"] * 2
    for epoch in (2, 4):
        fit(data, GROWING, tmp_path / str(epoch), progress=Stop(epoch))
        resumed = fit(data, GROWING, tmp_path / str(epoch), resume=True)
        assert torch.equal(weights(whole), weights(resumed)) and whole.best == resumed.best
