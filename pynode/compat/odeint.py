"""odeint, odeint_event and odeint_dense: the calls of torchdiffeq, with every method, engine and
adjoint of pynode by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from ..backends.torch.event_time_gradient import moved_time
from ..core.torch_context import compile_disabled, current_device
from ..methods.base import Method
from . import adaptive, grid, scipy
from .adams import COARSE, MOST, GridAdams
from .by_name import Dense, solve_by_name
from .call import CALLBACKS, check_callbacks, prepare
from .methods import ADAMS, ADAPTIVE, EITHER, FIXED, SCIPY, runner

# Keywords of torchdiffeq's odeint and odeint_adjoint.
TORCHDIFFEQ = {
    "rtol",
    "atol",
    "method",
    "options",
    "adjoint_rtol",
    "adjoint_atol",
    "adjoint_method",
    "adjoint_options",
    "adjoint_params",
}


@compile_disabled
def odeint(
    func: Callable[..., Any],
    y0: Any,
    t: torch.Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | Method | None = None,
    options: dict[str, Any] | None = None,
    event_fn: Callable[..., torch.Tensor] | None = None,
    **solve_options: Any,
) -> Any:
    """The states at the times t of dy/dt = func(t, y), y(t[0]) = y0: (T, *y0.shape), or a tuple of
    such tensors. As torchdiffeq 0.2.5.

    func: nn.Module or function. It gets t, 0-d, and y like y0, and returns dy/dt. Its attributes
        callback_step, callback_accept_step and callback_reject_step (t0, y0, dt) are called as in
        torchdiffeq.
    y0: tensor of any shape, real or complex, or a tuple of them.
    t: (T,) floating tensor, strictly monotone.
    rtol, atol: a number, a tensor like y0, or for a tuple state one for each part.
    method: 'dopri5' (None), or any of torchdiffeq's names (docs/torchdiffeq.md says which methods
        run for them). Gradients then go through the operations themselves, as in torchdiffeq. Or
        any method of pynode, 'fbdf', 'rodas5p', ...: then ``solve`` runs, with its discrete
        adjoint.
    options: torchdiffeq's.
    event_fn: event_fn(t, y); the solve ends where it crosses zero, however late. Returns (time,
        states at the start and at the event). Of the times in t only the first one and the
        direction count.
    solve_options: keywords of ``solve``: adjoint='gauss', backend='native', jac=..., max_steps=...
        ``solve`` then also runs for torchdiffeq's names of methods.

    Raises BadInput and BadType, which are AssertionErrors and also ValueErrors or TypeErrors, and
    ValueError or TypeError for input that makes no sense. Raises OdeintError, an AssertionError, or
    SolveError if the solve fails. Chen, torchdiffeq (2018).
    """
    call = prepare(func, y0, t, rtol, atol, options, event_fn)
    name = "dopri5" if method is None else method
    if solve_options or not _native(name, call.options):
        return solve_by_name(call, name, func, solve_options)
    supported: tuple[str, ...] = CALLBACKS[:1]
    if name in ADAPTIVE:
        supported = CALLBACKS
    elif name == SCIPY:
        supported = ()
    check_callbacks(call, str(name), supported)
    if len(call.t) == 1:
        return call.output(call.y0.unsqueeze(0))
    integrate, instance = _engine(call, name)
    if name == SCIPY:
        return call.output(integrate(call))
    with current_device(call.y0.device):
        found = integrate(call, instance)
    if event_fn is None:
        return call.output(_shaped(call, found))
    time, states = found
    return torch.tensor(time, dtype=call.t.dtype, device=call.t.device), call.output(
        _shaped(call, states)
    )


def _native(name, options) -> bool:
    """Whether torchdiffeq's own way of solving applies: for its names, and for names of both
    packages if the options ask for a grid."""
    if name in EITHER:
        return bool(grid.OPTIONS & set(options))
    return name in ADAPTIVE or name in FIXED or name in ADAMS or name == SCIPY


def _engine(call, name):
    """(integrate, method) for one of torchdiffeq's names. Warns about options that it does not
    have."""
    options = call.options
    if name == SCIPY:
        known = {"solver", "min_step", "max_step", "grid_points", "eps"}
        engine = (scipy.integrate, None)
    elif name in ADAPTIVE:
        known = adaptive.OPTIONS
        engine = (adaptive.integrate, runner(ADAPTIVE[name]))
    elif name in ADAMS:
        if call.y0.abs().dtype == torch.float64:
            usual = MOST
        else:
            usual = COARSE
        corrected = ADAMS[name] and options.get("implicit", True)
        engine = (
            grid.integrate,
            GridAdams(corrected, options.get("max_order", usual), options.get("max_iters", 4)),
        )
        known = grid.OPTIONS | {"max_order", "max_iters"} | ({"implicit"} if ADAMS[name] else set())
    else:
        known = grid.OPTIONS
        engine = (grid.integrate, runner({**FIXED, **EITHER}[name]).fixed())
    unknown = {key: value for key, value in options.items() if key not in known}
    if unknown:
        warnings.warn(f"{name}: Unexpected arguments {unknown}", stacklevel=4)
    return engine


def _shaped(call, flat):
    """(T, *y0.shape) from real flat states, (T, n)."""
    if call.y0.is_complex():
        flat = torch.view_as_complex(flat.reshape(len(flat), -1, 2))
    return flat.reshape((len(flat), *call.y0.shape))


def odeint_event(
    func: Callable[..., Any],
    y0: Any,
    t0: float | torch.Tensor,
    *,
    event_fn: Callable[..., torch.Tensor],
    reverse_time: bool = False,
    odeint_interface: Callable[..., Any] = odeint,
    **kwargs: Any,
) -> tuple[torch.Tensor, Any]:
    """(t, solution) for the first zero of event_fn(t, y) after t0, with the gradients of its time
    and state.

    t0: tensor with one element.
    solution: the states at t0 and at the event, (2, *y0.shape) or a tuple of such tensors.
    odeint_interface: odeint or odeint_adjoint, which get the other keywords.

    Gradients use the implicit function theorem (Chen, Amos & Nickel, Learning neural event
    functions, ICLR 2021). They reach everything that event_fn depends on, its own parameters
    included.
    """
    start = torch.as_tensor(t0).reshape(-1)
    if reverse_time:
        other = start.detach() - 1.0
    else:
        other = start.detach() + 1.0
    time, solution = odeint_interface(
        func, y0, torch.cat((start, other)), event_fn=event_fn, **kwargs
    )
    extra = set(kwargs) - TORCHDIFFEQ
    if extra or not _native(kwargs.get("method") or "dopri5", kwargs.get("options") or {}):
        return time, solution  # solve computes these gradients itself
    call = prepare(func, y0, torch.cat((start, other)), 0.0, 0.0, None, event_fn)
    if not torch.is_grad_enabled():
        return time, solution
    if call.shapes is None:
        time, state = _event_gradient(call, time.detach(), solution[-1])
        return time, _with_last(solution, state)
    joined = torch.cat([part[-1].reshape(-1) for part in solution])
    time, joined = _event_gradient(call, time.detach(), joined)
    pairs = zip(solution, call.output(joined), strict=True)
    return time, tuple(_with_last(part, last) for part, last in pairs)


def _with_last(states, last):
    """The states (T, ...) with another last one."""
    return torch.cat((states[:-1], last.unsqueeze(0)))


def _event_gradient(call, time, state):
    """Time and state of an event as functions of the state at fixed time and of everything that
    event_fn depends on.

    d time = -dg / (dg/dt + dg/dy f), where g is the component of event_fn that is zero there. The
    state changes by f d time.
    """
    dtype = call.y0.abs().dtype
    name = getattr(call.event_fn, "__name__", "event_fn")
    event_time = time.to(dtype)
    begin = float(call.t[0].detach())
    with torch.no_grad():
        which = int(call.event_fn(event_time, state).reshape(-1).abs().argmin())
        slope = call.func(event_time, state.detach()).to(state.dtype)

    def g(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return call.event_fn(t, y).reshape(-1)[which]

    moved = moved_time(g, lambda t: t.squeeze(0).to(dtype), float(time), begin, state, slope, name)
    if moved is None:
        return time, state
    return time + moved.to(time.dtype), state + slope * moved.to(state.real.dtype)


@compile_disabled
def odeint_dense(
    func: Callable[..., Any],
    y0: Any,
    t0: float | torch.Tensor,
    t1: float | torch.Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | Method | None = None,
    options: dict[str, Any] | None = None,
    **solve_options: Any,
) -> Dense:
    """fn(t) -> the state of dy/dt = func(t, y), y(t0) = y0, at any time between t0 and t1:
    (*t.shape, *y0.shape).

    t0, t1: numbers or tensors with one element.
    t of fn: a number or a tensor of any shape.
    y0: may be a tuple.
    method: any method of odeint except those on a grid and 'scipy_solver'.

    Differentiable in y0, the parameters and t.
    """
    times = torch.stack([torch.as_tensor(x, dtype=torch.float64).reshape(()) for x in (t0, t1)])
    call = prepare(func, y0, times, rtol, atol, options, None)
    name = "dopri5" if method is None else method
    return solve_by_name(call, name, func, {**solve_options, "dense": True})
