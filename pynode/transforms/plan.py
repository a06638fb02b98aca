"""A solve inside the transforms of torch.func: grad, vjp, jvp, jacrev, jacfwd, hessian, vmap, in
any order that torch allows.

Inside a transform tensors are wrapped, and an integrator cannot read their values. Therefore the
whole solve is one function of all its tensors, with rules. A rule unwraps its inputs, solves (for
derivatives again), and wraps the outputs. The rules share nothing, so that each costs its own
solve. vmap solves row by row; every row has its own steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch.autograd import forward_ad

from ..core.arguments import Arguments
from ..core.cotangents import none_to_zeros
from ..core.layout import Layout
from ..core.memory import raise_if_exhausted
from ..core.problem import ODEProblem
from ..core.solution import Solution
from ..core.split_field import SplitField
from ..core.stats import Stats
from ..core.status import Status
from .rules import SolveFn


def active(problem: ODEProblem) -> bool:
    """Whether a transform of torch.func is active, or a tensor of the problem has a tangent
    (torch.autograd.forward_ad)."""
    if torch._C._are_functorch_transforms_active():
        return True
    if forward_ad._current_level < 0:
        return False
    module_tensors: list[torch.Tensor] = []
    if isinstance(problem.f, torch.nn.Module):
        module_tensors = [*problem.f.parameters(), *problem.f.buffers()]
    layout = Layout(problem.y0)
    inputs = [layout.ravel(problem.y0), problem.tspan, *problem.args, *module_tensors]
    if any(isinstance(x, torch.Tensor) and _pushed(x) for x in inputs):
        return True
    _check_closure(problem, _pushed)
    return False


def transformed(
    run: Callable[[Arguments], Any], problem: ODEProblem, arguments: Arguments
) -> Solution:
    """run(arguments), which is a solve, as a function that torch.func can transform. Raises
    ValueError for options that it does not support."""
    _check(problem, arguments)
    _check_closure(problem, _depends)
    plan = Plan(run, problem, arguments)
    rows = SolveFn.apply(plan, *plan.tensors)
    return plan.solution(rows)


def _check(problem, arguments):
    for name, instead in (
        ("dense", "ask for the times that you need in t"),
        ("events", "solve outside of the transform"),
        ("jumps", "solve outside of the transform"),
        ("batched", "vmap solves the rows one by one, each with its own steps"),
    ):
        value = getattr(arguments, name)
        nothing = value is False or (isinstance(value, (list, tuple)) and not value)
        if not nothing:
            raise ValueError(
                f"{name} is not for a solve inside torch.func's transforms or in forward mode:"
                f" remove it; {instead}"
            )
    if isinstance(problem.f, SplitField):
        raise ValueError(
            "a SplitField is not for torch.func's transforms or forward mode: pass its sum as one"
            " function or module"
        )


def _check_closure(problem, depends):
    """Raises ValueError if a plain f uses a tensor with a derivative or a batch that is not in
    args."""
    if isinstance(problem.f, torch.nn.Module):
        return
    args = [
        torch.ones(a.shape, dtype=a.dtype, device=a.device) if isinstance(a, torch.Tensor) else a
        for a in problem.args
    ]
    layout = Layout(problem.y0)
    plain = torch.ones(layout.size, dtype=layout.dtype, device=layout.device)
    try:
        out = layout.ravel(
            problem.f(
                torch.ones((), dtype=layout.dtype, device=layout.device),
                layout.unravel(plain),
                *args,
            )
        )
    except Exception as error:  # f may reject these values; the solve itself then finds the error
        raise_if_exhausted(error)
        return
    if depends(out):
        raise ValueError(
            "inside torch.func's transforms and in forward mode f must not close over tensors that"
            " have derivatives or a batch: pass them through args, or make f a module, whose"
            " parameters torch.func.functional_call replaces"
        )


class Plan:
    """How a solve is built from tensors: the flat y0, the times if they are a tensor, the tensors
    in args, and the parameters and buffers of a module. native: whether native code solves."""

    def __init__(
        self, run: Callable[[Arguments], Any], problem: ODEProblem, arguments: Arguments
    ) -> None:
        self.run = run
        self.problem = problem
        self.arguments = arguments
        self.layout = Layout(problem.y0, problem.state_names())
        self.native = arguments.backend == "native"
        self.timed = isinstance(problem.tspan, torch.Tensor)
        self.places = [i for i, a in enumerate(problem.args) if isinstance(a, torch.Tensor)]
        module_tensors: dict[str, torch.Tensor] = {}
        if isinstance(problem.f, torch.nn.Module):
            module_tensors = {
                **dict(problem.f.named_parameters()),
                **dict(problem.f.named_buffers()),
            }
        self.names = list(module_tensors)
        tensors = [self.layout.ravel(problem.y0), *([problem.tspan] if self.timed else ())]
        self.tensors = [*tensors, *(problem.args[i] for i in self.places), *module_tensors.values()]
        params: Any = arguments.params
        if params is None:
            chosen = None
        else:
            chosen = {id(p) for p in params}
        fixed = len(tensors)  # y0 and t always have derivatives, also if params is given
        self.needs_grad = [
            x.is_floating_point()
            and (x.requires_grad or _wrapped(x) or _pushed(x))
            and (i < fixed or chosen is None or id(x) in chosen)
            for i, x in enumerate(self.tensors)
        ]
        self.solutions: list[Solution] = []

    def solve(self, tensors: Sequence[torch.Tensor], **changed: Any) -> torch.Tensor:
        """The outputs (T, n) from plain tensors. NaN for times that a solve with throw=False did
        not reach."""
        rest = iter(tensors)
        y0 = next(rest)
        times: Any = next(rest) if self.timed else self.problem.tspan
        args = list(self.problem.args)
        for i in self.places:
            args[i] = next(rest)
        f = self.problem.f
        module_tensors = {name: next(rest) for name in self.names}
        if module_tensors:
            module: Any = f

            def f(t: Any, y: Any, *args: Any) -> Any:
                return torch.func.functional_call(module, module_tensors, (t, y, *args))

        params = [
            x
            for x, needed in zip(tensors, self.needs_grad, strict=True)
            if needed and x is not y0 and x is not times
        ]
        problem = self.problem
        arguments = replace(
            self.arguments,
            f=f,
            y0=self.layout.unravel(y0),
            t=times,
            args=tuple(args),
            jac=problem.jac,
            mass=problem.mass,
            params=params,
            **changed,
        )
        solution = self.run(arguments)
        self.solutions.append(solution)
        ys = solution.y
        if not self.layout.flat:
            ys = self.layout.ravel_rows(ys, len(solution.t))
        missing = len(times) - len(ys)
        if not missing:
            return ys
        return torch.cat((ys, ys.new_full((missing, ys.shape[1]), float("nan"))))

    def make_leaves(
        self, tensors: Sequence[torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """(copies of the tensors, the list of those that need gradients, which are leaves)."""
        leaves = [
            x.detach().clone().requires_grad_() if needed else x
            for x, needed in zip(tensors, self.needs_grad, strict=True)
        ]
        return leaves, [x for x, needed in zip(leaves, self.needs_grad, strict=True) if needed]

    def scatter_grads(
        self, grads: Sequence[torch.Tensor | None], tensors: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """One gradient for each tensor: those given, in order, for the tensors that need gradients,
        and zeros for the others."""
        rest = iter(grads)
        every = [next(rest) if needed else None for needed in self.needs_grad]
        return tuple(none_to_zeros(every, tensors))

    def solution(self, rows: torch.Tensor) -> Solution:
        """The Solution with the transformed outputs. Its counts are the sums over all solves so
        far."""
        worst = next(
            (s for s in self.solutions if s.status is not Status.SUCCESS), self.solutions[0]
        )
        stats = Stats(
            **{f.name: sum(getattr(s.stats, f.name) for s in self.solutions) for f in fields(Stats)}
        )
        times: Any = self.problem.tspan
        if not self.timed:
            times = torch.as_tensor(times, dtype=torch.float64)
        return Solution(
            t=times,
            y=self.layout.unravel(rows),
            status=worst.status,
            message=worst.message,
            stats=stats,
            method=worst.method,
            backend=worst.backend,
            layout=self.layout,
            segments=[],
            choice=worst.choice,
            examine=None if worst.success else worst.report,
        )


def _depends(x) -> bool:
    """Whether a tensor has a derivative or a batch at any level of the transforms."""
    core = torch._C._functorch
    while True:
        if x.requires_grad or core.is_batchedtensor(x) or _pushed(x):
            return True
        if not _wrapped(x):
            return False
        x = core.get_unwrapped(x)


def _pushed(x) -> bool:
    return forward_ad.unpack_dual(x).tangent is not None


def _wrapped(x) -> bool:
    return torch._C._functorch.is_functorch_wrapped_tensor(x)
