"""Causes in the vector field. Each rule gets a failed solve and its repeated steps, and returns a
Finding or None."""

from __future__ import annotations

import torch

from ..core.status import Status
from . import probes
from .failed_solve import Case
from .finding import EVENTS, LIMITS, Finding, short
from .rerun import Rerun


def parameters(case: Case, repeated: Rerun) -> Finding | None:
    """A tensor of f is not finite."""
    bad = probes.nonfinite_tensors(case)
    if not bad:
        return None
    name, count, of = bad[0]
    if len(bad) > 1:
        more = f", and {len(bad) - 1} more tensors"
    else:
        more = ""
    argument = name.startswith("args[")
    return Finding(
        "nonfinite parameters",
        f"{name} holds NaN or infinity in {count} of its {of} entries{more}: they were made before"
        " this solve"
        + (
            "."
            if argument
            else (
                ", by an optimiser step with a gradient that was not finite, or by the"
                " initialisation."
            )
        ),
        (
            f"Correct {name} before the solve."
            if argument
            else (
                "Load the last good weights; then clip gradients (torch.nn.utils.clip_grad_norm_),"
                " lower the learning rate, and skip steps whose loss or gradient is not finite."
            )
        ),
    )


def unsteady(case: Case, repeated: Rerun) -> Finding | None:
    """f changes its argument, or returns different values at the same point."""
    changed, difference = probes.unsteady(case)
    if changed:
        return Finding(
            "f changes its argument",
            "f changes the state that it is given, in place, and with it the solution.",
            "Write y = 2 * y in place of y *= 2 in f, or let it work on y.clone().",
        )
    if difference <= 1e3 * torch.finfo(case.y.dtype).eps:
        return None
    return Finding(
        "f is not repeatable",
        f"Two evaluations of f at the same point differ by {100 * difference:.2g} %: it draws"
        " random numbers (dropout), or remembers its calls. Then no step can be made accurate by"
        " making it smaller.",
        "Switch dropout off by module.eval(); draw what is random before the solve, and pass it"
        " through args; for noise in the dynamics solve a stochastic differential equation,"
        " pynode.sde.solve_sde.",
    )


def jac(case: Case, repeated: Rerun) -> Finding | None:
    """The user's Jacobian is not finite, or is not the derivative of f."""
    if case.field.user_jac is None or case.status not in (
        Status.NONFINITE,
        Status.NEWTON,
        Status.STEP_TOO_SMALL,
    ):
        return None
    own, true = (probes.jacobian(case, case.y, mine) for mine in (True, False))
    if own is None or true is None or not bool(torch.isfinite(true).all()):
        return None
    if not bool(torch.isfinite(own).all()):
        i, j = (~torch.isfinite(own)).nonzero()[0].tolist()
        return Finding(
            "nonfinite jac",
            "f is finite at the last good state, but the Jacobian that jac returns is not, in"
            f" entry ({i}, {j}).",
            "Correct jac, or remove it: pynode then computes the Jacobian itself.",
        )
    difference = (own - true).abs()
    if float(difference.max()) <= 1e-3 * float(true.abs().max()):
        return None
    i, j = divmod(int(difference.argmax()), len(true))
    return Finding(
        "wrong jac",
        f"jac is not the derivative of f: entry ({i}, {j}) is {float(own[i, j]):.4g}, the"
        f" derivative {float(true[i, j]):.4g}.",
        "Correct jac, or remove it: pynode then computes the Jacobian itself.",
    )


def detached(case: Case, repeated: Rerun) -> Finding | None:
    """An implicit method gets its Jacobian from autograd, and it is not the derivative of f."""
    if (
        case.field.user_jac is not None
        or not case.method.implicit
        or case.status in (Status.DOMAIN, *EVENTS)
    ):
        return None
    if not repeated.affords(4 * len(case.y)):
        return None
    entry = probes.wrong_derivative(case)
    if entry is None:
        return None
    i, j, own, true = entry
    return Finding(
        "f is not differentiable by autograd",
        f"The derivative that autograd gives is not that of f: of component {i} with respect to"
        f" {case.component(j)} it is {own:.4g}, differences give {true:.4g}. Something in f leaves"
        " the graph: detach(), item(), numpy, no_grad, rounding, or an in-place copy. Newton's"
        " iteration, and gradients, need it right.",
        "Write f in torch operations from its input to its result; or give jac; or use an explicit"
        " method.",
    )


def blow_up(case: Case, repeated: Rerun) -> Finding | None:
    """The solution goes to infinity."""
    if case.status in (Status.DOMAIN, *EVENTS, Status.MIN_STEP):
        return None
    answer = probes.blow_up(case)
    if answer is None:
        return None
    i, t = answer
    return Finding(
        "blow-up",
        f"The solution goes to infinity: {case.component(i)} = {float(case.y[i]):.3g} grows faster"
        f" than exponentially, and at this pace is infinite at t = {t:.6g}.",
        f"End the time span before t = {t:.6g}, or correct the sign or the size of what makes"
        f" {case.component(i)} grow.",
    )


def nonfinite(case: Case, repeated: Rerun) -> Finding | None:
    """f is not finite at a state of a step."""
    if repeated.point is None and case.status is not Status.NONFINITE:
        return None
    if case.status in LIMITS and not any(a.failure for a in case.attempts):
        return None  # only the repeated steps met this point, not the solve
    if repeated.point is None or not bool(torch.isfinite(repeated.point[1]).all()):
        # The derivative of f is not finite, and a step computed this state with it.
        return derivative(case, repeated)
    t, y, out = repeated.point
    i = int((~torch.isfinite(out)).nonzero()[0])
    where = f"component {i} of f is {float(out[i])} at t = {t:.9g}"
    if not bool(torch.isfinite(case.f(case.t, case.y)).all()):
        return Finding(
            "nonfinite f",
            f"{where}, at the last good state itself, y = {short(case.y)}.",
            "Evaluate f there by hand: look for divisions by zero, logarithms and roots of zero or"
            " negative numbers, and overflow of exp; start elsewhere, or keep their arguments in"
            " their domain.",
        )
    if not bool(torch.isfinite(case.f(t, case.y)).all()):
        since = probes.first_nonfinite(case, t)
        return Finding(
            "f not finite from a time on",
            f"{where}, for every state: at the last good state, where it is finite at t ="
            f" {case.t:.9g}, it is not finite from t = {since:.9g} on.",
            f"End the time span before t = {since:.9g}, or correct f at that time (a division by"
            " zero, data that end).",
        )
    guilty = probes.culprits(case, repeated.point)
    negative = [
        j
        for j in guilty
        if float(y[j]) < 0 <= float(case.y[j]) and probes.mended_by_sign(case, repeated.point, j)
    ]
    if negative:
        worst = negative[0]
        names = ", ".join(case.component(j) for j in negative[:4])
        return Finding(
            "negative state",
            f"{where}, because a trial step made {names} negative ({float(y[worst]):.3g}, from "
            f"{float(case.y[worst]):.3g}), where f takes a root, a logarithm or a power of it.",
            "Keep the argument in its domain inside f, for instance y.clamp(min=0), or refuse such"
            f" steps with nonnegative={[int(j) for j in negative[:4]]}.",
        )
    names = (
        ", ".join(f"{case.component(j)} = {float(y[j]):.3g}" for j in guilty[:4])
        or f"y = {short(y)}"
    )
    return Finding(
        "f not finite in a stage",
        f"{where}, in a trial step that led to {names}.",
        "Bound what f computes there (exp, powers, divisions), or refuse such states with"
        " domain=lambda t, y: ... or RejectStep.",
    )


def derivative(case: Case, repeated: Rerun) -> Finding | None:
    """f is finite, but its derivative is not."""
    true = probes.jacobian(case, case.y, False)
    if true is None or bool(torch.isfinite(true).all()):
        return None
    i, j = (~torch.isfinite(true)).nonzero()[0].tolist()
    return Finding(
        "nonfinite derivative",
        f"f is finite at the last good state, but its derivative is not: that of component {i} with"
        f" respect to {case.component(j)} = {float(case.y[j]):.3g}, as that of a root, or of a"
        " norm, at zero.",
        "Move it away from the point, for instance torch.sqrt(y + 1e-12); or use an explicit method"
        " such as 'tsit5', which needs no derivative.",
    )


def jump(case: Case, repeated: Rerun) -> Finding | None:
    """f jumps, or has a pole, near the last good state."""
    if case.status in (*EVENTS, Status.MIN_STEP) or not repeated.affords(4 * probes.HALVINGS):
        return None
    widths = [4 * case.size, 1e-9 * (abs(case.span[1] - case.span[0]) + abs(case.t))]
    # The steps of a row are not recorded.
    for width in widths if case.row is None else [*widths, case.remaining]:
        answer = probes.jump_in_time(case, width)
        if answer is not None:
            t, i, change, pole = answer
            if pole:
                return _pole("time", f"towards t = {t:.6g}, the state held", i, change)
            return Finding(
                "jump of f in time",
                f"f jumps at t = {t:.10g}: its component {i} changes by {change:.3g} between "
                "neighbouring times.",
                f"Name the time: jumps=[{t:.10g}], so that no step goes across.",
            )
        answer = probes.jump_in_state(case, width)
        if answer is not None:
            _, i, change, pole = answer
            if pole:
                return _pole("the state", f"near y = {short(case.y)}, the time held", i, change)
            return Finding(
                "jump of f in the state",
                f"f jumps as the state changes: its component {i} by {change:.3g} between"
                f" neighbouring states near y = {short(case.y)}. If both sides drive the state"
                " back, no solution in the usual sense goes on there.",
                "Tell the solver by an Event on the condition that switches, with a reset or"
                " terminal; or smooth the switch, for instance tanh(x / width) in place of"
                " sign(x).",
            )
    return None


def _pole(kind, where, i, change):
    return Finding(
        f"pole of f in {kind}",
        f"f grows beyond all bounds {where}: its component {i} changes by {change:.3g} between"
        " neighbouring points.",
        "End the time span before it, or correct f: it divides by what becomes zero there.",
    )
