"""The pages for users of other solvers: the names that they give exist here."""

import inspect
import re

import pytest

import pynode
from pynode.core.stats import Stats
from pynode.methods import registry
from tests.support import ROOT

PAGES = sorted((ROOT / "docs" / "coming_from").glob("*.md"))
# Keywords of classes, which stand in code beside those of solve.
OF_CLASSES = {
    "checkpoints", "condition", "controller", "direction", "jacobian", "max_memory", "options",
    "precond", "reset", "solver", "terminal", "compile",
}  # fmt: skip


def rows(page):
    """(header, cells) of each row of the tables of a page."""
    header = None
    for line in page.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if header is None:
            header = cells
        elif not set(cells[0]) <= {"-"}:
            yield header, cells


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_name_of_pynode_exists(page):
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"\bpynode\.(\w+)", text)):
        assert hasattr(pynode, name), f"{page.name}: pynode.{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_method_exists(page):
    named = [cell for header, (_, cell) in rows(page) if header[0] in ("method", "solver")]
    for cell in named:
        for text in code(cell):
            name = text.strip('"')
            if re.fullmatch(r"[a-z]\w*", name) and name != "auto":
                assert registry.get(name), f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_option_exists(page):
    known = set(inspect.signature(pynode.solve).parameters) | OF_CLASSES
    for _, (_, cell) in rows(page):
        for text in code(cell):
            wrong = set(re.findall(r"\b(\w+)=(?!=)", text)) - known
            assert not wrong, f"{page.name}: {text}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_solution_has_exists(page):
    solution = pynode.solve(lambda t, y: -y, [1.0], [0.0, 1.0])
    for _, (_, cell) in rows(page):
        for text in code(cell):
            for name in re.findall(r"\bsolution\.(\w+)", text):
                assert hasattr(solution, name), f"{page.name}: {text}"
            for name in re.findall(r"\bstats\.(\w+)|^\.(\w+)$", text):
                assert (name[0] or name[1]) in Stats.__dataclass_fields__, f"{page.name}: {text}"
            status = re.fullmatch(r"(?:Status\.)?([A-Z]+(?:_[A-Z]+)*)", text)
            if status and "tatus" in cell:
                assert status[1] in pynode.Status.__members__, f"{page.name}: {text}"


def test_the_methods_of_sciml_exist():
    text = (ROOT / "docs" / "coming_from" / "sciml.md").read_text(encoding="utf-8")
    paragraph = re.search(r"^Methods have the same names.*?[Aa]ll methods\]", text, re.M | re.S)[0]
    names = code(paragraph)
    assert len(names) > 20
    for name in names:
        assert registry.get(name).name == name
