"""Models with named parameters: modules, functions and reaction models, in one form."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class BoundModel(nn.Module):
    """A model with k free parameters and c conditions, for rows of a batch.

    by_row: whether the model takes rows itself. Otherwise torch.vmap gives it one row after the
    other: t 0-d, y (n,), free (k,), given (c,).
    """

    by_row = False

    def rate(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        """dy/dt, (n,), of one row, or of all rows where ``by_row``."""
        raise NotImplementedError

    def measure(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        """The measured quantities, (m,), in the same form."""
        raise NotImplementedError

    def forward(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        """dy/dt of rows. t: (rows, 1), y (rows, n), free (rows, k), given (rows, c)."""
        if self.by_row:
            return self.rate(t, y, free, given)
        return torch.vmap(self.rate)(t[..., 0], y, free, given)

    def observe(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        """The measured quantities of rows, (rows, m), from the same."""
        if self.by_row:
            return self.measure(t, y, free, given)
        return torch.vmap(self.measure)(t[..., 0], y, free, given)


class NamedModel:
    """A model with P named numbers, of which an estimation frees some.

    names, values: (P,) of all numbers, float64; NaN where the model has no value. states: names of
    the n components of y, or None if the model does not name them. observables: names of the
    quantities that ``measure`` returns, or None for the states themselves. proposed: names of the
    numbers that are estimated where nobody says which. default_start: (n,) the initial state that
    the model has, or None. has_initial: whether ``initial`` makes initial states.
    """

    names: tuple[str, ...]
    values: Tensor
    states: tuple[str, ...] | None = None
    observables: tuple[str, ...] | None = None
    events: Any = ()
    default_start: Tensor | None = None
    has_initial = False

    @property
    def proposed(self) -> tuple[str, ...]:
        return self.names

    def bind(
        self, free: Sequence[str], conditions: Sequence[str], columns: Sequence[str], sample: Tensor
    ) -> BoundModel:
        """The model whose numbers ``free`` are estimated and which is given ``conditions``.

        columns: the measured quantities. sample: a state, (n,). Raises ValueError where the model
        cannot take them.
        """
        raise NotImplementedError

    def initial(self, free: Tensor, given: Tensor) -> Tensor:
        """y0, (rows, n), that the model itself says."""
        raise NotImplementedError

    def jumps(self, free: Tensor, given: Tensor) -> Tensor | None:
        """Times at which the right-hand side jumps, (rows, j), or None."""
        return None


class ModuleModel(NamedModel):
    """An nn.Module f(t, y, *conditions), whose parameters are estimated; it works in float64, as a
    copy.

    A parameter k of several numbers has the names k[0], k[1], ..., a matrix w has w[0,1]. The
    module may name its states (``columns`` or ``species``), and may have an initial state (``y0``).
    It may have ``observables``, names, and observe(t, y, *conditions) -> (m,), the quantities of
    these names.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).double().requires_grad_(False)
        self.places: dict[str, tuple[str, int]] = {}
        numbers = []
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                numbers.append(parameter.detach().double().reshape(-1))
                for i, label in enumerate(_labels(name, tuple(parameter.shape))):
                    self.places[label] = (name, i)
        if not numbers:
            raise ValueError(
                f"{type(module).__name__} has no parameter that requires a gradient, so there is"
                " nothing to estimate: make its unknown numbers an nn.Parameter"
            )
        self.names = tuple(self.places)
        self.values = torch.cat(numbers)
        self.states = state_names(module)
        self.default_start = _default_start(module)
        observables = getattr(module, "observables", None)
        if observables is not None:
            self.observables = tuple(observables)

    def bind(
        self, free: Sequence[str], conditions: Sequence[str], columns: Sequence[str], sample: Tensor
    ) -> BoundModel:
        places = [self.places[name] for name in free]
        values = dict(zip(self.names, self.values.tolist(), strict=True))
        own = {self.places[name]: value for name, value in values.items()}
        picked = _picked(self.observables, columns)
        bound = _BoundModule(self.module, places, own, picked)
        return _with_rows(bound, sample, len(free), len(conditions))


class FunctionModel(NamedModel):
    """A function f(t, y, k1, k2, ...) -> dy/dt, whose further arguments are its parameters, except
    those that are conditions. Defaults are the values of the parameters."""

    def __init__(self, function: Callable[..., Tensor], conditions: Sequence[str]) -> None:
        self.function = function
        arguments = list(inspect.signature(function).parameters.values())[2:]
        own = [a for a in arguments if a.name not in conditions]
        if any(a.kind in (a.VAR_POSITIONAL, a.VAR_KEYWORD) for a in own) or not own:
            raise ValueError(
                f"{_name(function)} has no named parameters to estimate: write it as"
                " f(t, y, k1, k2), or pass an nn.Module"
            )
        self.names = tuple(a.name for a in own)
        given = [math.nan if a.default is a.empty else float(a.default) for a in own]
        self.values = torch.tensor(given, dtype=torch.float64)
        self.states = state_names(function)
        self.default_start = _default_start(function)

    def bind(
        self, free: Sequence[str], conditions: Sequence[str], columns: Sequence[str], sample: Tensor
    ) -> BoundModel:
        fixed = {
            name: value
            for name, value in zip(self.names, self.values.tolist(), strict=True)
            if name not in free
        }
        bound = _BoundFunction(self.function, tuple(free), tuple(conditions), fixed)
        return _with_rows(bound, sample, len(free), len(conditions))


class ReactionsModel(NamedModel):
    """A model of ``pynode.models`` with named constants (ReactionModel): of an SBML file, for
    example. Conditions are constants, too. Any quantity of the model can be measured."""

    has_initial = True

    def __init__(self, model: Any) -> None:
        self.model = model
        self.names = tuple(model.constants)
        self.values = torch.as_tensor(model.values).detach().double().clone()
        self.states = tuple(model.states)
        self.events = model.events
        if getattr(model, "mass", None) is not None:
            raise ValueError(
                "the model has algebraic equations, which estimation from a table does not take:"
                " give a PEtab problem"
            )
        self.bound: _BoundReactions | None = None

    @property
    def proposed(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name in self.model.scales)

    def bind(
        self, free: Sequence[str], conditions: Sequence[str], columns: Sequence[str], sample: Tensor
    ) -> BoundModel:
        unknown = [name for name in conditions if name not in self.names]
        if unknown:
            raise ValueError(
                f"the model has no constant {unknown[0]!r} that a condition could set: name the"
                " column after a parameter of the model, or drop it"
            )
        self.bound = _BoundReactions(
            self.model,
            self.values,
            [self.names.index(name) for name in free],
            [self.names.index(name) for name in conditions],
            columns,
        )
        return self.bound

    def initial(self, free: Tensor, given: Tensor) -> Tensor:
        assert self.bound is not None
        return self.model.initial(self.bound.constants(free, given))

    def jumps(self, free: Tensor, given: Tensor) -> Tensor | None:
        assert self.bound is not None
        known = self.model.jumps(self.bound.constants(free, given))
        if known is None or known.numel() == 0:
            return None
        return known.expand(len(free), -1)


class _BoundModule(BoundModel):
    """places: (parameter, index) of the free numbers. own: the value of each place. picked: of the
    observables, or of the states."""

    def __init__(
        self,
        module: nn.Module,
        places: Sequence[tuple[str, int]],
        own: dict[tuple[str, int], float],
        picked: Sequence[int] | None,
    ) -> None:
        super().__init__()
        self.inner = _Parts(module)
        self.picked = picked
        column = {place: i for i, place in enumerate(places)}
        shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
        # For each parameter with free numbers its shape and, number by number, the column of the
        # free ones or the value.
        self.recipe: list[tuple[str, tuple[int, ...], list[Any]]] = []
        for name in dict.fromkeys(name for name, _ in places):
            count = math.prod(shapes[name])
            source = [column.get((name, i), own[(name, i)]) for i in range(count)]
            self.recipe.append((name, shapes[name], source))

    def _replaced(self, free: Tensor) -> dict[str, Tensor]:
        made = {}
        for name, shape, source in self.recipe:
            first = source[0]
            run = (
                all(isinstance(x, int) and x == i for i, x in enumerate(source, start=first))
                if isinstance(first, int)
                else False
            )
            if run:
                flat = free[first : first + len(source)]
            else:
                flat = torch.stack(
                    [free[x] if isinstance(x, int) else free.new_tensor(x) for x in source]
                )
            made[f"module.{name}"] = flat.reshape(shape)
        return made

    def _call(self, part, t, y, free, given):
        if self.by_row:
            # All rows have the same parameters here.
            free = free[0]
        return functional_call(
            self.inner, self._replaced(free), (part, t, y, *given.unbind(-1)), tie_weights=True
        )

    def rate(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        return self._call("forward", t, y, free, given)

    def measure(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        found = self._call("observe", t, y, free, given)
        return found[..., self.picked]


class _Parts(nn.Module):
    """A module of which functional_call can call each method."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, part: str, *arguments: Tensor) -> Tensor:
        if part == "forward":
            return self.module(*arguments)
        return self.module.observe(*arguments)  # type: ignore[operator]  # a method


class _BoundFunction(BoundModel):
    def __init__(
        self,
        function: Callable[..., Tensor],
        free: tuple[str, ...],
        conditions: tuple[str, ...],
        fixed: dict[str, float],
    ) -> None:
        super().__init__()
        self.function = function
        self.free = free
        self.conditions = conditions
        self.fixed = fixed

    def rate(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        named = dict(zip(self.free, free.unbind(-1), strict=True))
        named.update(zip(self.conditions, given.unbind(-1), strict=True))
        return self.function(t, y, **named, **self.fixed)


class _BoundReactions(BoundModel):
    by_row = True

    def __init__(
        self,
        model: Any,
        values: Tensor,
        free: Sequence[int],
        given: Sequence[int],
        columns: Sequence[str],
    ) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("values", values)
        self.quantities = model.quantities(list(columns))
        # Where each constant comes from: the values, then the conditions, then the free ones.
        count = len(values)
        source = list(range(count))
        for i, place in enumerate(given):
            source[place] = count + i
        for i, place in enumerate(free):
            source[place] = count + len(given) + i
        self.register_buffer("source", torch.tensor(source))

    def constants(self, free: Tensor, given: Tensor) -> Tensor:
        """All constants, (rows, P)."""
        own = self.values.expand(*free.shape[:-1], -1)  # type: ignore[operator]  # a buffer
        return torch.cat((own, given, free), -1).index_select(-1, self.source)  # type: ignore[arg-type]

    def rate(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        return self.model(t, y, self.constants(free, given))

    def measure(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        return self.quantities(t, y, self.constants(free, given))


def named_model(model: Any, conditions: Sequence[str] = ()) -> NamedModel:
    """The NamedModel of a module, a function f(t, y, k1, k2), or a model of ``pynode.models``.

    Raises TypeError for anything else, ValueError for a model without parameters.
    """
    if isinstance(model, NamedModel):
        return model
    if hasattr(model, "constants") and hasattr(model, "quantities"):
        return ReactionsModel(model)
    if isinstance(model, nn.Module):
        return ModuleModel(model)
    if callable(model) and not isinstance(model, type):
        return FunctionModel(model, conditions)
    raise TypeError(
        f"a model is an nn.Module, a function f(t, y, k1, k2) or a model of pynode.models, not"
        f" {_name(model)}"
    )


def state_names(model: Any) -> tuple[str, ...] | None:
    """The names of the states that a field has as ``columns`` or ``species``, or None."""
    names = getattr(model, "columns", None) or getattr(model, "species", None)
    if names is None:
        return None
    return tuple(names)


def _default_start(model):
    start = getattr(model, "y0", None)
    if start is None:
        return None
    return torch.as_tensor(start).detach().double().reshape(-1)


def _labels(name: str, shape: tuple[int, ...]) -> list[str]:
    """A name for each number of a parameter: k, or k[0], or w[0,1]."""
    if not shape:
        return [name]
    indices = itertools.product(*(range(size) for size in shape))
    return [f"{name}[{','.join(map(str, index))}]" for index in indices]


def _picked(observables, columns):
    """The places of the columns among the observables; None without observables."""
    if observables is None:
        return None
    missing = [name for name in columns if name not in observables]
    if missing:
        raise ValueError(
            f"the module measures {', '.join(observables)}, but not the column {missing[0]!r}: drop"
            " the column, or add it to observables and observe"
        )
    return [observables.index(name) for name in columns]


def _with_rows(bound, sample, free, conditions):
    """The bound model, with by_row set if its code takes rows of a batch alone."""
    t = sample.new_zeros(())
    try:
        found = bound.rate(t, sample, sample.new_ones(free), sample.new_ones(conditions))
    except (IndexError, RuntimeError, ValueError) as error:
        bound.by_row = True
        try:
            found = bound(
                sample.new_zeros(1, 1),
                sample[None],
                sample.new_ones(1, free),
                sample.new_ones(1, conditions),
            )[0]
        except (IndexError, RuntimeError, ValueError):
            raise ValueError(
                f"the model cannot be called with a state of {len(sample)} components and"
                f" {conditions} conditions: {error}"
            ) from error
    if found.shape != sample.shape:
        raise ValueError(
            f"the model returned a tensor of shape {tuple(found.shape)} for a state of"
            f" {len(sample)} components: check which columns are states"
        )
    return bound


def _name(thing: Any) -> str:
    return getattr(thing, "__name__", type(thing).__name__)
