"""``adjoint="auto"``: which adjoint, and why, in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..backends.torch.tape import SHARE, free_bytes
from ..core.formatting import memory
from .discrete.adjoint import LARGE, PIECE, DiscreteAdjoint

if TYPE_CHECKING:
    from ..core.vector_field import VectorField
    from ..methods.base import Method

STEPS = 1000  # steps for the memory estimate; their number is unknown before the solve
# With more bytes of recorded steps, and no more free memory, the solve stores only checkpoints.
BUDGET = 2e9
FEWEST = 64  # checkpoints always have room for this number of steps


def choose(field: VectorField, method: Method) -> tuple[DiscreteAdjoint, str]:
    """Return (adjoint, why). The adjoint is the discrete one.

    It is exact for the steps taken, at any stiffness, for a fraction of the cost of a reverse solve
    (benchmarks/adjoints.py). It uses checkpoints if STEPS steps would take more than BUDGET.
    """
    n = field.size
    p = sum(x.numel() for x in field.parameters)
    point, step = (count * n * field.dtype.itemsize for count in method.memory)
    # For large states DiscreteAdjoint stores only the states between two repeated pieces.
    pieces = n > LARGE and method.taped
    needed = STEPS * (point / PIECE if pieces else step)
    why = (
        f"DiscreteAdjoint: exact for the steps taken, stiff or not; {n} states and {p} parameters,"
        f" every {STEPS} steps of {method.name} take about {memory(needed)}"
    )
    if needed <= BUDGET or needed <= SHARE * free_bytes(field.device):
        return DiscreteAdjoint(), why
    budget = int(max(BUDGET, FEWEST * max(point, step)))
    return (
        DiscreteAdjoint(max_memory=budget),
        f"{why}, hence checkpoints in {memory(budget)} and a second solve",
    )
