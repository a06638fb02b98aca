"""The field of a Call as the methods see it, and the norm in which its errors are measured."""

from __future__ import annotations

import torch

from ..core.layout import Layout
from ..core.norm import Tolerance
from ..core.problem import ODEProblem
from ..core.vector_field import VectorField
from .call import BadType


class CallField(VectorField):
    """func of a Call on real flat states, (n,): a complex state is twice as many real components.

    nudged: {t: where f is asked instead}, for f that jumps at t. clock: (a, b, a0, b0), the ends of
    the present step as tensors with their gradients and as floats: f then follows them as they
    move. None where times have no gradient.
    """

    def __init__(self, call):
        self.call = call
        self.complex = call.y0.is_complex()
        self.shifted_times = {}
        self.clock = None
        start = self.enter(call.y0)
        super().__init__(
            ODEProblem(self._real, start, None), Layout(start), call.t[0].item(), direct=True
        )
        # F may be asked at another time than the one it was tried at.
        self.initial = start
        self.start = None

    def enter(self, y):
        """(n,) of a tensor like y0."""
        y = y.reshape(-1)
        if self.complex:
            return torch.view_as_real(y).reshape(-1)
        return y

    def elements(self, flat):
        """The components, (..., size of y0), of real ones (..., n)."""
        if self.complex:
            return torch.view_as_complex(flat.reshape((*flat.shape[:-1], -1, 2)))
        return flat

    def leave(self, flat):
        """(..., *y0.shape) of (..., n)."""
        return self.elements(flat).reshape(flat.shape[:-1] + self.call.y0.shape)

    def _real(self, t, y):
        out = self.call.func(self._asked(t), self.leave(y))
        if not isinstance(out, torch.Tensor) or out.shape != self.call.y0.shape:
            if isinstance(out, torch.Tensor):
                found = tuple(out.shape)
            else:
                found = type(out).__name__
            raise ValueError(
                f"func returned {found} for a state of shape {tuple(self.call.y0.shape)}: dy/dt"
                " must be like y"
            )
        if not (out.is_floating_point() or (out.is_complex() and self.complex)):
            raise BadType(
                f"func returned {out.dtype} for a state of {self.call.y0.dtype}: dy/dt must be"
                " like y"
            )
        found = self.enter(out.to(self.call.y0.dtype))
        if self.clock is None:
            return found
        return found * self.rate(y)

    def _asked(self, t):
        """The time that func is told for t, 0-d."""
        if self.shifted_times:
            close = 4 * torch.finfo(t.dtype).eps
            for at, instead in self.shifted_times.items():
                if abs(t.item() - at) <= close * (1e-30 + abs(at)):
                    t = torch.full_like(t, instead)
                    break
        if self.clock is None:
            return t
        a, b, a0, b0 = self.clock
        return (a + (t - a0) / (b0 - a0) * (b - a)).to(t.dtype)

    def rate(self, y):
        """What f is multiplied by because the ends of the step move: 1, with its gradient."""
        if self.clock is None:
            return 1.0
        a, b, a0, b0 = self.clock
        return ((b - a) / (b0 - a0)).to(y.dtype)

    def next_to(self, t, direction):
        """The float next to t, in this direction of time, that func can tell from it."""
        rounded = torch.tensor(t, dtype=self.dtype)
        return float(
            torch.nextafter(rounded, torch.tensor(direction * float("inf"), dtype=self.dtype))
        )

    def time(self, t):
        """t as func and callbacks get it: 0-d."""
        return torch.full((), t, dtype=self.dtype, device=self.device)


class CallTolerance(Tolerance):
    """The user's norm of the error over atol + rtol max(|y|, |y1|), each tolerance one value or one
    a component.

    forgiving: accept whatever the error is, for steps that may not be any smaller.
    """

    def __init__(self, field, call):
        elements = field.elements(field.initial.detach())
        self.field = field
        self.user = call.norm
        self.forgiving = False
        real = elements.abs()
        self.components = [self._spread(x, real) for x in (call.rtol, call.atol)]
        rtol, atol = self.components
        super().__init__(
            float(rtol.max()), field.enter(atol.expand_as(real).to(elements.dtype)), field.size
        )

    def _spread(self, given, real):
        value = torch.as_tensor(
            given, dtype=torch.promote_types(torch.float32, real.dtype), device=real.device
        ).detach()
        shape = self.field.call.y0.shape
        if value.dim() == 0:
            return value
        return value.expand(shape).reshape(-1)

    def scale(self, y):
        rtol, atol = self.components
        return self._spread_real(atol + rtol * self.field.elements(y).abs())

    def _spread_real(self, scale):
        if self.field.complex:
            return scale.repeat_interleave(2)
        return scale

    def ratio(self, error, y, y1):
        field = self.field
        (rtol, atol) = self.components
        size = torch.maximum(field.elements(y).abs(), field.elements(y1).abs())
        with torch.no_grad():
            found = self._norm(field.elements(error) / (atol + rtol * size))
        if self.forgiving:
            return min(found, 1.0)
        return found

    def rms(self, v, scale):
        """The norm of v / scale, (n,); of several states together, (s n,), the largest."""
        with torch.no_grad():
            return max(
                self._norm(row)
                for row in self.field.elements((v / scale).view(-1, self.field.size))
            )

    def _norm(self, elements):
        return float(
            abs(
                self.user(
                    elements.detach().reshape(self.field.call.y0.shape).to(self.field.call.y0.dtype)
                )
            )
        )
