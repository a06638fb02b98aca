"""Tables as lines of text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any, Literal

# Of a terminal, and of text in a file.
WIDTH = 80
# A column whose cells wrap keeps at least this width.
_LEAST = 24


def text_table(
    cells: Iterable[Sequence[Any]], left: Sequence[int] = (0, -1), wrapped: int | None = None
) -> list[str]:
    """The lines of a table.

    cells: the rows; the first one has the heads. left: the columns that are aligned to the left;
    the others are aligned to the right. wrapped: the column whose cells go on in further lines, so
    that the table is not wider than a terminal; the others are as wide as they need.
    """
    from rich.box import Box
    from rich.console import Console
    from rich.table import Table

    rows = [[str(cell) for cell in line] for line in cells]
    count = len(rows[0])
    to_left = {k % count for k in left}
    widths = [max(len(row[k]) for row in rows) for k in range(count)]
    width = sum(widths) + 2 * (count - 1)
    if wrapped is not None:
        others = width - widths[wrapped]
        widths[wrapped] = min(widths[wrapped], max(_LEAST, WIDTH - others))
        width = others + widths[wrapped]
    # Only the line below the heads is drawn, and two spaces part the columns.
    box = Box("    \n    \n -  \n    \n    \n    \n    \n    \n", ascii=True)
    table = Table(box=box, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for k, head in enumerate(rows[0]):
        side: Literal["left", "right"] = "right"
        if k in to_left:
            side = "left"
        table.add_column(head, justify=side, no_wrap=k != wrapped, width=widths[k])
    for row in rows[1:]:
        table.add_row(*row)
    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None, markup=False, highlight=False)
    console.print(table)
    return [line.rstrip() for line in text.getvalue().splitlines()]
