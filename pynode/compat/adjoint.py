"""odeint_adjoint: gradients by the adjoint equation, which is solved backwards together with the
states, as in torchdiffeq.

Chen, Rubanova, Bettencourt & Duvenaud, Neural ordinary differential equations, NeurIPS 2018,
appendix B and C.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NoReturn

import torch

from ..core.batched_cotangents import by_row
from ..core.cotangents import none_to_zeros
from ..core.double_backward import DoubleBackward, pull
from ..core.leaves import leaves_of
from ..core.module_state import ModuleState
from ..core.saved_tensors import unhooked
from ..core.sharding import check_sharding
from ..core.torch_context import compile_disabled, no_parametrize_cache
from ..methods.base import Method
from .by_name import solve_by_name
from .call import CALLBACKS, mixed, prepare, split
from .odeint import _native, odeint


@compile_disabled
def odeint_adjoint(
    func: Callable[..., Any],
    y0: Any,
    t: torch.Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | Method | None = None,
    options: dict[str, Any] | None = None,
    event_fn: Callable[..., torch.Tensor] | None = None,
    adjoint_rtol: Any = None,
    adjoint_atol: Any = None,
    adjoint_method: str | Method | None = None,
    adjoint_options: dict[str, Any] | None = None,
    adjoint_params: Sequence[torch.Tensor] | None = None,
    **solve_options: Any,
) -> Any:
    """odeint, differentiated by an equation that is solved backwards. Its memory does not grow with
    the steps.

    adjoint_rtol, adjoint_atol, adjoint_method, adjoint_options: of the backward solve. The defaults
        are those of the forward solve, except for its norm. adjoint_options['norm']: 'seminorm'
        (without the parameters: Kidger, Chen & Lyons, 2021), or a function of (t, y, adj_y,
        *adj_params); of (t, *y, *adj_y, *adj_params) if y is a tuple.
    adjoint_params: the tensors other than y0 and t that get gradients; func.parameters() by
        default. The backward solve calls the attributes callback_step_adjoint, ... of func.
    event_fn: as in odeint. The returned time has no gradient (zeros, as in torchdiffeq);
        odeint_event computes it.
    method: with a method of pynode, or with solve_options, ``solve`` computes the gradient, with
        adjoint='auto' if none is given. This is the discrete adjoint, which stiff problems need.
        adjoint_rtol and so on are then options of the adjoint, pynode.GaussAdjoint(rtol=...).
    """
    if adjoint_params is None and not isinstance(func, torch.nn.Module):
        raise ValueError(
            "func must be an instance of nn.Module to specify the adjoint parameters; alternatively"
            " they can be specified explicitly via the `adjoint_params` argument. If there are no"
            " parameters then it is allowable to set `adjoint_params=()`."
        )
    if adjoint_method is None:
        adjoint_method = method
    given = _adjoint_options(options, adjoint_options, adjoint_method == method)
    params = _grad_targets(func, adjoint_params, given.get("norm"))
    call = prepare(func, y0, t, rtol, atol, options, event_fn)
    name = "dopri5" if method is None else method
    if solve_options or not _native(name, call.options):
        return solve_by_name(call, name, func, {"params": list(params), **solve_options})
    given["norm"] = _adjoint_norm(given.get("norm"), call)
    back = {
        "rtol": rtol_of(call.rtol if adjoint_rtol is None else adjoint_rtol),
        "atol": rtol_of(call.atol if adjoint_atol is None else adjoint_atol),
        "method": adjoint_method,
    }
    forward = {
        "rtol": call.rtol,
        "atol": call.atol,
        "method": method,
        "options": {**call.options, "norm": call.norm},
    }
    field = _with_callbacks(call.func, func, call.callbacks)
    module_state = ModuleState(func, call.y0.device)
    field.every = adjoint_params is None
    module_state.watch(params)
    if torch.is_grad_enabled() and (call.y0.requires_grad or params):
        check_sharding(module_state.modules)
    result = Backsolve.apply(
        field,
        module_state,
        forward,
        back,
        given,
        call.event_fn,
        call.t.requires_grad,
        call.y0,
        call.t,
        *params,
    )
    if event_fn is None:
        return call.output(result)
    time, states = result
    return time, call.output(states)


def _adjoint_options(options, adjoint_options, same_method):
    """The options of the backward solve, a dict: those given, or those of the forward solve."""
    if not same_method and options is not None and adjoint_options is None:
        raise ValueError(
            "If `adjoint_method != method` then we cannot infer `adjoint_options` from `options`."
            " So as `options` has been passed then `adjoint_options` must be passed as well."
        )
    if adjoint_options is None:
        return {k: v for k, v in (options or {}).items() if k != "norm"}
    return dict(adjoint_options)


def _grad_targets(func, adjoint_params, norm):
    """The tensors other than y0 and t that get gradients, a tuple. norm: of the adjoint. Warns if a
    norm function gets fewer tensors than were given."""
    candidates = tuple(parameters_of(func) if adjoint_params is None else adjoint_params)
    params = tuple(p for p in candidates if p.requires_grad)
    if len(params) < len(candidates) and callable(norm):
        warnings.warn(
            "An adjoint parameter was passed without requiring gradient. For efficiency this will"
            " be excluded from the adjoint pass, and will not appear as a tensor in the adjoint"
            " norm.",
            stacklevel=4,
        )
    return params


def rtol_of(tolerance: float | torch.Tensor) -> float:
    """The largest of a tolerance by component, because the augmented state has other components."""
    if isinstance(tolerance, torch.Tensor):
        return float(tolerance.max())
    return tolerance


def parameters_of(module: torch.nn.Module) -> list[torch.Tensor]:
    """The parameters of a module. A replica of DataParallel has tensors in their place."""
    if not getattr(module, "_is_replica", False):
        return list(module.parameters())
    return [
        x
        for part in module.modules()
        for x in part.__dict__.values()
        if isinstance(x, torch.Tensor) and x.requires_grad
    ]


def _adjoint_norm(given, call):
    """The norm of (t, y, adj_y, *adj_params) for the user's None, 'seminorm' or function."""

    def default(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        t, y, adj_y, *adj_params = parts
        return max(t.abs(), call.norm(y), call.norm(adj_y), mixed(adj_params))

    def seminorm(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        t, y, adj_y, *_ = parts
        return max(t.abs(), call.norm(y), call.norm(adj_y))

    def unpacked(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        t, y, adj_y, *adj_params = parts
        return given((t, *split(y, call.shapes), *split(adj_y, call.shapes), *adj_params))

    if given is None:
        return default
    if given == "seminorm":
        return seminorm
    if not callable(given):
        raise ValueError(f"adjoint_options['norm'] must be 'seminorm' or a function, not {given!r}")
    if call.shapes is None:
        return given
    return unpacked


def _with_callbacks(field, func, callbacks):
    """field as a function that has the callbacks of func as attributes.

    Its first call has a graph, which the forward solve does not use: f may keep tensors of this
    call, and the backward solve needs their graph.
    """
    called = False

    def wrapped(t: torch.Tensor, y: Any) -> Any:
        nonlocal called
        if called:
            return field(t, y)
        called = True
        with torch.enable_grad():
            out = field(t, y)
        if isinstance(out, torch.Tensor):
            return out.detach()
        return out

    for name, callback in callbacks.items():
        setattr(wrapped, name, callback)
    for name in CALLBACKS:
        if callable(getattr(func, f"{name}_adjoint", None)):
            setattr(wrapped, f"{name}_adjoint", getattr(func, f"{name}_adjoint"))
    return wrapped


class Backsolve(torch.autograd.Function):
    """odeint of one tensor state; backward solves for (vjp_t, y, vjp_y, *vjp_params). It has only
    first derivatives."""

    @staticmethod
    def forward(
        ctx: Any,
        field: Callable[..., Any],
        module_state: ModuleState,
        forward: dict[str, Any],
        back: dict[str, Any],
        adjoint_options: dict[str, Any],
        event_fn: Callable[..., torch.Tensor] | None,
        moving: bool,
        y0: torch.Tensor,
        t: torch.Tensor,
        *params: torch.Tensor,
    ) -> Any:
        ctx.field = field
        ctx.module_state = module_state
        ctx.back = back
        ctx.moving = moving
        ctx.event = event_fn is not None
        ctx.adjoint_options = adjoint_options
        with no_parametrize_cache(), unhooked():
            result = odeint(field, y0, t, event_fn=event_fn, **forward)
        module_state.seal()
        if ctx.event:
            time, y = result
        else:
            time = t[-1]
            y = result
        ctx.save_for_backward(t, y, time, *params)
        return result

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> NoReturn:
        raise NotImplementedError(
            "odeint_adjoint has derivatives only in reverse mode: for forward mode use odeint"
        )

    @staticmethod
    @compile_disabled
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        with unhooked():
            return by_row(lambda *g: Backsolve._back(ctx, g), *grads)

    @staticmethod
    def _back(ctx, grads):
        t, y, time, *params = ctx.saved_tensors
        t = t.detach()
        y = y.detach()
        time = time.detach()
        if ctx.event:
            times = torch.stack((t[0], time))
            grad = grads[1]
        else:
            times = t
            grad = grads[0]
        ctx.module_state.check()
        # f gets leaves instead of parameters that are computed from others.
        inside = [ctx.module_state.inside(p) for p in params]
        vector = _augmented(ctx.field, inside, ctx.moving)
        state = [
            torch.zeros((), dtype=y.dtype, device=y.device),
            y[-1],
            grad[-1],
            *map(torch.zeros_like, params),
        ]
        if ctx.moving:
            moved = torch.zeros_like(t)
        else:
            moved = None
        with ctx.module_state.restored(params):
            for i in range(len(times) - 1, 0, -1):
                if ctx.moving:
                    slope = ctx.field(times[i].to(y.abs().dtype), y[i])
                    effect = (slope.conj() * grad[i]).sum().real
                    state[0] = state[0] - effect
                    if not ctx.event:
                        moved[i] = effect
                options = ctx.adjoint_options
                outputs = odeint(
                    vector, tuple(state), times[i - 1 : i + 1].flip(0), options=options, **ctx.back
                )
                state = [part[1] for part in outputs]
                state[1] = y[i - 1]
                state[2] = state[2] + grad[i - 1]
        if ctx.moving:
            moved[0] = state[0].real
        # The backward solve has one flat state, so that parameters have the dtype of the others.
        parts = [
            part if p.is_complex() else part.real for part, p in zip(state[3:], params, strict=True)
        ]
        cotangents = [part.to(p.dtype) for part, p in zip(parts, params, strict=True)]
        return None, None, None, None, None, None, None, state[2], moved, *cotangents


def _warn_of_lost(out, inputs):
    """Warn if func uses tensors that are not among its parameters."""
    known = {id(x) for x in inputs}
    lost = [leaf for leaf in leaves_of(out, inputs) if id(leaf) not in known]
    if lost:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in lost)
        warnings.warn(
            f"func uses tensors that require a gradient (of shape {shapes}) and are not among its"
            " parameters: odeint_adjoint leaves their gradients out, as torchdiffeq does. Register"
            " them in func, or name all in adjoint_params",
            RuntimeWarning,
            stacklevel=2,
        )


def _pulled(out, inputs, cotangent):
    """The products of a cotangent with the derivatives of out. The graph stays, because f may keep
    a part of it for the next call."""
    return torch.autograd.grad(out, inputs, cotangent, retain_graph=True, allow_unused=True)


def _augmented(field, params, moving):
    """d/dt of (vjp_t, y, vjp_y, *vjp_params), with the callbacks of the backward solve."""
    checked = not field.every

    def vector(t: torch.Tensor, parts: Sequence[torch.Tensor]) -> tuple:
        nonlocal checked
        _, y, adj_y, *_ = parts
        # Methods with Jacobians differentiate this equation, and therefore f twice.
        deep = torch.is_grad_enabled() and any(x.requires_grad for x in (t, y, adj_y))
        with torch.enable_grad(), DoubleBackward() if deep else nullcontext():
            if not (deep and t.requires_grad):
                t = t.detach().requires_grad_(moving)
            if not (deep and y.requires_grad):
                y = y.detach().requires_grad_()
            out = field(t, y)
            inputs = [y, *params, *([t] if moving else [])]
            if not checked:
                _warn_of_lost(out, inputs)
                checked = True
            cotangents: Any = [None] * len(inputs)
            if out.requires_grad:
                cotangents = (pull if deep else _pulled)(out, inputs, -adj_y)
        cotangents = none_to_zeros(cotangents, inputs)
        if moving:
            by_time = cotangents.pop()
        else:
            by_time = torch.zeros_like(t)
        return (by_time, out if deep else out.detach(), *cotangents)

    vector.pynode_states = field
    for name in CALLBACKS:
        callback = getattr(field, f"{name}_adjoint", None)
        if callback is not None:
            setattr(vector, name, callback)
    return vector
