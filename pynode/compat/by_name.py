"""Calls of torchdiffeq that ``solve`` runs: every method, engine and adjoint of pynode."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..backends import registry as backends
from ..core.events import Event
from ..core.solution import Solution
from ..integrate import solve
from ..methods.base import Method
from ..methods.tableau import RungeKutta
from .adaptive import FAR
from .call import EXCLUSIVE, Call, OdeintError, split
from .methods import ADAMS, ADAPTIVE, EITHER, FIXED, GAUSS, SCIPY, runner, unknown

RENAMED = {
    "first_step": "first_step",
    "min_step": "min_step",
    "max_step": "max_step",
    "max_num_steps": "max_steps",
    "step_t": "tstops",
    "jump_t": "jumps",
    "step_size": "step_size",
}
IGNORED = {"dtype"}  # time is float64 here


def solve_by_name(
    call: Call, name: str | Method, func: Callable[..., Any], given: dict[str, Any]
) -> Any:
    """The result of odeint for a Call, from solve(method=name, **given). With given['dense'] it is
    the function of the time.

    func: the user's own, whose parameters get gradients.
    """
    options = {RENAMED[key]: value for key, value in call.options.items() if key in RENAMED}
    served = {*RENAMED, *IGNORED, *({"grid_constructor"} if name in FIXED else ())}
    unexpected = {key: value for key, value in call.options.items() if key not in served}
    if call.own_norm:
        unexpected["norm"] = call.norm
    if unexpected:
        warnings.warn(f"{name}: Unexpected arguments {unexpected}", stacklevel=4)
    if call.callbacks:
        names = set(call.callbacks)
        warnings.warn(
            f"Solver '{name}' does not support callbacks {names}: give callback= of solve",
            stacklevel=4,
        )
    if call.shapes is not None and given.get("batched"):
        raise ValueError(
            "batched=True takes one tensor y0, (B, ...), here: join the parts, or give them to"
            " solve"
        )
    if call.y0.is_complex():
        raise TypeError(
            f"a complex state is for torchdiffeq's methods, not for {name!r}: give its real and"
            " imaginary part"
        )
    method = find(name, given.get("backend", "auto"))
    if len(call.t) == 1:
        return call.output(call.y0.unsqueeze(0))
    rtol, atol = _tolerances(call)
    keywords = {"rtol": rtol, "atol": atol, "max_steps": 2**31 - 1, **options, **given}
    if (
        isinstance(func, torch.nn.Module)
        and call.func is not func
        and (own := list(func.parameters()))
    ):
        # All parameters of the module: solve sees only a function and the tensors that it uses at
        # the start.
        keywords.setdefault("params", own)
    if name in FIXED:
        keywords = {**keywords, **_on_grid(call, keywords)}
    if call.event_fn is None:
        solution = solve(call.func, call.y0, call.t, method=method, **keywords)
        if not keywords.get("dense"):
            return call.output(solution.y)
        return Dense(solution, call.shapes)
    return _to_event(call, method, keywords)


@dataclass(frozen=True)
class Dense:
    """A dense solution in torchdiffeq's form: a function of the time. shapes: see Call."""

    solution: Solution
    shapes: list[torch.Size] | None

    def __call__(self, t: float | torch.Tensor) -> Any:
        joined = self.solution(t)
        if self.shapes is None:
            return joined
        return split(joined, self.shapes)


def _on_grid(call, keywords):
    """The keywords with which ``solve`` takes the steps of torchdiffeq's grid: from stop to
    stop."""
    if keywords.get("dense"):
        raise ValueError(
            "a dense solution needs steps under error control, not those of a grid: use 'dopri5'"
        )
    if "step_size" in keywords and "grid_constructor" in call.options:
        raise ValueError(EXCLUSIVE)
    if call.event_fn is not None or "step_size" in keywords:
        return {}
    grid = call.t.detach()
    if "grid_constructor" in call.options:
        grid = call.options["grid_constructor"](call.func, call.y0, grid)
    return {"step_size": float((grid[-1] - grid[0]).abs()), "tstops": grid.detach()}


def _to_event(call, method, keywords):
    start = call.t[:1].to(torch.float64)
    if call.t[1] > call.t[0]:
        far = start.detach() + FAR
    else:
        far = start.detach() - FAR

    def condition(t: torch.Tensor, y: Any) -> torch.Tensor:
        return call.event_fn(t, y)

    solution = solve(
        call.func,
        call.y0,
        torch.cat((start, far)),
        method=method,
        events=Event(condition, terminal=True),
        **keywords,
    )
    if not solution.events:
        raise OdeintError(f"the event did not occur: {solution.message}")
    hit = solution.events[-1]
    return hit.t.to(call.t), call.output(torch.stack((call.y0, hit.y)))


def find(name: str | Method, backend: Any) -> Any:
    """The method that solve takes for a name of torchdiffeq or pynode. Raises ValueError if there
    is none."""
    if not isinstance(name, str):
        return name
    if name in ADAMS or name in GAUSS or name == SCIPY:
        if name in GAUSS:
            near = "'radauIIA5'"
        else:
            near = "'adamspece' or 'fbdf'"
        raise ValueError(
            f"{name!r} exists only in torchdiffeq, and takes no keywords of solve: use {near}"
        )
    source = {**ADAPTIVE, **FIXED, **EITHER}.get(name)
    if isinstance(source, RungeKutta):
        if name in FIXED:
            return runner(source).fixed()
        return runner(source)
    if source is not None:
        return source
    if name.lower() == "auto":
        return "auto"
    if backend not in ("auto", "torch"):
        return name  # solve raises the error for a name that no engine has
    try:
        backends.choose(backend, name)
    except ValueError:
        raise unknown(name) from None
    return name


def _tolerances(call):
    """rtol as a float, and atol as ``solve`` takes it. An rtol that is too small for the dtype is
    raised."""
    rtol = call.rtol
    atol = call.atol
    if isinstance(rtol, torch.Tensor):
        if rtol.numel() > 1 and bool((rtol != rtol.reshape(-1)[0]).any()):
            raise ValueError(
                "rtol for each component is for torchdiffeq's methods: here give one rtol, and atol"
                " by component"
            )
        rtol = float(rtol.reshape(-1)[0])
    if isinstance(atol, torch.Tensor):
        if atol.dim():
            atol = atol.expand(call.y0.shape).reshape(-1)
        else:
            atol = float(atol)
    return max(float(rtol), 8 * torch.finfo(call.y0.dtype).eps), atol
