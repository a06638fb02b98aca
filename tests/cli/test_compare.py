"""``pynode compare``: which files it writes, and what it refuses."""

import importlib.util
import json

import pytest

from pynode.cli import main
from pynode.train import Options, Scaling
from pynode.train.model import build, describe, save_model
from tests.support.training import stiff_linear

QUICK = ["--methods", "tsit5", "--rtol", "1e-3", "--reference-rtol", "1e-6"]


def model(path):
    """A model file with weights that were not trained."""
    data = stiff_linear()
    path.parent.mkdir()
    run = data.trajectories[0]
    architecture = Options(hidden=(4,)).architecture
    field = build(architecture, Scaling.of(data))
    save_model(path, describe(field, architecture, data.columns, run.y[0], run.t))
    return str(path)


def test_models_of_one_file_name_are_told_apart(tmp_path, capsys):
    before = model(tmp_path / "before" / "model.pt")
    after = model(tmp_path / "after" / "model.pt")
    out = tmp_path / "out"
    assert main(["compare", before, after, *QUICK, "--json", "--out", str(out)]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["before-model", "after-model"]
    assert {"compare-before-model.csv", "compare-after-model.csv"} <= {
        path.name for path in out.iterdir()
    }
    assert main(["compare", before, before, *QUICK, "--json", "--out", str(out)]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["before-model", "model-2"]


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_report_without_its_packages_is_an_error(package, tmp_path, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else found(name)
    )
    out = tmp_path / "out"
    assert main(["compare", "spiral", *QUICK, "--report", "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert f"--report needs {package}" in error and "pip install 'torch-stiff-ode[plot]'" in error
    assert not out.exists()
