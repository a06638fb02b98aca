"""Profile likelihoods, their intervals, and how often intervals contain the truth."""

import math

import pytest

pytest.importorskip("pypesto", reason="estimation: pip install 'torch-stiff-ode[fit]'")

from pynode.fit import TableProblem, estimate, profile
from tests.support.estimation import chain_data, growth, growth_data, growth_optimum

SIGMA = 0.1


def linear(seed=0):
    data = growth_data(SIGMA, seed)
    return data, TableProblem(growth, data, scales={"k": "lin"}, noise=SIGMA)


def product(t, y, k1=1.0, k2=0.5):
    return -k1 * k2 * y


def test_both_intervals_of_a_linear_problem_are_exact():
    data, problem = linear()
    best, spread = growth_optimum(data, SIGMA)
    found = estimate(problem, 1)
    for level, z in ((0.95, 1.959964), (0.68, 0.994458)):
        (fisher,) = found.intervals(level)
        one = profile(found, level=0.95)["k"].interval(level)
        for x, method in ((fisher, "fisher"), (one, "profile")):
            assert x.method == method
            assert x.lower == pytest.approx(best - z * spread, abs=0.01 * spread)
            assert x.upper == pytest.approx(best + z * spread, abs=0.01 * spread)
        found.profiles.clear()


def test_a_profile_rises_from_the_optimum_and_passes_the_limit():
    found = estimate(linear()[1], 1)
    one = profile(found)["k"]
    assert one.theta.tolist() == sorted(one.theta)
    assert one.objective[one.middle] == one.best == found.objective
    assert min(one.objective[0], one.objective[-1]) > one.best + 0.5 * 1.96**2
    assert found.intervals()[0].method == "profile"


def test_profiles_of_what_is_not_determined_are_open():
    data = chain_data(sigma=0.02)
    run = data.trajectories[0]
    only = type(data)(("A",), "t", (type(run)("", run.t, run.y[:, :1], run.seen[:, :1]),))
    found = estimate(
        TableProblem(product, only, bounds={"k1": (0.1, 10), "k2": (0.1, 10)}, noise=0.02), 2
    )
    assert found.sentences() == [
        "The data do not determine k1 and k2, but only the product k1 * k2."
    ] or found.sentences() == ["The data do not determine k2 and k1, but only the product k2 * k1."]
    one = profile(found, ["k1"])["k1"].interval()
    # From the bound of k1 to where k2 is at its own.
    assert one.lower_open and one.lower == pytest.approx(0.1)
    assert one.upper == pytest.approx(math.prod(list(found.values.values())[:2]) / 0.1, rel=0.2)


def test_profiles_are_kept_and_resumed(tmp_path):
    problem = linear()[1]
    found = estimate(problem, 1, out=tmp_path)
    first = profile(found, out=tmp_path)["k"]
    assert len(list((tmp_path / "profiles").iterdir())) == 2
    again = estimate(problem, 1, out=tmp_path, resume=True)
    second = profile(again, out=tmp_path, resume=True)["k"]
    assert (first.theta == second.theta).all() and (first.objective == second.objective).all()
    # Profiles that do not reach far enough are made anew.
    third = profile(again, level=0.999, out=tmp_path, resume=True)["k"]
    assert third.theta[-1] > second.theta[-1] and not third.interval(0.999).upper_open
    with pytest.raises(ValueError, match="no parameter 'q' to profile"):
        profile(found, ["q"])


def test_intervals_contain_the_truth_as_often_as_they_say():
    """Forty sets of data of known noise, whose optimum and interval are closed forms: each interval
    must be the exact one, and so must be their number that contains k = 1."""
    hits = 0
    exact = 0
    for seed in range(40):
        data, problem = linear(seed)
        best, spread = growth_optimum(data, SIGMA)
        (x,) = estimate(problem, 1).intervals()
        assert x.lower == pytest.approx(best - 1.959964 * spread, abs=0.01 * spread)
        hits += x.lower <= 1.0 <= x.upper
        exact += abs(best - 1.0) <= 1.959964 * spread
    assert hits == exact and 34 <= hits <= 40
