"""The vector field of a batch whose rows are separate systems: each row at a time of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .double_backward import DoubleBackward
from .evaluation import RandomState, Reuse, check_graph, check_same
from .finite_differences import finite, repaired, repaired_slope
from .layout import Layout
from .leaves import find_leaves, no_leaves, own_leaf
from .module_state import ModuleState
from .stats import Stats
from .status import RejectStep
from .vector_field import called_first, wrong_dtype

if TYPE_CHECKING:
    from .layout import State
    from .problem import ODEProblem


class RowField:
    """f(t, y) for rows of a batch: t (m,), y (m, n) -> (m, n), counted by rows.

    f is called with t of shape (m, 1, ...), which broadcasts against the rows, y with its leading
    dimension m, and the args that belong to the rows cut to the same rows. ``select`` leaves rows
    out, for good. by_row: whether each argument of f belongs to the rows (``args_by_row``). leaves,
    parameters: the tensors that gradients reach, as those of a VectorField. compiled: CompiledRows
    of whole steps (methods/compiled/batched_steps.py), None where steps are run as they stand.
    drawn: whether f draws random numbers."""

    mass = structure = compiled = None  # a batch of small dense systems

    def __init__(self, problem: ODEProblem, by_row: bool | Sequence[bool] | None = None) -> None:
        self.problem = problem
        self.stats = Stats()
        self.layout, self.batch = row_layout(problem.y0)
        layout = self.layout
        self.f = problem.f
        self.user_jac = problem.jac
        self.dtype = layout.dtype
        self.device = layout.device
        self.size = layout.size
        self.args = problem.args
        # Of the whole batch: when few rows are left, an argument may have their number by chance.
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
        """Note the tensors that gradients reach: those given that require them, else all that f at
        (t, y) depends on."""
        y = y.detach().clone()

        def evaluate(args):
            random = RandomState(self.device)
            with self.module_state.replaced():
                out = called_first(self.with_args(args).eval, self.f, self.dtype, t, y)
            self.drawn = random.moved()
            return out, y

        self.leaves = find_leaves(self.f, self.args, self.module_state, evaluate, given)
        self.module_state.watch(self.leaves.grad_targets)
        self.module_state.watch_spare(self.leaves.spare)

    def with_args(self, args: tuple) -> RowField:
        """The same field on other args."""
        found = copy.copy(self)
        found.args = args
        return found

    def detach_args(self) -> RowField:
        """The same field on args that are leaves, so that no gradient passes through one parameter
        into another."""
        return self.with_args(self.leaves.args)

    def with_parameters(self, lost: list[Tensor]) -> RowField:
        """The same field with parameters that turned out to be used; LostLeaves where they are
        unknown."""
        found = copy.copy(self)
        found.leaves = self.leaves.with_parameters(lost)
        return found

    def check(self, t: Tensor, y: Tensor, before: Tensor, h: np.ndarray) -> None:
        """RuntimeError where f at the start, t (B,) and y (B, n), is no longer ``before``; h: the
        first steps, (B,)."""
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
        """The field of the rows in keep, an index or mask (m,)."""
        args = zip(self.args, self.by_row, strict=True)
        found = self.with_args(tuple(a[keep] if by_row else a for a, by_row in args))
        if keep.dtype == torch.bool:
            found.batch = int(keep.sum())
        else:
            found.batch = len(keep)
        return found

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt of every row."""
        self.stats.nfe += len(y)
        out = self.eval(t, y)
        if self.reuse.open:
            return self.reuse.own(out)
        return out

    def probe(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt of every row, neither counted nor kept."""
        return self.eval(t, y)

    def eval(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt of every row, not counted; TypeError or ValueError where f returns something else,
        or raises RejectStep."""
        t = self.clock(t, y)
        try:
            out = self.f(t, self.layout.unravel(y), *self.args)
        except RejectStep as error:
            raise ValueError(
                "f raised RejectStep, which with batched=True does not say for which rows: return"
                " NaN for these, whose steps are then tried again, smaller, or leave batched away"
            ) from error
        if not self.layout.flat or not isinstance(out, torch.Tensor) or out.shape != y.shape:
            out = self._joined(out, t, len(y))
        if out.dtype != y.dtype:
            raise wrong_dtype(out, y.dtype)
        return out

    def _joined(self, out, t, rows):
        """(rows, n) of what f returned for t."""
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
        """Times (m,) as functions get to see them."""
        return clock(t, y, self.rank)

    def linearised(self, t: Tensor, y: Tensor, graph: bool = False) -> tuple[Tensor, Tensor | None]:
        """(df/dy (m, n, n), df/dt (m, n) or None where no row depends on t). graph: both
        differentiable in y and parameters."""
        return self._differentiated(t, y, torch.arange(len(y), device=y.device), True, graph)

    def jacobian(self, t: Tensor, y: Tensor, which: Tensor) -> Tensor:
        """df/dy, (w, n, n), of the rows in which; t (m,), y (m, n) of all rows."""
        return self._differentiated(t, y, which, False)[0]

    def _differentiated(self, t, y, which, moving, graph=False):
        """(df/dy, df/dt) of the rows in which; infinite entries where they start are differences
        (finite_differences.py)."""
        jac, slope = self._pulled(t, y, which, moving, graph)
        good = finite(jac)
        if good and (slope is None or finite(slope)):
            return jac, slope
        part = self.select(which)
        t = t.detach()[which]
        y = y.detach()[which]
        if not good:
            jac = repaired(lambda moved: part.eval(t, moved), y, jac)
        if moving and slope is not None:
            slope = repaired_slope(lambda moved: part.eval(moved, y), t, y, slope)
        return jac, slope

    def _pulled(self, t, y, which, moving, graph):
        """The same from one backward pass over as many copies of a row as it has states."""
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
            found = torch.autograd.grad(out, inputs, unit, allow_unused=True, create_graph=graph)
            if found[0] is None:
                jac = y.new_zeros(m, n, n)
            else:
                jac = found[0].view(m, n, n)
            return jac, found[1].view(m, n).to(y.dtype) if moving and found[1] is not None else None


def clock(t: Tensor, y: Tensor, rank: int) -> Tensor:
    """Times (m,) as functions of rows with so many dimensions get to see them: (m, 1, ...), which
    broadcasts against y."""
    return t.to(y.dtype).reshape((len(y),) + (1,) * max(rank, 1))


def args_by_row(args: tuple, batch: int, declared: bool | Sequence[bool] | None) -> list[bool]:
    """Whether each of the args belongs to the rows of a batch: a list of bool.

    declared: None for the tensors whose first dimension is the batch's, True or False for all of
    the tensors among args, or one bool for each argument.
    """
    fits = [isinstance(a, torch.Tensor) and a.dim() > 0 and len(a) == batch for a in args]
    if declared is None:
        return fits
    if isinstance(declared, bool):
        declared = [declared and isinstance(a, torch.Tensor) for a in args]
    elif not isinstance(declared, (tuple, list)) or not all(isinstance(x, bool) for x in declared):
        raise TypeError(f"by_row must be a bool, or one for each of args, not {declared!r}")
    if len(declared) != len(args):
        raise ValueError(
            f"by_row has {len(declared)} entries for {len(args)} args: give one for each"
        )
    for i, (a, wanted, fit) in enumerate(zip(args, declared, fits, strict=True)):
        if wanted and not fit:
            if isinstance(a, torch.Tensor):
                shape = tuple(a.shape)
            else:
                shape = type(a).__name__
            raise ValueError(
                f"by_row says that args[{i}] belongs to the {batch} rows of the batch, but it is "
                f"{shape}: a tensor needs {batch} as its first dimension for that"
            )
    return list(declared)


def row_layout(y0: State) -> tuple[Layout, int]:
    """(layout of one row, number of rows) of a batched state.

    ValueError where it is empty, or its parts have no common first dimension.
    """
    whole = Layout(y0)
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
    return Layout(_first(y0)), counts.pop()


def _first(state):
    if isinstance(state, torch.Tensor):
        return state[0]
    if isinstance(state, dict):
        return {key: _first(value) for key, value in state.items()}
    return tuple(_first(item) for item in state)


def check_independent(field: RowField, t: Tensor, y: Tensor) -> None:
    """ValueError where some row of f depends on another row.

    A tangent on half of the rows must leave the others alone, and f on these rows, with the args
    cut to them, must be what it is on all of them.
    """
    count = field.batch
    # A single row is asked twice: Jacobians ask it as often as it has states.
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
        whole = called_first(field.eval, field.f, y.dtype, t, y)
        alone = _on_some(field, some, t, y)
        if count > 1:
            leak = float(_leak(field, t, y, whole, tangent, mask))
    size = 1e-9 * float(whole.abs().max().nan_to_num(0.0))
    if leak > 0 or not torch.allclose(whole[some], alone, rtol=1e-6, atol=size, equal_nan=True):
        raise ValueError(
            "batched=True claims that row i of f depends on row i of y alone, but here rows"
            " influence one another (batch normalisation, a sum over the batch, or a tensor by row"
            " that is not in args); leave batched away, or pass tensors that belong to the rows"
            f" through args{_by_chance(field)}"
        )


def _leak(field, t, y, whole, tangent, mask):
    """How much of a tangent on the rows in the mask comes out in the others."""
    try:
        moved = torch.func.jvp(lambda v: field.eval(t, v), (y,), (tangent,))[1]
        return moved.masked_fill(mask, 0).abs().max()
    # An operation without a forward derivative: perturb instead.
    except (RuntimeError, NotImplementedError):
        moved = field.eval(t, y + 1e-3 * (1 + y.abs()) * mask)
        return (moved - whole).masked_fill(mask, 0).abs().max() - 1e-9 * whole.abs().max()


def _on_some(field, rows, t, y):
    """f on some of the rows; ValueError with the rule for args where it fails on these alone."""
    try:
        return field.select(rows).eval(t[rows], y[rows])
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"with batched=True f is called with the rows still running. Tried with {len(rows)} of "
            f"{field.batch} rows, it failed: {error}{_by_chance(field)}"
        ) from error


def _by_chance(field) -> str:
    """What to say of args that were cut because of their size."""
    cut = [f"args[{i}]" for i, by_row in enumerate(field.by_row) if by_row]
    if not cut:
        return ""
    return (
        f". {', '.join(cut)} had {field.batch} as first dimension and so were cut to the rows:"
        " declare what does not belong to them, by_row=False or a bool for each of args"
    )
