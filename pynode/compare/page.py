"""A report as one HTML file that contains its pictures. It can be mailed, and opened without a
network."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, select_autoescape

from ..core.files import save_text
from .tables import PlottableTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Section:
    """One part of the page. cells: a table, the heads first, or None; figure: a matplotlib Figure
    or None; text: preformatted."""

    title: str
    note: str = ""
    cells: list[tuple[Any, ...]] | None = None
    figure: Figure | None = None
    text: str = ""

    @classmethod
    def of(cls, title: str, result: PlottableTable) -> Section:
        """The section of a comparison."""
        return cls(title, result.note, result.cells, result.figure())

    @property
    def picture(self) -> str:
        """The figure as a data URL, which the page contains; '' without a figure."""
        if self.figure is None:
            return ""
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=130)
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def write_page(
    path: str | PathLike[str], title: str, subtitle: str, sections: Iterable[Section]
) -> Path:
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
