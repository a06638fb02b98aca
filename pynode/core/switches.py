"""Conditions at which f jumps, held between their crossings.

A formula such as "k1 where S > c, k2 elsewhere" makes f jump where the state crosses a surface. The
steps of a method go across, and the gradient of the steps lacks the part that comes from the time
of the crossing. A field can therefore say where it jumps: its attribute ``pynode_switches`` is a
``Switches``. While a solve with a gradient runs, each of these conditions keeps the side on which
it is, so that f is smooth. The solve stops at the crossing, whose time has a gradient, and goes on
with the other side. Cellier & Kofman, Continuous System Simulation, 2006, ch. 9, describe such
stops, and the tools of Modelica hold conditions in the same way.

The sides are further components of the state, with the derivative zero. A stop changes them as any
reset changes a state. So rows of a batch, all engines and all adjoints need nothing for them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

# The sides of a condition: 1 and -1, or none. Without a side f computes the condition itself. A
# condition has given up where both sides lead back to the surface. It rests where it stays zero,
# without a side, or with the one under which it stays there while the other one leads back.
GIVEN_UP = 0.0
RESTS = 0.25
LEAST_SIDE = 0.5
RESTING_SIDE = 0.75
FULL_SIDE = 0.875
# The further components are so small that no norm and no rounding error of the state sees them.
UNIT = 2.0**-100
# A crossing is quick if it comes within this part of the span after the one before.
QUICK = 1e-4
INSTANT = 1e-9
MOST_QUICK = 100
# What two crossings at one instant count for: three in a row are too many.
AT_ONCE = 51
# Near zero: by rounding, relative to the state, and by the time of a root, relative to the span.
NEAR_STATE = 256
NEAR_TIME = 1e-9
# The highest derivative of a condition in time that decides where it goes.
HIGHEST = 3


@dataclass(frozen=True)
class Switches:
    """Where a field jumps.

    names: of the m conditions. text: what determines the two functions, for keys of native code.
    rate: rate(t, y, sides, *args) -> dy/dt, smooth for given sides (..., m): 1, -1, or smaller than
    1/2 in size for a condition without a side. differences: differences(t, y, sides, *args) ->
    (..., m), continuous for given sides; a condition has the side 1 where its difference is
    positive. Sides between 1/2 and 1 in size count as 1 and -1. jumps: jumps(t, y, *args) -> (k,)
    or (B, k), further times at which f jumps, known at the start, or None.
    """

    names: tuple[str, ...]
    text: str
    rate: Callable[..., Tensor]
    differences: Callable[..., Tensor]
    jumps: Callable[..., Tensor] | None = None

    def within(self, changed: Callable[[Callable[..., Tensor]], Callable[..., Tensor]]) -> Switches:
        """The Switches of a field that is built on this one. changed(function): the function with
        the arguments of that field."""
        jumps = self.jumps
        if jumps is not None:
            jumps = changed(jumps)
        return replace(
            self,
            rate=changed(self.rate),
            differences=changed(self.differences),
            jumps=jumps,
        )


def switches_of(f: Any) -> Switches | None:
    """The Switches of a field, or None if it does not say that it jumps."""
    found = getattr(f, "pynode_switches", None)
    if isinstance(found, Switches) and (found.names or found.jumps is not None):
        return found
    return None


class HeldField(torch.nn.Module):
    """A field with m switches. Its state has further components: the m sides, how far each
    difference may be from zero while it rests, how many quick crossings there were in a row, the
    time of the last one, and the span of the solve with the sign of its direction."""

    def __init__(self, f: Any, switches: Switches) -> None:
        super().__init__()
        self.f = f
        self.switches = switches

    def __field_parts__(self) -> tuple:
        """What the field computes with, for the native engine's key (translate/key.py)."""
        return self.f, self.switches.text

    @property
    def more(self) -> int:
        """How many further components there are."""
        return 2 * len(self.switches.names) + 3

    def parts(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(the state of f, the sides, the widths, the count with its time and the span) of a
        state."""
        count = len(self.switches.names)
        size = y.shape[-1] - self.more
        state, sides, widths, last = y.split([size, count, count, 3], -1)
        return state, sides / UNIT, widths / UNIT, last / UNIT

    def forward(self, t: Tensor, y: Tensor, *args: Any) -> Tensor:
        """dy/dt; the sides rest."""
        state, sides, _, _ = self.parts(y)
        slope = self.switches.rate(t, state, sides, *args)
        return torch.cat((slope, torch.zeros_like(y[..., state.shape[-1] :])), -1)


class Crossing:
    """The condition of the event at which a held condition leaves its side."""

    def __init__(self, field: HeldField) -> None:
        self.field = field

    def __field_parts__(self) -> tuple:
        return self.field.f, self.field.switches.text

    def __call__(self, t: Tensor, y: Tensor, *args: Any) -> Tensor:
        """(..., m), positive where the conditions are on their sides."""
        state, sides, widths, _ = self.field.parts(y)
        value = self.field.switches.differences(t, state, sides, *args)
        size = sides.abs()
        rests = (size > RESTS / 2) & (size < FULL_SIDE)
        resting = 1.0 - value.abs() / torch.where(rests, widths, 1.0).clamp(min=least_width(y))
        free = torch.where(rests, resting, 1.0)
        watched = torch.where(size > FULL_SIDE, value * sides, free)
        # A condition that has no value has no side.
        return torch.where(value == value, watched, 1.0)


class Settled:
    """The reset of this event: the sides that the conditions have just after a time.

    algebraic: (n,) bool, the components that algebraic equations determine, or None.
    """

    def __init__(self, field: HeldField, algebraic: Tensor | None = None) -> None:
        self.field = field
        self.algebraic = algebraic

    def begin(self, t: Tensor, span: Tensor, y: Tensor, args: tuple) -> Tensor:
        """The state with which a solve begins at y, (..., n). t, span: 0-d, or (rows, 1)."""
        count = len(self.field.switches.names)
        tail = y.detach().new_zeros(*y.shape[:-1], self.field.more)
        tail[..., :count] = UNIT
        tail[..., -2:] = UNIT * torch.stack((t - span, span), -1).reshape(*t.shape[:-1], 2)
        return self._settled(t, torch.cat((y, tail), -1), args)

    def __call__(self, t: Tensor, y: Tensor, *args: Any) -> Tensor:
        """The state with other sides."""
        return self._settled(t, y, args)

    @torch.no_grad()
    def _tail(self, t: Tensor, y: Tensor, args: tuple) -> Tensor:
        args = tuple(x.detach() if isinstance(x, Tensor) else x for x in args)
        state, sides, widths, more = self.field.parts(y.detach())
        count, last, span = more.split(1, -1)
        asked = _Sides(self.field.switches, t.detach(), state, args, span, self.algebraic)
        new, widths = asked.after(sides, widths)
        changed = (new != sides).any(-1, keepdim=True)
        now = t.detach().to(y).expand_as(last)
        gap = (now - last) / span
        quick = torch.where(gap < INSTANT, count + AT_ONCE, count + 1)
        count = torch.where(changed, torch.where(gap < QUICK, quick, 0.0), count)
        last = torch.where(changed, now, last)
        new = torch.where((count > MOST_QUICK) & (new != sides), GIVEN_UP, new)
        lost = (new == GIVEN_UP) & (sides != GIVEN_UP)
        if bool(lost.any()):
            self._warn(lost)
        return torch.cat((new, widths, count, last, span), -1) * UNIT

    def rests(self, y: Tensor) -> bool:
        """Whether a condition of a state rests on its surface."""
        _, sides, _, _ = self.field.parts(y.detach())
        return bool(((sides.abs() > GIVEN_UP) & (sides.abs() < FULL_SIDE)).any())

    def _settled(self, t: Tensor, y: Tensor, args: tuple) -> Tensor:
        tail = self._tail(t, y, args)
        return torch.cat((y[..., : y.shape[-1] - tail.shape[-1]], tail), -1)

    def _warn(self, lost: Tensor) -> None:
        names = self.field.switches.names
        which = lost.reshape(-1, len(names)).any(0).tolist()
        found = ", ".join(name for name, is_lost in zip(names, which, strict=True) if is_lost)
        warnings.warn(
            f"the solution stays where dy/dt jumps ({found}), or crosses there again and again at"
            " once: the solve goes on without stops, and the gradient is not right there. Give the"
            " switch a hysteresis by an event, or replace the jump by a steep smooth function",
            stacklevel=2,
        )


def rounding_of(y: Tensor) -> Tensor:
    """A difference of the state y, (..., n), that may be rounding, (..., 1)."""
    size = y.abs().sum(-1, keepdim=True)
    return NEAR_STATE * torch.finfo(y.dtype).eps * size + least_width(y)


def least_width(y: Tensor) -> float:
    """The smallest width of a surface in the dtype of y. Its inverse is finite, too."""
    return torch.finfo(y.dtype).tiny ** 0.5


class _Sides:
    """Decides on which sides conditions are just after a time.

    t: 0-d or (rows, 1); y: (..., n); span: of the solve, (..., 1). algebraic: as for Settled; y is
    (n,) then.
    """

    def __init__(
        self,
        switches: Switches,
        t: Tensor,
        y: Tensor,
        args: tuple,
        span: Tensor,
        algebraic: Tensor | None,
    ) -> None:
        self.switches = switches
        self.algebraic = algebraic
        self.t = t.to(y)
        self.y = y
        self.args = args
        self.span = span
        self.rounding = rounding_of(y)
        self.room = self.rounding

    def after(self, sides: Tensor, widths: Tensor) -> tuple[Tensor, Tensor]:
        """The new sides and widths, (..., m). Each condition is asked with the sides of the
        others."""
        given = sides
        came = self._rates(sides)
        self.room = NEAR_TIME * (came * self.span).abs() + self.rounding
        for _ in range(1 + sides.shape[-1]):
            before = sides
            for i in range(sides.shape[-1]):
                sides = self._one(sides, i, widths[..., i])
            if sides.shape[-1] == 1 or torch.equal(before, sides):
                break
        sides = self._without_followers(given, sides)
        value = self._differences(sides).abs()
        return sides, torch.where(sides == given, widths, 4 * value + self.rounding)

    def _differences(self, sides: Tensor) -> Tensor:
        return self.switches.differences(self.t, self.y, sides, *self.args)

    def _one(self, sides: Tensor, i: int, width: Tensor) -> Tensor:
        """The sides with a new one for the condition i. width: how far it may be from zero while it
        rests."""
        old = sides[..., i]
        value = self._differences(sides)[..., i]
        side = torch.where(value == value, torch.sign(value), GIVEN_UP)
        near = value.abs() <= self.room[..., i]
        if bool((near & (old != GIVEN_UP)).any()):
            side = torch.where(near, self._near(sides, i), side)
        # What rested, is no longer zero, and does not move is a matter of rounding.
        rested = (old == RESTS) | (old.abs() == RESTING_SIDE)
        tired = rested & (side == old) & (value.abs() > 0.99 * width)
        side = torch.where(tired | (old == GIVEN_UP), GIVEN_UP, side)
        return sides.index_copy(-1, torch.tensor([i], device=sides.device), side.unsqueeze(-1))

    def _near(self, sides: Tensor, i: int) -> Tensor:
        """The side of a condition that is zero: the one to which f leads if it has that side."""
        up = self._direction(sides, i, 1.0)
        down = self._direction(sides, i, -1.0)
        side = torch.where(up == down, up, GIVEN_UP)
        # Each side leads away from the surface: the solution goes on as it came.
        came = torch.where(sides[..., i] < 0, -1.0, 1.0)
        side = torch.where((up > 0) & (down < 0), came.to(side), side)
        side = torch.where((up == 0) | (down == 0), RESTS, side)
        side = torch.where((up == 0) & (down > 0), RESTING_SIDE, side)
        return torch.where((up < 0) & (down == 0), -RESTING_SIDE, side)

    def _direction(self, sides: Tensor, i: int, side: float) -> Tensor:
        """-1, 0 or 1: where the difference goes from zero if the condition has a side."""
        held = self._followed(sides, i, side)
        span = self.span.squeeze(-1)
        room = self.rounding.squeeze(-1) / 16
        found = torch.zeros_like(sides[..., i])
        for order in range(1, HIGHEST + 1):
            moved = self._rates(held, order)[..., i] * span**order
            found = torch.where((found == 0) & (moved.abs() > room), torch.sign(moved), found)
            if bool((found != 0).all()):
                break
        return found

    def _followed(self, sides: Tensor, i: int, side: float) -> Tensor:
        """The sides if the condition i has a given one. Differences that jump with it, such as
        c - floor(x) with floor(x), can change theirs."""
        held = sides.clone()
        held[..., i] = side
        for _ in range(sides.shape[-1] - 1):
            before = held
            value = self._differences(held)
            moved = (value.abs() > self.room) & (held != GIVEN_UP)
            moved[..., i] = False
            held = torch.where(moved, torch.sign(value), held)
            if torch.equal(before, held):
                break
        return held

    def _without_followers(self, given: Tensor, sides: Tensor) -> Tensor:
        """The sides, where conditions that follow one that has just given up do so, too."""
        lost = (sides == GIVEN_UP) & (given != GIVEN_UP)
        if sides.shape[-1] == 1 or not bool(lost.any()):
            return sides
        for i in range(sides.shape[-1]):
            follows = self._followed(sides, i, 1.0) != self._followed(sides, i, -1.0)
            sides = torch.where(lost[..., i : i + 1] & follows, GIVEN_UP, sides)
        return sides

    def _rates(self, sides: Tensor, order: int = 1) -> Tensor:
        """The derivatives of all differences in time, (..., m), for given sides."""

        def value(t: Tensor, y: Tensor) -> Tensor:
            return self.switches.differences(t, y, sides, *self.args)

        def flow(t: Tensor, y: Tensor) -> Tensor:
            return self._flow(t, y, sides)

        if order == 1:
            return _tangent(value, self.t, self.y, flow(self.t, self.y))
        for _ in range(order):
            value = _along(value, flow)
        return value(self.t, self.y)

    def _flow(self, t: Tensor, y: Tensor, sides: Tensor) -> Tensor:
        """The derivative of the state in time, (..., n). Where f is the residual of an algebraic
        equation, the derivative of the equation determines it."""

        def rate(t: Tensor, y: Tensor) -> Tensor:
            return self.switches.rate(t, y, sides, *self.args)

        slope = rate(t, y)
        if self.algebraic is None:
            return slope
        places = self.algebraic.nonzero().squeeze(-1)
        slope = torch.where(self.algebraic, 0.0, slope)
        change = torch.func.jvp(rate, (t, y), (torch.ones_like(t), slope))[1]
        jacobian = torch.func.jacfwd(rate, argnums=1)(t, y)[places][:, places]
        return slope.index_copy(-1, places, -torch.linalg.solve(jacobian, change[places]))


def _tangent(value: Callable[..., Tensor], t: Tensor, y: Tensor, slope: Tensor) -> Tensor:
    """The derivative of value(t, y) where y moves with a slope. It costs less than torch.func,
    but does not nest."""
    with forward_ad.dual_level():
        moving = (
            forward_ad.make_dual(t, torch.ones_like(t)),
            forward_ad.make_dual(y, slope),
        )
        result = value(*moving)
        tangent = forward_ad.unpack_dual(result).tangent
        if tangent is None:
            return torch.zeros_like(result)
        return tangent.clone()


def _along(value: Callable[..., Tensor], flow: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The derivative of value(t, y) along the solutions of y' = flow(t, y), as a function."""

    def rate(t: Tensor, y: Tensor) -> Tensor:
        return torch.func.jvp(value, (t, y), (torch.ones_like(t), flow(t, y)))[1]

    return rate
