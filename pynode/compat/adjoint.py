"""odeint_adjoint: gradients by the adjoint equation solved backwards together with the states, as
torchdiffeq makes them.

Chen, Rubanova, Bettencourt & Duvenaud, Neural ordinary differential equations, NeurIPS 2018,
appendix B and C.
"""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import torch

from ..core.batched_cotangents import by_row
from ..core.cotangents import none_to_zeros
from ..core.double_backward import DoubleBackward, pull
from ..core.leaves import leaves_of
from ..core.module_state import ModuleState
from ..core.saved_tensors import unhooked
from ..core.sharding import check_sharding
from ..core.torch_context import compile_disabled, no_parametrize_cache
from .by_name import solve_by_name
from .call import CALLBACKS, mixed, prepare, split
from .odeint import _native, odeint


@compile_disabled
def odeint_adjoint(
    func,
    y0,
    t,
    *,
    rtol=1e-7,
    atol=1e-9,
    method=None,
    options=None,
    event_fn=None,
    adjoint_rtol=None,
    adjoint_atol=None,
    adjoint_method=None,
    adjoint_options=None,
    adjoint_params=None,
    **solve_options,
):
    """odeint, differentiated by an equation that is solved backwards, in memory that does not grow
    with the steps.

    adjoint_rtol, adjoint_atol, adjoint_method, adjoint_options: of the backward solve; by default
        those of the forward one but for its norm. adjoint_options['norm']: 'seminorm' (without the
        parameters: Kidger, Chen & Lyons, 2021), or a function of (t, y, adj_y, *adj_params), of (t,
        *y, *adj_y, *adj_params) where y is a tuple.
    adjoint_params: what receives gradients beside y0 and t; func.parameters() by default.
    Attributes callback_step_adjoint, ... of func are called on the way back. event_fn: the time
    that is returned has no gradient (zeros, as in torchdiffeq): odeint_event makes it.
    method of pynode, or solve_options: ``solve`` makes the gradient, by adjoint='auto' if none is
        named: the discrete one, which stiff problems need; adjoint_rtol and so on are then options
        of the adjoint, pynode.GaussAdjoint(rtol=...).
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
    params = _receivers(func, adjoint_params, given.get("norm"))
    call = prepare(func, y0, t, rtol, atol, options, event_fn)
    if method is None:
        name = "dopri5"
    else:
        name = method
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
    field = _carrying(call.func, func, call.callbacks)
    held = ModuleState(func, call.y0.device)
    field.every = adjoint_params is None
    held.watch(params)
    if torch.is_grad_enabled() and (call.y0.requires_grad or params):
        check_sharding(held.modules)
    result = Backsolve.apply(
        field,
        held,
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
    """The options of the backward solve, a dict: those given, or those of the forward one."""
    if not same_method and options is not None and adjoint_options is None:
        raise ValueError(
            "If `adjoint_method != method` then we cannot infer `adjoint_options` from `options`."
            " So as `options` has been passed then `adjoint_options` must be passed as well."
        )
    if adjoint_options is None:
        return {k: v for k, v in (options or {}).items() if k != "norm"}
    return dict(adjoint_options)


def _receivers(func, adjoint_params, norm):
    """The tensors beside y0 and t that receive gradients, a tuple. norm: of the adjoint; a warning
    says where a function gets fewer tensors than were given."""
    found = tuple(parameters_of(func) if adjoint_params is None else adjoint_params)
    params = tuple(p for p in found if p.requires_grad)
    if len(params) < len(found) and callable(norm):
        warnings.warn(
            "An adjoint parameter was passed without requiring gradient. For efficiency this will"
            " be excluded from the adjoint pass, and will not appear as a tensor in the adjoint"
            " norm.",
            stacklevel=4,
        )
    return params


def rtol_of(tolerance):
    """The largest of a tolerance by component: the augmented state has other components."""
    if isinstance(tolerance, torch.Tensor):
        return float(tolerance.max())
    return tolerance


def parameters_of(module):
    """The parameters of a module, those of a replica of DataParallel included, which has tensors in
    their place."""
    if not getattr(module, "_is_replica", False):
        return list(module.parameters())
    return [
        x
        for part in module.modules()
        for x in part.__dict__.values()
        if isinstance(x, torch.Tensor) and x.requires_grad
    ]


def _adjoint_norm(given, call):
    """The norm of (t, y, adj_y, *adj_params) from what the user gave: None, 'seminorm', or a
    function."""

    def default(parts):
        t, y, adj_y, *adj_params = parts
        return max(t.abs(), call.norm(y), call.norm(adj_y), mixed(adj_params))

    def seminorm(parts):
        t, y, adj_y, *_ = parts
        return max(t.abs(), call.norm(y), call.norm(adj_y))

    def unpacked(parts):
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


def _carrying(field, func, callbacks):
    """field as a function that carries the callbacks of func.

    Its first call has a graph, though the solve uses none: f may keep what it makes there, and the
    way back goes through it.
    """
    called = False

    def carried(t, y):
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
        setattr(carried, name, callback)
    for name in CALLBACKS:
        if callable(getattr(func, f"{name}_adjoint", None)):
            setattr(carried, f"{name}_adjoint", getattr(func, f"{name}_adjoint"))
    return carried


class Backsolve(torch.autograd.Function):
    """odeint of one tensor state; backward solves for (vjp_t, y, vjp_y, *vjp_params). First
    derivatives alone."""

    @staticmethod
    def forward(ctx, field, held, forward, back, adjoint_options, event_fn, moving, y0, t, *params):
        ctx.field = field
        ctx.held = held
        ctx.back = back
        ctx.moving = moving
        ctx.event = event_fn is not None
        ctx.adjoint_options = adjoint_options
        with no_parametrize_cache(), unhooked():
            result = odeint(field, y0, t, event_fn=event_fn, **forward)
        held.seal()
        if ctx.event:
            time, y = result
        else:
            time = t[-1]
            y = result
        ctx.save_for_backward(t, y, time, *params)
        return result

    @staticmethod
    def jvp(ctx, *tangents):
        raise NotImplementedError(
            "odeint_adjoint has derivatives in reverse mode alone: for forward mode use odeint"
        )

    @staticmethod
    @compile_disabled
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads):
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
        ctx.held.check()
        # f gets leaves in the place of parameters that are computed from others.
        inside = [ctx.held.inside(p) for p in params]
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
        with ctx.held.restored(params):
            for i in range(len(times) - 1, 0, -1):
                if ctx.moving:
                    slope = ctx.field(times[i].to(y.abs().dtype), y[i])
                    effect = (slope.conj() * grad[i]).sum().real
                    state[0] = state[0] - effect
                    if not ctx.event:
                        moved[i] = effect
                options = ctx.adjoint_options
                found = odeint(
                    vector, tuple(state), times[i - 1 : i + 1].flip(0), options=options, **ctx.back
                )
                state = [part[1] for part in found]
                state[1], state[2] = y[i - 1], state[2] + grad[i - 1]
        if ctx.moving:
            moved[0] = state[0].real
        # In the one flat state of the way back parameters have the dtype of the others.
        parts = [
            part if p.is_complex() else part.real for part, p in zip(state[3:], params, strict=True)
        ]
        cotangents = [part.to(p.dtype) for part, p in zip(parts, params, strict=True)]
        return None, None, None, None, None, None, None, state[2], moved, *cotangents


def _warn_of_lost(out, inputs):
    """Warns where func uses tensors that are no parameters of it."""
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
    """The products of a cotangent with the derivatives of out. What f keeps of an earlier call
    stays for the next one."""
    return torch.autograd.grad(out, inputs, cotangent, retain_graph=True, allow_unused=True)


def _augmented(field, params, moving):
    """d/dt of (vjp_t, y, vjp_y, *vjp_params), with the callbacks of the way back."""
    looked = not field.every

    def vector(t, parts):
        nonlocal looked
        _, y, adj_y, *_ = parts
        # Methods that linearise differentiate this equation, and with it f a second time.
        deep = torch.is_grad_enabled() and any(x.requires_grad for x in (t, y, adj_y))
        with torch.enable_grad(), DoubleBackward() if deep else nullcontext():
            if not (deep and t.requires_grad):
                t = t.detach().requires_grad_(moving)
            if not (deep and y.requires_grad):
                y = y.detach().requires_grad_()
            out = field(t, y)
            inputs = [y, *params, *([t] if moving else [])]
            if not looked:
                _warn_of_lost(out, inputs)
                looked = True
            found = [None] * len(inputs)
            if out.requires_grad:
                if deep:
                    found = pull(out, inputs, -adj_y)
                else:
                    found = _pulled(out, inputs, -adj_y)
        found = none_to_zeros(found, inputs)
        if moving:
            by_time = found.pop()
        else:
            by_time = torch.zeros_like(t)
        return (by_time, out if deep else out.detach(), *found)

    vector.pynode_states = field
    for name in CALLBACKS:
        callback = getattr(field, f"{name}_adjoint", None)
        if callback is not None:
            setattr(vector, name, callback)
    return vector
