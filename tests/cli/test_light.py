"""What the command line shows without torch."""

import subprocess
import sys

import pytest

import pynode
from pynode.cli import main
from pynode.cli.app import MODULES, application
from pynode.cli.commands import julia

CODE = """
import sys
from pynode.cli import main
main({argv})
print("torch" in sys.modules, file=sys.stderr)
"""
NAMES = [module.__name__.rpartition(".")[2] for module in MODULES]


@pytest.mark.parametrize(
    "argv",
    [["--help"], ["--version"], [], ["train", "--help"], ["fit", "--help"], ["julia", "use", "-h"]],
)
def test_help_does_not_load_torch(argv):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(argv=argv)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "False", done.stderr


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pynode {pynode.__version__}\n"


def test_every_command_is_listed_with_its_line(capsys):
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, module in zip(NAMES, MODULES, strict=True):
        assert f"{name} {module.COMMAND.__doc__.splitlines()[0]}" in text


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert 'Did you mean "train"?' in capsys.readouterr().err


@pytest.mark.parametrize("name", [[name] for name in NAMES] + [["julia", a] for a in julia.ACTIONS])
def test_every_option_has_its_help_and_fits_80_columns(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    arguments = application()[name[0]]
    for action in name[1:]:
        arguments = arguments[action]
    assert main([*name, "--help"]) == 0
    text = capsys.readouterr().out
    for argument in arguments.assemble_argument_collection(parse_docstring=True):
        assert argument.parameter.help or argument.children, argument.name
        assert argument.children or argument.name in text, argument.name
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text and "--debug" in text and "--quiet" in text
