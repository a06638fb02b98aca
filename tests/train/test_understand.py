"""What the stage that looks at the data sees, and what it chooses."""

import math

import pytest
import torch

from pynode.data import dataset
from pynode.train import Options, understand
from pynode.train.features import noise_level, prediction_errors, turning_points
from pynode.train.understanding import CHOSEN
from tests.support.training import stiff_linear

T = torch.linspace(0.0, 10.0, 81, dtype=torch.float64)
WAVE = torch.stack((torch.sin(2 * T), torch.cos(2 * T)), 1)


def noisy(level, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return WAVE + level * torch.randn(WAVE.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("half", [1, 2, 3])
def test_polynomials_are_predicted_and_noise_keeps_its_size(half):
    x = T + 0.02 * torch.sin(7 * T)
    exact = (x / 10) ** (2 * half - 1)
    assert float(prediction_errors(x, exact, half).abs().max()) < 1e-10
    generator = torch.Generator().manual_seed(half)
    noise = torch.randn(4000, generator=generator, dtype=torch.float64)
    even = torch.arange(4000, dtype=torch.float64)
    assert float(prediction_errors(even, noise, half).std()) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("level", [0.02, 0.1, 0.3])
def test_the_noise_of_a_wave(level):
    y = noisy(level)
    assert noise_level([(T, y[:, 0])]) == pytest.approx(level, rel=0.35)
    assert noise_level([(T, WAVE[:, 0])]) < 1e-3
    assert noise_level([(T[:3], y[:3, 0])]) == 0.0


def test_turning_points_are_those_beyond_the_least_move():
    y = torch.tensor([0.0, 1.0, 0.95, 2.0, 0.0, 0.1, 0.0, 2.0])
    assert turning_points(y, 0.3) == 2
    assert turning_points(y, 0.03) == 6
    assert turning_points(torch.zeros(5), 0.1) == 0
    assert turning_points(WAVE[:, 0], 0.2) == math.floor((20 + math.pi / 2) / math.pi)


def test_an_oscillation_gets_collocation_and_an_explicit_method():
    found = understand(dataset(T, noisy(0.05)))
    options = found.options
    assert min(found.turns) >= 5 and 0.01 < min(found.noise) < 0.05 and not found.decades
    assert options.method == "tsit5" and options.collocation and not options.warm_start
    assert options.segments and options.polish and options.neighbours > 5
    first, second = found.sentences
    assert "oscillating" in first and "noise" in first
    assert "collocation" in second and "tsit5" in second and len(second) < 100


def test_no_more_observations_smooth_one_than_a_part_of_a_swing():
    t = torch.linspace(0.0, 20.0, 201, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    noise = 0.05 * torch.randn(201, 1, generator=generator, dtype=torch.float64)
    slow = understand(dataset(t, torch.sin(t / 2)[:, None] + noise))
    fast = understand(dataset(t, torch.sin(2 * t)[:, None] + noise))
    assert slow.options.neighbours == 25
    assert fast.options.neighbours <= 201 / (1 + fast.turns[0]) < 25


def test_a_fall_before_the_second_observation_is_stiff():
    """Smoothing would hide it where the data are noisy."""
    generator = torch.Generator().manual_seed(0)
    y = 0.012 * torch.randn(81, 1, generator=generator, dtype=torch.float64)
    assert understand(dataset(T, y)).options.method == "tsit5"
    y[0] = 1.0
    assert understand(dataset(T, y)).options.method == "fbdf"


def test_what_is_tried_next_is_another_kind_of_start_and_a_wider_network():
    found = understand(dataset(T, noisy(0.05)))
    stiff, wider = found.alternatives
    assert found.options.method == "tsit5" and stiff.method == "fbdf" and stiff.warm_start
    assert stiff.target == found.options.target
    assert sum(wider.hidden) > sum(found.options.hidden) and wider.method == "tsit5"
    given = understand(dataset(T, noisy(0.05)), {"hidden": (8,), "method": "radau5"})
    assert [(o.hidden, o.method) for o in given.alternatives] == [((8,), "radau5")]


def test_times_over_decades_get_the_linearised_start():
    found = understand(stiff_linear())
    assert found.decades and found.options.method == "fbdf"
    assert found.options.warm_start and not found.options.collocation


def test_what_is_given_stays():
    """A plan of epochs is the user's whole plan; what it leaves out has its plain default."""
    given = {"epochs": 7, "collocation": 3, "method": "rodas5p"}
    options = understand(dataset(T, WAVE), given).options
    plain = Options(**given)
    for name in ("epochs", "polish", "segments", "patience", "collocation", "warm_start", "method"):
        assert getattr(options, name) == getattr(plain, name)
    assert options.scaling == "kim" and set(CHOSEN) <= set(options.as_dict())
    with pytest.raises(ValueError, match="unknown options: epoch"):
        understand(dataset(T, WAVE), {"epoch": 7})
