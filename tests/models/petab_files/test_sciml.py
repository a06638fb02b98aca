"""PEtab-SciML: networks before the simulation, in the dynamics and in observables."""

import math

import pytest
import torch

pytest.importorskip("petab")
pytest.importorskip("antimony")
pytest.importorskip("petab_sciml", reason="petab_sciml is not installed; it needs Python 3.12")

import h5py
import yaml

from pynode.models import petab
from pynode.models.reactions.refusal import UnsupportedFeature
from tests.support.petab_problems import CHAIN, differences, table, version2

BOUNDS = {"lowerBound": 0.01, "upperBound": 10.0, "estimate": "true"}
FREE = {"lowerBound": "-inf", "upperBound": "inf", "nominalValue": "array", "estimate": "true"}
# One linear layer, k = weight x + bias.
NETWORK = {
    "nn_model_id": "net",
    "inputs": [{"input_id": "x"}],
    "layers": [
        {
            "layer_id": "layer",
            "layer_type": "Linear",
            "args": {"in_features": 1, "out_features": 1, "bias": True},
        }
    ],
    "forward": [
        {"name": "x", "op": "placeholder", "target": "x", "args": [], "kwargs": {}},
        {"name": "layer", "op": "call_module", "target": "layer", "args": ["x"], "kwargs": {}},
        {"name": "output", "op": "output", "target": "output", "args": ["layer"], "kwargs": {}},
    ],
}


def hybrid(folder, assigned, first, formula="A", weight=0.2, bias=0.3, more=(), form="YAML"):
    """The problem of A alone, measured at 0 and 1. assigned: the hybridization table."""
    mapping = [
        {"petabEntityId": "net_x", "modelEntityId": "net.inputs[0][0]"},
        {"petabEntityId": "net_k", "modelEntityId": "net.outputs[0][0]"},
        {"petabEntityId": "net_all", "modelEntityId": "net.parameters"},
        {"petabEntityId": "net_weight", "modelEntityId": "net.parameters[layer].weight"},
    ]
    path = version2(
        folder,
        CHAIN,
        parameters=[
            {"parameterId": "k2", "nominalValue": 0.7, **BOUNDS},
            {"parameterId": "net_all", **FREE},
            *more,
        ],
        observables=[{"observableId": "a", "observableFormula": formula, "noiseFormula": 0.5}],
        measurements=[{"observableId": "a", "time": t, "measurement": 0.4} for t in (0.0, 1.0)],
    )
    (folder / "net.yaml").write_text(yaml.safe_dump(NETWORK))
    with h5py.File(folder / "net.hdf5", "w") as file:
        file.create_dataset("metadata/pytorch_format", data=True)
        file.create_dataset("parameters/net/layer/weight", data=[[weight]])
        file.create_dataset("parameters/net/layer/bias", data=[bias])
    config = yaml.safe_load(path.read_text())
    config["mapping_files"] = [table(folder, "mapping", mapping)]
    lines = [{"targetId": target, "targetValue": value} for target, value in assigned.items()]
    network = {"location": "net.yaml", "pre_initialization": first, "format": form}
    config["extensions"] = {
        "sciml": {
            "version": "0.1.0",
            "required": True,
            "neural_networks": {"net": network},
            "hybridization_files": [table(folder, "hybridization", lines)],
            "array_files": ["net.hdf5"],
        }
    }
    path.write_text(yaml.safe_dump(config))
    return petab(path, backend="torch")


def check(problem, right):
    theta = problem.start
    values = problem.simulated(theta)[0]
    torch.testing.assert_close(values.tolist(), right, rtol=1e-7, atol=1e-9)
    slope = problem.gradient(theta)[1]
    torch.testing.assert_close(slope, differences(problem.objective, theta), rtol=1e-5, atol=1e-6)


def test_a_network_before_the_simulation(tmp_path):
    """k1 = 0.2 k2 + 0.3."""
    problem = hybrid(tmp_path, {"net_x": "k2", "k1": "net_k"}, True)
    names = [item.name for item in problem.parameters]
    assert names == ["k2", "net.layer.weight[0,0]", "net.layer.bias[0]"]
    check(problem, [1.0, math.exp(-(0.2 * 0.7 + 0.3))])


def test_a_network_in_the_dynamics(tmp_path):
    """k1 = 0.2 A + 0.3: A' = -(0.2 A + 0.3) A is a logistic equation."""
    problem = hybrid(tmp_path, {"net_x": "A", "k1": "net_k"}, False)
    growth = math.exp(-0.3)
    check(problem, [1.0, growth / (1 + 0.2 / 0.3 * (1 - growth))])


def test_a_network_in_an_observable(tmp_path):
    problem = hybrid(tmp_path, {"net_x": "A"}, False, formula="2*net_k")
    check(problem, [2 * (0.2 + 0.3), 2 * (0.2 * math.exp(-0.5) + 0.3)])


def test_a_part_of_a_network_that_is_fixed(tmp_path):
    """The more specific line of the parameter table counts."""
    fixed = {"parameterId": "net_weight", **FREE, "nominalValue": 0.5, "estimate": "false"}
    problem = hybrid(tmp_path, {"net_x": "k2", "k1": "net_k"}, True, more=[fixed])
    assert [item.name for item in problem.parameters] == ["k2", "net.layer.bias[0]"]
    check(problem, [1.0, math.exp(-(0.5 * 0.7 + 0.3))])


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(UnsupportedFeature, match=r"'lux\.jl'"):
        hybrid(tmp_path, {"net_x": "k2", "k1": "net_k"}, True, form="lux.jl")
