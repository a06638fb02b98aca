"""The stage that ends a descent: Levenberg-Marquardt on all errors together."""

from __future__ import annotations

from typing import Any

from ..core.solution import Solution
from .least_squares import Residuals
from .phases import POLISH
from .run import Run


def polish(run: Run) -> None:
    """Do the epochs of Levenberg-Marquardt, until the errors are below the target."""
    run.advance(POLISH, one_step_to_target)


def one_step_to_target(run: Run, record: dict[str, Any]) -> tuple[float, float]:
    """One step; none follows if its errors are small enough."""
    losses = one_step(run, record)
    if run.polisher.cost < run.options.target**2:
        run.plan.ended = True
    return losses


def one_step(run: Run, record: dict[str, Any]) -> tuple[float, float]:
    """One step of Levenberg-Marquardt. Returns the losses before it, as with Adam."""
    size = run.plan.segment(run.objective.longest)
    loss, held_out = run.objective.value(run.field, size)
    solved: list[Solution] = []
    # Forward sensitivities compute every derivative in one solve. With too many weights for
    # them, each error has its own pullback.
    columns = len(run.scaling.y_scale) + sum(p.numel() for p in run.field.parameters())
    if columns <= run.options.forward_columns:
        adjoint = "forward"
    else:
        adjoint = "auto"

    def residuals() -> Residuals | None:
        return run.objective.residuals(run.field, solved.append, size, adjoint=adjoint)

    if not run.polisher.step(residuals):
        if run.plan.phase == POLISH:
            run.progress.say(
                f"Epoch {run.epoch + 1}: no step lowers the squares any more; the polish ends."
            )
            run.plan.ended = True
    run.count(solved, record)
    record["lr"] = run.polisher.damping
    return loss, held_out
