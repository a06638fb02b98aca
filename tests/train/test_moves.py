"""Conserved sums and positive states together: rates as moves between states."""

from dataclasses import replace

import pytest
import torch

from pynode.data import read
from pynode.train import Options, Scaling, fit, load_model
from pynode.train.known_laws import laws_of
from pynode.train.laws import Known, Laws
from pynode.train.model import build
from pynode.train.moves import directions, elementary_vectors
from tests.support.cases import tensor
from tests.support.training import QUICK

T = torch.linspace(0.0, 3.0, 31, dtype=torch.float64)
A = torch.exp(-T)
B = T * torch.exp(-T)
TABLE = {"t": T.tolist(), "A": A.tolist(), "B": (2 * B).tolist(), "C": (1 - A - B).tolist()}
SUM = "A+0.5*B+C"
BOTH = replace(QUICK, conserve=(SUM,), positive=("all",), warm_start=0)


@pytest.fixture(scope="module")
def data():
    return read(TABLE)


def field(data, kind, options, seed=0, known=None):
    scaling = Scaling.of(data, kind)
    architecture = {**options.architecture, **laws_of(options, data).as_dict()}
    made = build(architecture, scaling, torch.Generator().manual_seed(seed), known)
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(4.0)
    return made


def test_elementary_vectors_have_the_fewest_entries():
    def found(*sums):
        return {tuple(v) for v in elementary_vectors(tensor(*sums)).round(decimals=6).tolist()}

    assert found((1.0, 2.0)) == {(1.0, -0.5)}
    assert found((1.0, 1.0, 0.0)) == {(1.0, -1.0, 0.0), (0.0, 0.0, 1.0)}
    assert found((1.0, 1.0, 1.0)) == {(1.0, -1.0, 0.0), (1.0, 0.0, -1.0), (0.0, 1.0, -1.0)}
    # An enzyme: E + ES and S + ES + P are conserved.
    assert found((1.0, 0.0, 1.0, 0.0), (0.0, 1.0, 1.0, 1.0)) == {
        (0.0, 1.0, 0.0, -1.0),
        (1.0, 1.0, -1.0, 0.0),
        (1.0, 0.0, -1.0, 1.0),
    }
    # A dependent sum changes nothing.
    assert found((1.0, 1.0), (2.0, 2.0)) == {(1.0, -1.0)}


def test_a_move_of_free_states_goes_both_ways():
    moves, one_way = directions(Laws(((1.0, 1.0, 0.0),), (True, False, False)))
    assert one_way.tolist() == [False, True, True]
    assert moves.tolist()[0] == [0.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="name fewer states in conserve"):
        directions(Laws(((1.0,) * 20,), (True,) * 20))


@pytest.mark.parametrize("kind", ["kim", "decades"])
@pytest.mark.parametrize("positive", [("all",), ("B",)])
def test_sums_stay_and_states_stay_positive(data, kind, positive):
    """For any weights, and however many states are zero."""
    corners = torch.cartesian_prod(*[tensor(0.0, 0.7)] * 3)
    for seed in range(5):
        f = field(data, kind, replace(BOTH, positive=positive), seed)
        rates = f(0.0, f.scaling.scaled(corners)).detach() * tensor(*f.scaling.y_scale)
        assert float((rates @ tensor(1.0, 0.5, 1.0)).abs().max()) < 1e-12
        assert float(rates.abs().max()) > 1e-2
        for i, name in enumerate(data.columns):
            if name in positive or positive == ("all",):
                assert float(rates[corners[:, i] == 0, i].min()) >= 0


def test_every_field_with_these_laws_is_a_sum_of_moves():
    """Rates that obey both laws, at states of which some are zero, are moves whose rates are
    positive and which consume no state that is zero."""
    scipy = pytest.importorskip("scipy.optimize")
    laws = Laws(((1.0, 0.0, 1.0, 0.0), (0.0, 1.0, 1.0, 1.0)), (True,) * 4)
    moves, _ = directions(laws)
    generator = torch.Generator().manual_seed(3)
    basis = torch.linalg.svd(tensor(*laws.sums))[2][2:]
    for _ in range(50):
        rates = torch.randn(2, dtype=torch.float64, generator=generator) @ basis
        zero = rates >= 0
        usable = moves[~(moves[:, zero] < 0).any(1)]
        _, left = scipy.nnls(usable.T.numpy(), rates.numpy())
        assert left < 1e-10


def test_a_known_part_keeps_the_sums(data):
    options = replace(BOTH, known="a.py:f")
    known = Known(lambda t, y: torch.stack((-y[0], 2 * y[0], y[2])), 3)
    f = field(data, "kim", options, known=known)
    y = torch.rand(5, 3, dtype=torch.float64)
    rates = f(0.0, f.scaling.scaled(y)).detach() * tensor(*f.scaling.y_scale)
    assert float((rates @ tensor(1.0, 0.5, 1.0)).abs().max()) < 1e-12


@pytest.mark.parametrize("kind", ["kim", "decades"])
def test_a_reaction_is_learned(data, tmp_path, kind):
    options = replace(
        BOTH, hidden=(8,), scaling=kind, collocation=300, segments=10, epochs=0, polish=20
    )
    run = fit(data, options, tmp_path)
    assert run.options.engine == "native"
    assert run.verdict.word == "learned", run.verdict.sentence
    y = data.trajectories[0].y[4]
    assert torch.equal(load_model(tmp_path / "model.pt")(0.0, y), run.field(0.0, y))


def test_positive_states_outside_of_the_sums_need_no_moves(data):
    laws = laws_of(Options(conserve=("A+C",), positive=("B",)), data)
    assert not laws.both
    assert laws_of(Options(conserve=("A+B",), positive=("B",)), data).both
