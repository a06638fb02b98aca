"""What the command line shows without torch."""

import subprocess
import sys

import pytest

import pynode
from pynode.cli import COMMANDS, main, parser

CODE = """
import sys
from pynode.cli import main
try:
    main({argv})
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("argv", [["--help"], ["--version"], []])
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
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pynode {pynode.__version__}\n"


def test_every_command_is_listed_with_its_line(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, (_, summary) in COMMANDS.items():
        assert f"{name} {summary}" in text


def test_only_the_command_that_runs_has_options():
    help_of_data = parser(["data"]).format_help()
    assert help_of_data == parser().format_help()


def test_an_unknown_command_names_the_known_ones(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["trian"])
    assert ended.value.code == 2
    assert "'train'" in capsys.readouterr().err
