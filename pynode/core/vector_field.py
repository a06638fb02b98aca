"""The vector field as the methods see it: flat states, float times, counted evaluations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from .batched_evaluation import allows_vmap
from .evaluation import (
    REFUSED,
    Evaluation,
    FirstEvaluation,
    RandomState,
    Reuse,
    check_graph,
    check_same,
)
from .layout import check_values
from .leaves import find_leaves, held, no_leaves
from .memory import raise_if_exhausted
from .module_state import ModuleState
from .saved_tensors import unhooked
from .split_field import SplitField
from .stats import Stats
from .status import RejectStep

if TYPE_CHECKING:
    from ..backends.torch.tape import Tape
    from .layout import Layout
    from .problem import ODEProblem
    from .trajectory import Trajectory


R = TypeVar("R")


class FieldOfUser(Protocol):
    """What an error about f tells of it."""

    f: Callable
    args: tuple
    dtype: torch.dtype
    device: torch.device


class VectorField:
    """f(t, y) with y flat, (n,), and t a float.

    leaves: the tensors that receive gradients. parameters: those of them in which f is
    differentiated (core/leaves.py). start: the first evaluation of f, with the leaves of its graph;
    None if there is no gradient or the user named the leaves. parts: the implicit and the explicit
    part of a SplitField, as fields with the same counts; None for other f. mass: M of M y' = f;
    None for the identity. structure: of its Jacobians; None for dense. compiled: the CompiledSteps
    of whole steps (methods/compiled/steps.py), or None. tape: stores the graphs of evaluations
    (backends/torch/tape.py); None if the backward pass makes them again. nonnegative_mask: the
    components, (n,), that f sees as zero where they are negative; None for no component.
    rows_per_point: the number of points that ``batch_eval`` needs together
    (adjoints/discrete/batched_points.py); here 1.
    """

    mass: Any = None
    structure: Any = None
    compiled: Any = None
    tape: Tape | None = None
    start: FirstEvaluation | None = None
    together: bool | None = None
    nonnegative_mask: Tensor | None = None
    rows_per_point = 1

    def __init__(
        self,
        problem: ODEProblem,
        layout: Layout,
        t0: float,
        params: Iterable[Tensor] | None = None,
        direct: bool = False,
    ) -> None:
        """params: the tensors that receive gradients; None for all. direct: whether one graph
        contains the whole solve. The field then needs no list of leaves."""
        self.layout = layout
        self.stats = Stats()
        self.f = problem.f
        self.args = problem.args
        self.user_jac = problem.jac
        self.dtype = layout.dtype
        self.device = layout.device
        self.size = layout.size
        self.flat = layout.flat
        self.module_state = ModuleState(self.f, self.device, self.args)
        self.reuse = Reuse()
        if direct:
            self.leaves = no_leaves(self.args)
        else:
            self.leaves = self._find_leaves(problem, t0, params)
        self.module_state.watch(self.leaves.grad_targets)
        self.module_state.watch_spare(self.leaves.spare)
        self.parts = self._split()

    @property
    def parameters(self) -> list[Tensor]:
        """The tensors in which f is differentiated."""
        return self.leaves.parameters

    def detach_args(self) -> VectorField:
        """The same field with leaves as args. No gradient then passes through one parameter into
        another."""
        field = copy.copy(self)
        field.args = self.leaves.args
        field.parts = field._split()
        return field

    def without_tape(self) -> VectorField:
        """The same field for the backward pass. Its evaluations belong to the graph made there."""
        field = copy.copy(self)
        field.tape = None
        field.parts = field._split()
        return field

    def with_parameters(self, lost: list[Tensor]) -> VectorField:
        """The same field with further parameters that f used. Raise LostLeaves if they are
        unknown."""
        field = copy.copy(self)
        field.leaves = self.leaves.with_parameters(lost)
        field.parts = field._split()
        return field

    def see_nonnegative(self, mask: Tensor | None) -> None:
        """Let f see zero for negative values of the components in the mask. Stages and iterates can
        be negative."""
        self.nonnegative_mask = mask
        self.parts = self._split()

    def _split(self):
        both = isinstance(self.f, SplitField)
        if both:
            return (self._part(self.f.implicit), self._part(self.f.explicit))
        return None

    def _part(self, f):
        """The field of one part of f. The user's Jacobian belongs to the whole f, so the part does
        not use it."""
        part = copy.copy(self)
        part.f = f
        part.user_jac = None
        part.start = None
        return part

    def _find_leaves(self, problem, t0, params):
        y0 = self.layout.ravel(problem.y0).detach().clone()
        module = isinstance(self.f, torch.nn.Module)

        def evaluate(args):
            if self.module_state.from_inference:
                return None  # a graph cannot contain such tensors
            inside = copy.copy(self)
            inside.args = args
            time = torch.full((), t0, dtype=self.dtype, device=self.device)
            # A plain function may convert its state to a NumPy array, and a leaf forbids this.
            y = y0.clone().requires_grad_(module)
            random = RandomState(self.device)
            try:
                with unhooked(), self.module_state.replaced():
                    out = called_first(inside.eval, inside, time, y)
            except RejectStep:
                return None  # an infeasible start, which the integrator reports
            first = self.reuse.own(out.detach())
            if module:
                graph = Evaluation(first, y, out)
            else:
                graph = None
            self.start = FirstEvaluation(t0, y0, first, random, random.moved(), graph)
            return out, y

        return find_leaves(self.f, self.args, self.module_state, evaluate, params)

    def prime(self, t: float, y: Tensor) -> None:
        """Call f at (t, y), (n,), with its graph, before a call without one: f may keep tensors
        from its first call."""
        random = RandomState(self.device)
        try:
            self.probe(t, y)
        except RejectStep:
            return  # an infeasible start, which the integrator reports
        finally:
            random.restore()

    @property
    def unrepeatable(self) -> bool:
        """Whether f cannot repeat its evaluations, because it draws random numbers or writes its
        buffers."""
        return self.module_state.writes or (self.start is not None and self.start.drawn)

    def use_tape(self, tape: Tape | None) -> None:
        """Store the graphs of evaluations in a Tape; with None store no graph."""
        self.tape = tape
        start = self.start
        if start is None:
            return
        if tape is None:
            self.start = start._replace(graph=None)
        elif start.drawn:
            # The first evaluation has drawn random numbers. Repeat it with the same numbers.
            self.start = start._replace(graph=None)
            start.random.restore()

    def note_final_slope(self, path: Trajectory) -> None:
        """Store f at the end of a solve, to check later whether f is still the same."""
        if self.tape is None and path.status.success and not self.unrepeatable:
            with unhooked(), torch.no_grad():
                path.f1 = self._probe_dydt(
                    path.t, path.y
                ).clone()  # f may fill the same memory again

    def __call__(self, t: float, y: Tensor) -> Tensor:
        """dy/dt at (t, y), (n,). It counts as an evaluation."""
        stats = self.stats
        stats.nfe += 1
        if stats.guard is not None:
            stats.guard.check(stats)
        if self.tape is not None:
            return self.tape.evaluated(self, t, y)
        out = self.eval(torch.scalar_tensor(t, dtype=self.dtype, device=self.device), y)
        if self.reuse.open:
            return self.reuse.own(out)
        return out

    def dydt(self, t: float, y: Tensor) -> Tensor:
        """y' at (t, y), (n,). Without a mass matrix this is f."""
        if self.mass is None:
            return self(t, y)
        return self.mass.pinv_apply(self(t, y))

    def initial_slope(self, t: float, y: Tensor) -> Tensor:
        """Initial slope. Raises TypeError if the module's dtype differs from the state's.

        It runs outside inference mode, because a module may make constants in its first call that a
        later graph needs.
        """
        differentiable = torch.is_grad_enabled()
        start = self.start
        if start is not None and self.tape is None and not differentiable and start.is_at(t, y):
            self.stats.nfe += 1
            if self.mass is None:
                return start.f
            return self.mass.pinv_apply(start.f)
        with torch.inference_mode(False), torch.set_grad_enabled(differentiable):
            return called_first(self.dydt, self, t, y)

    def eval(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt, (n,), for t a 0-d tensor, not counted. Raise TypeError or ValueError if f returns
        something else."""
        y = clamp_negative(y, self.nonnegative_mask)
        if self.flat:
            out = self.f(t, y, *self.args)
            if not isinstance(out, torch.Tensor) or out.shape != y.shape:
                out = self.layout.ravel(out)
        else:
            out = self.layout.ravel(self.f(t, self.layout.unravel(y), *self.args))
        if out.dtype != y.dtype:
            raise wrong_dtype(out, self.dtype)
        return out

    def check(self, path: Trajectory) -> None:
        """Raise RuntimeError if f differs from the f in the solve of a Trajectory, or has no
        graph."""
        self.module_state.check()
        if path.f0 is None:
            return
        try:
            self._check_values(path, path.f0)
        except RejectStep:
            raise RuntimeError(REFUSED.format(t=path.t0)) from None

    def _check_values(self, path: Trajectory, before: Tensor) -> None:
        drawn = self.start is not None and self.start.drawn
        with torch.enable_grad():
            y = path.y0.detach().clone().requires_grad_()
            out = self._probe_dydt(path.t0, y)
        check_same(path.t0, path.y0, before, out.detach(), path.h0, drawn)
        if not out.requires_grad:
            check_graph(lambda y: self._probe_dydt(path.t0, y), path.y0)
        if path.f1 is not None:
            with torch.no_grad():
                now = self._probe_dydt(path.t, path.y)
            check_same(path.t, path.y, path.f1, now, path.h0, drawn)

    def probe(self, t: float, y: Tensor) -> Tensor:
        """f at (t, y), (n,), not counted and not stored."""
        time = torch.full((), t, dtype=self.dtype, device=self.device)
        return called_first(self.eval, self, time, y)

    def _probe_dydt(self, t: float, y):
        """y' at (t, y), (n,), not counted and not stored."""
        out = self.probe(t, y)
        if self.mass is None:
            return out
        return self.mass.pinv_apply(out)

    def broadcast_eval(self, t: Tensor, y: Tensor) -> Tensor:
        """f of every row of y, (m, n), in one call with a leading dimension. Correct only if f
        broadcasts over it."""
        out = self.f(t, self.layout.unravel(clamp_negative(y, self.nonnegative_mask)), *self.args)
        return self.layout.ravel_rows(out, len(y))

    def allows_batch_eval(self, t: Tensor, y: Tensor) -> bool:
        """Whether one call evaluates f at many points, so that further points cost little. t (m,),
        y (m, n): such points."""
        if self.together is None:
            self.together = allows_vmap(self, t, y)
        return self.together

    def batch_eval(self, t: Tensor, y: Tensor) -> Tensor:
        """f at many points, t (m,) and y (m, n) -> (m, n): one call under vmap if f allows it,
        otherwise a loop."""
        if self.allows_batch_eval(t, y):
            return torch.func.vmap(self.eval)(t, y)
        return torch.stack([self.eval(ti, yi) for ti, yi in zip(t, y)])


def clamp_negative(y: Tensor, mask: Tensor | None) -> Tensor:
    """y, (..., n), with zero for negative values of the components of the mask, (n,). y
    itself without a mask."""
    if mask is None:
        return y
    return torch.where(mask & (y < 0), torch.zeros_like(y), y)


def called_first(call: Callable[..., R], field: FieldOfUser, *arguments: Any) -> R:
    """call(*arguments), which calls f of the field. Raise TypeError if f is a module that cannot
    take a state of this dtype, and ValueError if it holds tensors on another device."""
    try:
        out = call(*arguments)
        if isinstance(out, torch.Tensor):
            check_values(out, "the vector field's result")
        return out
    except RuntimeError as error:
        raise_if_exhausted(error)
        if "device" in str(error):
            _refuse_other_devices(field, error)
        if "dtype" not in str(error):
            raise
        if isinstance(field.f, torch.nn.Module):
            parameters = list(field.f.parameters())
        else:
            parameters = []
        own = {str(p.dtype) for p in parameters} - {str(field.dtype)}
        raise TypeError(
            f"the vector field cannot take a state of {field.dtype}"
            + (f": it has parameters of {' and '.join(sorted(own))}" if own else "")
            + f"; convert the module with module.to({field.dtype}), or y0 ({error})"
        ) from error


def _refuse_other_devices(field: FieldOfUser, error: RuntimeError) -> None:
    """Raise ValueError if f or its args hold tensors on another device than the state. Numbers,
    tensors without a dimension, go with every device."""
    device = field.device
    away = {
        f"{tuple(x.shape)} on {x.device}"
        for x in held(field.f, field.args)
        if x.dim() and x.device != device
    }
    if not away:
        return
    found = ", ".join(sorted(away)[:4])
    raise ValueError(
        f"the state is on {device}, but f or its args hold tensors on another device, of shape"
        f" {found}: move them with module.to({str(device)!r}) or tensor.to(y.device), or y0 to"
        f" their device ({error})"
    ) from error


def wrong_dtype(out: Tensor, dtype: torch.dtype) -> TypeError:
    """The error for an f that returned out for a state of this dtype."""
    if out.is_complex():
        return TypeError(
            f"the vector field returned {out.dtype} for a real state, {dtype}. A state must be"
            " real: hold a complex one as torch.view_as_real(z), and let f return"
            " torch.view_as_real(f(t, torch.view_as_complex(y)))"
        )
    return TypeError(
        f"the vector field returned {out.dtype} for a state of {dtype}; convert the module or y0 so"
        " that both agree, for instance with module.to(y0.dtype). In a function it is a constant,"
        " a forcing or an argument that is not of the dtype of y: convert it with .to(y.dtype)"
    )
