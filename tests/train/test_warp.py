"""States in other coordinates: what is learned in them is the same field in the units of the
data."""

from dataclasses import replace

import pytest
import torch

from pynode import solve
from pynode.data import read
from pynode.train import Scaling, fit, load_model, understand
from pynode.train.warp import Warp
from tests.support.training import QUICK

T = torch.linspace(0.0, 9.0, 46, dtype=torch.float64)
DECAY = torch.exp(-T)
PULSE = torch.sinh(12 * torch.sin(T))
WAVE = torch.cos(T)


def data(sd=False):
    table = {
        "t": T.tolist(),
        "decay": DECAY.tolist(),
        "pulse": PULSE.tolist(),
        "wave": WAVE.tolist(),
    }
    if sd:
        table["decay_sd"] = (0.01 * DECAY).tolist()
    return read(table, errors=("decay_sd",) if sd else ())


def test_the_coordinates_follow_from_the_values():
    warp = Warp.of(data())
    assert warp.kinds == ("log", "arcsinh", "plain")
    assert warp.sizes[0] == pytest.approx(float(DECAY[-1]))
    assert Warp.of(read({"t": T.tolist(), "wave": WAVE.tolist()})) is None
    assert Warp.from_dict(warp.as_dict()) == warp
    scaling = replace(Scaling.of(data()), warp=warp)
    assert Scaling.from_dict(scaling.as_dict()) == scaling


def test_coordinates_have_their_inverse_and_their_slope():
    warp = Warp.of(data())
    y = data().trajectories[0].y.clone().requires_grad_()
    z = warp.forward(y)
    assert torch.allclose(warp.inverse(z), y, rtol=1e-12, atol=1e-12)
    (slope,) = torch.autograd.grad(z.sum(), y)
    assert torch.allclose(warp.stretch(y) * slope, torch.ones_like(y))
    assert bool(torch.isfinite(warp.forward(torch.zeros(3, dtype=torch.float64))).all())


def test_standard_deviations_become_those_of_the_coordinates():
    plain = data(sd=True)
    warped = Warp.of(plain).warped(plain)
    assert torch.allclose(warped.trajectories[0].sd[:, 0], torch.full_like(T, 0.01))
    back = Warp.of(plain).restored(warped).trajectories[0]
    assert torch.allclose(back.y, plain.trajectories[0].y)
    assert torch.allclose(back.sd[:, 0], plain.trajectories[0].sd[:, 0])


def test_a_decay_over_decades_is_learned_in_its_logarithm(tmp_path):
    """The field has the units of the data, and its solution stays right where it is small."""
    table = read({"t": T.tolist(), "decay": DECAY.tolist()})
    options = replace(
        QUICK, warp=True, scaling="kim", collocation=300, warm_start=0, epochs=0, polish=15
    )
    run = fit(table, options, tmp_path)
    assert run.verdict.word == "learned", run.verdict.sentence
    for field in (run.field, load_model(tmp_path / "model.pt")):
        y = solve(field, field.y0, T, method="fbdf", rtol=1e-7, atol=field.atol(1e-7)).y[:, 0]
        assert float((y.detach() / DECAY).log().abs().max()) < 0.05
    again = fit(table, options, tmp_path, resume=True)
    assert again.best == run.best


def test_warped_states_are_tried_where_they_serve():
    choice = understand(data())
    assert not choice.options.warp and choice.alternatives[0].warp
    assert not any(other.warp for other in understand(data(), {"warp": False}).alternatives)
    assert not any(
        other.warp for other in understand(read({"t": T.tolist(), "a": WAVE.tolist()})).alternatives
    )
