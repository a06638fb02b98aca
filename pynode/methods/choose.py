"""``method="auto"``: a method by size, tolerance and a cheap estimate of the stiffness at the start."""

from __future__ import annotations

import math

import torch

from ..algebra.jacobian import Jacobian
from ..lifetime import unhooked
from ..status import RejectStep
from ..surroundings import HALVES
from .auto import AutoSwitch, spectral_radius

ITERATIONS = 5  # of the power method, one evaluation of f each
SURELY_STIFF = 1e4  # rho times the span of time: a third as many steps an explicit method needs for stability alone
TIGHT = 3e-8  # rtol below which methods of higher order pay
SMALL = 50  # states up to which a factorisation a step costs less than Newton's iterations


def choose(get, field, t0: float, t1: float, y0, tol):
    """(method, why in a sentence). get: from names to methods; y0: (n,); tol: Tolerance."""
    try:
        radius = growth(field, t0, y0, tol)
    except RejectStep:
        radius = math.inf
    work = radius * abs(t1 - t0)
    seen = f"|df/dy| is about {radius:.2g} at the start, {work:.2g} over the whole span"
    if field.dtype in HALVES:  # of methods for stiff systems torch has no linear algebra in it
        return get("tsit5"), f"Tsit5: in {field.dtype} only explicit methods run, {seen}"
    if not math.isfinite(work):
        return get("qndf"), "QNDF: f is not finite, or not defined, near the start"
    if work > SURELY_STIFF:
        if tol.rtol < TIGHT:
            return get("radauiia9"), f"RadauIIA9: stiff, {seen}, and rtol is tight"
        return get("qndf"), f"QNDF: stiff, {seen}"
    explicit = get("vern7" if tol.rtol < TIGHT else "tsit5")
    method = AutoSwitch.of(explicit, get("rodas5p" if field.size <= SMALL else "kencarp47"))
    return method, f"{method.name}: not stiff at the start, {seen}, and it switches where that changes"


def refuse_steps(step_size, controller):
    """ValueError for options that not every method takes of which 'auto' may choose one."""
    if step_size is not None:
        raise ValueError(
            "step_size asks for fixed steps, and method='auto' chooses among methods that choose their "
            "own: name a method, such as 'rk4', 'tsit5' or 'impliciteuler', or leave step_size away "
            "and bound the steps by max_step"
        )
    if controller is not None:
        raise ValueError(
            "controller is for one-step methods, and method='auto' may choose another: name a method, "
            "such as 'tsit5', 'rodas5p' or 'autotsit5(rodas5p())', or leave controller away"
        )


@torch.no_grad()
@unhooked()
def growth(field, t, y, tol):
    """The spectral radius of df/dy at (t, y) by a nonlinear power method, or by the user's Jacobian."""
    scale = tol.scale(y)
    if field.user_jac is not None:
        return spectral_radius(Jacobian(field)(t, y), scale, None)[0]
    base = field.first(t, y)
    size = tol.rms(y, scale) + 1.0
    v = torch.cos(torch.arange(len(y), dtype=y.dtype, device=y.device)) * scale
    length = math.sqrt(torch.finfo(y.dtype).eps) * size
    radius = 0.0
    for _ in range(ITERATIONS):
        norm = tol.rms(v, scale)
        if not 0 < norm < math.inf:
            return radius if norm == 0 else math.inf
        v = (field(t, y + v * (length / norm)) - base) / length
        radius = tol.rms(v, scale)
    return radius
