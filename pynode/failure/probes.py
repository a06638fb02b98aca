"""Questions about a vector field near the point where a solve ended."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from ..algebra.jacobian import Jacobian
from ..core.memory import raise_if_exhausted
from ..core.status import Status
from ..methods.selection import growth
from .failed_solve import Case

DENSE = 300  # a report computes a Jacobian for at most so many states
HALVINGS = 45
REPEATS = 8  # of an evaluation: dropout of one component shows in only half of them
# If bisection makes the change of f grow by more than this factor, it is a pole and not a jump.
POLE = 1e3


class Discontinuity(NamedTuple):
    """A jump at s: component i changes by ``change``. pole: whether it grows without bound."""

    s: float
    i: int
    change: float
    pole: bool


def nonfinite_tensors(case: Case) -> list[tuple[str, int, int]]:
    """(name, number of entries that are not finite, number of entries) for f's parameters and
    buffers, and for tensors among the args."""
    named = [
        (f"args[{i}]", a) for i, a in enumerate(case.problem.args) if isinstance(a, torch.Tensor)
    ]
    for root in case.field.module_state.roots:
        if root is case.problem.f:
            prefix = ""
        else:
            prefix = f"{type(root).__name__}."
        named += [
            (prefix + name, tensor)
            for name, tensor in (*root.named_parameters(), *root.named_buffers())
        ]
    named += [(f"parameter {i}", p) for i, p in enumerate(case.field.parameters)]
    tensors: dict[int, tuple[str, int, int]] = {}
    for name, tensor in named:
        if tensor.is_floating_point() or tensor.is_complex():
            bad = int((~torch.isfinite(tensor.detach())).sum())
        else:
            bad = 0
        if bad:
            tensors.setdefault(id(tensor), (name, bad, tensor.numel()))
    return list(tensors.values())


def jacobian(case: Case, y: torch.Tensor, own: bool) -> torch.Tensor | None:
    """df/dy, (n, n), at the time reached: the user's if ``own``, otherwise by reverse mode. None if
    it is too large or cannot be computed."""
    if len(y) > DENSE:
        return None
    field = case.field
    if not own:
        field = copy.copy(field)
        field.user_jac = None
    try:
        return Jacobian(field, repairs=False)(case.t, y).detach()
    except Exception as error:  # jac or f may raise anything
        raise_if_exhausted(error)
        return None


def wrong_derivative(case: Case) -> tuple[int, int, float, float] | None:
    """(i, j, by autograd, by differences) of an entry of df/dy that autograd computes wrongly. None
    if all are right, or if the differences are too coarse to judge."""
    own = jacobian(case, case.y, False)
    if own is None or not bool(torch.isfinite(own).all()):
        return None
    scale = case.tolerance.scale(case.y)
    # Each column with two lengths: if they disagree, f is not smooth, or rounding is too large.
    columns = []
    for length in (1e-5, 2e-5):
        h = length * torch.maximum(case.y.abs(), scale)
        columns.append(
            torch.stack(
                [
                    (case.f(case.t, case.y + e) - case.f(case.t, case.y - e)) / (2 * h[j])
                    for j, e in enumerate(torch.diag(h))
                ],
                1,
            )
        )
    true, check = columns
    if not bool(torch.isfinite(true + check).all()):
        return None
    unit = scale / scale.unsqueeze(1)  # entries as they act on states in units of their tolerances
    difference = ((own - true) * unit).abs()
    noise = ((true - check) * unit).abs()
    size = (true * unit).abs().max()
    difference = torch.where(difference > 10 * noise, difference, torch.zeros_like(difference))
    if float(difference.max()) <= 0.01 * float(size):
        return None
    i, j = divmod(int(difference.argmax()), len(own))
    mine = float(own[i, j])
    theirs = float(true[i, j])

    def one_sided(length):
        """The backward and the forward difference."""
        e = torch.zeros_like(case.y)
        e[j] = length * float(torch.maximum(case.y.abs(), scale)[j])
        low, middle, high = (float(case.f(case.t, y)[i]) for y in (case.y - e, case.y, case.y + e))
        return (middle - low) / float(e[j]), (high - middle) / float(e[j])

    backward, forward = one_sided(1e-5)
    if not abs(forward - backward) < 0.1 * abs(theirs - mine):
        return None  # a kink, such as relu at zero, has no derivative
    # If f oscillates from state to state, shorter differences agree with autograd.
    for length in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10):
        if mine == 0 or length < 1e4 * torch.finfo(case.y.dtype).eps:
            break
        if abs(0.5 * sum(one_sided(length)) - mine) < 0.1 * abs(theirs - mine):
            return None
    return i, j, mine, theirs


def spectral_radius(case: Case, t: float, y: torch.Tensor) -> float:
    """The spectral radius of df/dy at (t, y), by a power method in f. 0 if it cannot be
    computed."""
    try:
        value = growth(case.field, t, y, case.tolerance)
    except Exception as error:
        raise_if_exhausted(error)
        return 0.0
    if math.isfinite(value):
        return value
    return 0.0


def unsteady(case: Case) -> tuple[bool, float]:
    """(whether f changes its argument, the relative difference of values of f at the same
    point)."""
    states = [case.y.clone() for _ in range(REPEATS)]
    values = torch.stack([case.f(case.t, y) for y in states]).nan_to_num(0.0)
    spread = values.amax(0) - values.amin(0)
    return not torch.equal(states[0], case.y), float(spread.max()) / max(
        float(values.abs().max()), 1e-300
    )


def jump(fun: Callable[[float], torch.Tensor], a: float, b: float) -> Discontinuity | None:
    """Where fun(s), (n,), jumps for a <= s <= b, by bisection towards the larger half of its
    change. None if the change vanishes between neighbouring points."""
    fa = fun(a)
    fb = fun(b)
    first = float((fb - fa).abs().max())
    size = max(float(fa.abs().max()), float(fb.abs().max()))
    if not math.isfinite(first) or first <= 1e-3 * size:
        return None
    for _ in range(HALVINGS):
        middle = 0.5 * (a + b)
        if middle in (a, b):
            break
        fm = fun(middle)
        if not bool(torch.isfinite(fm).all()):
            break
        lower = float((fm - fa).abs().max())
        upper = float((fb - fm).abs().max())
        if max(lower, upper) < 0.2 * first:
            return None
        if lower > upper:
            b = middle
            fb = fm
        else:
            a = middle
            fa = fm
    change = (fb - fa).abs()
    middle = 0.5 * (a + b)
    pole = float(change.max()) > POLE * first
    if float(change.max()) < 0.2 * first or not (pole or bool(torch.isfinite(fun(middle)).all())):
        return None
    return Discontinuity(middle, int(change.argmax()), float(change.max()), pole)


def jump_in_time(case: Case, width: float) -> Discontinuity | None:
    """A jump of f within width of the time reached, at a fixed state; or None."""
    if width < 100 * torch.finfo(case.y.dtype).eps * abs(case.t):
        # f gets the time in the dtype of the state, so that it jumps between neighbouring numbers.
        return None
    low, high = sorted((case.times[0], case.times[-1]))
    return jump(lambda t: case.f(t, case.y), max(case.t - width, low), min(case.t + width, high))


def jump_in_state(case: Case, width: float) -> Discontinuity | None:
    """A jump of f along the path, y + s dy/dt, at a fixed time; or None."""
    slope = case.slope(case.t, case.y)
    if not bool(torch.isfinite(slope).all()):
        return None
    return jump(lambda s: case.f(case.t, case.y + s * slope), -width, width)


def blow_up(case: Case) -> tuple[int, float] | None:
    """(component, time of the blow-up) if the fastest component goes to infinity like y' = c |y|^p,
    p > 1; else None.

    This power law reaches infinity after |y| / ((p - 1) |y'|), and the steps are a fraction of this
    time. The rule applies only if y has grown already, or if no step is small enough.
    """
    slope = case.slope(case.t, case.y)
    if not bool(torch.isfinite(slope).all()):
        return None
    outward = case.direction * slope * case.y > 0
    rate = torch.where(
        outward, slope.abs() / case.y.abs().clamp_min(1e-300), torch.zeros_like(slope)
    )
    i = int(rate.argmax())
    grown = case.status is Status.STEP_TOO_SMALL or float(case.y[i].abs()) >= 10 * float(
        case.start.abs().max()
    )
    if float(rate[i]) * case.remaining < 100 or not grown:
        return None
    further = case.slope(case.t, 1.01 * case.y)
    if not bool(torch.isfinite(further[i])):
        return i, case.t
    growth = float(further[i] / slope[i])
    # Beyond a pole f has changed its sign.
    if growth > 0:
        power = math.log(growth) / math.log(1.01)
    else:
        power = 0.0
    if power <= 1.02:
        return None
    remaining = 1 / ((power - 1) * float(rate[i]))
    if remaining < max(1000 * case.size, 1e-6 * abs(case.span[1] - case.span[0])):
        return i, case.t + case.direction * remaining
    return None


def first_nonfinite(case: Case, t: float) -> float:
    """The time between the one reached and t after which f is not finite at the last good state, by
    bisection."""
    good = case.t
    bad = t
    for _ in range(HALVINGS):
        middle = 0.5 * (good + bad)
        if bool(torch.isfinite(case.f(middle, case.y)).all()):
            good = middle
        else:
            bad = middle
    return bad


def culprits(case: Case, point: tuple[float, torch.Tensor, torch.Tensor]) -> list[int]:
    """The components of the state of point = (t, y, f) that each make f finite if only they return
    to the last good state."""
    t, y, _ = point
    order = ((y - case.y).abs() / case.tolerance.scale(case.y)).argsort(descending=True).tolist()
    indices = []
    for i in order[:64]:
        trial = y.clone()
        trial[i] = case.y[i]
        if bool(torch.isfinite(case.f(t, trial)).all()):
            indices.append(i)
    return indices


def mended_by_sign(case: Case, point: tuple[float, torch.Tensor, torch.Tensor], j: int) -> bool:
    """Whether f is finite at the state of point = (t, y, f) once component j is replaced by its
    absolute value. Then j is not too large."""
    trial = point[1].clone()
    trial[j] = trial[j].abs()
    return bool(torch.isfinite(case.f(point[0], trial)).all())
