"""Whole steps as one compiled function. It fuses the field, its Jacobian and the stages, for small
systems whose kernel launches cost more than their arithmetic.

One function serves every step and every solve: times, sizes, tolerances, states, args and
parameters are its inputs. Gradients use the recorded steps, as without compilation.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...algebra.linear import INVERSE_BELOW, UNROLLED, gauss_jordan
from ..explicit import ExplicitRungeKutta
from ..rosenbrock import RosenbrockMethod
from .lookahead import COUNT, attempts
from .torch_compile import Compiled, agree, formula, outside, without_zeros

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...core.layout import Layout
    from ...core.norm import Tolerance
    from ...core.vector_field import VectorField


def check(f: object, structured: bool) -> None:
    """Raises ValueError or TypeError if steps on f cannot be compiled. structured: whether there is
    a Jacobian, a mass matrix or a structure, which compiled steps do not support."""
    if not isinstance(f, torch.nn.Module):
        raise TypeError(
            "compile=True keeps what it compiled in the vector field: write it as an nn.Module"
        )
    if structured:
        raise ValueError(
            "compile=True takes small dense systems y' = f(t, y): leave out jac, mass and"
            " jacobian, or compile"
        )


class CompiledSteps:
    """Steps of one method on one field, many at a time (lookahead.py) unless ahead is False.
    backend: of torch.compile."""

    def __init__(self, method: Any, field: VectorField, backend: str, ahead: bool = True) -> None:
        self.field = field
        self.method = method
        self.stats = field.stats
        # A CUDA graph cannot contain library calls that wait for the device, such as inverses.
        unrolled = isinstance(method, ExplicitRungeKutta) or field.size <= UNROLLED
        self.graphed = backend == "inductor" and field.device.type == "cuda" and unrolled
        self.fsal = isinstance(method, ExplicitRungeKutta) and method.tableau.fsal
        self.horizon: Any = None
        self.y: Any = None
        self.rows: list[list[float]] = []
        self.states: tuple[Tensor, ...] = ()
        self.stages: tuple[Tensor, ...] = ()
        self.position = 0
        key = (
            formula(method),
            method.controller,
            ahead,
            type(field.f),
            field.dtype,
            field.layout.key,
        )
        # On other devices a loop would wait for its end condition at every turn. A single step can
        # compile where a loop cannot, for example if a module counts its calls.
        if ahead and field.device.type == "cpu":
            counts: tuple[int, ...] = (COUNT, 1)
        else:
            counts = (1,)
        # In a loop torch 2.13 fails on attributes of tensors from outside, such as W.T. Copies made
        # inside help, but they would lose what f writes into its tensors.
        variants = []
        for count in counts:
            for forward in modes(method):
                variants.append((count, forward, False))
                if count > 1 and not field.module_state.writes:
                    variants.append((count, forward, True))
        copying = [number for number, (_, _, copies) in enumerate(variants) if copies]
        makers = [partial(self._make, *variant) for variant in variants]
        device = field.device
        self.function = Compiled(
            field.f, key, makers, _compare, backend, device, self.graphed, copying
        )

    def _make(self, count: int, forward: bool, copies: bool) -> tuple[Callable, Callable]:
        method = self.method
        layout = self.field.layout
        rosenbrock = isinstance(method, RosenbrockMethod)
        if rosenbrock:
            attempt = _rosenbrock(method, layout, forward)
        else:
            attempt = _explicit(method, layout)
        if copies:
            attempt = on_copies(attempt)
        return attempts(attempt, method, count), attempt

    def set_horizon(self, stop: float, stop_tolerance: float, longest: float) -> None:
        """Set limits for the next steps. stop: the time at which they end at the latest.
        stop_tolerance: a step that ends nearer to the stop than this (in steps) is stretched to it.
        longest: the longest step."""
        self.horizon = stop, stop_tolerance, longest

    def explicit(
        self, t: float, y: Tensor, h: float, first: Tensor | None, past: tuple, tol: Tolerance
    ) -> tuple[Tensor, float, Tensor]:
        """(y1, ratio of the error, stages (s, n)) of a step; first: f(t, y) if it is known."""
        self.stats.nfe += self.method.tableau.stages - (first is not None)
        return self._step(t, y, h, first, past, tol)

    def rosenbrock(
        self, t: float, y: Tensor, h: float, past: tuple, tol: Tolerance
    ) -> tuple[Tensor, float, Tensor]:
        """(y1, ratio of the error, stages u (s, n)) of a step."""
        stages = self.method.tableau.stages
        self.stats.nfe += stages
        self.stats.nsolve += stages
        self.stats.njac += 1
        self.stats.nlu += 1
        return self._step(t, y, h, None, past, tol)

    def _step(
        self, t: float, y: Tensor, h: float, first: Any, past: tuple, tol: Tolerance
    ) -> tuple[Tensor, float, Tensor]:
        # Reuse the precomputed step if it starts from this state and matches the requested one up
        # to rounding.
        if (
            y is not self.y
            or self.position == len(self.rows)
            or not _same(self.rows[self.position], t, h)
        ):
            self._run(t, y, h, first, past, tol)
        i = self.position
        self.position += 1
        # a view would keep all of them
        ratio = self.rows[i][2]
        y1 = self.states[i].clone()
        if ratio <= 1:
            self.y = y1
        return y1, ratio, self.stages[i]

    def _run(self, t: float, y: Tensor, h: float, first: Any, past: tuple, tol: Tolerance) -> None:
        with outside():
            numbers = torch.tensor((t, h, *past, *self.horizon, tol.rtol), dtype=torch.float64).to(
                y.device
            )
            inputs = (
                numbers,
                y.clone(),
                first.clone() if self.fsal else None,
                tol.atol,
                self.field.f,
                self.field.args,
            )
            rows, states, stages = self.function(*inputs)
            if self.graphed:  # the next replay writes where this one wrote
                stages = stages.clone()
        self.rows = rows.tolist()
        self.states = states.unbind(0)
        self.stages = stages.unbind(0)
        self.position = 0
        self.y = y


def modes(method: Any) -> tuple[bool, ...]:
    """The modes that differentiate f within a step, in the order of trial: True is forward mode,
    False reverse mode."""
    if isinstance(method, RosenbrockMethod):
        return (True, False)
    return (True,)


def _same(row: Sequence[float], t: float, h: float) -> bool:
    return abs(row[0] - t) <= 1e-9 * abs(h) and abs(row[1] - h) <= 1e-12 * abs(h)


class NullStats:
    nsolve = 0


class _Plain:
    """The part of a vector field that ``attempt`` uses."""

    mass = None

    def __init__(self, f: Callable, layout: Layout, args: tuple) -> None:
        self.f = f
        self.layout = layout
        self.args = args
        self.stats = NullStats()

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        return self.layout.ravel(self.f(t, self.layout.unravel(y), *self.args))


def on_copies(attempt: Callable) -> Callable:
    """The attempt on an f with copies of its parameters and buffers, which the attempt makes."""

    def copied(t, h, y, first, f, args):
        copies = {name: x.clone() for name, x in (*f.named_parameters(), *f.named_buffers())}

        def called(*inputs):
            return torch.func.functional_call(f, copies, inputs)

        return attempt(t, h, y, first, called, args)

    return copied


class _Inverse:
    def __init__(self, matrix: Tensor) -> None:
        if len(matrix) <= UNROLLED:
            self.inverse = gauss_jordan(matrix)
        else:
            self.inverse = torch.linalg.inv_ex(matrix)[0]

    def solve(self, b: Tensor, factor: float | Tensor) -> Tensor:
        return torch.mv(self.inverse, b) * factor


class _LU:
    def __init__(self, matrix: Tensor) -> None:
        self.lu, self.pivots, _ = torch.linalg.lu_factor_ex(matrix)

    def solve(self, b: Tensor, factor: float | Tensor) -> Tensor:
        return torch.linalg.lu_solve(self.lu, self.pivots, (b * factor).unsqueeze(1)).squeeze(1)


def prepared(method: Any) -> Any:
    """The method, after it has made its cached numbers: the compiler must not trace that."""
    if isinstance(method, RosenbrockMethod):
        method.rows, method.numbers  # noqa: B018
    else:
        method.rows, method.nodes, method.tableau.fsal  # noqa: B018
    return method


def _explicit(method: Any, layout: Layout) -> Callable:
    prepared(method)

    def attempt(t, h, y, first, f, args):
        return method.attempt(_Plain(f, layout, args), t, y, h, first)

    return attempt


def linearised(field: Callable, t: Tensor, y: Tensor, forward: bool) -> tuple[Tensor, Tensor]:
    """(df/dy, df/dt) of field(t, y), (n, n) and (n,), or (m, n, n) and (m, n) of rows, by forward
    or reverse mode.

    Forward mode comes first: in reverse mode a gather becomes a sum over repeated indices, and
    torch 2.13's compiler loses parts of such a sum on a CPU. It cannot trace some operations
    (layer_norm) in forward mode.
    """
    eye = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)
    if y.dim() != 1:
        eye = eye.unsqueeze(1)
    if forward:
        times = torch.cat(
            (torch.zeros_like(t).expand(len(eye), *t.shape), torch.ones_like(t).unsqueeze(0))
        )
        states = torch.cat((eye, torch.zeros_like(eye[:1])))
        columns = torch.func.vmap(
            lambda dt, dy: torch.func.jvp(field, (t, y), (dt, dy.expand_as(y)))[1]
        )(times, states)
        return columns[:-1].movedim(0, -1), columns[-1]
    pull = torch.func.vjp(field, t, y)[1]
    by_t, rows = torch.func.vmap(lambda unit: pull(unit.expand_as(y)))(eye)
    return rows.movedim(0, -2), by_t.movedim(0, -1).to(y.dtype)


def _rosenbrock(method: Any, layout: Layout, forward: bool) -> Callable:
    prepared(method)
    solver: Any
    if layout.size < INVERSE_BELOW:
        solver = _Inverse
    else:
        solver = _LU

    def attempt(t, h, y, first, f, args):
        field = _Plain(f, layout, args)
        jac, slope = linearised(field, t, y, forward)
        eye = torch.eye(layout.size, dtype=y.dtype, device=y.device)
        return method.attempt(field, t, y, h, slope, solver(eye - (h * method.numbers[0]) * jac))

    return attempt


def _compare(
    function: Callable,
    attempt: Callable,
    numbers: Tensor,
    y: Tensor,
    first: Any,
    atol: Tensor,
    f: Callable,
    args: tuple,
) -> None:
    """Raises ValueError if a compiled step differs from the step. Compares each step separately,
    from the end of the last one."""
    y = without_zeros(y)
    rtol = float(numbers[-1])
    if first is not None:
        t = numbers[0].to(y.dtype)
        first = attempt(t, torch.zeros_like(t), y, None, f, args)[2][0]
    rows, ends, stages = function(numbers, y, first, atol, f, args)
    for (t, h, ratio), compiled_y1, compiled_ks in zip(rows.tolist(), ends, stages, strict=True):
        t, h = (torch.scalar_tensor(x, dtype=y.dtype, device=y.device) for x in (t, h))
        expected, error, ks = attempt(t, h, y, None, f, args)
        agree(compiled_y1, expected, y)
        agree(compiled_ks.flatten(), torch.stack(ks).flatten(), y)
        if error is not None:
            scale = atol + rtol * torch.maximum(y.abs(), expected.abs())
            size = (error / scale).square().mean().sqrt()
            agree(y.new_tensor([ratio]), size.view(1), y / scale, 1e-3)
        if ratio <= 1:
            y = compiled_y1
