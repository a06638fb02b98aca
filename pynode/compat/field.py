"""The field of a Call as the methods see it, and the norm that measures its errors."""

from __future__ import annotations

from typing import Any

import torch

from ..core.layout import Layout
from ..core.norm import Tolerance
from ..core.problem import ODEProblem
from ..core.vector_field import VectorField
from .call import BadType, Call


class CallField(VectorField):
    """func of a Call on real flat states, (n,). A complex state becomes twice as many real
    components.

    shifted_times: {t: the time at which f is evaluated instead}, for an f that jumps at t.
    clock: (a, b, a0, b0), the ends of the present step as tensors with their gradients and as
        floats. f then follows them if they move. None if times have no gradient.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.complex = call.y0.is_complex()
        self.shifted_times: dict[float, float] = {}
        self.clock: tuple | None = None
        start = self.enter(call.y0)
        no_times: Any = None
        super().__init__(
            ODEProblem(self._slope, start, no_times), Layout(start), call.t[0].item(), direct=True
        )
        # f may be evaluated at another time than that of its first evaluation.
        self.initial = start
        self.start = None

    def enter(self, y: torch.Tensor) -> torch.Tensor:
        """The real flat state, (n,), of a tensor like y0."""
        y = y.reshape(-1)
        if self.complex:
            return torch.view_as_real(y).reshape(-1)
        return y

    def elements(self, flat: torch.Tensor) -> torch.Tensor:
        """The components, (..., size of y0), of real ones (..., n)."""
        if self.complex:
            return torch.view_as_complex(flat.reshape((*flat.shape[:-1], -1, 2)))
        return flat

    def leave(self, flat: torch.Tensor) -> torch.Tensor:
        """(..., *y0.shape) from (..., n)."""
        return self.elements(flat).reshape(flat.shape[:-1] + self.call.y0.shape)

    def _slope(self, t, y):
        out = self.call.func(self._func_time(t), self.leave(y))
        if not isinstance(out, torch.Tensor) or out.shape != self.call.y0.shape:
            given: Any = type(out).__name__
            if isinstance(out, torch.Tensor):
                given = tuple(out.shape)
            raise ValueError(
                f"func returned {given} for a state of shape {tuple(self.call.y0.shape)}: dy/dt"
                " must be like y"
            )
        if not (out.is_floating_point() or (out.is_complex() and self.complex)):
            raise BadType(
                f"func returned {out.dtype} for a state of {self.call.y0.dtype}: dy/dt must be"
                " like y"
            )
        slope = self.enter(out.to(self.call.y0.dtype))
        if self.clock is None:
            return slope
        return slope * self.rate(y)

    def _func_time(self, t):
        """The time that func gets for t, 0-d."""
        if self.shifted_times:
            close = 4 * torch.finfo(t.dtype).eps
            for jump, instead in self.shifted_times.items():
                if abs(t.item() - jump) <= close * (1e-30 + abs(jump)):
                    t = torch.full_like(t, instead)
                    break
        if self.clock is None:
            return t
        a, b, a0, b0 = self.clock
        return (a + (t - a0) / (b0 - a0) * (b - a)).to(t.dtype)

    def rate(self, y: torch.Tensor) -> torch.Tensor | float:
        """The factor of f when the ends of the step move: 1, with its gradient."""
        if self.clock is None:
            return 1.0
        a, b, a0, b0 = self.clock
        return ((b - a) / (b0 - a0)).to(y.dtype)

    def next_to(self, t: float, direction: float) -> float:
        """The next float to t in this direction of time that func can distinguish from t."""
        rounded = torch.tensor(t, dtype=self.dtype)
        return float(
            torch.nextafter(rounded, torch.tensor(direction * float("inf"), dtype=self.dtype))
        )

    def time(self, t: float) -> torch.Tensor:
        """t as func and callbacks get it: 0-d."""
        return torch.full((), t, dtype=self.dtype, device=self.device)


class CallTolerance(Tolerance):
    """The user's norm of the error over atol + rtol max(|y|, |y1|). Each tolerance is one value or
    one for each component.

    forgiving: accept any error, for steps that must not be smaller.
    """

    def __init__(self, field: CallField, call: Call) -> None:
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

    def scale(self, y: torch.Tensor) -> torch.Tensor:
        """atol + rtol |y|, (n,)."""
        rtol, atol = self.components
        return self._spread_real(atol + rtol * self.field.elements(y).abs())

    def _spread_real(self, scale):
        if self.field.complex:
            return scale.repeat_interleave(2)
        return scale

    def ratio(self, error: torch.Tensor, y: torch.Tensor, y1: torch.Tensor) -> float:
        """The norm of the error of a step from y to y1."""
        field = self.field
        rtol, atol = self.components
        size = torch.maximum(field.elements(y).abs(), field.elements(y1).abs())
        with torch.no_grad():
            norm = self._norm(field.elements(error) / (atol + rtol * size))
        if self.forgiving:
            return min(norm, 1.0)
        return norm

    def rms(self, v: torch.Tensor, scale: torch.Tensor | float) -> float:
        """The norm of v / scale, (n,). For several states together, (s n,), the largest one."""
        with torch.no_grad():
            return max(
                self._norm(row)
                for row in self.field.elements((v / scale).view(-1, self.field.size))
            )

    def _norm(self, elements):
        y0 = self.field.call.y0
        return float(abs(self.user(elements.detach().reshape(y0.shape).to(y0.dtype))))
