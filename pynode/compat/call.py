"""A call of torchdiffeq's interface, checked at the door and brought to one tensor state."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")
EXCLUSIVE = "step_size and grid_constructor are mutually exclusive arguments: give one of them"


class BadInput(AssertionError, ValueError):
    """Input that makes no sense. torchdiffeq raises AssertionError for it, pynode ValueError: this
    is both."""


class BadType(AssertionError, TypeError):
    """Input of a wrong type, likewise."""


class OdeintError(AssertionError, RuntimeError):
    """A solve that failed on its way. torchdiffeq raises AssertionError, pynode RuntimeError: this
    is both."""


def rms(tensor):
    """Root mean square of a tensor of any shape, complex or real, 0-d."""
    return tensor.abs().square().mean().sqrt()


def mixed(tensors):
    """The largest of the root mean squares of several tensors; 0.0 where there are none."""
    return max([rms(tensor) for tensor in tensors], default=0.0)


def split(joined, shapes):
    """Tensors of these shapes out of (..., n); leading dimensions stay in front of each."""
    parts = []
    begin = 0
    for shape in shapes:
        parts.append(joined[..., begin : begin + shape.numel()].view((*joined.shape[:-1], *shape)))
        begin += shape.numel()
    return tuple(parts)


def join(parts):
    """(n,) of several tensors, in the dtype that holds them all."""
    return torch.cat([part.reshape(-1) for part in parts])


@dataclass
class Call:
    """dy/dt = func(t, y), y(t_0) = y0, for one tensor y0.

    shapes: of the parts of a tuple state, which y0 (n,) joins; None for a tensor. rtol, atol:
    floats, or tensors that broadcast with y0. norm: of what has the shape of y0, which undoes the
    joining itself. callbacks: by torchdiffeq's names; own_norm: whether the user gave one. states:
    of an adjoint equation, the equation of the states alone (adjoint.py), by the attribute
    pynode_states of func; None for any other.
    """

    func: Callable
    y0: torch.Tensor
    t: torch.Tensor
    rtol: object
    atol: object
    options: dict
    event_fn: Callable | None
    shapes: list | None
    norm: Callable
    callbacks: dict = field(default_factory=dict)
    own_norm: bool = False
    states: Callable | None = None

    def output(self, joined):
        """What the user gets of joined states: a tensor, or a tuple of them."""
        if self.shapes is None:
            return joined
        return split(joined, self.shapes)


def prepare(func, y0, t, rtol, atol, options, event_fn) -> Call:
    """The Call of what a user gave. BadInput, BadType, ValueError or TypeError with a sentence
    where it makes no sense."""
    if not callable(func):
        raise TypeError(
            f"func must be a function func(t, y) or an nn.Module, not {type(func).__name__}"
        )
    check_times("t", t)
    if event_fn is not None and len(t) != 2:
        raise ValueError(
            f"We require len(t) == 2 when in event handling mode, but got len(t)={len(t)}: give the"
            " start and any later time, which tells the direction"
        )
    if options is None:
        options = {}
    else:
        options = dict(options)
    callbacks = {
        name: getattr(func, name) for name in CALLBACKS if callable(getattr(func, name, None))
    }
    norm = options.pop("norm", None)
    call = Call(
        func,
        y0,
        t,
        rtol,
        atol,
        options,
        event_fn,
        None,
        norm or rms,
        callbacks,
        norm is not None,
        getattr(func, "pynode_states", None),
    )
    if not isinstance(y0, torch.Tensor):
        call = _joined(call, norm or mixed)
    _check_values(call)
    if t.device != call.y0.device:
        warnings.warn("t is not on the same device as y0. Coercing to y0.device.", stacklevel=4)
        call.t = t.to(call.y0.device)
    if not torch.is_grad_enabled():
        # Views of a leaf say that they require a gradient even here, and func may ask for one of
        # its state.
        call.y0 = call.y0.detach()
    return call


def _joined(call, norm) -> Call:
    """The same Call of a tuple state, in one tensor (n,). norm: of the tuple. BadType where the
    state is no tuple of tensors."""
    parts = call.y0
    if (
        not isinstance(parts, tuple)
        or not parts
        or not all(isinstance(part, torch.Tensor) for part in parts)
    ):
        raise BadType(
            f"y0 must be either a torch.Tensor or a tuple of them, not {type(parts).__name__}"
        )
    shapes = [part.shape for part in parts]
    rtol = tolerance("rtol", call.rtol, shapes)
    atol = tolerance("atol", call.atol, shapes)
    # Whose tensors a solve looks for: the functions below hold these two, and not the whole call.
    inner = call.func
    given = call.event_fn

    def func(t, y):
        return join(inner(t, split(y, shapes)))

    def joined_norm(y):
        return norm(split(y, shapes))

    def event_fn(t, y):
        return given(t, split(y, shapes))

    return replace(
        call,
        func=func,
        y0=join(parts),
        rtol=rtol,
        atol=atol,
        event_fn=None if given is None else event_fn,
        shapes=shapes,
        norm=joined_norm,
        callbacks={name: _split_for(one, shapes) for name, one in call.callbacks.items()},
    )


def _check_values(call):
    """TypeError, BadInput or ValueError where the state or a tolerance makes no sense."""
    y0 = call.y0
    if not (y0.is_floating_point() or y0.is_complex()):
        raise TypeError(
            f"y0 has dtype {y0.dtype}, but a state must be floating point or complex: use"
            " y0.double()"
        )
    for name, value in (("rtol", call.rtol), ("atol", call.atol)):
        if isinstance(value, torch.Tensor) and value.requires_grad:
            raise BadInput(f"{name} cannot require gradient: detach it")
        bad = torch.as_tensor(value).detach()
        if not bool(torch.isfinite(bad).all()) or bool((bad < 0).any()):
            raise ValueError(f"{name} must be finite and not negative, not {value!r}")


def check_times(name, t):
    """BadInput, BadType or TypeError where t is not a 1-D floating-point tensor, strictly
    monotone."""
    if not isinstance(t, torch.Tensor):
        raise BadType(f"{name} must be a torch.Tensor, not {type(t).__name__}")
    if not t.is_floating_point():
        raise TypeError(f"`{name}` must be a floating point Tensor but is a {t.type()}")
    if t.dim() != 1 or not len(t):
        raise BadInput(
            f"{name} must be one dimensional with at least one time, not of shape {tuple(t.shape)}"
        )
    rises = t.detach().diff()
    if not (bool((rises > 0).all()) or bool((rises < 0).all())):
        raise BadInput(
            f"{name} must be strictly increasing or decreasing: sort the times and remove repeated"
            " ones"
        )


def tolerance(name, given, shapes):
    """The tolerance of a tuple state: itself, or one value or tensor for each part, in a sequence
    or (k,), as (n,)."""
    if not isinstance(given, (tuple, list)) and not getattr(given, "ndim", 0):
        return given
    if len(given) != len(shapes):
        raise BadInput(
            f"If using tupled {name} it must have the same length as the tuple y0: {len(given)} for"
            f" {len(shapes)}"
        )
    return torch.cat(
        [
            torch.as_tensor(x, dtype=torch.float64).expand(s).reshape(-1)
            for x, s in zip(given, shapes)
        ]
    )


def _split_for(callback, shapes):
    return lambda t0, y0, dt: callback(t0, split(y0, shapes), dt)


def check_callbacks(call, method, known):
    """Warns of callbacks that a method does not call."""
    unknown = set(call.callbacks) - set(known)
    if unknown:
        warnings.warn(f"Solver '{method}' does not support callbacks {unknown}", stacklevel=4)
