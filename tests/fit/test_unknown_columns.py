"""A column that the model cannot give is named, with near names and the option that drops it."""

import pytest
import torch

from pynode.cli import main
from pynode.data import Dataset, Trajectory
from pynode.fit import TableProblem
from pynode.fit.unknown_columns import unknown_column
from tests.support.estimation import Chain


def data(names=("A", "Q")):
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    y = torch.rand(5, 2, generator=torch.Generator().manual_seed(0)).double()
    run = Trajectory("run", t, y, torch.ones_like(y, dtype=torch.bool))
    return Dataset(names, "t", (run,))


def test_near_names_come_first():
    text = str(unknown_column("glucos", ["A", "B", "Glucose"]))
    assert "column 'glucos', which the model does not list: it has Glucose, A, B." in text
    assert "Is 'Glucose' meant?" in text
    assert "--drop glucos" in text
    many = str(unknown_column("Q", [f"species_{i}" for i in range(40)]))
    assert "and 28 more" in many
    assert "meant" not in many


def test_a_module_with_named_states():
    with pytest.raises(ValueError, match=r"column 'Q', which the model does not list: it has A, B"):
        TableProblem(Chain(), data(), initial={"B": 0.0})


def test_a_model_of_a_file_and_the_option(tmp_path, capsys):
    pytest.importorskip("antimony", reason="antimony reads the model")
    pytest.importorskip("libsbml", reason="libsbml reads the model")
    pytest.importorskip("pypesto", reason="pypesto searches")
    from pynode.models import antimony

    text = "A -> B; k1*A; A = 1; B = 0; k1 = 1;"
    with pytest.raises(ValueError, match=r"column 'Q', .* it has A, B, .*k1.*--drop Q"):
        TableProblem(antimony(text), data(), bounds={"k1": (0.1, 10.0)})
    model = tmp_path / "model.ant"
    model.write_text(text)
    table = tmp_path / "data.csv"
    table.write_text("time,A,Q\n0,1,5\n1,0.36,5\n2,0.15,4\n3,0.05,6\n")
    command = ["fit", str(model), str(table), "--bounds", "k1=0.1,10", "--noise", "0.01"]
    command += ["--starts", "1", "--quiet", "--out", str(tmp_path / "out")]
    assert main(command) != 0
    assert "column 'Q', which the model does not list" in capsys.readouterr().err
    assert main([*command, "--drop", "Q"]) == 0
    assert "1 start, 1 of them" in capsys.readouterr().out
