"""The command line: what it writes, what it says, and how it exits."""

import csv
import errno
import json
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from pynode.cli import main
from pynode.cli import train as cli_train
from pynode.core import files as files_module
from tests.support import ROOT
from tests.support.training import stiff_linear

# The codes of a run that ended: its verdict is told by the second.
DONE = (0, 3)
QUICK = [
    "--hidden",
    "6",
    "--epochs",
    "2",
    "--warm-start",
    "10",
    "--candidates",
    "1",
    "--rtol",
    "1e-3",
]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def csv_file(tmp_path):
    run = stiff_linear().trajectories[0]
    lines = [
        ",".join(
            [f"{t:.9g}", *(f"{x:.9g}" if known else "" for x, known in zip(y, seen, strict=True))]
        )
        for t, y, seen in zip(run.t.tolist(), run.y.tolist(), run.seen.tolist(), strict=True)
    ]
    path = tmp_path / "data.csv"
    path.write_text("\n".join(["t,fast,slow", *lines, ""]))
    return str(path)


def test_train_compare_and_resume(csv_file, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["train", csv_file, *QUICK, "--out", str(out)]) in DONE
    told = capsys.readouterr()
    assert "1 trajectory of fast, slow; 27 observed values" in told.err and "epoch 2/2" in told.err
    assert told.out.startswith("Loss: ") and "a factor of" in told.out and "Verdict: " in told.out
    assert {path.name for path in out.iterdir()} >= {
        "checkpoint.pt",
        "model.pt",
        "history.csv",
        "loss.png",
        "fit.png",
    }

    assert main(["train", csv_file, *QUICK, "--out", str(out)]) == 2
    assert "go on with --resume, start anew with --overwrite" in capsys.readouterr().err
    assert main(["train", csv_file, *QUICK, "--out", str(out), "--epochs", "3", "--resume"]) in DONE
    assert "epoch 3/3" in capsys.readouterr().err
    assert main(["train", csv_file, *QUICK, "--out", str(out), "--overwrite"]) in DONE

    found = [
        "compare",
        str(out / "model.pt"),
        "--methods",
        "fbdf,tsit5",
        "--rtol",
        "1e-3",
        "--out",
        str(out),
    ]
    capsys.readouterr()
    assert main(found) == 0
    told = capsys.readouterr()
    assert "FBDF" in told.out and "error against" in told.out and "Tsit5 at rtol 0.001" in told.err
    assert (out / "compare-model.csv").exists() and (out / "compare-model.png").exists()


def test_train_for_programs(csv_file, tmp_path, capsys):
    """--json: one object and nothing else on the standard output."""
    assert main(["train", str(csv_file), "--out", str(tmp_path / "out"), "--json", *QUICK]) in DONE
    found = json.loads(capsys.readouterr().out)
    assert found["epochs"] == 2 and found["best"] <= found["first"] and not found["interrupted"]
    assert all(Path(name).exists() for name in found["files"])


def test_methods_are_listed(capsys):
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:1] == ["FBDF"] and "implicit" in line for line in lines)
    assert any(line.split()[:3] == ["Tsit5", "explicit", "5"] for line in lines)


def test_help_teaches(capsys):
    for command, words in (
        (["--help"], ["train", "compare", "methods", "julia", "doctor"]),
        (["julia", "install", "--help"], ["0.5 to 1 GB and", "--sensitivity"]),
        (["doctor", "--help"], ["The exit code is 0", "--json"]),
        (
            ["train", "--help"],
            ["the first line of a trajectory is its", "model.pt", "Examples:", "--group"],
        ),
        (["compare", "--help"], ["robertson", "--max-nfe", "Examples:"]),
    ):
        assert main(command) == 0
        text = capsys.readouterr().out
        assert all(word in text for word in words)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "absent.csv"], "there is no file absent.csv"),
        (
            ["train", "DATA", "--time", "hour"],
            "no column 'hour' for the time: its columns are t, fast, slow",
        ),
        (["train", "DATA", "--method", "fdbf"], "unknown method 'fdbf': did you mean 'fbdf'"),
        (["train", "DATA", "--rtol", "-1"], "rtol must be positive"),
        (["train", "DATA", "--resume"], "there is no checkpoint file"),
        (["compare", "robertsen"], "did you mean 'robertson'"),
        (["compare", "absent.pt"], "there is no model file absent.pt"),
        (["compare", "DATA"], "damaged or not a model file"),
        (["compare", "robertson", "--methods", "tsit6"], "did you mean 'tsit5'"),
        (["compare", "robertson", "--rtol=-1e-3"], "rtol must be positive"),
        (["compare", "robertson", "--reference-rtol=0"], "rtol must be positive"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_2(
    arguments, sentence, csv_file, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main([csv_file if word == "DATA" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    last = error.splitlines()[-1]
    assert sentence in last and last.startswith("pynode: ") and "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give a command, such as pynode train DATA"),
        (["train"], "DATA is missing"),
        (["train", "x.csv", "--epochs", "1.5"], "'1.5' is not a whole number"),
        (["train", "x.csv", "--config"], "--config needs a value"),
        (["train", "x.csv", "--hidden", "8", "8"], "Write a list with commas"),
        (["train", "x.csv", "--hidden", "8,x"], "'8,x' is not a list of widths such as 64,64"),
        (["train", "x.csv", "--loss", "huber"], 'Choose from: "mae", "mse"'),
        (["compare", "robertson", "--rtol", "a"], "'a' is not a list of numbers"),
        (["train", "x.csv", "--epochs", "five"], "'five' is not a whole number"),
        (["train", "x.csv", "--lr", "fast"], "--lr takes a number, not 'fast'"),
        (["data", "x.csv", "--error", "A_sd", "B_sd"], "'B_sd' is one word too many"),
    ],
)
def test_mistakes_in_options_are_one_line(arguments, sentence, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.splitlines()) == 1 and "--help" in error


def test_warnings_are_sentences_told_once(csv_file, capsys, monkeypatch):
    def work(command, call):
        for _ in range(2):
            warnings.warn("the disk is nearly full", stacklevel=1)
        return 0

    monkeypatch.setattr("pynode.cli.data.run", work)
    assert main(["data", csv_file]) == 0
    assert capsys.readouterr().err == "Note: the disk is nearly full\n"


def test_numerical_failure_exits_1(csv_file, tmp_path, capsys):
    assert (
        main(["train", csv_file, *QUICK, "--max-steps", "2", "--out", str(tmp_path / "out")]) == 1
    )
    assert "none of 3 random starts could be solved" in capsys.readouterr().err


def test_full_disk_exits_1(csv_file, tmp_path, capsys, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files_module.os, "fsync", full)
    assert main(["train", csv_file, *QUICK, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert (
        "config.toml could not be written: the disk is full. Make room" in error
        and "Errno" not in error
    )


def test_interruption_exits_130(csv_file, tmp_path, capsys, monkeypatch):
    class Stop(cli_train.display().__class__):
        def epoch(self, record, epochs, best):
            raise KeyboardInterrupt

    out = ["--out", str(tmp_path / "out")]
    monkeypatch.setattr(cli_train, "display", Stop)
    assert main(["train", csv_file, *QUICK, *out]) == 130
    assert "interrupted after epoch 1; add --resume to go on" in capsys.readouterr().err
    assert (tmp_path / "out" / "fit.png").exists()

    def early(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_train, "read", early)
    assert main(["train", csv_file, "--out", str(tmp_path / "new")]) == 130
    assert capsys.readouterr().err == "pynode: interrupted.\n"
    monkeypatch.undo()
    monkeypatch.setattr(cli_train, "fit_best", early)
    assert main(["train", csv_file, "--out", str(tmp_path / "new")]) == 130
    assert "nothing had been saved" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        main(["train", str(tmp_path / "absent.csv"), "--debug"])


def test_without_matplotlib_the_plots_are_left_out(csv_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = ["--out", str(tmp_path / "out")]
    assert main(["train", csv_file, *QUICK, *out]) in DONE
    assert capsys.readouterr().err.count("pip install 'torch-stiff-ode[plot]'") == 1
    assert main(["compare", "spiral", "--methods", "tsit5", "--rtol", "1e-3", *out]) == 0
    assert capsys.readouterr().err.count("pip install 'torch-stiff-ode[plot]'") == 1
    assert not list((tmp_path / "out").glob("*.png"))


def test_live_display_is_used_in_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    show = cli_train.display()
    assert type(show).__name__ == "Live"
    show.warm(1, 2, 0.5)
    show.epoch(
        {"epoch": 1, "loss": 0.5, "accepted": 3, "nfe": 9, "backward_nfe": 4, "seconds": 1.0},
        2,
        0.5,
    )
    show.say("a [sentence]")
    show.close()
    assert "a [sentence]" in capsys.readouterr().err
    monkeypatch.undo()
    assert type(cli_train.display()).__name__ == "Lines"


def test_run_as_a_module(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1"}
    options = {
        "capture_output": True,
        "text": True,
        "timeout": 300,
        "env": environment,
        "cwd": tmp_path,
    }
    done = subprocess.run([sys.executable, "-m", "pynode", "compare", "nothing.pt"], **options)
    assert (
        done.returncode == 2
        and done.stderr.startswith("pynode: there is no model file")
        and done.stdout == ""
    )


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Runs a script of examples/ with these options; returns the folder of its results."""

    def run(script, *options):
        arguments = [script, *map(str, options), "--out", str(tmp_path / "results")]
        monkeypatch.setattr(sys, "argv", arguments)
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return tmp_path / "results"

    return run


def test_the_example_runs(example, capsys):
    out = example("train_robertson.py", "--epochs", 2, "--warm-start", 10)
    assert "t = 100000  A = " in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} >= {"model.pt", "fit.png"}
    with open(out / "history.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


def test_the_demo_runs(example, capsys):
    training = ("--hidden", 6, "--polish", 1, "--warm-start", 10, "--rtol", 1e-3)
    comparing = ("--methods", "fbdf,tsit5", "--max-nfe", 2000, "--reference-rtol", 1e-4)
    out = example("demo.py", *training, *comparing)
    trained, summary = capsys.readouterr().out.split("== Summary")
    assert trained.count("a factor of") == 1 and "loss " not in summary  # one final loss, said once
    assert summary.count("FBDF") == summary.count("Tsit5") == 2
    assert "gave up after" in summary
    assert " ".join(trained.split()).count("against Rodas5P at rtol 0.0001") == 2
    for name in ("fit.png", "loss.png", "compare-model.png", "compare-robertson.png", "model.pt"):
        assert name in summary and (out / name).exists()


@pytest.mark.parametrize("script", ["demo.py", "train_robertson.py"])
def test_the_examples_list_their_options(example, capsys, script):
    with pytest.raises(SystemExit) as stop:
        example(script, "--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "--warm-start" in text and "(default: " in text


def test_example_data_are_robertson():
    data = cli_train.read(EXAMPLES / "data" / "robertson.csv")
    (run,) = data.trajectories
    assert data.columns == ("A", "B", "C") and len(run.t) == 51
    assert float(run.t[1]) == 1e-5 and float(run.t[-1]) == 1e5
    assert torch.allclose(run.y.sum(1), torch.ones(51, dtype=torch.float64), atol=1e-11)
