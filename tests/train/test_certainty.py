"""Standard deviations and replicates weigh the errors of training; the loss keeps its units."""

import pytest
import torch

from pynode.data import read
from pynode.train import Options, Scaling, judge, understand
from pynode.train.features import state_noise
from pynode.train.objective import Objective

T = [0.0, 1.0, 2.0, 3.0]
A = [0.0, 1.0, 2.0, 4.0]


def weights(table, loss="mae", **roles):
    data = read(table, **roles)
    return Objective(data, Scaling.of(data), Options(loss=loss)).runs[0].weight


def test_errors_count_in_units_of_their_standard_deviations():
    found = weights({"t": T, "a": A, "a_sd": [0.1, 0.1, 0.2, 0.05]}, errors=("a_sd",))[:, 0]
    assert (found / found[1]).tolist() == pytest.approx([0.0, 1.0, 0.5, 2.0])
    assert float(found[1:].square().mean()) == pytest.approx(1.0)


def test_states_without_errors_count_as_a_typical_one():
    table = {"t": T, "a": A, "b": A, "a_sd": [0.1, 0.1, 0.2, 0.1]}
    found = weights(table, errors=("a_sd",)) / weights(table, errors=("a_sd",))[1, 0]
    assert found[1:, 1].tolist() == [1.0, 1.0, 1.0] and found[2, 0] == 0.5


@pytest.mark.parametrize("loss", ["mae", "mse"])
def test_means_of_replicates_count_by_their_standard_deviation(loss):
    table = {"t": [0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0], "a": [0, 1, 1, 2, 2, 2, 4]}
    found = weights(table, loss)[:, 0]
    assert (found / found[2]).tolist() == pytest.approx([0.0, 2.0, 1.0, 1.0])
    assert float(found[1:].square().mean()) == pytest.approx(1.0)
    assert torch.equal(weights({"t": T, "a": A}), torch.tensor([[0.0], [1], [1], [1]]).double())


def test_given_standard_deviations_are_the_noise():
    """Also where the values look smoother than they say."""
    t = torch.linspace(0.0, 5.0, 31, dtype=torch.float64)
    table = {"t": t.tolist(), "a": torch.exp(-t).tolist()}
    plain = read(table)
    data = read({**table, "a_sd": [0.07] * 31}, errors=("a_sd",))
    assert state_noise(plain, 0) < 1e-3 and state_noise(data, 0) == pytest.approx(0.07)
    assert understand(data).options.target > 20 * understand(plain).options.target

    class Faster(torch.nn.Module):
        scaling = Scaling.of(data, "kim")

        def forward(self, t, u):
            low = u.new_tensor(self.scaling.y_min)
            return -1.3 * (u + low / u.new_tensor(self.scaling.y_scale))

    options = Options(method="tsit5", rtol=1e-6)
    verdicts = [
        judge(Faster(), which, Objective(which, Faster.scaling, options), options)
        for which in (plain, data)
    ]
    assert [verdict.word for verdict in verdicts] == ["partly", "learned"]
