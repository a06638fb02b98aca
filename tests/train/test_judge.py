"""The verdict of a run: right about fields that are right, wrong, or cannot be known."""

import math

import pytest
import torch

from pynode.data import dataset
from pynode.train import Options, Scaling, fit, judge
from pynode.train.objective import Objective
from pynode.train.verdict import LEARNED, NOT_LEARNED, PARTLY

T = torch.linspace(0.0, 6.0, 61, dtype=torch.float64)


class Rotation(torch.nn.Module):
    """du/dt in scaled states of y = (cos wt, sin wt), which turn around (1/2, 1/2)."""

    def __init__(self, scaling, speed):
        super().__init__()
        self.scaling = scaling
        self.speed = speed

    def forward(self, t, u):
        x = self.scaling.physical(u)
        turn = torch.stack((-x[..., 1], x[..., 0]), -1) * self.speed
        return turn / turn.new_tensor(self.scaling.y_scale)


def verdict(y, speed, t=T, rtol=1e-6, **options):
    data = dataset(t, y)
    scaling = Scaling.of(data, "kim")
    chosen = Options(method="tsit5", rtol=rtol, **options)
    field = Rotation(scaling, speed)
    return judge(field, data, Objective(data, scaling, chosen), chosen)


def wave(speed=2.0, noise=0.0, t=T):
    generator = torch.Generator().manual_seed(3)
    y = torch.stack((torch.cos(speed * t), torch.sin(speed * t)), 1)
    added = noise * torch.randn(y.shape, generator=generator, dtype=torch.float64)
    added[0] = 0.0
    return y + added


def test_the_true_field_has_learned():
    found = verdict(wave(), 2.0)
    assert found.word == LEARNED and found.advice == ""
    assert all(state.learned and state.error < 1e-3 for state in found.states)
    noisy = verdict(wave(noise=0.1), 2.0)
    assert noisy.word == LEARNED
    assert all(0.5 < s.error / s.noise < 2 and abs(s.correlation) < 0.5 for s in noisy.states)


def test_the_noise_may_be_more_than_half_of_the_variation():
    """It is taken out before the rest is compared with what the field explains."""
    found = verdict(wave(noise=0.45), 2.0)
    assert found.word == LEARNED
    assert any(s.noise > 0.5 * s.constant for s in found.states)
    assert verdict(wave(noise=0.45), 0.0).word == NOT_LEARNED


def test_a_field_is_judged_on_accurate_solves():
    """The true field fits, also where the solves of the training are bad; and a field that fits
    only in these does not."""
    found = verdict(wave(), 2.0, rtol=0.3)
    assert found.word == LEARNED and all(state.error < 1e-3 for state in found.states)


def test_the_change_from_the_start_is_structure():
    """A state that falls before the second observation, and then has nothing but noise."""
    y = wave(noise=0.02)
    y[:, 1] = 0.02 * torch.randn(61, generator=torch.Generator().manual_seed(1)).double()
    assert "y2 has no more structure" in verdict(y, 2.0).sentence
    y[0, 1] = 3.0
    assert "no more structure" not in verdict(y, 2.0).sentence


def test_what_no_run_can_learn_does_not_keep_others_from_trying():
    y = wave()
    y[:, 1] = torch.randn(61, generator=torch.Generator().manual_seed(1)).double()
    found = verdict(y, 0.0)
    assert found.word == NOT_LEARNED and "y2 has no more structure" in found.sentence
    assert found.learnable
    noise = torch.randn(61, 2, generator=torch.Generator().manual_seed(1)).double()
    assert not verdict(noise, 0.0).learnable


def test_a_field_that_stands_still_misses_the_peaks():
    found = verdict(wave(), 0.0)
    assert found.word == NOT_LEARNED and found.sentence.startswith("not learned: y1 misses its")
    assert found.advice and all(state.correlation > 0.8 for state in found.states)


def test_a_field_that_is_a_little_off_is_partly_right():
    found = verdict(wave(), 2.04)
    assert found.word == PARTLY
    assert "drifts away at later times" in found.sentence


def test_held_out_times_are_judged():
    found = verdict(wave(), 2.0, validation=0.2)
    assert all(state.held_out is not None and state.held_out < 1e-3 for state in found.states)
    assert "; of what was held out it is at most" in found.sentence


def test_what_cannot_be_known_is_not_learned():
    generator = torch.Generator().manual_seed(5)
    noise = verdict(torch.randn(61, 2, generator=generator, dtype=torch.float64), 0.0)
    assert noise.word == NOT_LEARNED and "no more structure than noise" in noise.sentence
    few = torch.linspace(0.0, 6.0, 6, dtype=torch.float64)
    scarce = verdict(wave(t=few), 2.0, t=few)
    assert scarce.word == NOT_LEARNED and "too few values (5)" in scarce.sentence


def test_a_field_that_cannot_be_solved():
    found = verdict(wave(), math.nan)
    assert found.word == NOT_LEARNED and "cannot be solved" in found.sentence
    assert found.as_dict()["states"][0]["error"] is None


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_run_without_options_learns_a_wave(noise):
    run = fit(dataset(T, wave(noise=noise)))
    assert run.verdict.word == LEARNED, run.verdict.sentence
