"""A report as one HTML file that holds its pictures: it can be mailed, and opened without a
network."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, select_autoescape

from ..core.files import save_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Section:
    """One part of the page. cells: a table, heads first, or None; figure: a matplotlib Figure or
    None; text: preformatted."""

    title: str
    note: str = ""
    cells: list | None = None
    figure: Figure | None = None
    text: str = ""

    @classmethod
    def of(cls, title, result):
        """Of a comparison."""
        return cls(title, result.note, result.cells, result.figure())

    @property
    def picture(self) -> str:
        """The figure as the address of an image that lies in the page itself; '' without one."""
        if self.figure is None:
            return ""
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=130)
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def write_page(path, title, subtitle, sections) -> Path:
    """Write the page; returns its path."""
    templates = Environment(
        loader=PackageLoader("pynode.compare", "."),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = templates.get_template("page.html").render(
        title=title, subtitle=subtitle, sections=sections
    )
    return save_text(path, page)
