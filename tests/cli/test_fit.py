"""``pynode fit``: what it reads, what it writes, and what it says."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("pypesto", reason="estimation: pip install 'torch-stiff-ode[fit]'")

from pynode.cli import main
from tests.support import ROOT
from tests.support.estimation import K1, chain_data

MODEL = """
import torch
from pynode.fit import TableProblem, read_table

def chain(t, y, k1=1.0, k2=0.5):
    a, b = y
    return torch.stack((-k1 * a, k1 * a - k2 * b))

class Heated(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.k = torch.nn.Parameter(torch.tensor([1.0, 0.5], dtype=torch.float64))

    def forward(self, t, y, T):
        return chain(t, y, T * self.k[0], self.k[1])


number = 3
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """model.py and data.csv in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    run = chain_data(sigma=0.02).trajectories[0]
    lines = [f"{t!r},{a!r},{b!r}" for t, (a, b) in zip(run.t.tolist(), run.y.tolist())]
    (tmp_path / "data.csv").write_text("\n".join(["t,A,B", *lines]))
    heated = [f"{line},{T},{name}" for T, name in ((1, "x"), (1.5, "y")) for line in lines]
    (tmp_path / "heated.csv").write_text("\n".join(["t,A,B,T,run", *heated]))
    return tmp_path


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


QUICK = ["--starts", "2", "--noise", "0.02", "--bounds", "k1=0.01,10"]


def test_a_function_is_fitted(files, capsys):
    assert main(["fit", "model.py:chain", "data.csv", *QUICK, "--profile", "k1"]) == 0
    text, talk = capsys.readouterr()
    assert "Parameters: k1, k2." in talk and "Engine: native code." in talk
    assert "2 starts, " in text and "The data determine all parameters" in text
    assert "profile 2/2" in talk and talk.rstrip().endswith("profiles.png")
    (k1, k2) = table("out/fit/parameters.csv")
    assert k1["method"] == "profile" and k2["method"] == "fisher"
    assert float(k1["lower"]) < K1 < float(k1["upper"]) and float(k1["bound_high"]) == 10.0
    assert {path.name for path in (files / "out/fit").iterdir()} >= {
        "results.json",
        "starts.csv",
        "predictions.csv",
        "bands.csv",
        "waterfall.png",
        "fit.png",
        "run.json",
    }


def test_what_the_first_line_is_is_told(files, capsys):
    command = ["fit", "model.py:chain", "data.csv", "--starts", "1", "--noise", "0.02"]
    assert main([*command, "--out", "one"]) == 0
    assert "its exact start in A, B." in capsys.readouterr().err
    starts = ["--initial", "A=estimate", "--initial", "B=estimate"]
    assert main([*command, *starts, "--out", "two"]) == 0
    assert "exact start" not in capsys.readouterr().err


def test_a_module_gets_its_conditions(files, capsys):
    options = ["--group", "run", "--condition", "T", "--optimiser", "lm", "--samples", "30"]
    options += ["--bounds", "k=0.01,10", "--start", "k[0]=2", "--prior", "k[1]=normal,0,1"]
    assert main(["fit", "model.py:Heated", "heated.csv", "--starts", "1", *options]) == 0
    talk = capsys.readouterr().err
    assert "k[0], k[1], sigma(A), sigma(B)" in talk and "Samples: " in talk
    assert {row["condition"] for row in table("out/fit/predictions.csv")} == {"x", "y"}
    assert list(table("out/fit/samples.csv")[0])[3:] == ["k[0]", "k[1]", "sigma(A)", "sigma(B)"]


def test_a_whole_problem_has_its_data(files, capsys):
    (files / "whole.py").write_text(
        MODEL + "problem = TableProblem(chain, 'data.csv', noise={'A': 0.02, 'B': 0.02})\n"
    )
    assert main(["fit", "whole.py:problem", "--starts", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["parameters"]) == ["k1", "k2"] and not found["interrupted"]
    assert all(os.path.exists(name) for name in found["files"])
    assert main(["fit", "whole.py:problem", "data.csv", "--overwrite"]) == 2
    assert "leave out data.csv" in capsys.readouterr().err


def test_an_earlier_run_is_neither_lost_nor_mixed(files, capsys):
    fit = ["fit", "model.py:chain", "data.csv", *QUICK]
    assert main(fit) == 0
    before = (files / "out/fit/starts.csv").read_text()
    assert main(fit) == 2
    assert "go on with --resume, start anew with --overwrite" in capsys.readouterr().err
    assert main([*fit, "--resume", "--quiet"]) == 0
    assert (files / "out/fit/starts.csv").read_text() == before
    assert main([*fit, "--seed", "1", "--resume"]) == 2
    assert "begun with seed 0, not 1" in capsys.readouterr().err
    assert main([*fit, "--seed", "1", "--overwrite", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.py:chain"], "a model without data"),
        (["model.txt", "data.csv"], "is no model: give FILE.py:NAME"),
        (["model.xml", "data.csv"], "there is no file model.xml"),
        (["model.py:nothing", "data.csv"], "has no 'nothing'"),
        (["model.py:number", "data.csv"], "a model is an nn.Module"),
        (["model.py:chain", "none.csv"], "there is no file none.csv"),
        (["model.py:chain", "data.csv", "--bounds", "k1=1"], "bounds are two numbers"),
        (["model.py:chain", "data.csv", "--bounds", "k9=1,2"], "no parameter 'k9'"),
        (["model.py:chain", "data.csv", "--profile", "k9"], "--profile names k9"),
        (["model.py:chain", "data.csv", "--level", "95"], "between 0 and 1"),
    ],
)
def test_mistakes_are_said_in_a_sentence(files, capsys, arguments, words):
    assert main(["fit", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["--bounds", "k1"], ["--prior", "k1=normal,0"], ["--scale", "k1=log2"], ["--noise", "big"]],
)
def test_options_that_do_not_read_are_refused(files, capsys, options):
    assert main(["fit", "model.py:chain", "data.csv", *options]) == 2
    assert f"Invalid value for {options[0]}" in capsys.readouterr().err


def test_help_teaches(capsys):
    assert main(["fit", "--help"]) == 0
    text = capsys.readouterr().out
    words = ["MODEL is one of these", "the first line of a run is its start", "Examples:"]
    assert all(word in text for word in words)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM between processes")
def test_sigterm_keeps_what_is_done(files):
    """A batch system ends the command, which is resumed."""
    command = [sys.executable, "-m", "pynode", "fit", "model.py:chain", "data.csv"]
    command += ["--starts", "400", "--noise", "0.02"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes)
    starts = files / "out/fit/starts"
    until = time.monotonic() + 200
    while not (starts.exists() and len(list(starts.glob("*.json"))) >= 2):
        assert running.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate(timeout=200)
    assert running.returncode == 143 and "add --resume to go on" in told
    kept = len(list(starts.glob("*.json")))
    assert 2 <= kept < 400
    assert len(table("out/fit/starts.csv")) == kept
