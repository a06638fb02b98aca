"""How the time of an event moves with the state: by the implicit function theorem, also where the
condition stays at zero.

dt* = -(dg at fixed t*) / (dg/dt + dg/dy dy/dt), with the derivatives of g on the side that it comes
from: relu(1 - y) has none behind its zero, and none at it. A little before the event it has them.
"""

from __future__ import annotations

import torch

from ...core.autograd import FirstOrderOnly

# How far before an event, as a part of the time since the start, a condition is looked at whose
# derivative there is zero.
FARTHEST = 1e-3
EPSILON = torch.finfo(torch.float64).eps


def moved_times(g, t, start, y, slope, name):
    """What to add to the times of h hits of an event: zeros (h,) with the derivatives of these
    times, None without any.

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
    found = -(value - value.detach()) / torch.where(dead, torch.ones_like(rate), rate)
    return torch.where(dead, Undefined.apply(value, name), found)


def moved_time(g, clock, t: float, start: float, y, slope, name):
    """The same of one event, 0-d; g(t, y): 0-d at t, 0-d as clock(t (1,)) makes it, and y (n,)."""

    def one(t, y):
        return g(clock(t), y.squeeze(0)).unsqueeze(0)

    at = torch.tensor([t], dtype=torch.float64, device=y.device)
    moved = moved_times(one, at, start, y.unsqueeze(0), slope.unsqueeze(0), name)
    if moved is None:
        return None
    return moved.squeeze(0)


def _rates(g, t, y, slope):
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
    """Zeros like x, the condition of an event that does not change on its way to zero: a gradient
    through them is refused."""

    @staticmethod
    def forward(ctx, x, name):
        ctx.name = name
        return torch.zeros_like(x)

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError(
            f"the time of event {ctx.name!r} has no derivative: its condition has derivative zero"
            " there and before (a sign, a rounding, a comparison); write it as a function that"
            " goes through zero, such as y - 1, or detach the event"
        )
