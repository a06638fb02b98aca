"""The interface of an adjoint, and the autograd.Function that makes a solve differentiable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from ..algebra.newton import NO_THIRD_DERIVATIVE
from ..backends.torch.checkpoints import Recording
from ..core.batched_cotangents import by_row, stacked
from ..core.cotangents import none_to_zeros
from ..core.leaves import LostLeaves
from ..core.saved_tensors import save, saved, unhooked
from ..core.suggestions import suggests_options
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
    (the polynomials of all steps), or 'outputs'. takes_many: whether it has ``pullback_many``.
    """

    name = ""
    needs = "steps"
    takes_many = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__init__" in vars(cls):
            cls.__init__ = suggests_options(cls.__init__)  # type: ignore[method-assign]

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

    def pullback_many(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        """The ``pullback`` of many cotangents, (R, T, n), at once: (R, n), and (R, ...) for each
        parameter. Adjoints with takes_many have it."""
        raise NotImplementedError

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
        only_first(self.name)


def only_first(name: str) -> NoReturn:
    """Refuse second derivatives through the adjoint of this name."""
    raise NotImplementedError(
        f"{name} has only first derivatives: for second derivatives use"
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

    def pullback_many(self, grads: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """The ``pullback`` of many cotangents, (R, T, n): (R, n), and (R, ...) for each input."""
        times = self.queries[: grads.shape[1]]

        def run(field):
            return self.adjoint.pullback_many(
                field, self.method, self.path, times, grads, self.options
            )

        return self._run(run, taped=True)

    @property
    def rules(self) -> Rules:
        """What ``Integrate`` needs."""
        many = None
        if self.adjoint.takes_many:
            many = self.pullback_many
        return Rules(self.pullback, self.second, many)

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


class Rules(NamedTuple):
    """How ``Integrate`` is differentiated.

    pullback(grads (T, n)) returns (cotangent of y0, cotangents of the parameters). second(grads,
    vectors): see Adjoint.second. many(grads (R, T, n)): the pullbacks of R cotangents together,
    (R, ...) each, or None.
    """

    pullback: Callable
    second: Callable
    many: Callable | None = None


class Integrate(torch.autograd.Function):
    """The outputs (T, n) of a recorded trajectory as a function of y0 and the parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        solve: Callable[[], Tensor],
        rules: Rules,
        y0: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        """solve() returns the outputs (T, n)."""
        # The rules own the record of the solve. PyTorch frees it with the graph.
        save(ctx, rules)
        ctx.inputs = (y0, *parameters)
        return solve()

    @staticmethod
    @compile_disabled
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        (rules,) = saved(ctx)

        def one(g: Tensor) -> tuple[Tensor | None, ...]:
            wrapped = torch._C._functorch.is_functorch_wrapped_tensor(g)
            if not torch.is_grad_enabled() and not wrapped:
                # No second derivative follows: a node for it would cost as much as a small solve.
                return Pullback.forward(rules, g.contiguous(), *ctx.inputs)
            return Pullback.apply(rules, g.contiguous(), *ctx.inputs)

        def many(rows: Tensor) -> tuple[Tensor | None, ...]:
            return ManyPullbacks.apply(rules, rows.contiguous(), *ctx.inputs)

        return None, None, *by_row(one, grads, many=many if rules.many else None)


class Pullback(torch.autograd.Function):
    """The cotangents that Integrate returns, as a function of the outputs' cotangents, of y0 and of
    the parameters."""

    @staticmethod
    def forward(
        rules: Rules, grads: Tensor, y0: Tensor, *parameters: Tensor
    ) -> tuple[Tensor | None, ...]:
        with unhooked():
            ybar, param_grads = rules.pullback(grads)
        return ybar, *param_grads

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        save(ctx, *inputs[:2])

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, ...], rules: Rules, grads: Tensor, *inputs: Tensor
    ) -> tuple[tuple, tuple]:
        """torch.func.vmap over torch.autograd.grad of a solve outside vmap: all rows at once, or
        one row at a time."""
        rows = grads.movedim(in_dims[1], 0)
        if rules.many:
            return _batched(ManyPullbacks.apply(rules, rows.contiguous(), *inputs))
        results = [Pullback.apply(rules, row.contiguous(), *inputs) for row in rows.unbind()]
        return _batched([stacked(parts) for parts in zip(*results, strict=True)])

    @staticmethod
    @compile_disabled
    def backward(ctx: Any, *vectors: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError(NO_THIRD_DERIVATIVE)
        rules, grads = saved(ctx)
        with unhooked():
            return None, *by_row(lambda g, *v: tuple(rules.second(g, v)), grads, *vectors)


class ManyPullbacks(torch.autograd.Function):
    """Pullback for many cotangents of the outputs, (R, T, n), at once. Its results are (R, ...)."""

    @staticmethod
    def forward(
        rules: Rules, grads: Tensor, y0: Tensor, *parameters: Tensor
    ) -> tuple[Tensor | None, ...]:
        with unhooked():
            ybar, param_grads = rules.many(grads)  # type: ignore[misc]  # there if this is called
        return ybar, *param_grads

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        save(ctx, *inputs[:2])

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, ...], rules: Rules, grads: Tensor, *inputs: Tensor
    ) -> tuple[tuple, tuple]:
        """vmap inside vmap: the rows of both as one batch."""
        rows = grads.movedim(in_dims[1], 0)
        results = ManyPullbacks.apply(rules, rows.flatten(0, 1).contiguous(), *inputs)
        outer = tuple(rows.shape[:2])
        return _batched([None if x is None else x.unflatten(0, outer) for x in results])

    @staticmethod
    @compile_disabled
    def backward(ctx: Any, *vectors: Tensor | None) -> tuple[Tensor | None, ...]:
        """The sum of the second derivatives of all cotangents, one by one."""
        rules, grads = saved(ctx)

        def run(g: Tensor, *v: Tensor | None) -> tuple[Tensor | None, ...]:
            rows = [rules.second(one, [_row(x, i) for x in v]) for i, one in enumerate(g)]
            if torch.is_grad_enabled():
                raise NotImplementedError(NO_THIRD_DERIVATIVE)
            first, *rest = zip(*rows, strict=True)
            return stacked(first), *map(_total, rest)

        with unhooked():
            return None, *by_row(run, grads, *vectors)


def _row(x, i):
    """Row i of x, or None."""
    if x is None:
        return None
    return x[i]


def _total(parts):
    """The sum of the parts, or None if they are None."""
    if parts[0] is None:
        return None
    return torch.stack(parts).sum(0)


def _batched(results):
    """(results, their dimensions of the batch), as a rule of vmap returns them."""
    return tuple(results), tuple(None if x is None else 0 for x in results)
