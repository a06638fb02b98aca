"""Questions that the causes ask of a vector field near the point where a solve ended."""

from __future__ import annotations

import copy
import math

import torch

from ..algebra.jacobian import Jacobian
from ..core.status import Status
from ..methods.selection import growth

DENSE = 300  # states up to which a Jacobian is made for a report
HALVINGS = 45
REPEATS = 8  # of an evaluation: dropout of a single component hides in every second one
# Times by which a change of f grows as it is looked at more closely, from which on it is no jump.
POLE = 1e3


def nonfinite_tensors(case) -> list:
    """(name, number of entries not finite, number of entries) of f's parameters and buffers and of
    tensors among the args."""
    named = [
        (f"args[{i}]", a) for i, a in enumerate(case.problem.args) if isinstance(a, torch.Tensor)
    ]
    for root in case.field.held.roots:
        if root is case.problem.f:
            prefix = ""
        else:
            prefix = f"{type(root).__name__}."
        named += [
            (prefix + name, tensor)
            for name, tensor in (*root.named_parameters(), *root.named_buffers())
        ]
    named += [(f"parameter {i}", p) for i, p in enumerate(case.field.parameters)]
    found: dict[int, tuple[str, int, int]] = {}
    for name, tensor in named:
        if tensor.is_floating_point() or tensor.is_complex():
            bad = int((~torch.isfinite(tensor.detach())).sum())
        else:
            bad = 0
        if bad:
            found.setdefault(id(tensor), (name, bad, tensor.numel()))
    return list(found.values())


def jacobian(case, y, own: bool):
    """df/dy, (n, n), at the time reached: the user's, or by reverse mode; None where it is too
    large or cannot be had."""
    if len(y) > DENSE:
        return None
    field = case.field
    if not own:
        field = copy.copy(field)
        field.user_jac = None
    try:
        return Jacobian(field, repairs=False)(case.t, y).detach()
    except Exception:  # whatever jac or f raises: it cannot be had
        return None


def differentiation_gap(case):
    """(i, j, by autograd, by differences) where the derivative of f by autograd is not that of f;
    None where it is, or where differences are too coarse to tell."""
    own = jacobian(case, case.y, False)
    if own is None or not bool(torch.isfinite(own).all()):
        return None
    scale = case.tolerance.scale(case.y)
    # Every column by two lengths: where these disagree f is not smooth, or rounding is too large.
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
    gap = ((own - true) * unit).abs()
    noise = ((true - check) * unit).abs()
    size = (true * unit).abs().max()
    gap = torch.where(gap > 10 * noise, gap, torch.zeros_like(gap))
    if float(gap.max()) <= 0.01 * float(size):
        return None
    i, j = divmod(int(gap.argmax()), len(own))
    mine = float(own[i, j])
    theirs = float(true[i, j])

    def sides(length):
        """Differences backward and forward."""
        e = torch.zeros_like(case.y)
        e[j] = length * float(torch.maximum(case.y.abs(), scale)[j])
        low, middle, high = (float(case.f(case.t, y)[i]) for y in (case.y - e, case.y, case.y + e))
        return (middle - low) / float(e[j]), (high - middle) / float(e[j])

    backward, forward = sides(1e-5)
    if not abs(forward - backward) < 0.1 * abs(theirs - mine):
        return None  # a kink, as of relu at zero, has no derivative to compare with
    # Of an f that wiggles from state to state the shorter differences agree.
    for length in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10):
        if mine == 0 or length < 1e4 * torch.finfo(case.y.dtype).eps:
            break
        if abs(0.5 * sum(sides(length)) - mine) < 0.1 * abs(theirs - mine):
            return None
    return i, j, mine, theirs


def spectral_radius(case, t: float, y) -> float:
    """Of df/dy at (t, y), by a power method in f; 0 where it cannot be had."""
    try:
        value = growth(case.field, t, y, case.tolerance)
    except Exception:
        return 0.0
    if math.isfinite(value):
        return value
    return 0.0


def unsteady(case):
    """(whether f changes the state that it is given, by how much f differs from itself at the same
    point)."""
    given = [case.y.clone() for _ in range(REPEATS)]
    values = torch.stack([case.f(case.t, y) for y in given]).nan_to_num(0.0)
    spread = values.amax(0) - values.amin(0)
    return not torch.equal(given[0], case.y), float(spread.max()) / max(
        float(values.abs().max()), 1e-300
    )


def jump(fun, a: float, b: float):
    """Where fun(s), (n,), jumps for a <= s <= b, by bisection towards the larger half of its
    change; (s, component, change, whether it is a pole), or None where the change goes away between
    neighbouring points."""
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
        left = float((fm - fa).abs().max())
        right = float((fb - fm).abs().max())
        if max(left, right) < 0.2 * first:
            return None
        if left > right:
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
    return middle, int(change.argmax()), float(change.max()), pole


def jump_in_time(case, width: float):
    """(t, component, change, pole) of a jump of f within width of the time reached, the state held;
    or None."""
    if width < 100 * torch.finfo(case.y.dtype).eps * abs(case.t):
        # F is told the time in the dtype of the state, and jumps from one such number to the next.
        return None
    low, high = sorted((case.times[0], case.times[-1]))
    return jump(lambda t: case.f(t, case.y), max(case.t - width, low), min(case.t + width, high))


def jump_in_state(case, width: float):
    """(s, component, change, pole) of a jump of f along the path, y + s dy/dt, the time held; or
    None."""
    slope = case.slope(case.t, case.y)
    if not bool(torch.isfinite(slope).all()):
        return None
    return jump(lambda s: case.f(case.t, case.y + s * slope), -width, width)


def blow_up(case):
    """(component, time of the blow-up) if the fastest component grows like y' = c |y|^p, p > 1, to
    infinity; else None.

    Along that power law infinity is reached |y| / ((p - 1) |y'|) from here, and steps are a part of
    what is left till then. Only where y has grown already, or where no step is small enough.
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
    # Beyond a pole of f it has changed its sign.
    if growth > 0:
        power = math.log(growth) / math.log(1.01)
    else:
        power = 0.0
    if power > 1.02:
        left = 1 / ((power - 1) * float(rate[i]))
    else:
        left = math.inf
    near = left < max(1000 * case.size, 1e-6 * abs(case.span[1] - case.span[0]))
    if near:
        return (i, case.t + case.direction * left)
    return None


def first_nonfinite(case, t: float) -> float:
    """The time between the one reached and t from which on f is not finite at the last good state,
    by bisection."""
    good = case.t
    bad = t
    for _ in range(HALVINGS):
        middle = 0.5 * (good + bad)
        if bool(torch.isfinite(case.f(middle, case.y)).all()):
            good = middle
        else:
            bad = middle
    return bad


def culprits(case, point) -> list:
    """The components of the state of point = (t, y, f) that alone, put back to the last good state,
    make f finite."""
    t, y, _ = point
    order = ((y - case.y).abs() / case.tolerance.scale(case.y)).argsort(descending=True).tolist()
    found = []
    for i in order[:64]:
        trial = y.clone()
        trial[i] = case.y[i]
        if bool(torch.isfinite(case.f(t, trial)).all()):
            found.append(i)
    return found


def mended_by_sign(case, point, j) -> bool:
    """Whether f is finite at the state of point = (t, y, f) once component j has lost its sign, so
    that it is not too large."""
    trial = point[1].clone()
    trial[j] = trial[j].abs()
    return bool(torch.isfinite(case.f(point[0], trial)).all())
