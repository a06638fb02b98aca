"""How the time of an event depends on the state, by the implicit function theorem. This also works
if the condition stays at zero.

dt* = -(dg at fixed t*) / (dg/dt + dg/dy dy/dt), with the derivatives of g before the event. For
instance, relu(1 - y) has the derivative zero at the event and after it, but not shortly before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ...core.autograd import FirstOrderOnly
from ...core.transfer import doubles

# If the derivative of a condition is zero at an event, earlier times are tried, up to this fraction
# of the time since the start.
FARTHEST = 1e-3
EPSILON = torch.finfo(torch.float64).eps

# Two events of one kind within this fraction of the span happen at the same instant: rounding
# hides smaller distances.
INSTANT = 1e-10

# The condition of an event: g(t, y).
Condition: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def moved_times(
    g: Condition, t: Tensor, start: float | Tensor, y: Tensor, slope: Tensor, name: str | None
) -> Tensor | None:
    """Zeros (h,) with the derivatives of the times of h hits of an event, to be added to these
    times. None if there are no derivatives.

    g(t, y): the conditions, (h,), at t (h,) and y (h, n); t: (h,) float64; start: of the solve, a
    float or (h,); y: the states with their derivatives at fixed time; slope: dy/dt, (h, n); name:
    of the event.
    """
    value = g(t, y)
    if not (value.requires_grad or y.requires_grad):
        return None
    elapsed = t - start
    back = torch.zeros_like(t)
    rate = _rates(g, t, y.detach(), slope)
    size = 4 * EPSILON * torch.maximum(t.abs(), (t - elapsed).abs()) * torch.sign(elapsed)
    while bool((dead := (rate == 0) & (size.abs() < FARTHEST * elapsed.abs())).any()):
        back = torch.where(dead, size, back)
        rate = _rates(g, t - back, y.detach() - back.to(y).unsqueeze(1) * slope, slope)
        size = 4 * size
    if bool(back.any()):
        value = g(t - back, y - back.to(y).unsqueeze(1) * slope)
    if not value.requires_grad:
        return None
    value = FirstOrderOnly.apply(value, "the times of events")
    dead = rate == 0
    if not bool(dead.any()):
        return -(value - value.detach()) / rate
    shift = -(value - value.detach()) / torch.where(dead, torch.ones_like(rate), rate)
    return torch.where(dead, Undefined.apply(value, name), shift)


def moved_time(
    g: Condition,
    clock: Callable[[Tensor], Tensor],
    t: float,
    start: float,
    y: Tensor,
    slope: Tensor,
    name: str | None,
) -> Tensor | None:
    """The same for one event, 0-d. g(t, y): 0-d, for the 0-d time that clock makes of a tensor
    (1,), and y (n,)."""

    def one(t: Tensor, y: Tensor) -> Tensor:
        return g(clock(t), y.squeeze(0)).unsqueeze(0)

    at = doubles([t], y.device)
    moved = moved_times(one, at, start, y.unsqueeze(0), slope.unsqueeze(0), name)
    if moved is None:
        return None
    return moved.squeeze(0)


def saltated(y: Tensor, slope: Tensor, time: Tensor) -> Tensor:
    """y, (..., n), with the slope as its derivative in the time, (...): the state at a time that
    has derivatives. With -time it is the start of the solution that passes y at that time."""
    return y + slope * (time - time.detach()).to(y).unsqueeze(-1)


def same_instant(t: float, last: float, span: float) -> bool:
    """Whether no time passes between two events of a solve over this span."""
    return abs(t - last) < INSTANT * (abs(span) + abs(t))


def _rates(g: Condition, t: Tensor, y: Tensor, slope: Tensor) -> Tensor:
    """dg/dt along the solutions, (h,)."""
    t = t.clone().requires_grad_()
    y = y.clone().requires_grad_()
    with torch.enable_grad():
        value = g(t, y)
        if not value.requires_grad:
            return torch.zeros_like(value)
        by_t, by_y = torch.autograd.grad(value.sum(), (t, y), allow_unused=True)
    if by_t is None:
        rate = torch.zeros_like(value)
    else:
        rate = by_t.to(value)
    if by_y is None:
        return rate
    return rate + (by_y.conj() * slope).sum(1).real


class Undefined(torch.autograd.Function):
    """Zeros like x. They refuse a gradient, because the condition x of an event is constant before
    the event."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str | None) -> Tensor:
        ctx.name = name
        return torch.zeros_like(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise RuntimeError(
            f"the time of event {ctx.name!r} has no derivative: its condition has derivative zero"
            " there and before (a sign, a rounding, a comparison); write it as a function that"
            " goes through zero, such as y - 1, or detach the event"
        )
