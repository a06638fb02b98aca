"""What is known of the dynamics: sums, signs, terms. Each holds for any weights."""

from dataclasses import replace

import pytest
import torch

from pynode import solve
from pynode.data import dataset, read
from pynode.train import ModelError, Options, Scaling, fit, load_model
from pynode.train.known_laws import broken_sums, coefficients, laws_of
from pynode.train.laws import Known, Laws
from pynode.train.model import build
from tests.support.cases import tensor
from tests.support.training import QUICK

T = torch.linspace(0.0, 3.0, 31, dtype=torch.float64)
A = torch.exp(-T)
REACTION = {"t": T.tolist(), "A [mM]": A.tolist(), "B": (2 - 2 * A).tolist(), "C": [0.5] * 31}
SHORT = replace(QUICK, warm_start=0, epochs=2)


@pytest.fixture(scope="module")
def data():
    return read(REACTION, keep_constant=True)


def field(data, kind, options, seed=0):
    scaling = Scaling.of(data, kind)
    architecture = {**options.architecture, **laws_of(options, data).as_dict()}
    return build(architecture, scaling, torch.Generator().manual_seed(seed))


def test_sums_are_read_by_names_with_and_without_units(data):
    names = {"A [mM]": 0, "A": 0, "B": 1, "C": 2, "A-B": 3}
    assert coefficients("A + 0.5*B", names, 4) == (1.0, 0.5, 0.0, 0.0)
    assert coefficients("-A [mM]+1e-2*C - B", names, 4) == (-1.0, -1.0, 0.01, 0.0)
    assert coefficients("A-B", names, 4) == (0.0, 0.0, 0.0, 1.0)
    for bad in ("A + D", "A B", "2*", "", "A - A"):
        with pytest.raises(ValueError, match="is no sum of states"):
            coefficients(bad, names, 4)


@pytest.mark.parametrize("kind", ["kim", "decades"])
def test_conserved_sums_stay(data, kind):
    options = replace(SHORT, conserve=("2*A+B",))
    f = field(data, kind, options)
    rates = f(0.0, torch.rand(5, 3, dtype=torch.float64)).detach() * tensor(*f.scaling.y_scale)
    assert float((2 * rates[:, 0] + rates[:, 1]).abs().max()) < 1e-12 < float(rates.abs().max())
    free = field(data, kind, SHORT)(0.0, torch.rand(5, 3, dtype=torch.float64)).detach()
    assert float((2 * free[:, 0] + free[:, 1]).abs().max()) > 1e-3


def test_a_sum_that_the_data_do_not_conserve_is_told(data):
    good = laws_of(replace(SHORT, conserve=("2*A+B", "C")), data)
    assert broken_sums(good, data) == []
    (sentence,) = broken_sums(laws_of(replace(SHORT, conserve=("A+B",)), data), data)
    assert "The sum of 1 A [mM], 1 B is not conserved" in sentence


@pytest.mark.parametrize("kind", ["kim", "decades"])
@pytest.mark.parametrize("named", [("all",), ("A", "B")])
def test_positive_states_stay_positive(data, kind, named):
    """At zero the rate of a positive state is not negative, whatever the weights and the others."""
    for seed in range(5):
        f = field(data, kind, replace(SHORT, positive=named), seed)
        with torch.no_grad():
            for p in f.parameters():
                p.mul_(5.0)
        y = 3 * torch.rand(40, 3, dtype=torch.float64)
        for i in range(2):
            edge = y.clone()
            edge[:, i] = 0.0
            assert float(f(0.0, f.scaling.scaled(edge)).detach()[:, i].min()) >= 0


def test_laws_that_make_no_sense(data):
    with pytest.raises(ValueError, match="positive names D, but the states are A"):
        laws_of(replace(SHORT, positive=("D",)), data)
    negative = dataset(T, torch.stack((A - 2, A), 1))
    with pytest.raises(ValueError, match="y1 is negative at the start"):
        laws_of(replace(SHORT, positive=("all",)), negative)
    assert Laws.from_dict(Laws().as_dict()) == Laws()


def decay(t, y):
    """-y1 for the first state, for one state only."""
    first, second, third = y
    return torch.stack((-first + 0 * t, 0 * second, 0 * third))


def test_a_known_part_is_of_one_state_and_works_on_rows():
    known = Known(decay, 3)
    rows = torch.rand(4, 5, dtype=torch.float64)
    expected = torch.cat((-rows[:, :1], torch.zeros(4, 4, dtype=torch.float64)), 1)
    assert torch.equal(known(0.0, rows), expected)
    assert torch.equal(known(torch.zeros(4, dtype=torch.float64), rows), expected)
    assert torch.equal(known(torch.tensor(0.0), rows[0]), expected[0])
    with pytest.raises(ValueError, match="the known part returned"):
        Known(lambda t, y: y[:2], 3)(0.0, rows[0])


def test_the_network_learns_what_the_known_part_leaves(data, tmp_path):
    """With a network that returns nothing, the field is the known part."""

    def whole(t, y):
        return torch.stack((-y[0], 2 * y[0], 0 * y[2]))

    options = replace(SHORT, known="file.py:whole", epochs=0, backend="torch")
    run = fit(data, options, tmp_path, known=whole)
    with torch.no_grad():
        for p in run.field.parameters():
            p.zero_()
    y = solve(run.field, data.trajectories[0].y[0], T, method="dopri5", rtol=1e-8, atol=1e-10).y
    assert torch.allclose(y, data.trajectories[0].y, atol=1e-6)
    with pytest.raises(ModelError, match=r"has a known part, file.py:whole, .* known=f"):
        load_model(tmp_path / "model.pt")
    stored = load_model(tmp_path / "model.pt", known=whole)
    assert stored(0.0, y[3]).shape == (3,)
    with pytest.raises(ValueError, match="is only a name"):
        fit(data, options)


@pytest.mark.parametrize(
    "given",
    [
        {"conserve": ("2*A+B",)},
        {"positive": ("all",)},
        {"conserve": ("2*A+B",), "positive": ("A", "B")},
    ],
)
def test_runs_with_laws_train_and_load(data, tmp_path, given):
    options = replace(QUICK, collocation=20, segments=2, polish=2, scaling="kim", **given)
    run = fit(data, options, tmp_path)
    assert run.best < run.first
    y = data.trajectories[0].y[4]
    assert torch.equal(load_model(tmp_path / "model.pt")(0.0, y), run.field(0.0, y))
    again = fit(data, options, tmp_path, resume=True)
    assert again.best == run.best
    with pytest.raises(ModelError, match=f"was trained with {next(iter(given))}"):
        fit(data, replace(options, conserve=(), positive=()), tmp_path, resume=True)


def test_a_known_part_runs_in_every_engine(data):
    options = replace(QUICK, known="a.py:decay", collocation=20, segments=2, polish=2)
    best = [
        fit(data, replace(options, backend=backend), known=decay).best
        for backend in ("auto", "torch")
    ]
    assert best[0] == pytest.approx(best[1], rel=1e-3)
    assert isinstance(Options(known="a.py:decay").as_dict()["known"], str)
