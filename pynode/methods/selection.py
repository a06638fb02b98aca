"""``method="auto"``: chooses a method by size, tolerance and a cheap estimate of the stiffness at
the start."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..algebra.arnoldi import arnoldi
from ..algebra.jacobian import Jacobian
from ..algebra.power_method import (
    any_direction,
    power_method,
    scaled_difference_product,
    scaled_matrix_product,
)
from ..core.saved_tensors import unhooked
from ..core.status import RejectStep
from ..core.torch_context import HALVES
from .switching import AutoSwitch

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.norm import Tolerance
    from ..core.vector_field import VectorField
    from .base import Method


ITERATIONS = 5  # of the power method, one evaluation of f each
# The spectral radius times the time span. An explicit method needs about a third as many steps for
# stability.
SURELY_STIFF = 1e4
TIGHT = 3e-8  # rtol below which methods of higher order pay
EIGENVALUES_UP_TO = 100  # states
RITZ = 30  # Arnoldi steps above that, one evaluation of f each
NEAR_IMAGINARY = 2.0  # |Im| / |Re|: BDF of order 4 is stable up to 3.3, of order 5 up to 1.3
FAST = 1e-2  # of the largest |eigenvalue|: slower modes are resolved, or do not hurt
RADAU_UP_TO = 500  # states
SMALL = 50  # states; up to here one factorisation in each step costs less than Newton's iterations


def choose(
    get: Callable[[str], Method],
    field: VectorField,
    t0: float,
    t1: float,
    y0: Tensor,
    tol: Tolerance,
) -> tuple[Method, str]:
    """(method, reason in one sentence). get: from names to methods; y0: (n,); tol: Tolerance."""
    try:
        radius = growth(field, t0, y0, tol)
    except RejectStep:
        radius = math.inf
    work = radius * abs(t1 - t0)
    seen = f"|df/dy| is about {radius:.2g} at the start, {work:.2g} over the whole span"
    if field.dtype in HALVES:  # torch has no linear algebra in it for stiff methods
        return get("tsit5"), f"Tsit5: in {field.dtype} only explicit methods run, {seen}"
    if not math.isfinite(work):
        return get("qndf"), "QNDF: f is not finite, or not defined, near the start"
    if work > SURELY_STIFF:
        if oscillates(field, t0, y0, tol):
            method = get(_damping(field, tol))
            why = f"stiff, {seen}, with fast oscillations, for which BDF is not stable"
            return method, f"{method.name}: {why}"
        if tol.rtol < TIGHT:
            return get("radauiia9"), f"RadauIIA9: stiff, {seen}, and rtol is tight"
        return get("qndf"), f"QNDF: stiff, {seen}"
    if tol.rtol < TIGHT:
        explicit = get("vern7")
    else:
        explicit = get("tsit5")
    if field.size <= SMALL:
        stiff = get("rodas5p")
    else:
        stiff = get("kencarp47")
    method = AutoSwitch(explicit, stiff)
    return (
        method,
        f"{method.name}: not stiff at the start, {seen}, and it switches if that changes",
    )


def _damping(field: VectorField, tol: Tolerance) -> str:
    """A method that is stable along the imaginary axis. Radau IIA factorises dense matrices only;
    KenCarp47 takes every structure."""
    if field.size > RADAU_UP_TO:
        return "kencarp47"
    if tol.rtol < TIGHT:
        return "radauiia9"
    return "radauiia5"


@torch.no_grad()
@unhooked()
def oscillates(field: VectorField, t: float, y: Tensor, tol: Tolerance) -> bool:
    """Whether df/dy at (t, y) has fast modes near the imaginary axis, where BDF above order 2 is
    not stable.

    For a small Jacobian it computes all eigenvalues, otherwise the Ritz values of RITZ Arnoldi
    steps with differences of f in units of the tolerances. With a mass matrix the modes are
    unknown, and the answer is False. Hairer & Wanner II, sec. IV.10 and V.2.
    """
    if field.mass is not None:
        return False
    dense = field.size <= EIGENVALUES_UP_TO and field.structure is None
    if dense:
        matrix = Jacobian(field, repairs=False)(t, y)
    else:
        product = scaled_difference_product(field, t, y, field.initial_slope(t, y), tol)
        ritz = arnoldi(product, torch.ones_like(y), min(RITZ, len(y)))
        matrix = torch.from_numpy(ritz[:-1])
    if not bool(torch.isfinite(matrix).all()):
        return False
    values = torch.linalg.eigvals(matrix.double())
    fast = values.abs() > FAST * values.abs().max()
    return bool((values.imag.abs() > NEAR_IMAGINARY * values.real.abs())[fast].any())


def refuse_fixed_steps(step_size: object) -> None:
    """Raises ValueError for steps of a fixed size: some of the methods that 'auto' may choose do
    not take them."""
    if step_size is not None:
        raise ValueError(
            "step_size asks for fixed steps, and method='auto' chooses among methods that choose"
            " their own: name a method, such as 'rk4', 'tsit5' or 'impliciteuler', or leave"
            " out step_size and bound the steps by max_step"
        )


@torch.no_grad()
@unhooked()
def growth(field: VectorField, t: float, y: Tensor, tol: Tolerance) -> float:
    """The spectral radius of df/dy at (t, y) by a nonlinear power method, or by the user's
    Jacobian."""
    if field.user_jac is not None:
        product = scaled_matrix_product(Jacobian(field)(t, y), y, tol)
    else:
        product = scaled_difference_product(field, t, y, field.initial_slope(t, y), tol)
    return power_method(product, any_direction(y), ITERATIONS).radius
