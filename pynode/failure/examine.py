"""From what a failed solve left to why it failed: rules in order, of which the first that finds
something answers."""

from __future__ import annotations

import torch

from . import field_causes, solver_causes
from .failed_solve import Case
from .report import ErrorContribution, FailureReport
from .rerun import rerun
from .sandbox import sandboxed

SHARES = 3  # components named as those that dominate the error
RULES = (
    field_causes.parameters,
    field_causes.unsteady,
    solver_causes.events,
    field_causes.jac,
    field_causes.detached,
    solver_causes.diverged,
    field_causes.blow_up,
    solver_causes.domain,
    field_causes.nonfinite,
    field_causes.jump,
    solver_causes.noise,
    solver_causes.resolution,
    solver_causes.stiffness,
    solver_causes.newton,
    solver_causes.min_step,
    solver_causes.limit,
    solver_causes.otherwise,
)


def examine(case: Case) -> FailureReport:
    """The report of a failed solve. It evaluates f some hundreds of times. These evaluations do not
    count as work of the solve."""
    with sandboxed(case.field):
        repeated = rerun(case)
        case.attempts = case.attempts or repeated.attempts
        finding = next(f for rule in RULES if (f := rule(case, repeated)) is not None)
        shares = _shares(case, repeated)
    return FailureReport(
        method=case.name,
        status=case.status,
        cause=finding.cause,
        finding=finding.finding,
        remedy=finding.remedy,
        t=case.t,
        span=case.span,
        outputs=case.outputs,
        attempts=tuple(case.attempts),
        shares=shares,
        newton=repeated.newton,
        row=case.row,
    )


def _shares(case, repeated):
    """The components that dominate the error of the last attempt."""
    if (
        repeated.error is None
        or not bool(torch.isfinite(repeated.error).all())
        or not float(repeated.error.abs().max())
    ):
        return ()
    slope = case.slope(case.t, case.y)
    parts = (repeated.error / repeated.error.norm()).square()
    top = parts.argsort(descending=True)[:SHARES].tolist()
    return tuple(
        ErrorContribution(
            case.component(i),
            float(repeated.error[i]),
            float(parts[i]),
            float(case.y[i]),
            float(slope[i]),
        )
        for i in top
        if float(parts[i]) > 0.01
    )
