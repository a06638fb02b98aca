"""What is known of the states of the data, where functions of them are learned."""

from dataclasses import replace

import pytest
import torch

from pynode import solve
from pynode.data import read
from pynode.train import Options, Scaling, fit, load_model
from pynode.train.known_laws import laws_of
from pynode.train.laws import Known
from pynode.train.model import build
from pynode.train.objective import Objective
from pynode.train.warp import Warp
from tests.support.cases import tensor
from tests.support.training import QUICK

T = torch.linspace(0.0, 9.0, 46, dtype=torch.float64)
A = torch.exp(-T)
TABLE = {"t": T.tolist(), "A": A.tolist(), "B": (1.0 - 0.5 * A).tolist()}
WARPED = replace(QUICK, warp=True, scaling="kim", warm_start=0, collocation=200, epochs=0)
# The coefficients of the sum that these data conserve.
SUM = tensor(0.5, 1.0)


@pytest.fixture(scope="module")
def data():
    return read(TABLE)


def scaled(data, options, known=None):
    warp = Warp.of(data)
    assert warp.kinds == ("log", "plain")
    scaling = replace(Scaling.of(warp.warped(data), options.scaling), warp=warp)
    laws = laws_of(options, data, 0, warp)
    architecture = {**options.architecture, **laws.as_dict()}
    return build(architecture, scaling, torch.Generator().manual_seed(1), known)


def physical(made, y):
    """dy/dt of a scaled field at states y of the data."""
    scaling = made.scaling
    z = scaling.warp.forward(y)
    rates = made(0.0, scaling.scaled(z)) * tensor(*scaling.y_scale) * scaling.warp.stretch(y)
    return rates.detach()


def test_a_sum_of_states_in_other_coordinates_stays(data):
    made = scaled(data, replace(WARPED, conserve=("0.5*A+B",)))
    y = 10.0 ** -(4 * torch.rand(20, 2, dtype=torch.float64))
    rates = physical(made, y)
    assert float((rates @ SUM).abs().max()) < 1e-12 * float(rates.abs().max())
    assert float(rates.abs().amax(1).min()) > 0


def test_several_sums_stay_whatever_the_coordinates(data):
    table = {**TABLE, "C": (2 - A).tolist()}
    made = read(table)
    options = replace(WARPED, conserve=("A+B+0.5*C", "A+C", "A+C"))
    warp = Warp.of(made)
    scaling = replace(Scaling.of(warp.warped(made), "kim"), warp=warp)
    laws = laws_of(options, made, 0, warp)
    field = build({**options.architecture, **laws.as_dict()}, scaling)
    y = torch.rand(9, 3, dtype=torch.float64)
    rates = physical(field, y)
    assert float((rates @ tensor(*laws.sums).T).abs().max()) < 1e-12


def test_a_logarithm_is_positive_without_a_law(data):
    warp = Warp.of(data)
    assert laws_of(Options(warp=True, positive=("A",)), data, 0, warp).positive == ()
    both = laws_of(Options(warp=True, positive=("all",)), data, 0, warp)
    assert both.positive == (False, True)
    with pytest.raises(ValueError, match="warp does not learn B as a logarithm"):
        laws_of(Options(positive=("all",), conserve=("0.5*A+B",)), data, 0, warp)


def test_a_known_part_is_that_of_the_states_of_the_data(data):
    def decay(t, y):
        return torch.stack((-y[0], 0.5 * y[0]))

    made = scaled(data, replace(WARPED, known="a.py:decay"), Known(decay, 2))
    free = scaled(data, WARPED)
    y = torch.rand(7, 2, dtype=torch.float64) + 0.1
    found = physical(made, y) - physical(free, y)
    assert torch.allclose(found, torch.stack((-y[:, 0], 0.5 * y[:, 0]), 1), rtol=1e-9)


def test_relative_errors_are_those_of_the_states_of_the_data(data):
    """To first order, whatever the coordinates."""
    warp = Warp.of(data)
    scaling = replace(Scaling.of(warp.warped(data), "kim"), warp=warp)
    run = Objective(warp.warped(data), scaling, replace(WARPED, relative=0.01)).runs[0]
    plain = Objective(data, Scaling.of(data, "kim"), replace(QUICK, relative=0.01)).runs[0]
    y = data.trajectories[0].y
    more = 1.0 + 1e-6
    error = (scaling.scaled(warp.forward(more * y)) - scaling.scaled(warp.forward(y))) * run.weight
    known = 1e-6 * y / tensor(*Scaling.of(data).y_scale) * plain.weight
    assert torch.allclose(error, known, rtol=1e-4)


@pytest.mark.parametrize(
    "given",
    [
        {"conserve": ("0.5*A+B",)},
        {"positive": ("all",)},
        {"relative": 0.01},
        {"known": "a.py:f"},
    ],
)
def test_runs_learn_in_other_coordinates(data, tmp_path, given):
    def f(t, y):
        return torch.stack((-0.5 * y[0], 0 * y[0]))

    known = f if "known" in given else None
    run = fit(data, replace(WARPED, polish=25, **given), tmp_path, known=known)
    assert run.options.engine == "native"
    assert run.verdict.word == "learned", run.verdict.sentence
    stored = load_model(tmp_path / "model.pt", known)
    y = solve(stored, stored.y0, T, method="fbdf", rtol=1e-8, atol=stored.atol(1e-8)).y.detach()
    assert float((y[:, 0] / A).log().abs().max()) < 0.1
    if "conserve" in given:
        assert torch.allclose(y @ SUM, torch.ones_like(T), atol=1e-6)
