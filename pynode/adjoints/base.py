"""What every adjoint offers, and the one autograd.Function through which a solve is
differentiated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..algebra.newton import NO_THIRD_DERIVATIVE
from ..backends.torch.checkpoints import Recording
from ..core.batched_cotangents import by_row
from ..core.cotangents import none_to_zeros
from ..core.leaves import LostLeaves
from ..core.saved_tensors import save, saved, unhooked
from ..core.torch_context import compile_disabled

if TYPE_CHECKING:
    from ..backends.torch.tape import Tape
    from ..core.norm import Tolerance
    from ..core.options import Options
    from ..core.trajectory import Trajectory
    from ..core.vector_field import VectorField
    from ..methods.base import Method


class Adjoint(ABC):
    """A way to make gradients, by SciML's name. Its constructor takes what the user may choose
    about it.

    needs: what the forward solve keeps for it: 'steps' (with what their derivative needs), 'dense'
    (polynomials of all steps) or 'outputs' alone.
    """

    name = ""
    needs = "steps"

    def record(self, field: VectorField, method: Method, tol: Tolerance) -> Recording:
        """The Recording of the forward solve, for adjoints that need steps."""
        return Recording(field, method, tol)

    def tape(self, field: VectorField, method: Method) -> Tape | None:
        """What keeps the graphs of the evaluations of the forward solve, None where they are made
        again."""
        return None

    def check(self, field: VectorField, method: Method) -> None:  # noqa: B027  most serve everything
        """ValueError where it does not serve this field under the forward method. Asked once,
        before the solve."""

    def validate_trajectory(self, field: VectorField, trajectory: Trajectory) -> None:  # noqa: B027  as above
        """ValueError where the solve that was made cannot be taken back by this adjoint. Asked
        before it is returned."""

    @abstractmethod
    def pullback(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        """Cotangents grads, (T, n), of the outputs at times to (cotangent of y0 (n,), list beside
        field.parameters).

        times: inside the trajectory, in any order. options: of the solve, atol as a tensor, 0-d or
        (n,).
        """

    def second(
        self,
        field: VectorField,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        vectors: Sequence[Tensor],
    ) -> list[Tensor]:
        """The derivative of <vectors, pullback(grads)>: cotangents of grads (T, n), of y0 (n,), and
        of the parameters.

        vectors: like what pullback returns, flat: for y0, then for the parameters.
        """
        raise NotImplementedError(
            f"{self.name} has first derivatives alone: for second ones use adjoint='discrete' or"
            " 'direct', backend='torch'"
        )


class Gradient:
    """The gradient of one segment of a solve: of the outputs at the times ``queries`` in its start
    and in the tensors of f."""

    def __init__(
        self,
        adjoint: Adjoint,
        field: VectorField,
        method: Method,
        path: Trajectory,
        queries: Sequence[float],
        options: Options,
    ) -> None:
        self.adjoint = adjoint
        self.field = field.without_tape()
        self.method = method
        self.path = path
        self.queries = queries
        self.options = options
        self.inputs = [*field.leaves.parameters, *field.leaves.spare]

    def pullback(self, grads: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """(cotangent of the start (n,), cotangents of the inputs) for those of the outputs, (T,
        n)."""
        times = self.queries[: len(grads)]

        def run(field):
            return self.adjoint.pullback(field, self.method, self.path, times, grads, self.options)

        return self._run(run, taped=True)

    def second(self, grads: Tensor, vectors: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """See Adjoint.second."""
        times = self.queries[: len(grads)]

        def run(field):
            count = len(field.parameters)
            moved = none_to_zeros(vectors[1:], self.inputs)
            gbar, ybar, *found = self.adjoint.second(
                field, self.path, times, grads, [vectors[0], *moved[:count]]
            )
            return (gbar, ybar), found

        (gbar, ybar), found = self._run(run, taped=False)
        return gbar, ybar, *found

    def _run(self, run, taped):
        """(first, cotangents beside the inputs) of run(field) -> (first, cotangents beside
        field.parameters).

        taped: whether the graphs that were kept serve, so that f need not be what it was.
        """
        with self.field.module_state.restored(self.field.parameters):
            self.field.module_state.check()
            recording = self.path.recording
            if not (taped and recording is not None and recording.taped):
                self.field.check(self.path)
            while True:
                try:
                    first, found = run(self.field)
                except LostLeaves as lost:
                    # Tensors within the reach of f, which it did not use at the start.
                    self.field.module_state.check_spare(lost.leaves)
                    self.field = self.field.with_parameters(lost.leaves)
                else:
                    return first, self.field.leaves.align(found, self.inputs)


class Integrate(torch.autograd.Function):
    """Outputs (T, n) of a recorded trajectory as a function of y0 and the parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        solve: Callable[[], Tensor],
        pullback: Callable,
        second: Callable,
        y0: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        """solve() -> (T, n) outputs; pullback(grads (T, n)) -> (cotangent of y0, cotangents of the
        parameters); second(grads, vectors): see Adjoint.second."""
        # The record of the solve hangs on the two functions, and goes when PyTorch frees the graph.
        save(ctx, (pullback, second))
        ctx.inputs = (y0, *parameters)
        return solve()

    @staticmethod
    @compile_disabled
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        (rules,) = saved(ctx)
        found = by_row(lambda g: Pullback.apply(rules, g.contiguous(), *ctx.inputs), grads)
        return None, None, None, *found


class Pullback(torch.autograd.Function):
    """The cotangents that Integrate returns, as a function of those of the outputs, of y0 and of
    the parameters."""

    @staticmethod
    def forward(
        rules: tuple[Callable, Callable], grads: Tensor, y0: Tensor, *parameters: Tensor
    ) -> tuple[Tensor | None, ...]:
        with unhooked():
            ybar, found = rules[0](grads)
        return ybar, *found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        save(ctx, *inputs[:2])

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        rules: tuple[Callable, Callable],
        grads: Tensor,
        *inputs: Tensor,
    ) -> tuple[tuple, tuple]:
        """A row at a time: torch.func.vmap over torch.autograd.grad of a solve that was made
        outside."""
        found = [
            Pullback.apply(rules, row.contiguous(), *inputs) for row in grads.unbind(in_dims[1])
        ]
        columns = list(zip(*found, strict=True))
        dims = tuple(None if parts[0] is None else 0 for parts in columns)
        return tuple(None if parts[0] is None else torch.stack(parts) for parts in columns), dims

    @staticmethod
    @compile_disabled
    def backward(ctx: Any, *vectors: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError(NO_THIRD_DERIVATIVE)
        (_, second), grads = saved(ctx)
        with unhooked():
            return None, *by_row(lambda g, *v: tuple(second(g, v)), grads, *vectors)
