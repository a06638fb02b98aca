"""The data sets of the benchmark of training: seeded, as they say, and judged rightly."""

import math

import pytest
import torch

from benchmarks import learning
from benchmarks.learning_sets import SETS
from benchmarks.learning_unseen import UNSEEN
from pynode.data import read

NAMES = ["predators_10", "sir_counts", "missing_20", "oral_patients", "torque", "partings"]


@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_written_as_it_was_made(name, tmp_path):
    runs, observed = learning.made(name)
    chosen = learning.ALL[name]
    data = read(learning.write(name, tmp_path), inputs=chosen.inputs)
    assert len(data.trajectories) == len(runs)
    for run, (t, _), y in zip(data.trajectories, runs, observed, strict=True):
        states = y[:, : y.shape[1] - len(chosen.inputs)]
        assert torch.allclose(run.t, t)
        assert torch.equal(run.seen, ~states.isnan())
        assert torch.allclose(run.y[run.seen], states[run.seen], rtol=1e-9)
    again = learning.made(name)[1]
    assert all(
        torch.equal(a, b) for a, b in zip(observed, again, strict=True) if not a.isnan().any()
    )


def test_the_noise_is_what_was_said():
    assert learning.noises("predators_10") == pytest.approx([0.09, 0.09], rel=0.2)
    assert learning.noises("rigid_body") == [0.0] * 3
    lost = torch.cat(learning.made("missing_20")[1]).isnan()
    assert not lost[0].any() and 0.1 < float(lost.double().mean()) < 0.3


def test_a_verdict_is_right_if_it_agrees_with_the_truth():
    row = {"name": "predators_10", "noise": [0.09, 0.09], "true": [0.02, 0.15]}
    assert learning.right(row | {"word": "learned"})
    assert not learning.right(row | {"word": "partly"})
    assert not learning.right(row | {"word": "learned", "true": [0.02, 0.19]})
    assert learning.right({"name": "random_walk", "word": "not learned"})
    assert not learning.right({"name": "random_walk", "word": "learned"})


def test_no_name_is_taken_twice():
    assert not set(SETS) & set(UNSEEN)
    assert all(not math.isnan(chosen.noise) for chosen in UNSEEN.values())
