"""An initial value problem: the vector field, the initial state and the times, with their
checks."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .layout import Layout, State
from .state_names import checked, names_of_field, time_unit_of_field, units_of_field
from .suggestions import SuggestsOptions

# The user's times.
Times: TypeAlias = Sequence[float] | Tensor


@dataclass(frozen=True)
class ODEProblem(SuggestsOptions):
    """dy/dt = f(t, y, *args), y(t_0) = y0.

    f: nn.Module or function. It receives t as a 0-d tensor of y's dtype and y in the structure of
        y0. It returns dy/dt in the same structure.
    y0: tensor of any shape, or a tuple or dict of tensors.
    tspan: (t_0, t_1), or all output times, strictly monotone.
    args: further arguments of f. Gradients reach the tensors among them.
    jac: optional, jac(t, y, *args) -> df/dy, (n, n) over the flattened state.
    mass: optional, the constant M of M y' = f: (n, n) over the flattened state, or its diagonal. It
        may be singular.
    names: optional, the names of the n components, for tables, pictures and messages. By default
        the ``state_names`` of f, if it has them. A unit can stand behind a name: "A [mM]".
    time_unit: optional, the unit of the time, such as "h", for pictures and tables. By default the
        ``time_unit`` of f, if it has one.
    """

    f: Callable
    y0: State
    tspan: Times
    args: tuple = ()
    jac: Callable | None = None
    mass: object = None
    names: Sequence[str] | None = None
    time_unit: str = ""

    def __post_init__(self) -> None:
        if not callable(self.f):
            raise TypeError(
                f"f must be a function f(t, y) or an nn.Module, not {type(self.f).__name__}"
            )
        if self.jac is not None and not callable(self.jac):
            raise TypeError("jac must be a function jac(t, y) that returns df/dy, (n, n)")
        if not isinstance(self.args, tuple):
            object.__setattr__(
                self, "args", tuple(self.args) if isinstance(self.args, list) else (self.args,)
            )
        if self.names is not None:
            object.__setattr__(self, "names", checked(self.names))
        _check_arguments(getattr(self.f, "forward", self.f), 2 + len(self.args))

    def layout(self) -> Layout:
        """The layout of y0. Raise ValueError if y0 is empty or not finite, or has other components
        than names."""
        layout = self.layout_of(self.y0)
        if layout.size == 0:
            raise ValueError("y0 is empty: a state needs at least one component")
        check_finite(layout.ravel(self.y0).detach())
        return layout

    def layout_of(self, state: State) -> Layout:
        """The layout of y0, or of one row of it, with the names of its components. Raise ValueError
        if it has other components than names."""
        layout = Layout(state, self.state_names())
        if self.names is not None and not layout.has_names:
            raise ValueError(
                f"{len(self.names)} names for {layout.size} components of y0: give one for each"
            )
        time_unit = self.time_unit or time_unit_of_field(self.f)
        if time_unit:
            layout.time_unit = time_unit
        units = units_of_field(self.f)
        if len(units) == layout.size:
            layout.units = units
        return layout

    def state_names(self) -> Sequence[str] | None:
        """The names of the components that the problem or f gives."""
        if self.names is not None:
            return self.names
        return names_of_field(self.f)

    def times(self, device: torch.device | None) -> torch.Tensor:
        """The times as a (T,) tensor, T >= 2. Raise ValueError or TypeError if they are not
        valid."""
        return checked_times(self.tspan, device)

    def row_times(self, device: torch.device, batch: int) -> torch.Tensor:
        """The times of a batch as (T, batch) float64. tspan is (T,) for all rows, or (T, batch)
        with a column for each row."""
        t = self.tspan
        if not isinstance(t, torch.Tensor) or t.dim() < 2:
            t = self.times(device).to(device=device, dtype=torch.float64)
            return t.unsqueeze(1).expand(-1, batch).contiguous()
        if t.dim() != 2 or t.shape[0] < 2 or t.shape[1] != batch:
            raise ValueError(
                f"t must be (T,), or (T, {batch}) with a column for each row, not {tuple(t.shape)}"
            )
        t = t.to(device=device, dtype=torch.float64)
        steps = t.detach().diff(dim=0)
        good = (steps > 0).all(0) | (steps < 0).all(0)
        if not bool(good.all()):
            row = int((~good).nonzero()[0])
            raise ValueError(
                f"the times of row {row} must be finite and strictly increasing or strictly"
                " decreasing"
            )
        return t


def check_finite(y0: Tensor) -> None:
    """Raise ValueError if a start, (n,), or a start of a batch, (B, n), is not finite."""
    if math.isfinite(y0.detach().sum().item()):
        return
    bad = (~torch.isfinite(y0)).nonzero()
    if not len(bad):
        return  # only the sum overflows
    where = ", ".join(str(int(i)) for i in bad[:5, -1])
    if y0.dim() == 2:
        where += f" of row {int(bad[0, 0])}"
    raise ValueError(f"y0 is not finite (flat component {where}): start from finite values")


def as_problem(
    f: Any, y0: Any, t: Any, args: Any, jac: Any, mass: Any, names: Any = None
) -> ODEProblem:
    """The ODEProblem of these arguments. f can be one, or a problem of pynode.problems, whose y0
    and times others replace. Raise ValueError if an ODEProblem comes with further arguments."""
    if hasattr(type(f), "ode_problem"):
        f = f.ode_problem(y0, t)
        y0 = None
        t = None
    if not isinstance(f, ODEProblem):
        return ODEProblem(f, y0, t, args, jac, mass, names)
    beside = {"y0": y0, "t": t, "args": args or None, "jac": jac, "mass": mass}
    twice = [name for name, value in beside.items() if value is not None]
    if twice:
        raise ValueError(
            f"an ODEProblem holds its own {' and '.join(twice)}: remove"
            f" {'it' if len(twice) == 1 else 'them'}, or change the problem with"
            " dataclasses.replace(problem, y0=..., tspan=...)"
        )
    if names is not None:
        return replace(f, names=names)
    return f


def checked_times(given: Times, device: torch.device | None = None) -> torch.Tensor:
    """Times as a (T,) floating tensor, T >= 2, strictly monotone. Raise ValueError or TypeError if
    they are not valid."""
    t = given
    if not isinstance(t, torch.Tensor):
        try:
            t = torch.tensor([float(x) for x in t], dtype=torch.float64, device=device)
        except (TypeError, ValueError):
            raise TypeError(
                f"t must be a sequence of numbers or a 1-D tensor, not {given!r}"
            ) from None
    if t.dim() != 1:
        raise ValueError(f"t must be one-dimensional, not of shape {tuple(t.shape)}")
    if t.numel() < 2:
        raise ValueError("t needs at least two times: the time of y0, and the end")
    if t.is_meta:
        raise TypeError(
            "the times are on the meta device, which holds no values: give the module memory with"
            " module.to_empty(device=...), and load its state"
        )
    if t.dtype.is_complex:
        raise TypeError(f"t has dtype {t.dtype}, but times are real: give t.real")
    if not t.dtype.is_floating_point:
        t = t.to(torch.float64)
    values = t.detach().tolist()
    if not all(map(math.isfinite, values)):
        raise ValueError("t holds a time that is not finite; give finite times")
    steps = [b - a for a, b in zip(values, values[1:])]
    if not (min(steps) > 0 or max(steps) < 0):
        first = next(i for i, s in enumerate(steps) if s == 0 or (s > 0) != (steps[0] > 0))
        raise ValueError(
            f"t must be strictly increasing or strictly decreasing, but t[{first}] ="
            f" {values[first]:.6g} is followed by t[{first + 1}] = {values[first + 1]:.6g}; sort"
            " the times and remove repeated ones"
        )
    return t


def _check_arguments(f, count):
    """Raise TypeError if f does not accept t, y and the args. If a signature is not available, the
    call itself decides."""
    if _takes_surely(f, count):
        return
    try:
        inspect.signature(f).bind(*range(count))
    except ValueError:
        return
    except TypeError:
        name = getattr(f, "__name__", type(f).__name__)
        raise TypeError(
            f"pynode calls f with {count} arguments, t, y{' and the args' if count > 2 else ''},"
            f" but {name} does not take them; write it as f(t, y, *args)"
        ) from None


def _takes_surely(f, count):
    """Whether a plain Python function or method takes so many arguments. A small solve notices the
    cost of a signature."""
    code = getattr(f, "__code__", None)
    if code is None or hasattr(f, "__wrapped__") or code.co_kwonlyargcount:
        return False
    most = code.co_argcount - hasattr(f, "__self__")
    least = most - len(f.__defaults__ or ())
    return least <= count <= most
