"""The vector field of a batch whose rows are separate systems. Each row has its own time."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .double_backward import DoubleBackward
from .evaluation import RandomState, Reuse, check_graph, check_same
from .finite_differences import finite, repaired, repaired_slope
from .layout import Layout
from .leaves import find_leaves, no_leaves, own_leaf
from .memory import raise_if_exhausted
from .module_state import ModuleState
from .stats import Stats
from .status import RejectStep
from .vector_field import called_first, clamp_negative, wrong_dtype

if TYPE_CHECKING:
    from .problem import ODEProblem


class RowField:
    """f(t, y) for rows of a batch: t (m,), y (m, n) -> (m, n). It counts rows.

    f receives t of shape (m, 1, ...), which broadcasts against the rows, and y with the leading
    dimension m. It receives the same rows of those args that belong to the rows. ``select`` keeps
    some rows. by_row: whether each argument of f belongs to the rows (``args_by_row``). leaves,
    parameters: the tensors that receive gradients, as in VectorField. compiled: the CompiledRows of
    whole steps (methods/compiled/batched_steps.py), or None. drawn: whether f draws random numbers.
    """

    # Of each row (algebra/mass.py), or None; only the native engine takes one.
    mass: Any = None
    # A batch has small dense systems.
    structure: Any = None
    compiled: Any = None
    nonnegative_mask: Any = None

    def __init__(self, problem: ODEProblem, by_row: bool | Sequence[bool] | None = None) -> None:
        self.problem = problem
        self.stats = Stats()
        self.layout, self.batch = row_layout(problem)
        layout = self.layout
        self.f = problem.f
        self.user_jac = problem.jac
        self.dtype = layout.dtype
        self.device = layout.device
        self.size = layout.size
        self.args = problem.args
        # Decide for the whole batch: an argument may have the size of the last few rows by chance.
        self.by_row = args_by_row(self.args, self.batch, by_row)
        if layout.single:
            self.rank = len(layout.shapes[0])
        else:
            self.rank = 1
        self.module_state = ModuleState(self.f, self.device, self.args)
        self.reuse = Reuse()
        self.leaves = no_leaves(self.args)
        self.drawn = False

    @property
    def parameters(self) -> list[Tensor]:
        return self.leaves.parameters

    def find_leaves(self, t: Tensor, y: Tensor, given: Iterable[Tensor] | None) -> None:
        """Find the tensors that receive gradients. These are the given tensors that require a
        gradient, or all that f at (t, y) depends on."""
        y = y.detach().clone()

        def evaluate(args):
            random = RandomState(self.device)
            with self.module_state.replaced():
                field = self.with_args(args)
                out = called_first(field.eval, field, t, y)
            self.drawn = random.moved()
            return out, y

        self.leaves = find_leaves(self.f, self.args, self.module_state, evaluate, given)
        self.module_state.watch(self.leaves.grad_targets)
        self.module_state.watch_spare(self.leaves.spare)

    def see_nonnegative(self, mask: Tensor) -> None:
        """Let f see zero for negative values of the components in the mask, (n,). Stages and
        iterates may have them."""
        self.nonnegative_mask = mask

    def with_args(self, args: tuple) -> RowField:
        """The same field with other args."""
        field = copy.copy(self)
        field.args = args
        return field

    def detach_args(self) -> RowField:
        """The same field with leaves as args. No gradient then passes through one parameter into
        another."""
        return self.with_args(self.leaves.args)

    def with_parameters(self, lost: list[Tensor]) -> RowField:
        """The same field with further parameters that f used. Raise LostLeaves if they are
        unknown."""
        field = copy.copy(self)
        field.leaves = self.leaves.with_parameters(lost)
        return field

    def check(self, t: Tensor, y: Tensor, before: Tensor, h: np.ndarray) -> None:
        """Raise RuntimeError if f at the start, t (B,) and y (B, n), differs from ``before``. h:
        the first steps, (B,)."""
        self.module_state.check()
        if len(h):
            smallest = float(abs(h).min())
        else:
            smallest = 0.0
        with torch.enable_grad():
            points = y.detach().clone().requires_grad_()
            out = self.eval(t, points)
        check_same(float(t[0]), y, before, out.detach(), smallest, self.drawn)
        if not out.requires_grad:
            check_graph(lambda y: self.eval(t, y), y)

    def select(self, keep: Tensor) -> RowField:
        """The field of some rows. keep: an index or a mask, (m,)."""
        args = zip(self.args, self.by_row, strict=True)
        field = self.with_args(tuple(a[keep] if by_row else a for a, by_row in args))
        if keep.dtype == torch.bool:
            field.batch = int(keep.sum())
        else:
            field.batch = len(keep)
        return field

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt of every row. It counts as len(y) evaluations."""
        stats = self.stats
        stats.nfe += len(y)
        if stats.guard is not None:
            stats.guard.check(stats, len(y))
        out = self.eval(t, y)
        if self.reuse.open:
            return self.reuse.own(out)
        return out

    def dydt(self, t: Tensor, y: Tensor) -> Tensor:
        """y' of every row: f, or M^+ f with a mass matrix."""
        out = self(t, y)
        if self.mass is None:
            return out
        return self.mass.pinv_apply(out)

    def probe(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt of every row, not counted and not stored."""
        return self.eval(t, y)

    def eval(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt of every row, not counted. Raise TypeError or ValueError if f returns something
        else, or raises RejectStep."""
        t = self.clock(t, y)
        try:
            out = self.f(
                t, self.layout.unravel(clamp_negative(y, self.nonnegative_mask)), *self.args
            )
        except RejectStep as error:
            raise ValueError(
                "f raised RejectStep, which with batched=True does not say for which rows: return"
                " NaN for these rows, so that the solver tries smaller steps, or remove batched"
            ) from error
        if not self.layout.flat or not isinstance(out, torch.Tensor) or out.shape != y.shape:
            out = self._joined(out, t, len(y))
        if out.dtype != y.dtype:
            raise wrong_dtype(out, y.dtype)
        return out

    def _joined(self, out, t, rows):
        """What f returned for t, as (rows, n)."""
        try:
            return self.layout.ravel_rows(out, rows)
        except ValueError as error:
            if isinstance(out, torch.Tensor):
                shape = tuple(out.shape)
            else:
                shape = type(out).__name__
            raise ValueError(
                f"with batched=True f was called with {rows} rows and t of shape {tuple(t.shape)},"
                f" and returned {shape}; it must return dy/dt for just these rows (pass tensors"
                " that belong to the rows through args, and use t so that it broadcasts against y)"
            ) from error

    def clock(self, t: Tensor, y: Tensor) -> Tensor:
        """The times (m,) as functions see them."""
        return clock(t, y, self.rank)

    def linearised(self, t: Tensor, y: Tensor, graph: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return (df/dy (m, n, n), df/dt (m, n)). df/dt is None if no row depends on t. graph: keep
        both differentiable in y and the parameters."""
        return self._differentiated(t, y, torch.arange(len(y), device=y.device), True, graph)

    def linearised_unseen(self, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """(df/dy, df/dt, doubtful) without a look at their numbers, and so without a
        synchronisation. doubtful: (m,) mask of the rows with an entry that is not finite, which
        ``linearised`` would replace."""
        which = torch.arange(len(y), device=y.device)
        jac, slope = self._pulled(t, y, which, True, False)
        return jac, slope, _doubtful(jac, slope)

    def jacobian_unseen(self, t: Tensor, y: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """(df/dy (w, n, n), doubtful (w,)) of the rows in which, likewise."""
        jac, slope = self._pulled(t, y, which, False, False)
        return jac, _doubtful(jac, slope)

    def jacobian(self, t: Tensor, y: Tensor, which: Tensor) -> Tensor:
        """df/dy, (w, n, n), of the rows in which. t (m,), y (m, n): of all rows."""
        return self._differentiated(t, y, which, False)[0]

    def _differentiated(self, t, y, which, moving, graph=False):
        """Return (df/dy, df/dt) of the rows in which. Finite differences replace infinite entries
        (finite_differences.py)."""
        jac, slope = self._pulled(t, y, which, moving, graph)
        if finite(jac, slope):
            return jac, slope
        good = finite(jac)
        part = self.select(which)
        t = t.detach()[which]
        y = y.detach()[which]
        if not good:
            jac = repaired(lambda moved: part.eval(t, moved), y, jac)
        if moving and slope is not None:
            slope = repaired_slope(lambda moved: part.eval(moved, y), t, y, slope)
        return jac, slope

    def _pulled(self, t, y, which, moving, graph):
        """The same, from one backward pass. It uses as many copies of a row as the row has
        states."""
        m = len(which)
        n = y.shape[1]
        self.stats.njac += m
        with torch.inference_mode(False), torch.enable_grad():
            copies = which.repeat_interleave(n)
            if graph:
                states = y[copies]
            else:
                states = y.detach()[copies].requires_grad_()
            times = t.detach()[copies]
            if moving:
                own_leaf(times)
            with DoubleBackward() if graph else nullcontext():
                out = self.select(copies).eval(times, states)
            if not out.requires_grad:
                return y.new_zeros(m, n, n), None
            unit = torch.eye(n, dtype=y.dtype, device=y.device).repeat(m, 1)
            if moving:
                inputs = (states, times)
            else:
                inputs = (states,)
            grads = torch.autograd.grad(out, inputs, unit, allow_unused=True, create_graph=graph)
            if grads[0] is None:
                jac = y.new_zeros(m, n, n)
            else:
                jac = grads[0].view(m, n, n)
            return jac, grads[1].view(m, n).to(y.dtype) if moving and grads[1] is not None else None


def _doubtful(jac: Tensor, slope: Tensor | None) -> Tensor:
    """Mask of the rows with an entry that is not finite, (m,)."""
    # One sum finds them at a fraction of the cost of a test of every entry.
    total = jac.sum((1, 2))
    if slope is not None:
        total = total + slope.sum(1)
    return ~torch.isfinite(total)


def clock(t: Tensor, y: Tensor, rank: int) -> Tensor:
    """The times (m,) as functions of rows with this number of dimensions see them: (m, 1, ...),
    which broadcasts against y."""
    return t.to(y.dtype).reshape((len(y),) + (1,) * max(rank, 1))


def args_by_row(args: tuple, batch: int, declared: bool | Sequence[bool] | None) -> list[bool]:
    """Return a list of bool: whether each of the args belongs to the rows of a batch.

    declared: None selects the tensors whose first dimension is the batch. True or False applies to
    all tensors among args. A list has one bool for each argument.
    """
    has_rows = [isinstance(a, torch.Tensor) and a.dim() > 0 and len(a) == batch for a in args]
    if declared is None:
        return has_rows
    if isinstance(declared, bool):
        declared = [declared and isinstance(a, torch.Tensor) for a in args]
    elif not isinstance(declared, (tuple, list)) or not all(isinstance(x, bool) for x in declared):
        raise TypeError(f"by_row must be a bool, or one for each of args, not {declared!r}")
    if len(declared) != len(args):
        raise ValueError(
            f"by_row has {len(declared)} entries for {len(args)} args: give one for each"
        )
    for i, (a, is_row, size_fits) in enumerate(zip(args, declared, has_rows, strict=True)):
        if is_row and not size_fits:
            if isinstance(a, torch.Tensor):
                shape = str(tuple(a.shape))
            else:
                shape = type(a).__name__
            raise ValueError(
                f"by_row says that args[{i}] belongs to the {batch} rows of the batch, but it is "
                f"{shape}: a tensor needs {batch} as its first dimension for that"
            )
    return list(declared)


def row_layout(problem: ODEProblem) -> tuple[Layout, int]:
    """Return (layout of one row, number of rows) of a batched problem.

    Raise ValueError if the state is empty, or if its parts have no common first dimension.
    """
    whole = Layout(problem.y0)
    counts = {shape[0] if len(shape) else None for shape in whole.shapes}
    if len(counts) != 1 or None in counts:
        raise ValueError(
            "with batched=True every part of y0 needs the same first dimension, the rows of the"
            " batch"
        )
    if not whole.size:
        raise ValueError(
            "y0 is empty: a batch needs at least one row, and a state at least one component"
        )
    return problem.layout_of(_first(problem.y0)), whole.shapes[0][0]


def _first(state):
    if isinstance(state, torch.Tensor):
        return state[0]
    if isinstance(state, dict):
        return {key: _first(value) for key, value in state.items()}
    return tuple(_first(item) for item in state)


def check_independent(field: RowField, t: Tensor, y: Tensor) -> None:
    """Raise ValueError if a row of f depends on another row.

    A tangent on half of the rows must leave the other rows unchanged. f on these rows, with the
    same rows of the args, must equal f on all rows.
    """
    count = field.batch
    # A single row appears twice, because Jacobians repeat it for each of its states.
    if count > 1:
        some = torch.arange(0, count, 2, device=y.device)
    else:
        some = y.new_zeros(2).long()
    mask = torch.zeros(count, 1, dtype=torch.bool, device=y.device)
    mask[::2] = True
    generator = torch.Generator().manual_seed(0)
    tangent = torch.rand(y.shape, generator=generator, dtype=torch.float64).to(y) * mask
    leak = 0.0
    with torch.no_grad():
        whole = called_first(field.eval, field, t, y)
        alone = _on_some(field, some, t, y)
        if count > 1:
            leak = float(_leak(field, t, y, whole, tangent, mask))
    size = 1e-9 * float(whole.abs().max().nan_to_num(0.0))
    if leak > 0 or not torch.allclose(whole[some], alone, rtol=1e-6, atol=size, equal_nan=True):
        raise ValueError(
            "batched=True requires that row i of f depends only on row i of y, but here rows"
            " influence one another (batch normalisation, a sum over the batch, or a tensor with"
            " rows that is not in args): remove batched, or pass tensors that belong to the rows"
            f" through args{_by_chance(field)}"
        )


def _leak(field, t, y, whole, tangent, mask):
    """How much a tangent on the rows of the mask changes the other rows."""
    try:
        moved = torch.func.jvp(lambda v: field.eval(t, v), (y,), (tangent,))[1]
        return moved.masked_fill(mask, 0).abs().max()
    # An operation has no forward derivative: perturb y instead.
    except (RuntimeError, NotImplementedError) as error:
        raise_if_exhausted(error)
        moved = field.eval(t, y + 1e-3 * (1 + y.abs()) * mask)
        return (moved - whole).masked_fill(mask, 0).abs().max() - 1e-9 * whole.abs().max()


def _on_some(field, rows, t, y):
    """f on some of the rows. If this fails, raise ValueError with the rule for args."""
    try:
        return field.select(rows).eval(t[rows], y[rows])
    except (RuntimeError, ValueError, IndexError) as error:
        raise_if_exhausted(error)
        raise ValueError(
            f"with batched=True f is called with the rows still running. Tried with {len(rows)} of "
            f"{field.batch} rows, it failed: {error}{_by_chance(field)}"
        ) from error


def _by_chance(field) -> str:
    """A hint about args that count as rows because of their size."""
    sliced = [f"args[{i}]" for i, by_row in enumerate(field.by_row) if by_row]
    if not sliced:
        return ""
    return (
        f". {', '.join(sliced)} had {field.batch} as first dimension, so f got only their rows:"
        " declare what does not belong to the rows, by_row=False or a bool for each of args"
    )
