"""What users say of parameters, and the sentences for what does not fit."""

import math

import pytest
import torch

from pynode.data import DataError
from pynode.fit import ParameterInfo, Prior, TableProblem, read_table
from tests.support.estimation import Chain, chain, chain_data, growth, growth_data


def infos(model=chain, data=None, **options):
    made = TableProblem(model, data or chain_data(sigma=0.05), **options)
    return {info.name: info for info in made.parameters}


def test_the_defaults():
    found = infos()
    assert list(found) == ["k1", "k2", "sigma(A)", "sigma(B)"]
    k2 = found["k2"]
    assert (k2.start, k2.scale) == (0.5, "log10")
    assert k2.lower == pytest.approx(0.5e-3) and k2.upper == pytest.approx(500)
    assert found["sigma(A)"].scale == "log10"


def test_numbers_of_a_tensor_have_names_and_share_wishes():
    found = infos(Chain(), bounds={"k": (0.1, 10), "k[1]": (0.0, 2.0)}, noise=0.1)
    assert [(x.name, x.lower, x.upper, x.scale) for x in found.values()] == [
        ("k[0]", 0.1, 10.0, "log10"),
        ("k[1]", 0.0, 2.0, "lin"),
    ]


def test_numbers_that_are_not_positive_have_a_linear_scale():
    found = infos(growth, growth_data(0.1), start={"k": -2.0}, noise=0.1)["k"]
    assert (found.scale, found.lower, found.upper) == ("lin", -22.0, 18.0)


def test_only_some_parameters_are_estimated():
    made = TableProblem(Chain(), chain_data(), estimate=["k[1]"], noise=0.1)
    assert [info.name for info in made.parameters] == ["k[1]"]
    # The other one keeps its value, 1.
    both = TableProblem(Chain(), chain_data(), noise=0.1)
    alone = made.objective(torch.tensor([-0.5], dtype=torch.float64))
    assert torch.allclose(alone, both.objective(torch.tensor([0.0, -0.5], dtype=torch.float64)))


def test_known_noise_is_no_parameter():
    assert list(infos(noise={"A": 0.1})) == ["k1", "k2", "sigma(B)"]


def test_a_parameter_without_a_value_needs_bounds():
    def nameless(t, y, k):
        return -k * y

    with pytest.raises(ValueError, match="k has no value: give bounds"):
        infos(nameless, growth_data(0.1))
    found = infos(nameless, growth_data(0.1), bounds={"k": (0.01, 100)}, noise=0.1)["k"]
    assert found.start == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"estimate": ["k3"]}, "no parameter 'k3': it has k1, k2"),
        ({"bounds": {"k3": (0, 1)}}, "no parameter 'k3' to estimate"),
        ({"bounds": {"k1": (2, 1)}}, "lower one must be less"),
        ({"bounds": {"k1": (2, 3)}}, "outside its bounds 2 and 3"),
        ({"scales": {"k1": "log10"}, "bounds": {"k1": (0, 3)}}, "needs positive bounds"),
        ({"noise": {"C": 1.0}}, "no column 'C'"),
        ({"noise": -1.0}, "must be positive"),
        ({"relative": ["B"]}, "has no logarithm"),
        ({"initial": {"C": 1.0}}, "a state of 3 components"),
        ({"conditions": ["T"]}, "no column 'T'"),
        ({"conditions": ["A"]}, "changes during run"),
    ],
)
def test_what_does_not_fit_is_said(options, words):
    data = chain_data()
    data.trajectories[0].y[5, 1] = -0.1
    with pytest.raises(ValueError, match=words):
        infos(data=data, **options)


def test_a_state_without_a_column_needs_an_initial_value():
    data = chain_data()
    run = data.trajectories[0]
    only = type(data)(("B",), "t", (type(run)("", run.t, run.y[:, 1:], run.seen[:, 1:]),))
    with pytest.raises(ValueError, match=r"'A' is not in the table .*--initial A=0"):
        TableProblem(Chain(), only)
    made = TableProblem(Chain(), only, initial={"A": 1.0}, noise=0.1)
    # Given values of the states, the right parameters fit without an error.
    theta = torch.tensor([math.log10(0.7), math.log10(0.2)], dtype=torch.float64)
    assert float(made.gradient(theta)[1].abs().max()) < 1e-2


def test_a_module_without_parameters_is_refused():
    with pytest.raises(ValueError, match=r"make its unknown numbers an nn\.Parameter"):
        TableProblem(torch.nn.Identity(), chain_data())
    with pytest.raises(ValueError, match="no named parameters"):
        TableProblem(lambda t, y: -y, chain_data())
    with pytest.raises(TypeError, match=r"a model is an nn\.Module"):
        TableProblem(3, chain_data())


def test_priors_and_infos_check_themselves():
    with pytest.raises(ValueError, match="unknown prior"):
        Prior("cauchy", 0.0, 1.0)
    with pytest.raises(ValueError, match="width of a prior"):
        Prior("normal", 0.0, 0.0)
    with pytest.raises(ValueError, match="unknown scale"):
        ParameterInfo("k", 1.0, 0.1, 10.0, "log2")
    theta = torch.tensor(0.3, dtype=torch.float64)
    normal = torch.distributions.Normal(1.0, 2.0).log_prob(theta)
    laplace = torch.distributions.Laplace(1.0, 2.0).log_prob(theta)
    assert float(Prior("normal", 1.0, 2.0).minus_log(theta)) == pytest.approx(-float(normal))
    assert float(Prior("laplace", 1.0, 2.0).minus_log(theta)) == pytest.approx(-float(laplace))


def test_tables_are_read_as_train_reads_them(tmp_path):
    path = tmp_path / "runs.csv"
    lines = ["t,run,T,A", "0,a,300,1", "1,a,300,", "2,a,300,0.5", "0,b,320,1", "3,b,320,0.2"]
    path.write_text("\n".join(lines))
    table = read_table(path, group="run", conditions=["T"])
    assert (table.columns, table.conditions) == (("A",), ("T",))
    first, second = table.runs
    assert first.conditions.tolist() == [300.0] and second.conditions.tolist() == [320.0]
    assert first.seen[:, 0].tolist() == [True, False, True]
    other = read_table(path, group="run", drop=["T"])
    assert table.fingerprint != other.fingerprint
    with pytest.raises(DataError, match="no column 'P'"):
        read_table(path, group="run", conditions=["P"])
