"""From what a failed solve left to why it failed: rules in order, of which the first that finds something answers."""

from __future__ import annotations

import torch

from . import course_causes, field_causes
from .report import FailureReport, Share
from .rerun import rerun

SHARES = 3  # components named as those that dominate the error
RULES = (
    field_causes.parameters, course_causes.events, field_causes.jac, field_causes.detached, field_causes.blow_up,
    course_causes.domain, field_causes.nonfinite, field_causes.jump, course_causes.noise, course_causes.stiffness,
    course_causes.newton, course_causes.min_step, course_causes.limit, course_causes.otherwise,
)


def examine(case) -> FailureReport:
    """The report of a failed solve. It asks f some dozens of times; those are not counted as work of the solve."""
    before = case.field.stats.as_dict()
    with torch.no_grad():
        again = rerun(case)
        found = next(f for rule in RULES if (f := rule(case, again)) is not None)
        shares = _shares(case, again)
    for name, value in before.items():
        setattr(case.field.stats, name, value)
    attempts = tuple(case.attempts) or tuple(again.attempts)
    return FailureReport(
        case.name, case.status, *found, case.t, case.span, case.outputs, attempts, shares, again.newton, case.row
    )


def _shares(case, again):
    """The components that dominate the error of the last attempt."""
    if again.error is None or not bool(torch.isfinite(again.error).all()) or not float(again.error.abs().max()):
        return ()
    slope, squares = case.f(case.t, case.y), again.error.square()
    parts = squares / squares.sum()
    top = parts.argsort(descending=True)[:SHARES].tolist()
    return tuple(
        Share(case.component(i), float(again.error[i]), float(parts[i]), float(case.y[i]), float(slope[i]))
        for i in top if float(parts[i]) > 0.01
    )
