"""The documentation: its code runs, its tables are those of the registries, and the site builds
without a warning."""

import importlib
import os
import re
import runpy
import subprocess
import sys

import pytest

import pynode
from tests.support import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
# A fence: its indent, its info string, its code. What needs more than a test has is titled NOT_RUN
# with the reason.
FENCE = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", re.M)
NOT_RUN = re.compile(r'python title="not run: \w.+"')
INFO = {"python", "text", "sh", "toml", "julia", "c", ""}
EXTERNAL = re.compile(r'<(?:script|link|img|iframe)[^>]*(?:src|href)=["\']?(?:https?:)?//[^>]*>')


def code(page):
    """The Python of a page as one program, every line where it stands in the page, so that a
    traceback points there."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * (text.count("\n") + 1)
    for fence in FENCE.finditer(text):
        if fence[2] == "python":
            first = text.count("\n", 0, fence.start(3))
            for number, line in enumerate(fence[3].splitlines()):
                lines[first + number] = line.removeprefix(fence[1])
    return "\n".join(lines)


def named(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if code(page).strip()], ids=named)
def test_snippets_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    before = set(sys.modules)
    try:
        exec(compile(code(page), str(page), "exec"), {"__name__": "__main__"})
    finally:
        # What docs/torchdiffeq.md puts in the place of the package.
        for name in set(sys.modules) - before:
            if name.split(".")[0] == "torchdiffeq":
                del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_snippet_escapes(page):
    """Every fence is recognised: one with another info string would be shown as code and never
    run."""
    text = page.read_text(encoding="utf-8")
    found = [fence[2] for fence in FENCE.finditer(text)]
    assert {info for info in found if not NOT_RUN.fullmatch(info)} <= INFO
    assert len(re.findall(r"^ *```", text, re.M)) == 2 * len(found)


def test_what_does_not_run_is_little():
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    assert (
        sum(
            bool(NOT_RUN.fullmatch(fence[2]))
            for text in texts.values()
            for fence in FENCE.finditer(text)
        )
        <= 5
    )


def test_generated_tables_are_current():
    for path, text in runpy.run_path(str(DOCS / "tables.py"))["pages"]().items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{named(path)} is not what the registries say: python docs/tables.py"
        )


def test_the_tests_of_the_development_page_exist():
    text = (DOCS / "development.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]*test_\w+)`", text))
    assert len(named) > 15
    assert not {name for name in named if not (ROOT / "tests" / f"{name}.py").exists()}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_test_files_of_a_page_exist(page):
    paths = re.findall(r"`(tests/[\w/]+\.py)`", page.read_text(encoding="utf-8"))
    assert not {path for path in paths if not (ROOT / path).exists()}


def test_the_readme_points_at_files():
    for target in re.findall(
        r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8")
    ):
        assert (ROOT / target).exists(), f"README.md points at {target}, which is not there"


def test_every_public_name_is_in_the_reference(site):
    pages = [page.read_text(encoding="utf-8") for page in (site / "api").glob("*.html")]
    shown = set(re.findall(r'id="pynode\.([\w.]+)"', "\n".join(pages)))
    for module in ("", "nn", "problems", "train", "fit", "compare", "sde"):
        found = importlib.import_module(f"pynode.{module}".rstrip("."))
        missing = {name for name in found.__all__ if callable(getattr(found, name))} - {
            path.split(".")[-1] for path in shown
        }
        assert not missing, f"docs/api leaves out {missing} of {found.__name__}"


@pytest.mark.parametrize("page", PAGES[1:], ids=named)
def test_everything_is_rendered(page, site):
    """Every fence has become a block of code, no table or list is left as text: they want four
    spaces within lists."""
    made = (site / page.relative_to(DOCS)).with_suffix(".html").read_text(encoding="utf-8")
    fences = len(FENCE.findall(page.read_text(encoding="utf-8")))
    assert len(re.findall(r"<pre[ >]", made)) >= fences
    outside = re.sub(r"<(pre|script|style|svg)[ >].*?</\1>", "", made, flags=re.S)
    assert not re.findall(r"^\s*(?:<p>)?(?:\||```|- ).*", outside, re.M)


def test_every_model_has_its_place():
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    missing = [name for name in pynode.nn.__all__ if not re.search(rf"\b{name}\b", text)]
    assert not missing, f"docs/models.md leaves out {missing}"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site. A warning of mkdocs, of griffe (docstrings) or of the references between
    pages ends it."""
    pytest.importorskip(
        "mkdocs", reason="mkdocs builds the documentation: pip install 'torch-stiff-ode[docs]'"
    )
    folder = tmp_path_factory.mktemp("site")
    # Without --quiet, which would keep the warnings from --strict, too.
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    # An advertisement for its successor, which would stand on stderr.
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=180, env=env)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


def test_the_site_asks_the_network_for_nothing(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) >= len(PAGES) - 1 and pynode.__name__ in pages[0].read_text(encoding="utf-8")
    for page in pages:
        assert not EXTERNAL.findall(page.read_text(encoding="utf-8")), named(page.relative_to(site))
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:", sheet.read_text(encoding="utf-8")), sheet.name


def test_the_search_needs_no_server(site):
    """A page from a folder may load scripts, but no other files and no workers."""
    assert (site / "search" / "search_index.js").exists()
    assert "iframe-worker.js" in (site / "index.html").read_text(encoding="utf-8")


def test_each_page_of_the_tutorial_offers_its_notebook(site):
    for page in (DOCS / "tutorial").glob("*.md"):
        made = site / "tutorial" / f"{page.stem}.html"
        assert f'href="{page.stem}.ipynb"' in made.read_text(encoding="utf-8")
        assert made.with_suffix(".ipynb").stat().st_size > 10_000


def test_hints_name_the_distribution_and_its_extras():
    """Every hint how to install an extra, in the code, the tests and the pages."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    own = re.search(r'^name = "(.+)"$', project, re.M)[1]
    optional = re.search(r"^\[project.optional-dependencies\]\n(.*?)^\[", project, re.M | re.S)[1]
    extras, found = set(re.findall(r"^(\w+) = \[", optional, re.M)), set()
    for path in [
        *PAGES,
        *(p for part in ("pynode", "examples", "tests") for p in (ROOT / part).rglob("*.py")),
    ]:
        for name, extra in re.findall(
            r"pip install '([\w.-]+)\[(\w+)\]'", path.read_text(encoding="utf-8")
        ):
            assert name in (own, ".") and extra in extras, f"{named(path)}: '{name}[{extra}]'"
            found.add(extra)
    assert {"plot", "julia", "scipy", "examples"} <= found
    assert {
        extra for extra in extras if f"`{extra}`" in (DOCS / "index.md").read_text(encoding="utf-8")
    } == extras
