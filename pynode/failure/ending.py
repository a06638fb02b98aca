"""How a solve ended, in sentences."""

from __future__ import annotations

from typing import Any

import torch

from ..core.protocols import Method
from ..core.status import RejectStep, Status
from ..core.vector_field import VectorField


def ending(field: VectorField, method: Method, segmented: Any) -> str:
    """How the solve ended, in sentences: where, after which steps, which component changes fastest,
    and what to do. segmented: the SegmentedSolve."""
    status = segmented.status
    path = segmented.path
    times = segmented.values
    if status is Status.SUCCESS:
        return f"{status.sentence}, t = {segmented.t:.6g}.{waited_for(segmented.events)}"
    if status is Status.EVENT:
        return f"{status.sentence}: {segmented.stopped.name!r} at t = {segmented.t:.10g}."
    if status is Status.CALLBACK:
        return f"{status.sentence} at t = {segmented.t:.6g}."
    parts = [
        f"{method.name}: {status.sentence}, at t = {path.t:.6g} of {times[0]:.6g} to"
        f" {times[-1]:.6g}."
    ]
    sizes = [f"{abs(attempt.h):.2g}" for attempt in path.attempts if attempt.accepted]
    if sizes:
        parts.append("The last steps were " + ", ".join(sizes[-4:]) + ".")
    try:
        parts.append(_fastest(field, path))
    except RejectStep:
        parts.append("There f refuses the state (RejectStep).")
    parts.append(f"What to do: {status.remedy}. print(error.report()) looks for the cause.")
    return " ".join(parts)


def waited_for(events) -> str:
    """A sentence if terminal events did not occur; empty if there were none."""
    names = [event.name for event in events if event.terminal]
    if not names:
        return ""
    if len(names) == 1:
        return f" The terminal event {names[0]!r} did not occur."
    return f" None of the terminal events {', '.join(names)} occurred."


def _fastest(field, path) -> str:
    """What f does where the solve ended: it is not finite, its Jacobian is not finite, or which
    component changes fastest."""
    with torch.no_grad():
        slope = field.probe(path.t, path.y.detach())
        if field.mass is not None:
            slope = field.mass.pinv_apply(slope)
        bad = (~torch.isfinite(slope)).nonzero().flatten().tolist()
        if bad:
            return f"There f is not finite in component {bad[0]}."
        if field.user_jac is not None and not _finite_jacobian(field, path):
            return (
                "There f is finite, but the Jacobian that jac returns is not: correct jac, or"
                " remove it."
            )
        i = int((slope.abs() / (path.y.abs() + 1e-30)).argmax())
        return (
            f"There component {i} changes fastest: y = {float(path.y[i]):.3g}, dy/dt ="
            f" {float(slope[i]):.3g}."
        )


def _finite_jacobian(field, path):
    time = torch.full((), path.t, dtype=field.dtype, device=field.device)
    jac = field.user_jac(time, field.layout.unravel(path.y.detach()), *field.args)
    return bool(torch.isfinite(jac).all())
