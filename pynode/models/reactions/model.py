"""``ReactionModel``: a model of species and reactions as a torch module."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp
import torch
from torch import Tensor, nn

from ...core.files import save_text
from ...core.switches import Switches
from .description import description
from .formula_parser import parse
from .formulas import plain, with_time
from .hybrid import SEEN, LearnedTerms
from .jumps import jump_times
from .named_parts import LearnedConstants
from .python_file import python_file
from .records import START_OF_TIME, Network
from .simulate import simulate
from .switches import held_formulas
from .symbols import TIME, at_start, symbol
from .torch_source import FunctionSource, compiled

if TYPE_CHECKING:
    from .simulation import Simulation

_COUNT = itertools.count()
_SCALES: dict[str, tuple[Callable, Callable]] = {
    "lin": (lambda value: value, lambda value: value),
    "log": (torch.log, torch.exp),
    "log10": (torch.log10, lambda value: torch.pow(10.0, value)),
}


class ReactionModel(LearnedTerms, nn.Module):
    """dy/dt of a model of species and reactions, with its quantities by name.

    All that is constant in a solve is one vector p: ``solve(model, model.initial(p), t,
    args=(p,))``. ``model.values`` is p as the file gives it, with the learned parameters.

    network: the model's equations, as a reader makes them (``pynode.models.sbml``).
    learn: names of constants that become parameters of the module, or a dict of names to their
        scales "lin", "log" or "log10": the parameter is then the logarithm of the constant. The
        parameter of k1 is ``learned["k1"]``, and has the name "learned.k1" in named_parameters and
        state_dict. torch forbids a dot in it: that of r.k is "learned.r:k".

    states: n names of the components of y. constants: names of the components of p. A local
    constant k of the reaction r is "r.k", and the initial value of S is "init(S)", in the file's
    units.
    """

    given: Tensor
    places: Tensor

    def __init__(
        self,
        network: Network,
        learn: Sequence[str] | Mapping[str, str] = (),
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.network = network
        self.states = tuple(network.states)
        self.constants = tuple(network.constants)
        self.reactions = tuple(network.reactions)
        self.events = network.events
        scales = _scales(learn)
        self._check_learned(scales)
        self.scales = scales
        given = torch.tensor(list(network.constants.values()), dtype=dtype)
        self.register_buffer("given", given)
        places = [self.constants.index(name) for name in scales]
        self.register_buffer("places", torch.tensor(places, dtype=torch.long))
        self.learned = LearnedConstants(
            {
                name: nn.Parameter(_SCALES[scale][0](given[place].clone()))
                for place, (name, scale) in zip(places, scales.items())
            }
        )
        self._functions: dict[Any, Callable] = {}
        self._jump_times: list[sp.Expr] | None = None
        self._switches: dict[frozenset[str], Switches] = {}
        # A list, because a module in an attribute would become a part of this one.
        self._quiet: list[ReactionModel] = []

    def _check_learned(self, scales):
        for name, scale in scales.items():
            if name not in self.constants:
                raise ValueError(
                    f"learn names {name!r}, which is no constant of the model: choose of"
                    f" {', '.join(self.constants)}"
                )
            if scale not in _SCALES:
                raise ValueError(
                    f"the scale of {name!r} must be 'lin', 'log' or 'log10', not {scale!r}"
                )

    @property
    def values(self) -> Tensor:
        """p: the constants now, (p,), in the order of ``constants``. Gradients reach the learned
        parameters."""
        if not self.scales:
            return self.given
        learned = [
            _SCALES[scale][1](parameter)
            for parameter, scale in zip(self.learned, self.scales.values())
        ]
        return self.given.index_copy(0, self.places, torch.stack(learned))

    @property
    def expressions(self) -> dict[str, sp.Basic]:
        """The definition of every named quantity that is neither a state nor a constant, and of
        every reaction."""
        return {
            name: found
            for name, found in self.network.definitions.items()
            if not name.startswith("start(")
        }

    @property
    def derivatives(self) -> dict[str, sp.Expr]:
        """The derivative of every state as an expression."""
        return {name: self.network.derivative(name) for name in self.states}

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the components of y."""
        return self.states

    @property
    def time_unit(self) -> str:
        """The unit of the time, such as 's'; '' where the file does not say it."""
        return self.network.time_unit

    @property
    def stoichiometry(self) -> Tensor:
        """(n, m), sparse: how much of each state one unit of each reaction makes. Entries that are
        no numbers have their value at the first time."""
        rows = []
        columns = []
        entries = []
        for i, state in enumerate(self.states):
            for reaction, number in self.network.effects.get(state, {}).items():
                rows.append(i)
                columns.append(self.reactions.index(reaction))
                entries.append(self.network.to_start(number))
        shape = (len(self.states), len(self.reactions))
        indices = torch.tensor([rows, columns], dtype=torch.long).reshape(2, -1)
        if not entries:
            return _sparse(indices, self.given.new_zeros(0), shape)
        function = self._start_function("stoichiometry", entries, ())
        values = function(self._time(0.0), self.values.detach(), None)
        return _sparse(indices, values, shape)

    def forward(self, t: float | Tensor, y: Tensor, p: Tensor | None = None) -> Tensor:
        """dy/dt, (..., n), at the state y (..., n) and the constants p, (p,) or (..., p)."""
        return self._evaluated("derivatives", self._derivatives, t, y, p, None)

    def rates(self, t: float | Tensor, y: Tensor, p: Tensor | None = None) -> Tensor:
        """The rates of the reactions, (..., m)."""
        return self._evaluated(
            "rates", lambda: [symbol(name) for name in self.reactions], t, y, p, None
        )

    def initial(self, p: Tensor | None = None, t: float | Tensor = 0.0) -> Tensor:
        """The state at the first time, (..., n), for the constants p, (p,) or (..., p)."""
        return self.initial_with(())(p, None, t)

    def initial_with(self, names: Sequence[str]) -> Callable[..., Tensor]:
        """A function (p, e, t=0.0) -> y0, (..., n): as ``initial``, where e, (..., len(names)), are
        values of the named quantities at the first time. They replace the values of the file, and
        what depends on them follows. A species has the value that the name means in formulas."""
        names = tuple(names)
        known = set(self.constants) | set(self.network.definitions) | set(self.states)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: the model has no quantity of this name")

        def start(p: Tensor | None = None, e: Tensor | None = None, t: Any = 0.0) -> Tensor:
            function = self._start_function(
                "initial", [symbol(at_start(name)) for name in self.states], names
            )
            p = self.values if p is None else p
            return function(self._time(t, p), p, e)

        return start

    def quantities(
        self, formulas: Sequence[str | sp.Basic], extra: Sequence[str] = ()
    ) -> Callable[..., Tensor]:
        """A function (t, y, p=None, e=None) -> (..., len(formulas)): the values of formulas.

        formulas: names of quantities (species, parameters, reactions, assigned quantities), texts
            such as "log(S1) + k*time" (log is the natural logarithm), or sympy expressions.
        extra: further names in the formulas, whose values e, (..., len(extra)), the caller gives.
        """
        extra = tuple(extra)
        expressions = [self.expression(formula, extra) for formula in formulas]
        key = ("quantities", tuple(expressions), extra)

        def evaluate(
            t: float | Tensor, y: Tensor, p: Tensor | None = None, e: Tensor | None = None
        ) -> Tensor:
            return self._evaluated(key, lambda: expressions, t, y, p, e, extra)

        return evaluate

    def watch(self, formulas: Sequence[sp.Basic]) -> Callable[..., Tensor]:
        """A plain function (t, y, p and signs) -> (len(formulas),) of one state, for events of
        ``solve``: each formula times a sign. The signs follow the constants in the last argument.
        The native engine finds nothing in the function but the formulas."""
        key = ("watch", tuple(formulas))
        if key not in self._functions:
            signs = [f"sign({i})" for i in range(len(formulas))]
            source = FunctionSource(
                name="value",
                vectors={"y": self.states, "p": (*self.constants, *signs)},
                times={TIME.name: "t", START_OF_TIME: "torch.zeros_like(t)"},
                definitions=self.network.definitions,
                arguments=("t", "y", "p"),
            )
            pairs = zip(formulas, signs)
            self._keep(key, source.text([formula * symbol(sign) for formula, sign in pairs]))
        return self._functions[key]

    def function_of(self, formulas: Sequence[str | sp.Basic]) -> Callable[..., Tensor]:
        """The plain function behind ``quantities``, (t, y, p, None) -> (..., len(formulas)), with t
        (...). Fields that are built on a model call it: native code sees nothing but torch."""
        expressions = [self.expression(formula) for formula in formulas]
        key = ("quantities", tuple(expressions), ())
        extra = tuple(self.terms)
        function = self._functions.get(key) or self._make(key, lambda: expressions, extra)
        if not self.terms:
            return function
        return self._with_networks(function)

    def expression(self, formula: str | sp.Basic, extra: Sequence[str] = ()) -> sp.Basic:
        """A formula as an expression of this model's symbols. Raise ValueError for a name that the
        model does not have."""
        known = {*self.constants, *self.states, *self.network.definitions, *extra}
        if isinstance(formula, str) and formula in known:
            return symbol(formula)
        expression = with_time(plain(parse(formula)), known)
        pairs = {found: symbol(found.name) for found in expression.free_symbols if found != TIME}
        expression = expression.xreplace(pairs)
        unknown = {found.name for found in expression.free_symbols} - known - {TIME.name}
        if unknown:
            raise ValueError(
                f"{formula!r} names {', '.join(sorted(unknown))}, which the model does not have; it"
                f" has {', '.join(sorted(name for name in known if '(' not in name))}"
            )
        return expression

    def jumps(
        self, p: Tensor | None = None, t: float | Tensor = 0.0, y: Tensor | None = None
    ) -> Tensor:
        """Times, known in advance, at which dy/dt can jump: conditions of the time in piecewise
        formulas, (k,), or (..., k) for p (..., p). y: the state, where the times depend on
        quantities that only events change."""
        if p is None:
            p = self.values
        if not self._known_jumps():
            return p.new_zeros((*p.shape[:-1], 0), dtype=torch.float64)
        if y is None:
            y = self.initial(p)
        return self.quantities(self._known_jumps())(t, y, p).double()

    @property
    def pynode_switches(self) -> Switches:
        """The conditions at which dy/dt jumps while the states move (core/switches.py)."""
        return self.switches()

    def switches(self, moving: Sequence[str] = ()) -> Switches:
        """The conditions of piecewise formulas at which dy/dt jumps, if their times are not known
        beforehand. moving: constants that something else changes during a solve."""
        known = frozenset(moving)
        if known not in self._switches:
            self._switches[known] = self._made_switches(known)
        return self._switches[known]

    def _made_switches(self, moving):
        values = dict(zip(self.constants, self.given.detach().tolist()))
        held = held_formulas(self.network, self._derivatives(), values, moving)

        def rate(t: Tensor, y: Tensor, sides: Tensor, p: Tensor | None = None) -> Tensor:
            return self._evaluated(
                ("held", moving), lambda: held.derivatives, t, y, p, sides, held.names, held
            )

        def differences(t: Tensor, y: Tensor, sides: Tensor, p: Tensor | None = None) -> Tensor:
            return self._evaluated(
                ("differences", moving), lambda: held.differences, t, y, p, sides, held.names, held
            )

        jumps = None
        if self._known_jumps():
            jumps = self._jumps_at
        return Switches(held.texts, held.text, rate, differences, jumps)

    def _jumps_at(self, t, y, p=None):
        """``jumps`` of a solve that begins at t and y."""
        return self.jumps(p, t, y)

    def _known_jumps(self):
        """The formulas of ``jumps``."""
        if self._jump_times is None:
            self._jump_times = jump_times(self.network, self._derivatives())
        return self._jump_times

    def without_events(self) -> ReactionModel:
        """The model with its events left out on purpose, for ``solve`` and ``steady_state``. It has
        the same parameters and tensors as this model."""
        if not self.events:
            return self
        if not self._quiet:
            other = copy.copy(self)
            other.network = dataclasses.replace(self.network, events=())
            other.events = ()
            self._quiet.append(other)
        return self._quiet[0]

    @property
    def has_fast_reactions(self) -> bool:
        """Whether a reaction is always at its equilibrium."""
        return any(reaction.fast for reaction in self.network.reactions.values())

    def fast_derivatives(self, t: Tensor, y: Tensor, p: Tensor) -> Tensor:
        """The part of dy/dt from fast reactions, (..., n), with the rates of the file."""
        return self._evaluated(
            "fast",
            lambda: [self.network.fast_derivative(name) for name in self.states],
            t,
            y,
            p,
            None,
        )

    @property
    def mass(self) -> Tensor | None:
        """The diagonal of the mass matrix, (n,), with zeros for algebraic equations; None if the
        model has none."""
        algebraic = [state.algebraic for state in self.network.states.values()]
        if not any(algebraic):
            return None
        return 1 - torch.tensor(algebraic, dtype=self.given.dtype, device=self.given.device)

    def simulate(
        self,
        t: Sequence[float] | np.ndarray | Tensor,
        p: Tensor | None = None,
        y0: Tensor | None = None,
        seed: int = 0,
        triggers: Sequence[bool] | None = None,
        open_end: bool = False,
        **options: Any,
    ) -> Simulation:
        """The course of the model at the times t, (T,), from the first of them, with its events.

        p: constants, (p,), by default ``values``. y0: the state at the first time, by default
        ``initial(p, t[0])``. seed: of the order of events with equal priority at one time, which
        SBML wants to be random. triggers: which triggers were true before the first time, instead
        of the file's initial values; a simulation that goes on from another one passes its
        ``triggers``. open_end: whether events at the last time are left to the next simulation.
        options: of ``solve``; the engine is the native one where it is installed. Gradients reach p
        and y0, also through the times of events.
        """
        return simulate(self, t, p, y0, seed, triggers, open_end, **options)

    def _derivatives(self):
        return [self.network.derivative(name) for name in self.states]

    def _evaluated(self, key, outputs, t, y, p, e, extra=(), held=None):
        """The function of a key at t, y, p and e. outputs() makes the expressions at the first
        use. held: the HeldFormulas to which they belong, or None."""
        if self.terms and key != SEEN:
            e = self._with_learned(t, y, p, e)
            extra = (*extra, *self.terms)
        function = self._functions.get(key) or self._make(key, outputs, extra, held)
        p = self.values if p is None else p
        if p.dim() > 1 and y.dim() == 1:
            y = y.expand(*p.shape[:-1], y.shape[-1])
        time = self._time(t, y)
        result = function(time, y, p, e)
        if not function.has_rows and max(time.dim(), y.dim() - 1, p.dim() - 1) > 0:
            rows = np.broadcast_shapes(time.shape, y.shape[:-1], p.shape[:-1])
            result = result.expand(*rows, result.shape[-1])
        return result

    def _make(self, key, outputs, extra, held=None):
        source = FunctionSource(
            name="value",
            vectors={"y": self.states, "p": self.constants, "e": extra},
            times={TIME.name: "t", START_OF_TIME: "torch.zeros_like(t)"},
            definitions=self._running(extra, held),
            arguments=("t", "y", "p", "e"),
            first=self.constants,
        )
        function = self._keep(key, source.text(outputs()))
        function.has_rows = source.has_rows
        return function

    def _running(self, extra, held=None):
        definitions = self.network.definitions
        if held is not None:
            definitions = {**definitions, **held.definitions}
        return {name: found for name, found in definitions.items() if name not in extra}

    def _start_function(self, key, outputs, names):
        full = (key, tuple(names))
        if full not in self._functions:
            given = {at_start(name) for name in names}
            definitions = {
                name: found for name, found in self.network.definitions.items() if name not in given
            }
            constants = [name for name in names if name in self.network.constants]
            if constants:
                raise ValueError(
                    f"{', '.join(constants)}: constants of the model; pass their values in p"
                )
            source = FunctionSource(
                name="value",
                vectors={"p": self.constants, "e": [at_start(name) for name in names]},
                times={TIME.name: "t", START_OF_TIME: "t"},
                definitions=definitions,
                arguments=("t", "p", "e"),
            )
            self._keep(full, source.text(outputs))
        return self._functions[full]

    def _keep(self, key, source):
        kind = key
        if not isinstance(key, str):
            kind = key[0]
        file = f"<{self.network.name}, {kind} {next(_COUNT)}>"
        self._functions[key] = compiled(source, "value", file)
        return self._functions[key]

    def _time(self, t, like=None):
        """t as a tensor with the shape of the rows."""
        like = self.given if like is None else like
        if not isinstance(t, Tensor):
            return torch.full((), t, dtype=like.dtype, device=like.device)
        if t.dim():
            return t.reshape(t.shape[:-1])
        return t

    def __getstate__(self):
        # Functions of generated source do not pickle. They are made again at their first use.
        return {**self.__dict__, "_functions": {}, "_switches": {}, "_quiet": []}

    def __str__(self) -> str:
        """The reactions with their rates, the rules and the events, as chemists write them."""
        return description(self.network)

    def extra_repr(self) -> str:
        """The size of the model."""
        return (
            f"{self.network.name}: {len(self.states)} states, {len(self.reactions)} reactions,"
            f" {len(self.constants)} constants"
        )

    def to_python(self, path: str | os.PathLike | None = None) -> str:
        """The text of a Python file with the model as a torch module, also written to path if there
        is one. The file needs only torch. Events are not part of it."""
        if self.terms:
            raise ValueError(
                f"{', '.join(self.terms)}: a network is no text; save the model with torch.save, or"
                " write the file of the model without learned rates"
            )
        values = self.values.detach().tolist()
        text = python_file(self.network, dict(zip(self.constants, values)))
        if path is not None:
            save_text(path, text)
        return text

    def __field_parts__(self) -> tuple:
        """What the field computes with, for the native engine's key (translate/key.py)."""
        if "derivatives" not in self._functions:
            self._make("derivatives", self._derivatives, tuple(self.terms))
        scales = [_SCALES[scale][1] for scale in self.scales.values()]
        return (
            self._functions["derivatives"],
            *self._learned_parts(),
            self.given,
            self.places,
            *self.learned,
            *scales,
        )

    def missing(self) -> tuple[str, ...]:
        """The constants that the file gives no value."""
        values = self.given.tolist()
        return tuple(name for name, value in zip(self.constants, values) if math.isnan(value))


def _scales(learn: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """The scale of each learned constant, by default "lin"."""
    if isinstance(learn, Mapping):
        return dict(learn)
    return dict.fromkeys(learn, "lin")


def _sparse(indices, values, shape):
    return torch.sparse_coo_tensor(indices, values, shape, check_invariants=True)
