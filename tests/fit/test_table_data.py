"""What a fit takes from a table: single measurements, standard deviations, units."""

import pytest
import torch

from pynode.data import DataError
from pynode.fit import TableProblem, read_table

T = [0.0, 1.0, 1.0, 2.0, 3.0, 4.0]
A = [2.0, 1.1, 1.3, 0.8, 0.4, 0.3]
SD = [0.1, 0.1, 0.2, 0.1, 0.4, 0.1]
THETA = torch.tensor([-0.3], dtype=torch.float64)


def decay(t, y, k=0.5):
    return -k * y


def test_units_are_labels_and_not_names():
    table = read_table({"Time [h]": T, "A [mM]": A, "T [K]": [300] * 6}, conditions=("T",))
    assert table.columns == ("A",) and table.labels == ("A [mM]",) and table.time == "Time [h]"
    assert table.runs[0].conditions.tolist() == [300.0]


def test_each_replicate_is_a_measurement():
    problem = TableProblem(decay, read_table({"t": T, "A": A}), noise=0.1)
    found = problem.predictions(THETA)
    assert found.time.tolist() == T[1:] and found.measured.tolist() == A[1:]


def test_likelihood_has_the_standard_deviations_of_the_table():
    table = read_table({"t": T, "A": A, "A_sd": SD}, errors=("A_sd",))
    problem = TableProblem(decay, table)
    assert [info.name for info in problem.parameters] == ["k"]
    found = problem.predictions(THETA)
    sd = torch.tensor(SD[1:], dtype=torch.float64)
    assert torch.equal(found.noise, sd)
    normal = torch.distributions.Normal(found.simulated, sd)
    expected = -float(normal.log_prob(found.measured).sum())
    assert float(problem.objective(THETA)) == pytest.approx(expected)
    assert table.fingerprint != read_table({"t": T, "A": A}).fingerprint


def test_known_errors_are_not_said_twice():
    table = read_table({"t": T, "A": A, "A_sd": SD}, errors=("A_sd",))
    for options in ({"noise": {"A": 0.1}}, {"relative": ("A",)}):
        with pytest.raises(ValueError, match="'A' has its standard deviations in column 'A_sd'"):
            TableProblem(decay, table, **options)


def test_input_columns_are_refused():
    with pytest.raises(DataError, match="InputTable, and leave the column out with --drop u"):
        read_table({"t": T, "A": A, "u": SD}, inputs=("u",))
