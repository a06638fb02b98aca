"""What chemistry needs everywhere: the gas constant, and chemical equations as text."""

from __future__ import annotations

import re
from collections import Counter

GAS_CONSTANT = 8.31446261815324  # J/(mol K), exact in the SI since 2019


def sides(equation: str) -> tuple[Counter, Counter]:
    """The number of each species on the left and on the right: "2 B -> B + C" gives ({B: 2}, {B: 1,
    C: 1}).

    A side can be empty, for species whose source or sink does not count. Raise ValueError unless
    the text has exactly one "->", with species names, optionally after whole numbers, between "+".
    """
    left, arrow, right = equation.partition("->")
    if not arrow or "->" in right or "<" in left:
        raise ValueError(
            f"a reaction reads 'A + B -> 2 C', with one arrow, not {equation!r}; write a reversible"
            " one as two"
        )
    return _side(left), _side(right)


def _side(text: str) -> Counter:
    """The number of each species: "2 A + B" gives {A: 2, B: 1}."""
    count: Counter[str] = Counter()
    for term in text.split("+") if text.strip() else ():
        match = re.fullmatch(r"\s*(?:([1-9]\d*)\s+)?(\S+)\s*", term)
        if match is None:
            raise ValueError(
                f"{text.strip()!r} is not a side of a reaction, because of {term.strip()!r}: write"
                " 'A + 2 B', with whole numbers before names without blanks or '+' (call an ion"
                " 'H_plus')"
            )
        count[match[2]] += int(match[1] or 1)
    return count
