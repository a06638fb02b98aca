"""A solve under the transforms of torch.func: grad, vjp, jvp, jacrev, jacfwd, hessian, vmap, in any
order that torch allows.

Under a transform tensors are wrapped, and an integrator cannot look at their values. So the whole
solve is one function of all its tensors, with rules: what comes in is unwrapped, solved (and, for a
rule, solved again) as ever, and wrapped as it goes out. Nothing is kept between the rules, so that
each costs a solve of its own; vmap solves row by row, every row with its own steps.
"""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch.autograd import forward_ad

from ..core.arguments import Arguments
from ..core.cotangents import none_to_zeros
from ..core.layout import Layout
from ..core.problem import ODEProblem
from ..core.solution import Solution
from ..core.split_field import SplitField
from ..core.stats import Stats
from ..core.status import Status
from .rules import SolveFn


def active(problem: ODEProblem) -> bool:
    """Whether a transform of torch.func is under way, or a tensor of the problem has a tangent
    (torch.autograd.forward_ad)."""
    if torch._C._are_functorch_transforms_active():
        return True
    if forward_ad._current_level < 0:
        return False
    if isinstance(problem.f, torch.nn.Module):
        held = [*problem.f.parameters(), *problem.f.buffers()]
    else:
        held = []
    layout = Layout(problem.y0)
    given = [layout.ravel(problem.y0), problem.tspan, *problem.args, *held]
    if any(isinstance(x, torch.Tensor) and _pushed(x) for x in given):
        return True
    _check_closure(problem, _pushed)
    return False


def transformed(run, problem: ODEProblem, arguments: Arguments) -> Solution:
    """run(arguments), a solve, as a function that torch.func can transform. ValueError for what it
    cannot be."""
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
                f" leave it away; {instead}"
            )
    if isinstance(problem.f, SplitField):
        raise ValueError(
            "a SplitField is not for torch.func's transforms or forward mode: pass its sum as one"
            " function or module"
        )


def _check_closure(problem, depends):
    """ValueError where a plain f uses a tensor with a derivative or a batch that did not come in
    through args."""
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
    except Exception:  # f may not like these values; then only the solve itself can tell
        return
    if depends(out):
        raise ValueError(
            "inside torch.func's transforms and in forward mode f must not close over tensors that"
            " have derivatives or a batch: pass them through args, or make f a module, whose"
            " parameters torch.func.functional_call replaces"
        )


class Plan:
    """How a solve is put together from tensors: the flat y0, the times if they are a tensor, those
    in args, and the parameters and buffers of a module."""

    def __init__(self, run, problem, arguments):
        self.run = run
        self.problem = problem
        self.arguments = arguments
        self.layout = Layout(problem.y0)
        self.timed = isinstance(problem.tspan, torch.Tensor)
        self.places = [i for i, a in enumerate(problem.args) if isinstance(a, torch.Tensor)]
        if isinstance(problem.f, torch.nn.Module):
            module = problem.f
        else:
            module = None
        if module is None:
            held = {}
        else:
            held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self.names = list(held)
        tensors = [self.layout.ravel(problem.y0), *([problem.tspan] if self.timed else ())]
        self.tensors = [*tensors, *(problem.args[i] for i in self.places), *held.values()]
        if arguments.params is None:
            chosen = None
        else:
            chosen = {id(p) for p in arguments.params}
        fixed = len(tensors)  # y0 and t have derivatives whatever params names
        self.wanted = [
            x.is_floating_point()
            and (x.requires_grad or _wrapped(x) or _pushed(x))
            and (i < fixed or chosen is None or id(x) in chosen)
            for i, x in enumerate(self.tensors)
        ]
        self.solved = []

    def solve(self, tensors, **changed):
        """The outputs (T, n) from plain tensors, NaN where a solve that may fail did not arrive."""
        rest = iter(tensors)
        y0 = next(rest)
        if self.timed:
            times = next(rest)
        else:
            times = self.problem.tspan
        args = list(self.problem.args)
        for i in self.places:
            args[i] = next(rest)
        f = self.problem.f
        held = {name: next(rest) for name in self.names}
        if held:
            module = f

            def f(t, y, *args):
                return torch.func.functional_call(module, held, (t, y, *args))

        params = [
            x
            for x, wanted in zip(tensors, self.wanted, strict=True)
            if wanted and x is not y0 and x is not times
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
        found = self.run(arguments)
        self.solved.append(found)
        if self.layout.flat:
            ys = found.y
        else:
            ys = self.layout.ravel_rows(found.y, len(found.t))
        missing = len(times) - len(ys)
        if not missing:
            return ys
        return torch.cat((ys, ys.new_full((missing, ys.shape[1]), float("nan"))))

    def leaves(self, tensors):
        """Copies to differentiate with respect to, and the list of those that are wanted."""
        leaves = [
            x.detach().clone().requires_grad_() if wanted else x
            for x, wanted in zip(tensors, self.wanted, strict=True)
        ]
        return leaves, [x for x, wanted in zip(leaves, self.wanted, strict=True) if wanted]

    def spread(self, found, tensors):
        """Those of the wanted tensors beside all tensors, zeros for the rest."""
        found = iter(found)
        every = [next(found) if wanted else None for wanted in self.wanted]
        return tuple(none_to_zeros(every, tensors))

    def solution(self, rows) -> Solution:
        """The Solution around the transformed outputs; its counts are those of all solves so
        far."""
        worst = next((s for s in self.solved if s.status is not Status.SUCCESS), self.solved[0])
        stats = Stats(
            **{f.name: sum(getattr(s.stats, f.name) for s in self.solved) for f in fields(Stats)}
        )
        if self.timed:
            times = self.problem.tspan
        else:
            times = torch.as_tensor(self.problem.tspan, dtype=torch.float64)
        ended = worst.status, worst.message, stats, worst.method
        return Solution(
            times,
            self.layout.unravel(rows),
            *ended,
            self.layout,
            [],
            (),
            worst.choice,
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
