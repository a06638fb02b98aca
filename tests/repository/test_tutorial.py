"""The tutorial: each page is a notebook too, with the same code, its outputs and its pictures."""

import json
import runpy

import pytest

from tests.support import ROOT

NOTEBOOKS = runpy.run_path(str(ROOT / "docs" / "notebooks.py"))
PAGES = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
IMAGES = ROOT / "docs" / "img" / "tutorial"


def notebook(page):
    return json.loads(NOTEBOOKS["notebook"](page))


def code_cells(page):
    return [cell for cell in notebook(page)["cells"] if cell["cell_type"] == "code"]


def pictures(page):
    """The files of the pictures that a page shows after its blocks of code."""
    return [cell.picture for cell in NOTEBOOKS["cells"](page) if cell.picture is not None]


def test_there_are_five_pages():
    assert len(PAGES) == 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_notebook_has_the_code_of_its_page(page):
    text = page.read_text(encoding="utf-8")
    cells = code_cells(page)
    assert len(cells) == text.count("```python\n")
    for cell in cells:
        assert f"```python\n{cell['source']}\n```" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_text_of_a_notebook_has_no_links_and_no_fences(page):
    text = [cell["source"] for cell in notebook(page)["cells"] if cell["cell_type"] == "markdown"]
    assert text[0].startswith("# ")
    assert not [source for source in text if "](" in source or "```python" in source]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_notebook_is_valid(page):
    nbformat = pytest.importorskip("nbformat", reason="nbformat checks notebooks")
    nbformat.validate(nbformat.from_dict(notebook(page)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_picture_stands_after_the_block_that_draws_it(page):
    shown = page.read_text(encoding="utf-8").count("](../img/tutorial/")
    assert len(pictures(page)) == shown > 0
    drawn = [cell for cell in code_cells(page) if _images(cell)]
    assert len(drawn) == shown
    for cell in drawn:
        assert (
            "plot" in cell["source"] or "semilogx" in cell["source"] or "loglog" in cell["source"]
        )


def test_every_picture_of_the_tutorial_is_shown():
    shown = {picture.name for page in PAGES for picture in pictures(page)}
    assert shown == {path.name for path in IMAGES.glob("*.png")}


def test_what_a_block_prints_is_an_output_of_its_cell():
    first = code_cells(ROOT / "docs" / "tutorial" / "first_solve.md")
    printed = [out["text"] for cell in first for out in cell["outputs"] if "text" in out]
    assert "the solve reached the end of the time span, t = 80.\n" in printed


def _images(cell):
    return [out for out in cell["outputs"] if "image/png" in out.get("data", {})]
