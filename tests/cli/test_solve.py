"""``pynode solve``, ``methods``, ``adjoints``, ``completion``: what they print, and what they
refuse."""

import csv
import io
import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from pynode import julia
from pynode.cli import catalogue, main
from pynode.cli import diagnose as cli_diagnose
from pynode.cli.output import print_json
from pynode.methods import registry

CODE = """
import torch
from pynode import ODEProblem

class Pendulum(torch.nn.Module):
    def forward(self, t, y):
        return torch.stack((y[1], -torch.sin(y[0])))

class Started(Pendulum):
    y0, tspan = (1.0, 0.0), (0.0, 2.0)

def square(t, y):
    return y * y

problem = ODEProblem(square, torch.tensor([1.0], dtype=torch.float64), (0.0, 0.5))
number = 3
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(CODE, encoding="utf-8")
    return path


def run(capsys, *arguments):
    """(exit code, standard output, standard error)."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def table(text):
    rows = list(csv.reader(io.StringIO(text)))
    return rows[0], torch.tensor([[float(x) for x in row] for row in rows[1:]], dtype=torch.float64)


def test_a_named_problem(capsys, tmp_path):
    """States at its own times, with its own names, to a file and a picture."""
    picture, out = tmp_path / "states.png", tmp_path / "states.csv"
    code, printed, said = run(capsys, "solve", "robertson", "--plot", picture, "--out", out)
    head, rows = table(out.read_text(encoding="utf-8"))
    assert code == 0 and not printed and "Stats(nfe=" in said
    assert head == ["t", "A", "B", "C"] and rows[0].tolist() == [0, 1, 0, 0] and rows[-1, 0] == 1e5
    assert torch.allclose(rows[:, 1:].sum(1), torch.ones(len(rows), dtype=torch.float64), atol=1e-8)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_field_of_ones_own(capsys, own):
    code, out, said = run(
        capsys, "solve", f"{own}:Pendulum", "--y0", "1,0", "--t", "0,2", "--points", "3", "--quiet"
    )
    head, rows = table(out)
    assert code == 0
    assert head == ["t", "y[0]", "y[1]"]
    assert rows[:, 0].tolist() == [0, 1, 2]
    assert not said
    assert (
        table(run(capsys, "solve", f"{own}:Started", "--points", "3")[1])[1].tolist()
        == rows.tolist()
    )
    _, exact = table(
        run(
            capsys,
            "solve",
            f"{own}:problem",
            "--t",
            "0,0.25,0.5",
            "--rtol",
            "1e-10",
            "--atol",
            "1e-12",
        )[1]
    )
    assert torch.allclose(exact[:, 1], 1 / (1 - exact[:, 0]), rtol=1e-8)


def test_what_is_given_comes_before_what_the_target_has(capsys, own):
    """Start and times, of named problems and of one's own; without any times, 101."""
    rows = table(
        run(capsys, "solve", "robertson", "--y0", "0.5,0,0.5", "--t", "0,10", "--quiet")[1]
    )[1]
    assert rows[0].tolist() == [0, 0.5, 0, 0.5] and torch.equal(
        rows[:, 0], torch.linspace(0, 10, 101, dtype=torch.float64)
    )
    rows = table(run(capsys, "solve", f"{own}:problem", "--y0", "0.5", "--t", "0,1", "--quiet")[1])[
        1
    ]
    assert (
        len(rows) == 101
        and rows[0].tolist() == [0, 0.5]
        and float(rows[-1, 1]) == pytest.approx(1.0, rel=1e-4)
    )


def test_native_code(capsys, own):
    """It prints the states of the torch engine. Its refusals are sentences."""
    pytest.importorskip("numba")
    pytest.importorskip("llvmlite")
    base = ("solve", f"{own}:Pendulum", "--y0", "1,0", "--t", "0,2", "--points", "3")
    options = ("--method", "tsit5", "--rtol", "1e-9", "--atol", "1e-11", "--quiet")
    found = [
        table(run(capsys, *base, *options, "--backend", backend)[1])[1]
        for backend in ("torch", "native")
    ]
    assert torch.allclose(*found, rtol=1e-8)
    code, _, said = run(capsys, *base, "--method", "rkc", "--backend", "native")
    assert code == 2 and "the native engine has no RKC: choose" in said


def test_a_failure_keeps_what_was_reached(capsys, own, tmp_path):
    out = tmp_path / "part.csv"
    arguments = (
        "solve",
        f"{own}:square",
        "--y0",
        "1",
        "--t",
        "0,0.5,2",
        "--method",
        "tsit5",
        "--out",
        out,
    )
    code, _, said = run(capsys, *arguments)
    assert code == 1 and said.startswith("pynode: Tsit5: the step size fell")
    assert table(out.read_text(encoding="utf-8"))[1][:, 0].tolist() == [0.0, 0.5]
    assert "Cause: blow-up" in run(capsys, *arguments, "--verbose")[2]
    code, printed, said = run(capsys, *arguments, "--json")
    found = json.loads(printed)
    assert (
        code == found["code"] == 1
        and found["t"] == [0.0, 0.5]
        and said == f"pynode: {found['error']}\n"
    )
    alone = ("--t", "0,3", "--points", "2", "--plot", tmp_path / "start.png")
    assert (
        run(capsys, "solve", f"{own}:square", "--y0", "1", *alone)[0] == 1
        and (tmp_path / "start.png").exists()
    )


def test_folders_are_made_and_starts_may_be_negative(capsys, own, tmp_path):
    out, picture = tmp_path / "a" / "b" / "states.csv", tmp_path / "c" / "states.svg"
    files = ("--out", out, "--plot", picture)
    assert (
        run(
            capsys,
            "solve",
            f"{own}:Pendulum",
            "--y0",
            "-1,0",
            "--t",
            "-.5,2",
            "--points",
            "3",
            *files,
        )[0]
        == 0
    )
    assert (
        table(out.read_text(encoding="utf-8"))[1][0].tolist() == [-0.5, -1, 0] and picture.exists()
    )
    code, _, said = run(capsys, "solve", "spiral", "--points", "2", "--out", own / "states.csv")
    assert code == 1 and said == f"pynode: {own}: File exists\n"


def test_json(capsys):
    code, out, _ = run(capsys, "solve", "spiral", "--points", "4", "--json")
    found = json.loads(out)
    assert code == 0 and len(found["t"]) == len(found["y"]) == 4 and found["stats"]["nfe"] > 0


def test_json_has_null_for_what_is_not_finite(capsys):
    print_json({"a": (math.nan, 1.0), "b": {"c": -math.inf}})
    assert capsys.readouterr().out == '{"a": [null, 1.0], "b": {"c": null}}\n'


@pytest.mark.parametrize(
    "arguments, code, error",
    [
        (("methods", "--order", "x"), 2, "'x' is not a whole number from 1 on"),
        (("adjoints", "--what"), 2, "Unknown option: --what"),
        (("solve", "robertsen"), 2, "did you mean 'robertson'"),
        (("solve", "spiral", "--max-steps", "1"), 1, "limit on the number of steps"),
        (("diagnose", "spiral", "--seconds", "0"), 2, "'0' is not a positive number"),
        (("compare", "spiral", "--methods", "tsit6"), 2, "did you mean 'tsit5'"),
        (("compare", "spiral", "--threads", "0"), 2, "'0' is not a whole number from 1 on"),
        (("compare", "spiral", "--report", "--stiffness"), 2, "exclude each other: give one"),
        (("train", "absent.csv"), 2, "there is no file absent.csv"),
        (("train", "x.csv", "--resume", "--overwrite"), 2, "exclude each other: give one"),
        (("reproduce", "robertson", "--trainings", ","), 2, "there is no training"),
    ],
)
def test_failures_are_objects_for_programs(capsys, arguments, code, error):
    """With --json, wherever the mistake is found: an object on the standard output, and the
    sentence beside it."""
    try:
        ended = main([*arguments, "--json"])
    except SystemExit as stop:
        ended = stop.code
    out, said = capsys.readouterr()
    found = json.loads(out)
    assert (
        ended == found["code"] == code
        and error in found["error"]
        and said.endswith(f": {found['error']}\n")
    )


def test_whoever_reads_the_output_may_leave():
    """As head does, also before the little that there is leaves the buffer: no traceback, the exit
    code of such programs."""
    command = [sys.executable, "-m", "pynode", "solve", "spiral", "--points", "9", "--quiet"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(60) == 141


def test_the_options_of_diagnose(capsys, monkeypatch):
    given = {}
    monkeypatch.setattr(
        cli_diagnose,
        "diagnose",
        lambda problem, **more: given.update(more) or SimpleNamespace(as_dict=dict),
    )
    assert run(capsys, "diagnose", "robertson", "--json")[:2] == (0, "{}\n")
    assert given == {
        "rtol": None,
        "atol": None,
        "trials": True,
        "max_seconds": 60.0,
        "backend": "auto",
    }
    run(
        capsys,
        "diagnose",
        "spiral",
        "--json",
        "--rtol",
        "1e-3",
        "--atol",
        "1e-4",
        "--no-trials",
        "--seconds",
        "7",
        "--backend",
        "torch",
    )
    assert given == {
        "rtol": 1e-3,
        "atol": 1e-4,
        "trials": False,
        "max_seconds": 7.0,
        "backend": "torch",
    }


def test_a_quiet_installation(capsys, monkeypatch):
    def install(*given, progress, **options):
        assert not given
        progress(" ".join(name for name, chosen in options.items() if chosen))

    monkeypatch.setattr(julia, "install", install)
    assert run(capsys, "julia", "install", "--radau") == (0, "", "radau\n")
    assert run(capsys, "julia", "install", "--quiet") == (0, "", "")


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "compare",
        "diagnose",
        "solve",
        "methods",
        "adjoints",
        "reproduce",
        "doctor",
        "completion",
        "julia install",
        "julia status",
        "julia use",
    ],
)
def test_every_command_has_what_all_have(capsys, command):
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert all(option in text for option in ("--debug", "--quiet -q", "--verbose -v", "--config"))
    assert ("--json" in text) == (command not in ("completion", "julia install", "julia use"))


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("own:square",), "is a vector field: say where it starts"),
        (("own:number",), "is a int: give a Problem"),
        (("own:nothing",), "has no 'nothing'; it has"),
        (("nosuchmodule:f",), "cannot be imported"),
        (("own:f",), "cannot be run (SyntaxError: "),
        (("robertsen",), "did you mean 'robertson'"),
        (("robertson", "--y0", "1,2"), "2 values in --y0 for 3 states"),
        (("robertson", "--t", "1"), "takes two times or more"),
        (("robertson", "--points", "1"), "at least 2"),
    ],
)
def test_mistakes_are_sentences(capsys, own, arguments, says):
    if "SyntaxError" in says:
        own.write_text("def f(:", encoding="utf-8")
    first = arguments[0].replace("own:", f"{own}:")
    code, _, said = run(capsys, "solve", first, *arguments[1:])
    assert code == 2 and says in said and said.count("\n") == 1


def test_methods(capsys):
    """All of them, or those with the properties asked for."""
    assert len(run(capsys, "methods")[1].splitlines()) == 2 + len(catalogue.methods())
    found = json.loads(
        run(capsys, "methods", "--implicit", "--structure", "krylov", "--batched", "--json")[1]
    )
    names = {entry["name"] for entry in found}
    assert {"FBDF", "KenCarp47"} <= names and not names & {"Rodas5P", "RadauIIA5", "Tsit5"}
    assert {
        entry["name"] for entry in json.loads(run(capsys, "methods", "verner", "--json")[1])
    } >= {"Vern7"}
    assert all(
        "julia" in entry["backends"]
        for entry in json.loads(run(capsys, "methods", "--backend", "julia", "--json")[1])
    )
    assert run(capsys, "methods", "--explicit", "--mass")[0] == 2
    names = {
        entry["name"] for entry in json.loads(run(capsys, "methods", "--order", "5", "--json")[1])
    }
    assert {"QNDF", "Tsit5", "AdamsPECE"} <= names and not names & {"BS3", "KenCarp4", "ABDF2"}


def test_the_catalogue_is_that_of_the_registries():
    entries = {entry.name: entry for entry in catalogue.methods()}
    assert set(registry.names()) <= set(entries)
    assert (
        entries["QNDF"].order == "1 to 5"
        and entries["ABDF2"].order == "2"
        and entries["AdamsPECE"].order == "1 to 12"
    )
    assert (
        entries["Rodas5P"].mass
        and entries["Rodas5P"].batched
        and entries["Rodas5P"].backends == ("torch", "native", "julia")
    )
    assert entries["AutoTsit5(Rodas5P())"].backends == ("torch", "julia") and entries[
        "RKC"
    ].backends == ("torch",)
    assert entries["Vern9"].backends == ("julia",) and not entries["Vern9"].batched
    for entry in catalogue.adjoints():
        assert entry.what.endswith(".") and entry.short in entry.name.lower()


def test_adjoints(capsys):
    assert "'discrete'" in run(capsys, "adjoints")[1]
    assert json.loads(run(capsys, "adjoints", "--json")[1])[0]["name"] == "DiscreteAdjoint"


def test_completions_are_a_script_that_bash_takes(capsys):
    code, script, _ = run(capsys, "completion", "bash")
    assert code == 0 and "--max-steps" in script and "sysimage" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
