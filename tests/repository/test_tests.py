"""The order of the tests: a folder for each room, shared helpers in tests/support only."""

import ast
import re

import pytest

from tests.support import ROOT

TESTS = ROOT / "tests"
FILES = sorted(TESTS.rglob("*.py"))
# Folders that are no room of pynode/.
OTHERS = {
    "benchmarks",
    "budgets",
    "contract",
    "oldest",
    "properties",
    "reference",
    "repository",
    "solve",
    "support",
}


def imported(path):
    """Dotted names of the modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_no_test_file_imports_another():
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in FILES
        for name in imported(path)
        if re.match(r"tests\..*\btest_|test_", name)
    ]
    assert not wrong, f"{wrong}: what several files use belongs to tests/support"


def test_every_test_file_is_in_a_room():
    rooms = {path.stem for path in (ROOT / "pynode").iterdir()}
    folders = {path.relative_to(TESTS).parts[0] for path in FILES if len(path.parents) > 1}
    folders -= {"__init__.py", "conftest.py"}
    assert folders <= rooms | OTHERS


@pytest.mark.parametrize("variable", ["QUICK", "OLDEST_TESTS"])
def test_the_tests_of_the_makefile_exist(variable):
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    names = re.search(rf"^{variable} := (.*)$", text, re.M)[1].split()
    assert len(names) > 5
    missing = [
        name for name in names if not list(TESTS.glob(f"{name}.py")) + list(TESTS.glob(name))
    ]
    assert not missing
