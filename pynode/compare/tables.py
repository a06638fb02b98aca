"""Tables as lines of text, and figures as files."""

from __future__ import annotations

from pathlib import Path


def aligned(cells, left=(0, -1)) -> list[str]:
    """Lines of a table whose first line are the heads; left: the columns set to the left, the others to the right."""
    cells = [tuple(map(str, line)) for line in cells]
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    left = {k % len(widths) for k in left}
    align = [str.ljust if k in left else str.rjust for k in range(len(widths))]
    cells.insert(1, tuple("-" * width for width in widths))
    return ["  ".join(put(*c) for put, *c in zip(align, line, widths, strict=True)).rstrip() for line in cells]


def save(figure, path) -> Path:
    """Write a matplotlib Figure; returns the path."""
    figure.savefig(path, dpi=150)
    return Path(path)
