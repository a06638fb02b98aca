"""Standard deviations and replicates weigh the errors of training."""

import torch

from pynode.data import read
from pynode.train import Options, Scaling
from pynode.train.objective import Objective

T = [0.0, 1.0, 2.0, 3.0]
A = [0.0, 1.0, 2.0, 4.0]


def weights(table, loss="mae", **roles):
    data = read(table, **roles)
    return Objective(data, Scaling.of(data), Options(loss=loss)).runs[0].weight


def test_errors_count_in_units_of_their_standard_deviations():
    table = {"t": T, "a": A, "a_sd": [0.1, 0.1, 0.2, 0.05]}
    assert weights(table, errors=("a_sd",))[:, 0].tolist() == [0.0, 1.0, 0.5, 2.0]


def test_states_without_errors_count_as_a_typical_one():
    table = {"t": T, "a": A, "b": A, "a_sd": [0.1, 0.1, 0.2, 0.1]}
    found = weights(table, errors=("a_sd",))
    assert found[1:, 1].tolist() == [1.0, 1.0, 1.0] and found[2, 0] == 0.5


def test_replicates_count_as_often_as_they_are():
    table = {"t": [0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0], "a": [0, 1, 1, 2, 2, 2, 4]}
    assert weights(table)[:, 0].tolist() == [0.0, 4.0, 1.0, 1.0]
    assert weights(table, "mse")[:, 0].tolist() == [0.0, 2.0, 1.0, 1.0]
    assert torch.equal(weights({"t": T, "a": A}), torch.tensor([[0.0], [1], [1], [1]]).double())
