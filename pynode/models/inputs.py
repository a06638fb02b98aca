"""Tables of an input u(t): measured or designed values at given times, as a module that a field
calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from ..nn.path import Path


class InputTable(torch.nn.Module):
    """u(t), made of values at given times.

    times: (K,), increasing. Or (B, K) with batched=True: every row has its own times, and NaN fills
        the rows that have fewer. Before the first time u has the first value (or ``before``). After
        the last time it has the last value.
    values: (K,) or (K, channels); (B, K) or (B, K, channels) for rows with their own times, and (B,
        K, channels) for rows with their own values at common times. float64 or float32, the dtype
        of the state.
    kind: "held" keeps each value until the next one, and u jumps there. "linear" connects the
        values by straight lines. "spline" is the natural cubic spline.
    before: the value of a held input before the first time.

    ``u(t)`` has the shape of one value: () or (channels,) for a time without dimensions. With
    batched=True t is (m, 1, ...), and the result is (m,) or (m, channels).

    ``u.args`` are the tensors of the table, and ``u(t, *tables)`` uses those that it is given.
    Pass them through ``args`` of solve if rows have tables of their own, and for fast gradients in
    values and times. ``u.stops()`` are options of solve: the jumps or kinks of u.

    >>> u = InputTable([0.0, 1.0, 2.0], torch.tensor([1.0, 3.0, 0.0]), kind="held")
    >>> solve(lambda t, y, *table: u(t, *table) - y, y0, t, args=u.args, **u.stops())

    Raises ValueError for times that do not increase, and for shapes that do not fit.
    """

    times: Tensor
    values: Tensor

    def __init__(
        self,
        times: Any,
        values: Any,
        kind: Literal["held", "linear", "spline"] = "held",
        *,
        before: float | None = None,
    ) -> None:
        super().__init__()
        if kind not in COEFFICIENTS:
            raise ValueError(f"kind must be 'held', 'linear' or 'spline', not {kind!r}")
        if before is not None and kind != "held":
            raise ValueError(f"before is the value of a held input, and this one is {kind!r}")
        values = _as_values(values)
        times = torch.as_tensor(times, dtype=torch.float64, device=values.device)
        self.kind = kind
        self.before = before
        rows = _check_shapes(times, values)
        _check_times(times, values.dtype)
        self.single = values.dim() == rows + 1
        self.by_row = rows > 0
        keep(self, "times", times)
        keep(self, "values", values)
        self._table: tuple[Tensor, Tensor] | None = None
        self._made_from = (0, 0)
        _ = self.args  # made now, and kept

    def _apply(self, fn: Callable, recurse: bool = True) -> InputTable:
        super()._apply(fn, recurse)
        self._table = None
        return self

    @property
    def args(self) -> tuple[Tensor, Tensor]:
        """(knots (K + 1,) or (B, K + 1), coefficients (1 or B, K + 1, degree + 1, channels)), with
        gradients in times and values. With batched=True each row gets its own part."""
        version = (self.times._version, self.values._version)
        if self._table is not None and version == self._made_from:
            return self._table
        made = self._made()
        if not (self.times.requires_grad or self.values.requires_grad):
            self._table = made
            self._made_from = version
        return made

    def _made(self) -> tuple[Tensor, Tensor]:
        times = self.times
        values = self.values
        if self.single:
            values = values.unsqueeze(-1)
        if values.dim() == 2:
            values = values.unsqueeze(0)
        present = ~torch.atleast_2d(times).isnan()
        # A row that has ended keeps the last time and the last value.
        last = present.sum(1, keepdim=True) - 1
        place = torch.minimum(torch.arange(present.shape[1], device=last.device), last)
        rows = torch.atleast_2d(times).gather(1, place)
        held = values
        if not bool(present.all()):
            held = values.gather(1, place.unsqueeze(-1).expand(values.shape))
        made = COEFFICIENTS[self.kind](rows.to(values.dtype), held, present)
        if self.before is not None:
            made = torch.cat((torch.full_like(made[:, :1], self.before), made[:, 1:]), 1)
        # No time reaches a knot that is missing.
        rows = torch.where(present, torch.atleast_2d(times), torch.inf)
        knots = torch.cat((rows[:, :1], rows), 1).to(values.dtype)
        if times.dim() == 1 and not self.by_row:
            return knots[0], made
        return knots.expand(len(made), -1), made

    def stops(self, **options: Any) -> dict[str, Any]:
        """Options of ``solve``: ``jumps`` of a held input, ``tstops`` at the kinks of a linear one
        with common times. Where times require gradients, the derivative of u in them jumps at the
        kinks, which are ``jumps`` then. options: jumps or tstops of the user, which are kept."""
        name = "jumps"
        own = self.times
        if self.kind != "held":
            own = own.detach()
            if not self.times.requires_grad:
                name = "tstops"
            if self.kind == "spline":
                own = self._ends(own)
            if name == "tstops" and own.dim() > 1:
                return dict(options)
        given = options.get(name)
        if given is not None and len(given):
            other = torch.as_tensor(given).to(own)
            if other.dim() > own.dim():
                own = own.expand(*other.shape[:-1], -1)
            own = torch.cat((own, other.expand(*own.shape[:-1], -1)), -1)
        return {**options, name: own}

    @staticmethod
    def _ends(times: Tensor) -> Tensor:
        """The first and the last of times, (2,) or (B, 2)."""
        last = (~times.isnan()).sum(-1, keepdim=True) - 1
        return torch.cat((times[..., :1], times.gather(-1, last)), -1)

    def forward(self, t: Tensor, *table: Tensor) -> Tensor:
        """u(t). table: the tensors of ``args``, or nothing for the table's own."""
        knots, coefficients = table or self.args
        path = Path(
            knots,
            coefficients,
            smooth=-1,
            in_time=True,
            observed=knots,
            batched=False,
        )
        made = path.at(t, coefficients, knots=knots)
        if self.single:
            return made.squeeze(-1)
        return made

    def extra_repr(self) -> str:
        return f"{self.times.shape[-1]} times, {self.kind}"


def keep(module: torch.nn.Module, name: str, value: Tensor) -> None:
    """Keep a tensor as a parameter if it is one, otherwise as a buffer."""
    if isinstance(value, torch.nn.Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)


def _as_values(values: Any) -> Tensor:
    if not isinstance(values, Tensor):
        values = torch.as_tensor(values, dtype=torch.float64)
    if not values.dtype.is_floating_point:
        raise TypeError(f"the values of an input are floating-point numbers, not {values.dtype}")
    return values


def _check_shapes(times: Tensor, values: Tensor) -> int:
    """Whether the values have a dimension of rows, 0 or 1."""
    shape = tuple(values.shape)
    if times.dim() == 2 and values.dim() in (2, 3) and shape[:2] == tuple(times.shape):
        return 1
    if times.dim() == 1 and len(times):
        if values.dim() in (1, 2) and shape[0] == len(times):
            return 0
        if values.dim() == 3 and shape[1] == len(times):
            return 1
    raise ValueError(
        f"values of shape {shape} do not fit times of shape {tuple(times.shape)}: times (K,) go"
        " with values (K,), (K, channels) or (B, K, channels), and times (B, K) with values (B, K)"
        " or (B, K, channels)"
    )


def _check_times(times: Tensor, dtype: torch.dtype) -> None:
    """Raise ValueError for times that are not numbers, or do not increase in the dtype of the
    values, in which f gets the time."""
    rows = torch.atleast_2d(times.detach())
    missing = rows.isnan()
    if bool(missing[:, :1].any()) or bool((missing[:, :-1] & ~missing[:, 1:]).any()):
        raise ValueError(
            "each row of an input needs a time; NaN is possible only at the end of a row, where it"
            " has fewer times than others"
        )
    steps = rows.to(dtype).diff(dim=1)
    if bool(rows.isinf().any()) or bool((steps <= 0).any()):
        raise ValueError(
            "the times of an input must be finite and increase; sort them, and keep one value for"
            " each time"
        )


def _held(times: Tensor, values: Tensor, present: Tensor) -> Tensor:
    """(rows, K + 1, 1, channels) the value of each piece, the first one before the first time."""
    return torch.cat((values[:, :1], values), 1).unsqueeze(2)


def _with_ends(inner: Tensor, values: Tensor, present: Tensor) -> Tensor:
    """The coefficients (rows, K - 1, D, channels) with a constant piece before and after them."""
    ends = values.new_zeros(len(values), values.shape[1] + 1, inner.shape[2], values.shape[2])
    ends[:, :, 0] = torch.cat((values[:, :1], values), 1)
    lasting = torch.zeros(len(values), values.shape[1] + 1, dtype=torch.bool, device=inner.device)
    lasting[:, 1:-1] = present[:, 1:]
    padded = torch.nn.functional.pad(inner, (0, 0, 0, 0, 1, 1))
    return torch.where(lasting[:, :, None, None], padded, ends)


def _widths(times: Tensor, present: Tensor) -> Tensor:
    """(rows, K - 1, 1) the lengths of the pieces, 1 where a row has ended."""
    return torch.where(present[:, 1:], times.diff(dim=1), 1.0).unsqueeze(-1)


def _linear(times: Tensor, values: Tensor, present: Tensor) -> Tensor:
    """(rows, K + 1, 2, channels) straight lines."""
    slopes = values.diff(dim=1) / _widths(times, present)
    return _with_ends(torch.stack((values[:, :-1], slopes), 2), values, present)


def _spline(times: Tensor, values: Tensor, present: Tensor) -> Tensor:
    """(rows, K + 1, 4, channels) the natural cubic spline. De Boor, A Practical Guide to Splines
    (2001), ch. IV, in the second derivatives."""
    h = _widths(times, present)
    slopes = values.diff(dim=1) / h
    bends = _second_derivatives(h, slopes, present)
    left = bends[:, :-1]
    right = bends[:, 1:]
    parts = (
        values[:, :-1],
        slopes - h * (2 * left + right) / 6,
        left / 2,
        (right - left) / (6 * h),
    )
    return _with_ends(torch.stack(parts, 2), values, present)


def _second_derivatives(h: Tensor, slopes: Tensor, present: Tensor) -> Tensor:
    """(rows, K, channels) u'' of the natural spline at the times. Elimination without pivots: the
    matrix is tridiagonal and diagonally dominant."""
    zero = torch.zeros_like(slopes[:, 0])
    widths = h.unbind(1)
    chords = slopes.unbind(1)
    # Inner times of each row, those with a time after them.
    inner = present[:, 1:].unsqueeze(-1).unbind(1)
    factors: list[Tensor] = []
    sides: list[Tensor] = []
    factor = torch.zeros_like(widths[0])
    side = zero
    for i in range(1, len(widths)):
        pivot = 2 * (widths[i - 1] + widths[i]) - widths[i - 1] * factor
        factor = widths[i] / pivot
        side = (6 * (chords[i] - chords[i - 1]) - widths[i - 1] * side) / pivot
        factor = torch.where(inner[i], factor, 0.0)
        side = torch.where(inner[i], side, 0.0)
        factors.append(factor)
        sides.append(side)
    bends = [zero]
    for factor, side in zip(reversed(factors), reversed(sides), strict=True):
        bends.append(side - factor * bends[-1])
    bends.append(zero)
    return torch.stack(bends[::-1], 1)


COEFFICIENTS = {"held": _held, "linear": _linear, "spline": _spline}
