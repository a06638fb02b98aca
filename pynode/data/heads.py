"""Where the names of the columns are: below a title, and above a line of units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest

from ..core.unit_names import is_unit, split_unit
from .cells import parse

Cells = Sequence[str]
# So many lines may be above the names of the columns.
MOST_TITLES = 20
# So many lines below the names decide.
BELOW = 20
# So many lines of remarks may follow the units.
MOST_REMARKS = 2
_LETTER = re.compile(r"[^\W\d_]|[%°]")
_DATE = re.compile(r"\d{1,4}[-./:]\d")
# [mM] and (mM) are mM.
_ENCLOSED = re.compile(r"[\[(](.*)[\])]")


def is_head(cells: Cells, below: Sequence[Cells], decimal: str) -> bool:
    """Whether a line names the columns of the lines below it, of which the first has numbers, or
    the second if the first has units. An index column needs no name."""
    if not below:
        return False
    data = below[lines_below(cells, below, decimal) :]
    if not data or not any(_is_number(cell, decimal) for cell in data[0]):
        return False
    filled = _filled(data)
    named = sum(map(_is_name, cells))
    if any(_is_number(cell, decimal) for cell in cells):
        return False
    return named > 1 and len(filled) - 1 <= named and max(filled) <= len(cells)


def lines_below(header: Cells, below: Sequence[Cells], decimal: str) -> int:
    """How many lines between the names of columns and the data: one of units, and then remarks,
    such as the instruments; 0 if the first line has no units."""
    if not below or not has_units(below[0], header, decimal):
        return 0
    count = 1
    for cells in below[1 : 1 + MOST_REMARKS]:
        if any(_is_number(cell, decimal) or _DATE.match(cell.strip()) for cell in cells):
            break
        if not any(map(_is_name, cells)):
            break
        count += 1
    return count


def has_units(cells: Cells, header: Cells, decimal: str) -> bool:
    """Whether a line below the names of columns holds their units: at least half of the names have
    one, and the other cells are empty."""
    units = [_unit(cell) for cell in cells if cell.strip()]
    if any(unit is None for unit in units) or any(_is_number(cell, decimal) for cell in cells):
        return False
    if len(cells) > len(header) + 1:
        return False
    found = sum(1 for unit in units if unit)
    return found > 0 and 2 * found >= sum(1 for name in header if name.strip())


def with_units(header: Cells, cells: Cells) -> list[str]:
    """Names with the units from the line below them: 'Time [min]'. A name that has a unit keeps
    it."""
    names = []
    for name, cell in zip_longest(header, cells, fillvalue=""):
        unit = _unit(cell)
        if name.strip() and unit and not split_unit(name.strip())[1]:
            name = f"{name.strip()} [{unit}]"
        names.append(name)
    return names


def about_titles(titles: Sequence[str]) -> list[str]:
    """What a note says of the lines above the names of the columns."""
    if not titles:
        return []
    if len(titles) == 1:
        return [f"The line above the names of the columns is a title: {titles[0]!r}."]
    return [
        f"{len(titles)} lines above the names of the columns were left out; the first is"
        f" {titles[0]!r}."
    ]


UNITS_NOTE = "The line below the names of the columns has their units."


def _unit(cell: str) -> str | None:
    """The unit in a cell; '' for a mark of nothing, None for something else."""
    cell = cell.strip()
    if parse(cell) is not None:
        return ""
    enclosed = _ENCLOSED.fullmatch(cell)
    if enclosed:
        return enclosed[1].strip()
    if is_unit(cell) and not cell[:1].isdigit():
        return cell
    if cell.startswith("1/"):
        return cell
    return None


def _is_number(cell: str, decimal: str) -> bool:
    value = parse(cell, decimal)
    return value is not None and value == value


def _is_name(cell: str) -> bool:
    return bool(_LETTER.search(cell)) and parse(cell) is None and not _DATE.match(cell.strip())


def _filled(rows: Sequence[Cells]) -> set[int]:
    """The columns, from 1 on, in which some row has a cell."""
    return {i for row in rows for i, cell in enumerate(row, 1) if cell.strip()}
