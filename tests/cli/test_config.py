"""The file of options of a run: ``--config`` reads it, and every run saves its own."""

import math
import tomllib
from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from pynode import doctor
from pynode.backends import registry as backends
from pynode.cli import main, pairs
from pynode.cli.app import MODULES
from pynode.cli.commands.compare import Compare
from pynode.cli.commands.diagnose import Diagnose
from pynode.cli.commands.doctor import Doctor
from pynode.cli.commands.fit import Fit, Search, Uncertainty
from pynode.cli.commands.reproduce import Reproduce
from pynode.cli.commands.train import Records, Train
from pynode.compare.work import BACKENDS
from pynode.core.parameter_info import SCALES
from pynode.diagnosis.examine import ENGINES
from pynode.fit import optimisers
from pynode.fit.samples import SAMPLERS
from pynode.train import TRACKERS, Options
from pynode.train.kim2021 import SETUPS
from pynode.train.model import ACTIVATIONS
from pynode.train.option_groups import ModelOptions, SolveOptions, StepOptions
from pynode.train.options import OPTIMIZERS
from pynode.train.scaling import KINDS
from pynode.train.understanding import CHOSEN
from tests.support.training import stiff_linear

QUICK = {"hidden": [6], "warm_start": 10, "candidates": 1, "rtol": 1e-3}


@pytest.fixture
def table(tmp_path, monkeypatch):
    """data.csv in the current folder."""
    monkeypatch.chdir(tmp_path)
    run = stiff_linear().trajectories[0]
    lines = [f"{t!r},{a!r},{b!r}" for t, (a, b) in zip(run.t.tolist(), run.y.tolist())]
    (tmp_path / "data.csv").write_text("\n".join(["t,fast,slow", *lines]))
    return tmp_path


def config(path, **options):
    import tomli_w

    path.write_text(tomli_w.dumps(options))
    return str(path)


def test_a_run_saves_its_options_and_is_repeated_from_them(table, capsys):
    options = ["--hidden", "6", "--epochs", "2", "--warm-start", "10", "--candidates", "1"]
    assert main(["train", "data.csv", *options, "--out", "first", "--rtol", "1e-3"]) in (0, 3)
    saved = tomllib.loads((table / "first/config.toml").read_text())
    assert saved == {**QUICK, "data": "data.csv", "epochs": 2, "out": "first"}
    before = capsys.readouterr().out
    assert main(["train", "--config", "first/config.toml", "--out", "second"]) in (0, 3)
    again = capsys.readouterr().out
    # The same losses; the seconds differ.
    assert before.partition(" in ")[0] == again.partition(" in ")[0]
    history = (table / "second/history.csv").read_text().splitlines()
    assert len(history) == 4  # a head, the start and two epochs


def test_the_command_line_comes_before_the_file(table, capsys):
    path = config(table / "run.toml", data="data.csv", epochs=3, out="here", **QUICK)
    assert main(["train", "--config", path, "--epochs", "1"]) in (0, 3)
    assert "epoch 1/1" in capsys.readouterr().err
    assert main(["train", f"--config={path}", "--resume", "--epochs", "2"]) in (0, 3)
    saved = tomllib.loads((table / "here/config.toml").read_text())
    assert saved["epochs"] == 2 and saved["hidden"] == [6]
    assert not {"resume", "config", "quiet"} & set(saved)  # of a call, not of the run
    # The choices of the data that are no default are told as comments.
    assert "# neighbours = " in (table / "here/config.toml").read_text()


def test_fit_too(table, capsys):
    pytest.importorskip("pypesto", reason="estimation: pip install 'torch-stiff-ode[fit]'")
    (table / "model.py").write_text("def decay(t, y, k=1.0):\n    return -k * y\n")
    (table / "decay.csv").write_text("t,y\n0,1\n1,0.37\n2,0.13\n3,0.05\n")
    path = config(
        table / "run.toml", data="decay.csv", bounds=["k=0.1,10"], starts=1, noise="y=0.01"
    )
    assert main(["fit", "model.py:decay", "--config", path, "--json"]) == 0
    saved = tomllib.loads((table / "out/fit/config.toml").read_text())
    assert saved["bounds"] == ["k=0.1,10"] and saved["model"] == "model.py:decay"
    assert main(["fit", "--config", "out/fit/config.toml", "--resume"]) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 3", "Did you mean --epochs?"),
        ('loss = "huber"', 'Choose from: "mae", "mse"'),
        ("hidden = [", "is no TOML file"),
    ],
)
def test_mistakes_in_the_file_are_sentences(table, capsys, text, words):
    (table / "run.toml").write_text(text + "\n")
    assert main(["train", "data.csv", "--config", "run.toml"]) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.splitlines()) == 1


def test_a_missing_file_is_a_sentence(table, capsys):
    assert main(["train", "data.csv", "--config", "none.toml"]) == 2
    assert "there is no file none.toml for --config" in capsys.readouterr().err


def test_the_command_has_all_options_of_a_run():
    """With the same defaults, so that the command line and Python mean the same."""
    command = Train("data.csv")
    groups = [getattr(command, field.name) for field in fields(command) if field.name != "data"]
    flat = {
        field.name: getattr(group, field.name)
        for group in groups
        if hasattr(group, "given")
        for field in fields(group)
    }
    plain = Options()
    for field in fields(plain):
        assert flat[field.name] == getattr(plain, field.name), field.name


@pytest.mark.parametrize(
    ("record", "name", "known"),
    [
        (ModelOptions, "activation", ACTIVATIONS),
        (ModelOptions, "scaling", KINDS),
        (SolveOptions, "backend", backends.NAMES),
        (StepOptions, "optimizer", OPTIMIZERS),
        (Records, "track", TRACKERS),
        (Search, "optimiser", optimisers.NAMES),
        (Uncertainty, "sampler", SAMPLERS),
        (Diagnose, "backend", ENGINES),
        (Compare, "backend", BACKENDS),
        (Reproduce, "setup", SETUPS),
    ],
)
def test_choices_are_the_ones_that_the_work_knows(record, name, known):
    """The records of options import no torch, so that they cannot ask."""
    assert set(literals(get_type_hints(record)[name])) == set(known)


def literals(kind):
    """The values of all Literals in a type."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return [value for part in get_args(kind) for value in literals(part)]


def test_numbers_are_the_ones_of_the_work():
    assert Doctor().limit == doctor.LIMIT and set(pairs.SCALES) == set(SCALES)


def test_what_the_data_choose_is_said_in_the_help():
    from pynode.cli.app import application

    arguments = application()["train"].assemble_argument_collection(parse_docstring=True)
    shown = {
        argument.field_info.name
        for argument in arguments
        if callable(argument.parameter.show_default)
        and argument.parameter.show_default(1) == "from the data"
    }
    assert shown == set(CHOSEN)


def test_no_command_gives_two_options_one_name():
    """Groups are flat, so that their fields share the names of the options."""
    from pynode.cli.app import application

    for module in MODULES:
        name = module.__name__.rpartition(".")[2]
        arguments = application()[name].assemble_argument_collection()
        names = [name for argument in arguments for name in argument.names if name != "*"]
        assert len(names) == len(set(names)), name
    assert Fit("model").uncertainty.level == 0.95 and math.isinf(Train("x").end.time_limit)
