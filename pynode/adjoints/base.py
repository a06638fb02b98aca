"""The interface of an adjoint, and the autograd.Function that makes a solve differentiable."""

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
    """A way to make gradients, with SciML's name. Its constructor takes the user's options.

    needs: what the forward solve stores for it: 'steps' (with what their derivative needs), 'dense'
    (the polynomials of all steps), or 'outputs'.
    """

    name = ""
    needs = "steps"

    def record(self, field: VectorField, method: Method, tol: Tolerance) -> Recording:
        """The Recording of the forward solve, for adjoints that need steps."""
        return Recording(field, method, tol)

    def tape(self, field: VectorField, method: Method) -> Tape | None:
        """The Tape that stores the graphs of the forward evaluations. None if the backward pass
        makes them again."""
        return None

    def check(self, field: VectorField, method: Method) -> None:  # noqa: B027  optional
        """Raise ValueError if this adjoint does not support the field with the forward method.
        Called once, before the solve."""

    def validate_trajectory(self, field: VectorField, trajectory: Trajectory) -> None:  # noqa: B027  as above
        """Raise ValueError if this adjoint cannot differentiate the finished solve. Called before
        solve returns."""

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
        """Turn the cotangents grads, (T, n), of the outputs at times into (cotangent of y0 (n,),
        list for field.parameters).

        times: inside the trajectory, in any order. options: of the solve, with atol as a tensor,
        0-d or (n,).
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

        vectors: one for each result of pullback, for y0 first, then for the parameters.
        """
        raise NotImplementedError(
            f"{self.name} has only first derivatives: for second derivatives use"
            " adjoint='discrete' or 'direct', backend='torch'"
        )


class Gradient:
    """The gradient of one segment of a solve: of its outputs at the times ``queries``, in its start
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
        """Return (cotangent of the start (n,), cotangents of the inputs). grads: cotangents of the
        outputs, (T, n)."""
        times = self.queries[: len(grads)]

        def run(field):
            return self.adjoint.pullback(field, self.method, self.path, times, grads, self.options)

        return self._run(run, taped=True)

    def second(self, grads: Tensor, vectors: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """The second derivative; see Adjoint.second."""
        times = self.queries[: len(grads)]

        def run(field):
            count = len(field.parameters)
            moved = none_to_zeros(vectors[1:], self.inputs)
            gbar, ybar, *param_grads = self.adjoint.second(
                field, self.path, times, grads, [vectors[0], *moved[:count]]
            )
            return (gbar, ybar), param_grads

        (gbar, ybar), param_grads = self._run(run, taped=False)
        return gbar, ybar, *param_grads

    def _run(self, run, taped):
        """Return (first, cotangents of the inputs). run(field) returns (first, cotangents of
        field.parameters).

        taped: whether stored graphs can serve; f may then have changed.
        """
        with self.field.module_state.restored(self.field.parameters):
            self.field.module_state.check()
            recording = self.path.recording
            if not (taped and recording is not None and recording.taped):
                self.field.check(self.path)
            while True:
                try:
                    first, param_grads = run(self.field)
                except LostLeaves as lost:
                    # f used tensors within its reach that it did not use at the start.
                    self.field.module_state.check_spare(lost.leaves)
                    self.field = self.field.with_parameters(lost.leaves)
                else:
                    return first, self.field.leaves.align(param_grads, self.inputs)


class Integrate(torch.autograd.Function):
    """The outputs (T, n) of a recorded trajectory as a function of y0 and the parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        solve: Callable[[], Tensor],
        pullback: Callable,
        second: Callable,
        y0: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        """solve() returns the outputs (T, n). pullback(grads (T, n)) returns (cotangent of y0,
        cotangents of the parameters). second(grads, vectors): see Adjoint.second."""
        # The two functions own the record of the solve. PyTorch frees it with the graph.
        save(ctx, (pullback, second))
        ctx.inputs = (y0, *parameters)
        return solve()

    @staticmethod
    @compile_disabled
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        (rules,) = saved(ctx)
        grads_of_inputs = by_row(
            lambda g: Pullback.apply(rules, g.contiguous(), *ctx.inputs), grads
        )
        return None, None, None, *grads_of_inputs


class Pullback(torch.autograd.Function):
    """The cotangents that Integrate returns, as a function of the outputs' cotangents, of y0 and of
    the parameters."""

    @staticmethod
    def forward(
        rules: tuple[Callable, Callable], grads: Tensor, y0: Tensor, *parameters: Tensor
    ) -> tuple[Tensor | None, ...]:
        with unhooked():
            ybar, param_grads = rules[0](grads)
        return ybar, *param_grads

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        save(ctx, *inputs[:2])

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int, ...],
        rules: tuple[Callable, Callable],
        grads: Tensor,
        *inputs: Tensor,
    ) -> tuple[tuple, tuple]:
        """One row at a time: torch.func.vmap over torch.autograd.grad of a solve outside vmap."""
        rows = [
            Pullback.apply(rules, row.contiguous(), *inputs) for row in grads.unbind(in_dims[1])
        ]
        columns = list(zip(*rows, strict=True))
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
