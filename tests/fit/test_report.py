"""Bands, samples, tables and pictures of an estimation."""

import csv
import json
import math
from dataclasses import replace

import pytest
import torch

pytest.importorskip("pypesto", reason="estimation: pip install 'torch-stiff-ode[fit]'")

from pynode.fit import (
    Estimate,
    TableProblem,
    bands,
    estimate,
    plot_waterfall,
    predictions,
    profile,
    sample,
    save_pictures,
    save_results,
)
from pynode.fit.prediction_bands import as_predictions
from tests.support.estimation import chain, chain_data, growth, growth_data, growth_optimum
from tests.support.pictures import check_legends, crosses, words

SIGMA = 0.1


@pytest.fixture(scope="module")
def linear():
    data = growth_data(SIGMA)
    problem = TableProblem(growth, data, scales={"k": "lin"}, bounds={"k": (-5, 5)}, noise=SIGMA)
    return data, estimate(problem, 2)


@pytest.fixture(scope="module")
def found():
    data = chain_data(sigma=0.02, starts=(1.0, 2.0))
    bounds = {"k1": (1e-2, 1e1), "k2": (1e-2, 1e1)}
    return estimate(TableProblem(chain, data, bounds=bounds), 3)


def test_the_band_of_a_linear_problem_is_exact(linear):
    data, found = linear
    best, spread = growth_optimum(data, SIGMA)
    made = bands(found)
    t = made.curves.time
    assert len(t) > 100
    assert torch.allclose(made.curves.simulated, best * t, atol=1e-6)
    reach = 1.959964 * spread * t
    assert torch.allclose(made.upper, best * t + reach, atol=1e-4 * spread)
    assert torch.allclose(made.lower, best * t - reach, atol=1e-4 * spread)


def test_predictions_are_measured_beside_simulated_values(linear):
    data, found = linear
    made = predictions(found)
    run = data.trajectories[0]
    assert made.measured.tolist() == run.y[1:, 0].tolist()
    assert torch.allclose(made.simulated, found.values["k"] * run.t[1:], atol=1e-6)
    assert set(made.observable) == {"y"} and set(made.noise.tolist()) == {SIGMA}


def test_tables_of_petab_are_predictions():
    line = {"observable": "a", "experiment": "e", "time": 1.0, "measurement": 2.0, "simulation": 3}
    made = as_predictions([line, line])
    assert made.condition == ["e", "e"] and made.measured.tolist() == [2.0, 2.0]
    assert made.simulated.tolist() == [3.0, 3.0] and bool(made.noise.isnan().all())


def test_samples_have_the_posterior_of_a_linear_problem(linear):
    data, found = linear
    best, spread = growth_optimum(data, SIGMA)
    drawn = sample(found, 1500, seed=1)
    theta = torch.from_numpy(drawn.theta)[0, :, 0]
    # Some hundred independent draws: their mean and deviation are known to a tenth.
    assert float(theta.mean()) == pytest.approx(best, abs=0.4 * spread)
    assert float(theta.std()) == pytest.approx(spread, rel=0.4)


def test_samples_are_those_of_the_seed(linear):
    found = linear[1]
    first = sample(found, 50, seed=1).theta
    assert (first == sample(found, 50, seed=1).theta).all()
    assert (first != sample(found, 50, seed=2).theta).any()
    assert sample(found, 50, sampler="tempering").theta.shape[2] == 1
    with pytest.raises(ValueError, match="unknown sampler"):
        sample(found, 10, sampler="gibbs")


def test_samples_go_to_arviz(linear):
    pytest.importorskip("arviz", reason="samples: pip install 'torch-stiff-ode[samples]'")
    drawn = sample(linear[1], 200)
    assert drawn.to_arviz().posterior["k"].shape == drawn.theta.shape[:2]


def test_all_tables_are_written(found, tmp_path):
    written = {path.name for path in save_results(found, tmp_path)}
    assert written == {path.name for path in tmp_path.iterdir()}
    plain = json.loads((tmp_path / "results.json").read_text())
    with open(tmp_path / "parameters.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["parameter"] for row in rows] == list(plain["parameters"])
    assert float(rows[0]["value"]) == found.values["k1"]
    with open(tmp_path / "starts.csv", newline="") as file:
        starts = list(csv.DictReader(file))
    assert [float(row["objective"]) for row in starts] == [x.objective for x in found.starts]
    with open(tmp_path / "predictions.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 48 and {row["condition"] for row in table} == {"run0", "run1"}
    sizes = [float(row["residual"]) ** 2 for row in table]
    assert sum(sizes) == pytest.approx(48, rel=0.01)  # the noise is their standard deviation


def test_pictures_show_starts_fits_and_profiles(found, tmp_path, figures):
    profile(found, ["k1"])
    written = [path.name for path in save_pictures(found, tmp_path)]
    assert written == ["waterfall.png", "fit.png", "profiles.png"]
    waterfall, fit, profiles = figures
    marks = [line for line in waterfall.axes[0].lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in marks) == 3
    # A column for each observable: fit and residuals, for both runs.
    assert [axis.get_ylabel() for axis in fit.axes[::2]] == ["A", "B"]
    for figure in figures:
        check_legends(figure)
    assert words(waterfall) == ["3 of 3 starts within 0.1 of the best"]
    assert words(fit)[:3] == ["run0", "run1", "95 % band of the curve"]
    top, bottom = fit.axes[0], fit.axes[1]
    assert len(top.collections) == 2  # the bands
    dots = [line for line in top.lines if line.get_marker() in ("o", "s")]
    assert [len(line.get_xdata()) for line in dots] == [12, 12]
    assert max(abs(y) for line in bottom.lines[1:] for y in line.get_ydata()) < 5
    assert [axis.get_xlabel() for axis in profiles.axes] == ["k1"]
    found.profiles.clear()


def test_units_are_on_the_axes_of_a_fit(found, tmp_path, figures):
    save_pictures(found, tmp_path, time="time_h", labels={"A": "Substrate [mM]"})
    top, bottom = figures[1].axes[:2]
    assert top.get_ylabel() == "Substrate (mM)" and bottom.get_xlabel() == "time (h)"


def test_symbols_tell_starts_that_reached_the_best(found, tmp_path, figures):
    """Filled, open, and crosses for those that could not be simulated."""
    best = found.starts[0]
    ends = (0.0, 0.05, 3.0, math.inf)
    starts = [replace(best, objective=best.objective + end) for end in ends]
    plot_waterfall(tmp_path / "a.png", Estimate(found.problem, starts))
    (figure,) = figures
    check_legends(figure)
    assert words(figure) == [
        "2 of 4 starts within 0.1 of the best",
        "ended elsewhere",
        "1 could not be simulated",
    ]
    filled, opened = (line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert filled.get_xdata().tolist() == [1, 2] and opened.get_xdata().tolist() == [3]
    assert filled.get_markerfacecolor() != "white" and opened.get_markerfacecolor() == "white"
    assert [rank for rank, _ in crosses(figure.axes[0])] == [4]
