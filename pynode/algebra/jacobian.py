"""The dense Jacobian df/dy of the vector field, and df/dt."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core.double_backward import DoubleBackward, pull, with_double_backward
from ..core.finite_differences import finite, repaired, repaired_slope
from ..core.layout import check_values
from ..core.leaves import own_leaf
from ..core.memory import raise_if_exhausted
from ..core.status import RejectStep
from ..core.vector_field import clamp_negative
from .linear import Factorised

if TYPE_CHECKING:
    from ..core.vector_field import VectorField


class Jacobian:
    """df/dy, (n, n), at one point: from the user's function, or by reverse mode.

    If f broadcasts over a leading dimension, reverse mode evaluates f on n copies of the state and
    pulls the unit vectors back in one pass. Otherwise it pulls n vectors back through one
    evaluation. The class tests this on different rows at two times, because at one time some terms
    may vanish.

    repairs: whether finite differences of f replace entries that autograd gives as infinite or NaN.
    A linear solve with an infinite entry returns zeros, and a method would take them for a state at
    rest. Infinite entries of the user's function become NaN, so that the step fails.
    """

    def __init__(self, field: VectorField, repairs: bool = True) -> None:
        self.field = field
        self._repairs = repairs and field.user_jac is None
        self._broadcasts = None
        self._tried: list[float] = []
        self._twice = False

    @cached_property
    def _eye(self):
        """The unit vectors, made on demand: for an explicit method (n, n) may not fit in memory."""
        with torch.inference_mode(False):  # a later graph may use them
            return torch.eye(self.field.size, dtype=self.field.dtype, device=self.field.device)

    @cached_property
    def _mass(self):
        if self.field.mass is None:
            return self._eye
        return self.field.mass.to_dense()

    def __call__(self, t: float, y: Tensor) -> Tensor:
        """df/dy at (t, y), detached."""
        return self.with_time(t, y, want_time=False)[0]

    def factorised(self, jac: Tensor, c: float, scale: Tensor | None = None) -> Factorised:
        """Factorise M - c J. scale: weights of the norm, for iterative solvers."""
        mass = self.field.mass
        return Factorised(
            self._mass, jac, c, self.field.stats, None if mass is None else mass.projector
        )

    def with_time(
        self, t: float, y: Tensor, want_time: bool = True, graph: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return (df/dy, df/dt). df/dt is None if f does not depend on t at this point.

        graph: keep both differentiable in y and in the parameters.
        """
        jac, slope = self._with_time(t, y, want_time, graph)
        if not self._repairs or finite(jac, slope):
            return jac, slope
        time = torch.full((), t, dtype=self.field.dtype, device=self.field.device)
        if not finite(jac):
            jac = repaired(lambda moved: self.field.eval(time, moved), y, jac)
        if slope is not None and not finite(slope):
            y = y.detach()
            slope = repaired_slope(lambda moved: self.field.eval(moved, y), time, y, slope)
        return jac, slope

    def _with_time(self, t, y, want_time, graph):
        field = self.field
        n = self.field.size
        field.stats.njac += 1
        with torch.inference_mode(False), torch.enable_grad():
            if not graph:
                y = y.detach().clone()
            time = torch.full((), t, dtype=field.dtype, device=field.device)
            if field.user_jac is not None:
                seen = clamp_negative(y, field.nonnegative_mask)
                jac = self._checked(field.user_jac(time, field.layout.unravel(seen), *field.args))
                if field.nonnegative_mask is not None:
                    jac = jac.masked_fill(field.nonnegative_mask & (y < 0), 0.0)
                if not graph:
                    jac = jac.detach().clone()
                if want_time:
                    return jac, time_derivative(field, time, y, graph)
                return jac, None
            if want_time:
                own_leaf(time)
            if self._broadcasts is not False and len(self._tried) < 2 and t not in self._tried:
                self._tried.append(t)
                self._broadcasts = self._try_broadcast(time.detach(), y.detach())
            if graph and not self._twice:
                self._check_twice(time.detach(), y.detach())
            if self._broadcasts:
                inputs = y.expand(n, n).clone()
            else:
                inputs = y.clone()
            if not inputs.requires_grad:
                inputs.requires_grad_()
            with DoubleBackward() if graph else nullcontext():
                if self._broadcasts:
                    out = field.broadcast_eval(time, inputs)
                else:
                    out = field.eval(time, inputs)
            if not out.requires_grad:
                return torch.zeros_like(self._eye), None
            jac, moves = torch.autograd.grad(
                (out,),
                (inputs, time) if want_time else (inputs, inputs),
                (self._eye,),
                allow_unused=True,
                is_grads_batched=not self._broadcasts,
                create_graph=graph,
            )
            if jac is None:
                jac = torch.zeros_like(self._eye)
            if want_time and moves is not None:
                return jac, time_derivative(field, time.detach(), y, graph)
            return jac, None

    @with_double_backward
    def _check_twice(self, t, y):
        """Raise RuntimeError if f has no second derivative. A Jacobian with a graph needs it."""
        y.requires_grad_()
        out = self.field.eval(t, y)
        if out.requires_grad:
            pull(out, (y,), torch.ones_like(out))
        self.field.stats.nfe += 1
        self._twice = True

    def _try_broadcast(self, t, y):
        """Whether f of a stack of states is the stack of f. The rows differ, and their number
        differs from the number of components."""
        field = self.field
        if field.size == 2:
            count = 3
        else:
            count = 2
        with torch.no_grad():
            rows = torch.stack([y * (1 + 0.01 * i) + 1e-3 * i for i in range(count)])
            try:
                single = torch.stack([field.eval(t, row) for row in rows])
            except RejectStep:  # y lies inside the domain, but the rows do not
                return False
            field.stats.nfe += count
            try:
                together = field.broadcast_eval(t, rows)
            # Any error of the user's field on one more dimension means no.
            except Exception as error:
                raise_if_exhausted(error)
                return False
            field.stats.nfe += count
        # Equal up to rounding: the test must detect a weak coupling of the rows.
        if field.dtype == torch.float32:
            rtol = 1e-4
            noise = 1e-6
        else:
            rtol = 1e-8
            noise = 1e-13
        atol = noise * float(single.nan_to_num(0.0, 0.0, 0.0).abs().max())
        return together.shape == single.shape and torch.allclose(
            together, single, rtol, atol, equal_nan=True
        )

    def _checked(self, jac):
        n = self.field.size
        if not isinstance(jac, torch.Tensor) or jac.numel() != n * n:
            if isinstance(jac, torch.Tensor):
                shape = tuple(jac.shape)
            else:
                shape = type(jac).__name__
            raise ValueError(
                f"jac returned {shape}, but the Jacobian of {n} states must have shape ({n}, {n})"
            )
        check_values(jac, "what jac returned")
        if jac.is_complex():
            raise TypeError(
                f"jac returned {jac.dtype} for a state of {self.field.dtype}: return a real"
                " Jacobian"
            )
        return jac.reshape(n, n).to(self._eye).nan_to_num(torch.nan, torch.nan, torch.nan)


@with_double_backward
def time_derivative(field: VectorField, t: Tensor, y: Tensor, graph: bool) -> Tensor | None:
    """df/dt, (n,), or None if f does not depend on t here. Differentiates the product v . f first
    in t, then in v."""
    t = own_leaf(t.detach())
    out = field.eval(t, y)
    if not out.requires_grad:
        return None
    v = own_leaf(torch.zeros_like(out))
    (slope,) = pull(out, (t,), v)
    if slope is None or not slope.requires_grad:
        return None
    return torch.autograd.grad(slope, v, create_graph=graph)[0]
