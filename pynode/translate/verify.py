"""Every compiled function is compared with torch before its first use."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .derivatives import Point, Vectors, evaluate, evaluate_value
from .refusal import TranslationRefused

# How many points, and how near y0 they are drawn, relative to y0 and the parameters.
_POINTS = 3
_SPREADS = (0.1, 0.03, 0.01, 1e-3, 1e-4, 0.0)
# The largest difference relative to the largest number, and how many roundings of the arguments.
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}
_ROUNDINGS = 1000.0

_CALL = ctypes.CFUNCTYPE(None, ctypes.c_double, *[ctypes.c_void_p] * 5)


def call(
    address: int,
    t: float,
    arrays: Sequence[np.ndarray],
    addresses: np.ndarray,
    size: int,
    work: int,
    before: np.ndarray | None = None,
    first: Any = None,
) -> np.ndarray:
    """Call a native function. arrays: y and v. before: what stands in out; NaN if not given.
    first: a NativeFunction that is called before, with the same work."""
    y, v = arrays
    out = np.full(max(size, 1), np.nan, dtype=y.dtype)
    if before is not None:
        out[:size] = before
    memory = np.full(max(work, 1, first.work if first else 0), np.nan, dtype=y.dtype)
    pointers = (y, v, addresses, out, memory)
    if first is not None:
        other = np.empty(max(first.size, 1), dtype=y.dtype)
        _CALL(first.address)(t, *[x.ctypes.data for x in (y, v, addresses, other, memory)])
    _CALL(address)(t, *[x.ctypes.data for x in pointers])
    return out[:size]


class Probe:
    """One point at which a native f is compared with torch before each solve, in microseconds.

    y0: (n,), the point is beside it. t0: its time.
    """

    def __init__(self, y0: Tensor, t0: float) -> None:
        self._t = torch.tensor(t0, dtype=y0.dtype)
        # Not y0 itself: where it is zero, many different f agree.
        self._y = _beside(y0)
        self._state = self._y.numpy().copy()
        self._time = float(self._t)
        self._relative = _TOLERANCE[y0.dtype]

    def agrees(
        self,
        native: tuple[int, int, int],
        f: Callable[..., Any],
        args: Sequence[Any],
        targets: Sequence[Tensor],
    ) -> bool:
        """Whether a native f gives the numbers of f(t, y, *args), called without gradients.

        native: address, size of out and of work. targets: what native code reads through pointers.
        Numbers that are not finite in torch are not compared.
        """
        address, size, work = native
        expected = self._values(f, args, self._t, self._y)
        if len(expected) != size:
            return False
        out = np.empty(max(size, 1), self._state.dtype)
        memory = np.empty(max(work, 1), self._state.dtype)
        addresses = np.array([x.data_ptr() for x in targets], dtype=np.int64)
        pointers = [x.ctypes.data for x in (self._state, memory[:1], addresses, out, memory)]
        _CALL(address)(self._time, *pointers)
        difference = np.abs(out[:size] - expected)
        if difference.max(initial=0.0) <= self._relative * np.abs(expected).max(initial=0.0):
            return True
        return self._within_rounding(difference, expected, f, args)

    def _values(self, f: Callable[..., Any], args: Sequence[Any], t: Tensor, y: Tensor) -> Any:
        with torch.no_grad():
            return f(t.clone(), y.clone(), *args).detach().reshape(-1).numpy()

    def _within_rounding(
        self, difference: np.ndarray, expected: np.ndarray, f: Callable[..., Any], args: Any
    ) -> bool:
        """The same for an f that is ill-conditioned, or not finite."""
        compared = np.isfinite(expected)
        factor = 1 + 4 * torch.finfo(self._y.dtype).eps
        moved = np.abs(self._values(f, args, self._t * factor, self._y * factor) - expected)
        scale = np.abs(expected).max(initial=0.0, where=compared)
        largest = np.nan_to_num(moved[compared]).max(initial=0.0)
        allowed = self._relative * scale + _ROUNDINGS * largest
        return bool(np.all(difference[compared] <= allowed))


def _beside(y0: Tensor) -> Tensor:
    """y0, (n,), moved a little, each component by another amount."""
    steps = torch.linspace(0.5, 1.0, y0.numel(), dtype=y0.dtype)
    size = torch.where(y0 == 0, torch.full_like(y0, 1e-3), 1e-3 * y0.abs())
    return y0 + steps * size


class Comparison:
    """Compares the native functions of one field with torch, at the same points for all.

    f, args: the field. y0, t0: the point near which it is compared. targets: the tensors that
    native code reads through pointers. outputs: how many numbers f returns if it has no
    derivatives; otherwise None.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        args: tuple,
        y0: Tensor,
        t0: float,
        targets: list[Tensor],
        outputs: int | None = None,
    ) -> None:
        self._f = f
        self._args = args
        self._y0 = y0
        self._t0 = t0
        self._targets = targets
        self._outputs = outputs

    def _values(self, point: Point, vectors: Vectors, twice: bool) -> dict[str, Tensor]:
        """The results at a point, as torch computes them."""
        if self._outputs is not None:
            return evaluate_value(self._f, point, self._args, self._targets, self._outputs)
        return evaluate(self._f, point, self._args, self._targets, vectors, twice)

    def point(self, seed: int, spread: float) -> Point:
        """A random point near y0, with other parameters and another time."""
        generator = torch.Generator().manual_seed(seed)

        def near(x: Tensor) -> Tensor:
            noise = torch.rand(x.shape, dtype=x.dtype, generator=generator) * 2 - 1
            size = x.detach().abs()
            least = torch.where(size == 0, torch.ones_like(size) * 0.1, size)
            return x.detach() + spread * least * noise

        # y0 and t0 may be at the edge of what f is defined for: y moves inwards as often as
        # outwards, and a point outside is drawn anew.
        t = torch.tensor(self._t0, dtype=self._y0.dtype)
        shift = torch.rand((), dtype=t.dtype, generator=generator) * spread
        values = {id(x): near(x) for x in self._targets}
        return Point(t + shift * (1.0 + abs(self._t0)), near(self._y0), values)

    def _points(
        self, results: Sequence[str], twice: bool
    ) -> Iterator[tuple[Point, Vectors, dict[str, Tensor]]]:
        """Points where torch gives finite numbers, with these numbers."""
        found = 0
        for seed in range(1, 4 * _POINTS + 1):
            for spread in _SPREADS:
                point = self.point(seed, spread)
                vectors = Vectors.drawn(self._y0, self._targets, seed)
                values = self._values(point, vectors, twice)
                if all(bool(values[name].isfinite().all()) for name in results):
                    yield point, vectors, values
                    found += 1
                    break
            else:
                break
            if found == _POINTS:
                return
        if not found:
            raise TranslationRefused(
                "torch gives infinite numbers or NaN near the initial state, so native code cannot "
                f"be compared with it ({', '.join(results)} of f). Use backend='torch'."
            )

    def _addresses(self, point: Point) -> tuple[np.ndarray, list[Tensor]]:
        held = [point.replace(x) for x in self._targets]
        return np.array([x.data_ptr() for x in held], dtype=np.int64), held

    def function(
        self, address: int, shape: tuple[int, int], plan: Any, name: str, first: Any = None
    ) -> None:
        """Compare a function. Raise TranslationRefused if it is wrong.

        shape: the sizes of out and of work. plan: its Layout. first: a NativeFunction that is
        called before it.
        """
        results = plan.results
        for point, drawn, values in self._points(results, plan.twice):
            # Several sets are multiples of one: their results are multiples of the result of one.
            factors = [(1.0 + 0.5 * k, 1.0 / (k + 1)) for k in range(plan.sets)]
            sets = [drawn.multiplied(left, right) for left, right in factors]
            multiple = sum(left * right for left, right in factors)
            values = {result: multiple * values[result] for result in results}
            expected = torch.cat([values[result] for result in results]).numpy()
            scale = self._scales(values, results)
            written = [torch.full_like(values[x], x not in plan.added) for x in results]
            before = np.where(torch.cat(written).numpy() != 0, np.nan, scale)
            v = np.concatenate([_packed(x, plan.vectors, point.y) for x in sets])
            found = self._called(address, shape, point, v, before, first)
            self._judge(
                found,
                expected + np.nan_to_num(before),
                scale,
                name,
                partial(self._moved, point, drawn, results, plan.twice),
            )

    def stages(self, function: Any, first: Any, count: int) -> None:
        """Compare the sum over stages, of which first leaves each in a part of v."""
        names = ("vjp_p",)
        for point, drawn, values in self._points(names, False):
            y = np.ascontiguousarray(point.y.detach().numpy())
            blocks = np.full((count, max(1, first.work)), np.nan, dtype=y.dtype)
            other = np.empty(first.size, dtype=y.dtype)
            addresses, held = self._addresses(point)
            for k in range(count):
                w = (1.0 + 0.5 * k) * drawn.w.detach().numpy()
                pointers = [x.ctypes.data for x in (y, w, addresses, other, blocks[k])]
                _CALL(first.address)(float(point.t), *pointers)
            del held
            multiple = sum(1.0 + 0.5 * k for k in range(count))
            expected = multiple * values["vjp_p"].numpy()
            scale = multiple * self._scales(values, names)
            shape = (function.size, function.work)
            found = self._called(function.address, shape, point, blocks.reshape(-1), scale)
            moved = partial(self._moved, point, drawn, names, False)
            self._judge(found, expected + scale, scale, "add_stages", moved)

    def jacobian(
        self,
        address: int,
        shape: tuple[int, int],
        pattern: tuple[np.ndarray, np.ndarray],
        names: Sequence[str],
    ) -> None:
        """Compare the nonzeros of df/dy, through two products w^T df/dy, and df/dt and f after
        them. names: of the results."""
        rows, columns = pattern
        n = self._y0.numel()
        for point, drawn, values in self._points(names, False):
            empty = np.zeros(1, dtype=point.y.numpy().dtype)
            found = self._called(address, shape, point, empty)
            for seed in (0, 1):
                if seed:
                    drawn = Vectors.drawn(self._y0, self._targets, 1000 + seed)
                    values = self._values(point, drawn, False)
                w = drawn.w.detach().numpy()
                # The products cancel where the Jacobian's rows do: their size is the scale.
                nonzeros = found[: len(rows)]
                product = np.bincount(columns, w[rows] * nonzeros, minlength=n)
                scale = np.bincount(columns, np.abs(w[rows] * nonzeros), minlength=n)
                if "vjp_time" in names:
                    slope = found[len(rows) : len(rows) + n]
                    product = np.append(product, w @ slope)
                    scale = np.append(scale, np.abs(w) @ np.abs(slope))
                if "f" in names:
                    value = found[len(rows) + n :]
                    product = np.append(product, value)
                    scale = np.append(scale, np.full(n, np.abs(value).max(initial=0.0)))
                expected = torch.cat([values[name] for name in names]).numpy()
                self._judge(
                    product,
                    expected,
                    scale,
                    "jac",
                    partial(self._moved, point, drawn, names, False),
                )

    def _called(
        self,
        address: int,
        shape: tuple[int, int],
        point: Point,
        v: np.ndarray,
        before: np.ndarray | None = None,
        first: Any = None,
    ) -> np.ndarray:
        addresses, held = self._addresses(point)
        y = np.ascontiguousarray(point.y.detach().numpy())
        result = call(address, float(point.t), (y, v), addresses, *shape, before, first)
        del held
        return result

    def _scales(self, values: dict[str, Tensor], results: Sequence[str]) -> np.ndarray:
        parts = []
        for name in results:
            x = values[name]
            largest = x.abs().max() if x.numel() else torch.zeros(())
            parts.append(torch.full_like(x, float(largest)))
        return torch.cat(parts).numpy()

    def _moved(
        self, point: Point, vectors: Vectors, results: Sequence[str], twice: bool
    ) -> np.ndarray:
        """How far the results move if the arguments change by roundings."""
        generator = torch.Generator().manual_seed(7)
        unit = torch.finfo(point.y.dtype).eps

        def rounded(x: Tensor) -> Tensor:
            noise = torch.rand(x.shape, dtype=x.dtype, generator=generator) * 2 - 1
            return x * (1 + 4 * unit * noise)

        values = {key: rounded(x) for key, x in point.values.items()}
        other = Point(rounded(point.t), rounded(point.y), values)
        totals = []
        for p in (point, other):
            found = self._values(p, vectors, twice)
            totals.append(torch.cat([found[name] for name in results]).numpy())
        return np.abs(totals[1] - totals[0])

    def _judge(
        self,
        found: np.ndarray,
        expected: np.ndarray,
        scale: np.ndarray,
        name: str,
        moved: Callable[[], np.ndarray],
    ) -> None:
        relative = _TOLERANCE[self._y0.dtype]
        difference = np.abs(found - expected)
        if np.all(difference <= relative * (scale + np.abs(expected))):
            return
        # Ill-conditioned results differ by the conditioning of f.
        allowed = relative * (scale + np.abs(expected)) + _ROUNDINGS * np.max(moved(), initial=0.0)
        if np.all(difference <= allowed):
            return
        worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference - allowed)))
        raise TranslationRefused(
            f"The native {name} of f differs from torch: number {worst} is {found[worst]:.17g}, "
            f"and torch has {expected[worst]:.17g}. Use backend='torch', and please report this f."
        )


def _packed(drawn: Vectors, names: Sequence[str], y: Tensor) -> np.ndarray:
    """v: the named vectors one after the other."""
    parts = [torch.zeros(1 if not names else 0, dtype=y.dtype)]
    for name in names:
        value = getattr(drawn, name)
        values = value if isinstance(value, list) else [value]
        parts += [x.detach().reshape(-1) for x in values]
    return torch.cat(parts).numpy()
