"""Chemical equations as text: what "A + 2 B -> C" takes and gives."""

from __future__ import annotations

import re
from collections import Counter


def sides(equation: str) -> tuple[Counter, Counter]:
    """How many of each species stand on the left and on the right: "2 B -> B + C" gives ({B: 2},
    {B: 1, C: 1}).

    An empty side is allowed, for what comes from or goes where it does not count. ValueError where
    there is no single "->", and for what is no species between "+", alone or after a whole number.
    """
    left, arrow, right = equation.partition("->")
    if not arrow or "->" in right or "<" in left:
        raise ValueError(
            f"a reaction reads 'A + B -> 2 C', with one arrow, not {equation!r}; write a reversible"
            " one as two"
        )
    return _side(left), _side(right)


def _side(text: str) -> Counter:
    """How many of each species: "2 A + B" gives {A: 2, B: 1}."""
    count: Counter[str] = Counter()
    for term in text.split("+") if text.strip() else ():
        found = re.fullmatch(r"\s*(?:([1-9]\d*)\s+)?(\S+)\s*", term)
        if found is None:
            raise ValueError(
                f"{text.strip()!r} reads like no side of a reaction, because of {term.strip()!r}:"
                " write 'A + 2 B', with whole numbers before names that hold neither blanks nor"
                " '+' (call an ion 'H_plus')"
            )
        count[found[2]] += int(found[1] or 1)
    return count
