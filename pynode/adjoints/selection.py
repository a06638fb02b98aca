"""``adjoint="auto"``: which adjoint, and why, in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..backends.torch.tape import SHARE, free_bytes
from .discrete.adjoint import LARGE, PIECE, DiscreteAdjoint

if TYPE_CHECKING:
    from ..core.vector_field import VectorField
    from ..methods.base import Method

STEPS = 1000  # for which memory is estimated: how many there will be nobody knows before the solve
# Bytes of recorded steps from which on they are kept at checkpoints alone, where no more memory is
# free.
BUDGET = 2e9
FEWEST = 64  # steps that checkpoints have room for in any case


def choose(field: VectorField, method: Method) -> tuple[DiscreteAdjoint, str]:
    """(adjoint, why). The discrete one: at any stiffness it is exact for the steps taken, for a
    fraction of the cost of a reverse solve (benchmarks/adjoints.py); with checkpoints where STEPS
    steps would take more than BUDGET."""
    n = field.size
    p = sum(x.numel() for x in field.parameters)
    point, step = (count * n * field.dtype.itemsize for count in method.memory)
    # As DiscreteAdjoint keeps them: of large states those between two repeated pieces alone.
    pieces = n > LARGE and method.taped
    needed = STEPS * (point / PIECE if pieces else step)
    why = (
        f"DiscreteAdjoint: exact for the steps taken, stiff or not; {n} states and {p} parameters,"
        f" every {STEPS} steps of {method.name} take about {_bytes(needed)}"
    )
    budget = max(BUDGET, SHARE * free_bytes(field.device))
    if needed <= budget:
        return DiscreteAdjoint(), why
    budget = int(max(BUDGET, FEWEST * max(point, step)))
    return (
        DiscreteAdjoint(max_memory=budget),
        f"{why}, hence checkpoints in {_bytes(budget)} and a second solve",
    )


def _bytes(count):
    power = max(p for p in (0, 3, 6, 9) if count >= 10**p or p == 0)
    return f"{count / 10**power:.3g} {({0: '', 3: 'k', 6: 'M', 9: 'G'})[power]}B"
