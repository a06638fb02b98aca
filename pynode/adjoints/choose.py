"""``adjoint="auto"``: which adjoint, and why, in a sentence."""

from __future__ import annotations

from .discrete import DiscreteAdjoint, vectors

STEPS = 1000  # for which memory is estimated: how many there will be nobody knows before the solve
LARGE = 2e9  # bytes of recorded states from which a word about memory is due


def choose(field, method):
    """(adjoint, why). The discrete one: at any stiffness it is exact for the steps taken, its cost does not depend on the
    tolerance of a second solve, and a gradient needs no reverse solver (benchmarks/adjoints.py)."""
    n, p = field.size, sum(x.numel() for x in field.parameters)
    needed = STEPS * vectors(field, method) * n * field.dtype.itemsize
    why = (
        f"DiscreteAdjoint: exact for the steps taken, {'stiff or not' if method.implicit else 'and the cheapest here'}; "
        f"{n} states and {p} parameters take about {_bytes(needed)} for every {STEPS} steps"
    )
    if needed > LARGE:
        why += "; DiscreteAdjoint(checkpoints=64) or DiscreteAdjoint(max_memory='1GB') keeps less"
    return DiscreteAdjoint(), why


def _bytes(count):
    power = max(p for p in (0, 3, 6, 9) if count >= 10**p or p == 0)
    return f"{count / 10**power:.3g} {({0: '', 3: 'k', 6: 'M', 9: 'G'})[power]}B"
