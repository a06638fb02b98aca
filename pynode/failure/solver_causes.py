"""Causes in the solve: limits, events, tolerances, the kind of method. The rules are as in
field_causes."""

from __future__ import annotations

import torch

from ..core.status import Status
from . import probes
from .failed_solve import Case
from .finding import LIMITS, Finding
from .rerun import Rerun

# Both are values of h times the spectral radius of df/dy. Above UNSTABLE, explicit steps of fixed
# size are unstable if the solution decays. Above STIFF, stability limits the steps of an explicit
# method.
UNSTABLE = 2.0
STIFF = 1.0


def events(case: Case, repeated: Rerun) -> Finding | None:
    """Events occur too often."""
    if case.status is Status.CASCADE:
        last = case.events[-10:]
        names = dict.fromkeys(name for name, t in last if t == last[-1][1])
        return Finding(
            "endless cascade",
            f"At t = {case.t:.6g} the events {', '.join(map(repr, names))} fire one another again"
            " and again: the reset of one carries the condition of the next one across zero.",
            "Let the resets leave the other conditions on their sides of zero, watch one direction "
            "only (direction=1), or give max_events or terminal to one of them.",
        )
    if case.status is not Status.MAX_EVENTS:
        return None
    if case.events:
        name = case.events[-1][0]
        times = [t for n, t in case.events if n == case.events[-1][0]]
    else:
        name = ""
        times = []
    gaps = [abs(b - a) for a, b in zip(times, times[1:])]
    if len(gaps) >= 3 and gaps[-1] < 0.9 * gaps[-2] < 0.81 * gaps[-3]:
        ratio = gaps[-1] / gaps[-2]
        limit = times[-1] + case.direction * gaps[-1] * ratio / (1 - ratio)
        return Finding(
            "events pile up",
            f"Event {name!r} occurs faster and faster: its last distances are"
            f" {', '.join(f'{g:.3g}' for g in gaps[-3:])}, and they pile up at t = {limit:.6g}.",
            f"End the time span before t = {limit:.6g}, or end the solve by a terminal event once"
            " the motion is small, or let reset put the system to rest.",
        )
    return Finding(
        "many events",
        (
            f"Event {name!r} has occurred {len(times)} times."
            if times
            else "Events occurred more often than allowed."
        ),
        "Raise max_events of that event; if its reset leaves the condition at zero, let it move the"
        " state away from it.",
    )


def domain(case: Case, repeated: Rerun) -> Finding | None:
    """The steps leave the domain of the state."""
    if case.status is not Status.DOMAIN:
        return None
    mask = None
    if case.limits is not None:
        mask = case.limits.mask
    if mask is not None:
        slope = case.slope(case.t, case.y)
        indices = mask.nonzero().reshape(-1).tolist()
        small = case.tolerance.scale(case.y)
        outward = [
            i
            for i in indices
            if case.direction * float(slope[i]) < 0 and float(case.y[i]) <= 1e3 * float(small[i])
        ]
        if outward:
            i = outward[0]
            return Finding(
                "the solution leaves the domain",
                f"{case.component(i)} = {float(case.y[i]):.3g} has dy/dt = {float(slope[i]):.3g}"
                " there: the exact solution becomes negative, so that no step can be small"
                " enough.",
                f"Remove nonnegative for {case.component(i)}, or correct f, whose rate must vanish"
                " with the state.",
            )
    refuses = not bool(torch.isfinite(case.f(case.t, case.y)).all())
    return Finding(
        "the solution leaves the domain",
        (
            "f refuses the last good state itself (RejectStep)."
            if refuses
            else (
                "Every step from the last good state on is refused by nonnegative, domain or"
                " RejectStep, also the smallest."
            )
        ),
        "Check that y0 and the exact solution lie inside; allow an overshoot of the size of atol,"
        " for instance domain=lambda t, y: bool((y > -1e-9).all()), or end the solve there by a"
        " terminal event.",
    )


def noise(case: Case, repeated: Rerun) -> Finding | None:
    """Rounding in f is larger than the tolerances."""
    eps = torch.finfo(case.y.dtype).eps
    tight = case.options.rtol < 100 * eps
    if case.status is not Status.STEP_TOO_SMALL or not (repeated.noise or tight):
        return None
    if case.y.dtype == torch.float32:
        better = " or use float64"
    else:
        better = ""
    return Finding(
        "precision",
        f"The error of the steps no longer falls as they shrink: rounding in f ({case.y.dtype}) is"
        f" larger than the tolerances, rtol = {case.options.rtol:g}, allow.",
        f"Loosen rtol and atol by a factor of 100,{better} or compute f more accurately:"
        " differences of nearly equal numbers lose digits.",
    )


def resolution(case: Case, repeated: Rerun) -> Finding | None:
    """The steps are shorter than floating point can resolve."""
    if case.status is not Status.STEP_TOO_SMALL:
        return None
    shortest = min((abs(a.h) for a in case.attempts), default=repeated.first_size)
    if case.method.implicit:
        implicit = ""
    else:
        implicit = "; where the problem is stiff, use an implicit method such as 'qndf'"
    return Finding(
        "resolution of time",
        "The error of the steps falls as they shrink, but the tolerances ask for shorter ones than"
        f" {shortest:.2g}, and floating point cannot tell such times apart near t = {case.t:.6g}.",
        "Measure time from an origin nearby, f(t + t_0, y) with the span from 0 on, or in longer"
        " units; loosen rtol and atol" + implicit + ".",
    )


def stiffness(case: Case, repeated: Rerun) -> Finding | None:
    """Stability limits the steps of an explicit method."""
    if case.method.implicit or case.status not in (*LIMITS, Status.MIN_STEP):
        return None
    rho = probes.spectral_radius(case, case.t, case.y)
    if rho * case.size < STIFF or rho * case.remaining < 100:
        return None
    return Finding(
        "stiffness",
        f"{case.name} is explicit, and stability limits its steps, not accuracy: |df/dy| is about"
        f" {rho:.3g}, {rho * case.size:.2g} over a step of {case.size:.2g}. The"
        f" {case.remaining:.3g} left would take about {rho * case.remaining / 3:.2g} steps more.",
        "Use an implicit method: method='qndf', or 'rodas5p' for few states.",
    )


def diverged(case: Case, repeated: Rerun) -> Finding | None:
    """Fixed steps of an explicit method are unstable."""
    h = case.options.step_size
    if case.status is not Status.DIVERGED or case.method.implicit or h is None:
        return None
    rho = probes.spectral_radius(case, case.span[0], case.start)
    if rho * h < UNSTABLE:
        return None
    return Finding(
        "steps too long",
        f"Steps of {h:g} are too long for {case.name} to be stable: |df/dy| is about {rho:.3g} at"
        f" the start, {rho * h:.2g} over a step, and errors grow from step to step until they"
        " overflow.",
        f"Take step_size={UNSTABLE / rho:.1g} or below; remove step_size, so that the steps"
        " follow the error; or use an implicit method such as 'rodas5p'.",
    )


def newton(case: Case, repeated: Rerun) -> Finding | None:
    """Newton's iteration does not converge although the Jacobian is correct."""
    if case.status is not Status.NEWTON:
        return None
    return Finding(
        "Newton's iteration",
        "Newton's iteration does not converge with a correct Jacobian at this point itself, with"
        " any step size: f bends too sharply, or is not smooth.",
        "Use a Rosenbrock method, 'rodas5p', which does not iterate; or smooth the kinks of f.",
    )


def min_step(case: Case, repeated: Rerun) -> Finding | None:
    """The error test asks for steps below min_step."""
    if case.status is not Status.MIN_STEP:
        return None
    needed = min(
        (abs(a.h) for a in repeated.attempts if a.accepted), default=case.options.min_step / 1000
    )
    needed = min(needed, case.options.min_step / 10)
    return Finding(
        "min_step",
        f"The error test asks for steps of about {needed:.2g}, and min_step is"
        f" {case.options.min_step:g}.",
        f"Lower min_step to {needed / 10:.1g} or to 0, which is the default, or loosen rtol and"
        " atol.",
    )


def limit(case: Case, repeated: Rerun) -> Finding | None:
    """A limit of steps, evaluations or seconds was reached."""
    if case.status not in LIMITS:
        return None
    name = LIMITS[case.status]
    done = case.steps
    more = case.remaining / case.size
    factor = 1.5 * (done + more) / max(done, 1)
    return Finding(
        name,
        f"{done} steps reached {100 * case.progress:.3g} % of the span, the last ones of size"
        f" {case.size:.3g}: about {more:.2g} more such steps are needed.",
        (f"Raise {name} by a factor of {factor:.2g}, loosen" if factor < 1000 else "Loosen")
        + " rtol and atol, or shorten the time span.",
    )


def otherwise(case: Case, repeated: Rerun) -> Finding:
    """No other rule applies."""
    return Finding(
        "not known", f"{case.status.sentence}.".capitalize(), f"{case.status.remedy}.".capitalize()
    )
