"""The pages of the tutorial as notebooks of Jupyter (a hook of mkdocs).

A page is the only source. Its blocks of Python become cells. A block of text after one is what the
cell prints, and a picture after one is what it draws, so that a reader sees both before the first
run. `python docs/pictures.py tutorial` makes both.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

DOCS = Path(__file__).resolve().parent
TUTORIAL = DOCS / "tutorial"
# A block of code, or a line with a picture.
PIECE = re.compile(
    r"^```(?P<language>\w+)\n(?P<code>.*?)^```$|^!\[(?P<words>[^\]]*)\]\((?P<path>[^)]+)\)$",
    re.M | re.S,
)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)]+)\)")


@dataclass
class Cell:
    """A cell of text or code. printed: what the code prints. place: where in the page this stands,
    or would stand. picture: the file of what the code draws."""

    kind: str
    source: str
    printed: str = ""
    place: tuple[int, int] = (0, 0)
    picture: Path | None = None
    words: str = field(default="", repr=False)


def cells(page: Path) -> list[Cell]:
    """The cells of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    found: list[Cell] = []
    at = 0
    for piece in PIECE.finditer(text):
        between = text[at : piece.start()].strip()
        at = piece.end()
        if between:
            found.append(Cell("markdown", between))
        after_code = not between and bool(found) and found[-1].kind == "code"
        if piece["language"] == "python":
            place = (at, at)
            found.append(Cell("code", piece["code"].rstrip("\n"), place=place))
        elif after_code and piece["language"] == "text":
            found[-1].printed = piece["code"]
            found[-1].place = (found[-1].place[0], at)
        elif after_code and piece["path"]:
            found[-1].picture = (page.parent / piece["path"]).resolve()
            found[-1].words = piece["words"]
        else:
            found.append(Cell("markdown", piece[0]))
    rest = text[at:].strip()
    if rest:
        found.append(Cell("markdown", rest))
    return found


def notebook(page: Path) -> str:
    """The page as JSON of Jupyter's format 4.5. Links lead to pages that a downloaded notebook does
    not have, so their words stay alone."""
    made = []
    for number, cell in enumerate(cells(page)):
        entry = {
            "cell_type": cell.kind,
            "id": f"{page.stem}-{number}",
            "metadata": {},
            "source": cell.source,
        }
        if cell.kind == "markdown":
            entry["source"] = LINK.sub(r"*\1*", cell.source)
        else:
            entry |= {"execution_count": None, "outputs": _outputs(cell)}
        made.append(entry)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _outputs(cell):
    made = []
    if cell.printed:
        made.append({"output_type": "stream", "name": "stdout", "text": cell.printed})
    if cell.picture is not None:
        image = base64.b64encode(cell.picture.read_bytes()).decode("ascii")
        data = {"image/png": image, "text/plain": cell.words}
        made.append({"output_type": "display_data", "data": data, "metadata": {}})
    return made


def on_files(files, config):
    """mkdocs asks for further files of the site: a notebook beside each page of the tutorial."""
    from mkdocs.structure.files import File

    for page in sorted(TUTORIAL.glob("*.md")):
        name = f"tutorial/{page.stem}.ipynb"
        files.append(File.generated(config, name, content=notebook(page)))
    return files


def on_page_markdown(markdown, page, **_):
    """A page of the tutorial offers its notebook below its title."""
    source = Path(page.file.abs_src_path or "")
    if source.parent != TUTORIAL:
        return markdown
    offer = f"[Download as a notebook]({source.stem}.ipynb){{ download={source.stem}.ipynb }}"
    title, _, rest = markdown.partition("\n")
    return f"{title}\n\n{offer}\n{rest}"
