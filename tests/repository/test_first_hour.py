"""The page of the first hour: its commands run in their order, and say what the page says."""

import os
import re
import runpy

import pytest

from pynode.cli import main
from tests.support import ROOT

PAGE = (ROOT / "docs" / "first_hour.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "examples"


def block(start):
    """What the page shows in the block that begins with these words, without them."""
    (found,) = re.findall(rf"```text\n{re.escape(start)}(.*?)```", PAGE, re.S)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the first three commands of the page ran."""
    pytest.importorskip("pandas", reason="pandas reads tables")
    made = tmp_path_factory.mktemp("hour")
    (made / "examples").symlink_to(EXAMPLES)
    before = os.getcwd()
    os.chdir(made)
    yield made
    os.chdir(before)


def test_the_table_is_that_of_the_page():
    shown = block("$ head -7 examples/data/fructose.csv\n").splitlines()
    table = (EXAMPLES / "data" / "fructose.csv").read_text(encoding="utf-8").splitlines()
    assert table[:7] == shown


def test_data_says_what_the_page_says(folder, capsys):
    pytest.importorskip("matplotlib", reason="the page has a picture")
    assert main(["data", "examples/data/fructose.csv"]) == 0
    told = capsys.readouterr()
    assert told.out + told.err == block("$ pynode data examples/data/fructose.csv\n")


def test_the_table_is_learned_and_its_model_is_used(folder, capsys):
    command = ["train", "examples/data/fructose.csv", "--out", "out/fructose"]
    assert main(command) == 0
    assert "\nVerdict: learned: " in capsys.readouterr().out
    session = block("$ python\n")
    names = {}
    for line in re.findall(r"^>>> (.*)$", session, re.M):
        exec(line, names)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == session.split("round(3))\n")[1].splitlines()[0].split()
    reactor = runpy.run_path(str(EXAMPLES / "fructose.py"))["reactor"]
    truth = names["solve"](
        lambda t, y: reactor(t, y, 0.030, 0.011, 0.012), [1.5, 0.0, 0.0], names["minutes"]
    )
    assert float((names["batch"].y.detach() - truth.y).abs().max()) < 0.05


def test_the_constants_are_found(folder, capsys):
    pytest.importorskip("pypesto", reason="pynode fit needs pypesto")
    model = ["fit", "examples/fructose.py:reactor", "examples/data/fructose.csv"]
    assert main([*model, "--out", "out/kinetics", "--starts", "3"]) == 0
    intervals = re.findall(r"^k\d +\S+ +(\S+) to (\S+)", capsys.readouterr().out, re.M)
    assert len(intervals) == 3
    for (low, high), truth in zip(intervals, (0.030, 0.011, 0.012), strict=True):
        assert float(low) < truth < float(high)


def test_the_model_of_the_page_is_the_one_of_the_example():
    shown = block("def reactor")
    lines = (EXAMPLES / "fructose.py").read_text(encoding="utf-8").splitlines()
    plain = "\n".join(line for line in lines if not line.strip().startswith("#"))
    assert f"def reactor{shown}".strip() in plain
