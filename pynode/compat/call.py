"""A checked call of torchdiffeq's interface, with its state in one tensor."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")
EXCLUSIVE = "step_size and grid_constructor are mutually exclusive arguments: give one of them"


class BadInput(AssertionError, ValueError):
    """Input that makes no sense. torchdiffeq raises AssertionError for it and pynode ValueError;
    this is both."""


class BadType(AssertionError, TypeError):
    """Input of a wrong type. It is both an AssertionError and a TypeError."""


class OdeintError(AssertionError, RuntimeError):
    """A solve that failed. torchdiffeq raises AssertionError and pynode RuntimeError; this is
    both."""


def rms(tensor: torch.Tensor) -> torch.Tensor:
    """The root mean square of a tensor of any shape, complex or real, 0-d."""
    return tensor.abs().square().mean().sqrt()


def mixed(tensors: Iterable[torch.Tensor]) -> torch.Tensor | float:
    """The largest of the root mean squares of several tensors; 0.0 if there are none."""
    return max([rms(tensor) for tensor in tensors], default=0.0)


def split(joined: torch.Tensor, shapes: Iterable[torch.Size]) -> tuple[torch.Tensor, ...]:
    """The tensors of these shapes in (..., n). Leading dimensions stay in front of each."""
    parts = []
    begin = 0
    for shape in shapes:
        parts.append(joined[..., begin : begin + shape.numel()].view((*joined.shape[:-1], *shape)))
        begin += shape.numel()
    return tuple(parts)


def join(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """(n,) from several tensors, in a dtype that can hold all of them."""
    return torch.cat([part.reshape(-1) for part in parts])


@dataclass
class Call:
    """dy/dt = func(t, y), y(t_0) = y0, for one tensor y0.

    shapes: of the parts of a tuple state, which y0 (n,) joins; None for a tensor.
    rtol, atol: floats, or tensors that broadcast with y0.
    norm: for tensors in the shape of y0. It splits a joined state itself.
    callbacks: by torchdiffeq's names.
    own_norm: whether the user gave a norm.
    states: for an adjoint equation, the equation of only the states (adjoint.py), from the
        attribute pynode_states of func; None for other equations.
    """

    func: Callable
    y0: torch.Tensor
    t: torch.Tensor
    rtol: Any
    atol: Any
    options: dict[str, Any]
    event_fn: Callable | None
    shapes: list[torch.Size] | None
    norm: Callable
    callbacks: dict[str, Callable] = field(default_factory=dict)
    own_norm: bool = False
    states: Callable | None = None

    def output(self, joined: torch.Tensor) -> Any:
        """The joined states in the user's structure: a tensor, or a tuple of tensors."""
        if self.shapes is None:
            return joined
        return split(joined, self.shapes)


def prepare(
    func: Callable[..., Any],
    y0: Any,
    t: torch.Tensor,
    rtol: Any,
    atol: Any,
    options: dict[str, Any] | None,
    event_fn: Callable[..., torch.Tensor] | None,
) -> Call:
    """The Call for the user's arguments. Raises BadInput, BadType, ValueError or TypeError if they
    make no sense."""
    if not callable(func):
        raise TypeError(
            f"func must be a function func(t, y) or an nn.Module, not {type(func).__name__}"
        )
    check_times("t", t)
    if event_fn is not None and len(t) != 2:
        raise ValueError(
            f"We require len(t) == 2 when in event handling mode, but got len(t)={len(t)}: give the"
            " start and any later time, which gives the direction"
        )
    options = dict(options or {})
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
        # Even here a view of a leaf requires a gradient, and func may differentiate with respect to
        # its state.
        call.y0 = call.y0.detach()
    return call


def _joined(call, norm) -> Call:
    """The same Call for a tuple state, in one tensor (n,). norm: for the tuple. Raises BadType if
    the state is not a tuple of tensors."""
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
    # The functions below reference these two and not the whole call, because a solve searches the
    # closures of func for tensors.
    inner = call.func
    given = call.event_fn

    def func(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return join(inner(t, split(y, shapes)))

    def joined_norm(y: torch.Tensor) -> Any:
        return norm(split(y, shapes))

    def event_fn(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
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
    """Raises TypeError, BadInput or ValueError if the state or a tolerance makes no sense."""
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


def check_times(name: str, t: Any) -> None:
    """Raises BadInput, BadType or TypeError unless t is a strictly monotone 1-D floating-point
    tensor."""
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


def tolerance(name: str, given: Any, shapes: Sequence[torch.Size]) -> Any:
    """The tolerance for a tuple state. One value or tensor for each part, in a sequence or (k,),
    becomes (n,). Other tolerances stay the same."""
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


def check_callbacks(call: Call, method: str, supported: Sequence[str]) -> None:
    """Warn about callbacks that a method does not call."""
    unknown = set(call.callbacks) - set(supported)
    if unknown:
        warnings.warn(f"Solver '{method}' does not support callbacks {unknown}", stacklevel=4)
