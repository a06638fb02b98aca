"""The search from many starts: its result, its reproducibility, interruption and resumption."""

import json

import pytest
import torch

pytest.importorskip("pypesto", reason="estimation: pip install 'torch-stiff-ode[fit]'")

from pynode.fit import TableProblem, estimate
from pynode.fit.multistart import start_points
from pynode.fit.progress import Lines, SilentProgress
from pynode.train import ModelError
from tests.support.estimation import K1, K2, Chain, chain, chain_data, growth, growth_data

BOUNDS = {"k1": (1e-2, 1e1), "k2": (1e-2, 1e1)}


@pytest.fixture(scope="module")
def problem():
    return TableProblem(chain, chain_data(sigma=0.02), bounds=BOUNDS, noise=0.02)


def same(a, b):
    """Whether two results have the same starts, to the last bit."""
    return all(
        x.index == y.index and x.objective == y.objective and torch.equal(x.theta, y.theta)
        for x, y in zip(a.starts, b.starts, strict=True)
    )


@pytest.mark.parametrize("optimiser", ["fides", "lbfgs", "lm"])
def test_every_optimiser_finds_the_optimum(problem, optimiser):
    found = estimate(problem, 3, optimiser=optimiser)
    best = estimate(problem, 1)
    assert found.objective == pytest.approx(best.objective, abs=1e-3)
    assert found.values["k1"] == pytest.approx(K1, rel=0.1)
    assert found.values["k2"] == pytest.approx(K2, rel=0.1)
    assert [x.objective for x in found.starts] == sorted(x.objective for x in found.starts)
    assert found.reached >= 2 and len(found.starts) == 3


def test_the_optimum_of_a_linear_problem_is_exact():
    data = growth_data(0.1)
    run = data.trajectories[0]
    exact = float((run.t * run.y[:, 0]).sum() / run.t.square().sum())
    found = estimate(TableProblem(growth, data, scales={"k": "lin"}, noise=0.1), 1)
    assert found.values["k"] == pytest.approx(exact, abs=1e-6)


def test_starts_are_a_latin_hypercube_of_the_seed(problem):
    points = start_points(problem, 6, 3, guess=True)
    assert points[0].tolist() == pytest.approx([0.0, -0.30103], abs=1e-5)
    assert (points == start_points(problem, 6, 3, guess=True)).all()
    assert (points[1:] != start_points(problem, 6, 4, guess=True)[1:]).all()
    # Each fifth of each side of the box has one start.
    fifths = ((points[1:] + 2) / 3 * 5).astype(int)
    assert sorted(fifths[:, 0]) == sorted(fifths[:, 1]) == [0, 1, 2, 3, 4]
    assert start_points(problem, 6, 3, guess=False).shape == (6, 2)


def test_two_processes_give_the_result_of_one():
    """The module has to reach the other processes, too."""
    made = TableProblem(Chain(), chain_data(sigma=0.02), bounds={"k": (1e-2, 1e1)}, noise=0.02)
    assert same(estimate(made, 3), estimate(made, 3, processes=2))


class CtrlC(SilentProgress):
    """A display during which the user presses Ctrl-C, once some starts have ended."""

    def __init__(self, after):
        self.after = after

    def step(self, what, done, of, text):
        if done == self.after:
            raise KeyboardInterrupt


def test_an_interrupted_search_goes_on_where_it_was(problem, tmp_path):
    part = estimate(problem, 5, out=tmp_path, progress=CtrlC(2))
    assert part.interrupted and len(part.starts) >= 2
    seen = []

    class Seen(SilentProgress):
        def step(self, what, done, of, text):
            seen.append((what, done, of))

    whole = estimate(problem, 5, out=tmp_path, resume=True, progress=Seen())
    assert not whole.interrupted and same(whole, estimate(problem, 5))
    assert len(seen) == 5 - len(part.starts)
    # Nothing is left to do.
    assert same(whole, estimate(problem, 5, out=tmp_path, resume=True, progress=CtrlC(1)))


def test_a_folder_is_resumed_with_what_it_was_begun_with(problem, tmp_path):
    with pytest.raises(ModelError, match="no estimation to resume"):
        estimate(problem, 2, out=tmp_path / "none", resume=True)
    estimate(problem, 2, out=tmp_path)
    with pytest.raises(ModelError, match="begun with seed 0, not 1"):
        estimate(problem, 2, seed=1, out=tmp_path, resume=True)
    other = TableProblem(chain, chain_data(sigma=0.02, seed=1), bounds=BOUNDS, noise=0.02)
    with pytest.raises(ModelError, match="another table, model or setting"):
        estimate(other, 2, out=tmp_path, resume=True)
    # Without resume the earlier starts are gone.
    assert len(estimate(other, 1, out=tmp_path).starts) == 1
    assert len(list((tmp_path / "starts").iterdir())) == 1


def test_errors_of_the_model_are_not_failed_starts():
    def wrong(t, y, k=1.0):
        return torch.stack((k * y[0], y[3]))

    with pytest.raises(ValueError, match="cannot be called"):
        estimate(TableProblem(wrong, chain_data()), 2)


def test_arguments_are_checked(problem):
    with pytest.raises(ValueError, match="at least 1"):
        estimate(problem, 0)
    with pytest.raises(ValueError, match="unknown optimiser 'adam'"):
        estimate(problem, 1, optimiser="adam")
    with pytest.raises(ValueError, match="from 1 on or 'mpi'"):
        estimate(problem, 1, processes=0)


def test_the_result_in_words_and_as_data(problem, capsys):
    found = estimate(problem, 2, progress=Lines(every=0.0))
    assert "start 2/2: objective" in capsys.readouterr().err
    text = str(found)
    assert text.startswith("2 starts, ") and "k1" in text and "95 % interval" in text
    assert "The data determine all parameters within their bounds." in text
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["parameters"]["k1"] == found.values["k1"]
    assert plain["intervals"]["k2"]["method"] == "fisher" and len(plain["all_starts"]) == 2
