"""Values of parameters, and tables of numbers that are made of them.

A table (the constants of every experiment, the placeholders of every measurement) has three kinds
of entries: numbers, parameters and formulas of parameters. All numbers stand in one pool, and a
table is one look-up in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from ...core.parameter_info import ParameterInfo
from .networks import FirstNetworks, function_of_parameters


class Values:
    """The parameters of a problem as functions of theta, and the pool of all numbers.

    parameters: of the table. estimated: the components of theta, in this order. derived: outputs of
    networks, which follow the parameters.
    """

    def __init__(
        self, parameters: Sequence[ParameterInfo], derived: FirstNetworks | None = None
    ) -> None:
        self.parameters = tuple(parameters)
        self.estimated = tuple(item for item in parameters if item.estimate)
        self.names = [item.name for item in parameters]
        self.derived = derived
        if derived is not None:
            self.names += derived.names
        self._places = {name: i for i, name in enumerate(self.names)}
        self._numbers: list[float] = []
        self._number_places: dict[float, int] = {}
        self._formulas: list[sp.Expr] = []
        self._formula_places: dict[sp.Expr, int] = {}
        fixed = [item.start for item in parameters]
        self._fixed = torch.tensor(fixed, dtype=torch.float64)
        of_theta = [i for i, item in enumerate(parameters) if item.estimate]
        self._of_theta = torch.tensor(of_theta, dtype=torch.long)
        masks = [[item.scale == scale for item in self.estimated] for scale in ("log", "log10")]
        self._masks = torch.tensor(masks, dtype=torch.bool).reshape(2, -1)
        self._all_log10 = bool(self._masks[1].all()) and len(self.estimated) > 0
        self._all_linear = not bool(self._masks.any())
        self._evaluate: Callable[..., Tensor] | None = None
        self._constant_pool: Tensor | None = None

    def place(self, entry: sp.Expr | float | str) -> tuple[str, int]:
        """Where an entry of a table stands. Raise ValueError for a formula of other names than the
        parameters."""
        if isinstance(entry, str):
            return "parameter", self._places[entry]
        expression = sp.sympify(entry)
        if expression is sp.nan:
            self._numbers.append(math.nan)
            return "number", len(self._numbers) - 1
        if expression.is_Symbol and expression.name in self._places:
            return "parameter", self._places[expression.name]
        if expression.is_number:
            return "number", self._number(float(expression))
        unknown = {found.name for found in expression.free_symbols} - set(self._places)
        if unknown:
            raise ValueError(
                f"{expression} names {', '.join(sorted(unknown))}, which the parameter table does"
                " not have"
            )
        if expression not in self._formula_places:
            self._formula_places[expression] = len(self._formulas)
            self._formulas.append(expression)
        return "formula", self._formula_places[expression]

    def _number(self, value: float) -> int:
        if value not in self._number_places:  # NaN never is
            self._number_places[value] = len(self._numbers)
            self._numbers.append(value)
        return self._number_places[value]

    def table(self, entries: Sequence[Sequence[sp.Expr | float | str]], width: int) -> Table:
        """A table of these entries, (rows, width)."""
        return Table(self, [[self.place(entry) for entry in row] for row in entries], width)

    def finish(self) -> None:
        """No more tables: make the pool's function."""
        self._constant_pool = torch.tensor(self._numbers, dtype=torch.float64)
        if self._formulas:
            origin = "<formulas of parameters>"
            self._evaluate = function_of_parameters(self.names, self._formulas, origin)

    def index(self, place: tuple[str, int]) -> int:
        """The place of an entry in the pool."""
        kind, i = place
        if kind == "parameter":
            return i
        if kind == "number":
            return len(self.names) + i
        return len(self.names) + len(self._numbers) + i

    def values(self, theta: Tensor) -> Tensor:
        """All parameters in the units of the model, (..., P). theta: (..., k)."""
        value = theta
        if self._all_log10:
            value = torch.pow(10.0, theta)
        elif not self._all_linear:
            value = torch.where(self._masks[0], torch.exp(theta), theta)
            value = torch.where(self._masks[1], torch.pow(10.0, theta), value)
        whole = self._fixed.expand(*theta.shape[:-1], len(self._fixed))
        whole = torch.index_copy(whole, -1, self._of_theta, value)
        if self.derived is None:
            return whole
        return torch.cat((whole, self.derived(whole)), -1)

    def pool(self, values: Tensor) -> Tensor:
        """All numbers of the tables, (..., N). values: (..., P)."""
        assert self._constant_pool is not None
        lead = values.shape[:-1]
        parts = [values, self._constant_pool.expand(*lead, -1)]
        if self._evaluate is not None:
            time = torch.zeros(lead, dtype=values.dtype)
            parts.append(self._evaluate(values, time))
        return torch.cat(parts, -1)

    def theta(self, values: dict[str, float] | None = None) -> Tensor:
        """theta, (k,), of values by name; of the nominal values where a name is missing."""
        given = values or {}
        numbers = []
        for item in self.estimated:
            value = float(given.get(item.name, item.start))
            if item.scale == "log":
                value = float(np.log(value))
            elif item.scale == "log10":
                value = float(np.log10(value))
            numbers.append(value)
        return torch.tensor(numbers, dtype=torch.float64)


class Table:
    """Entries of a table by their places in the pool. The pool must be finished before it is
    read."""

    def __init__(self, values: Values, places: list[list[tuple[str, int]]], width: int) -> None:
        self._values = values
        self._places = places
        self.shape = (len(places), width)
        self._index: Tensor | None = None

    @property
    def index(self) -> Tensor:
        """(rows * width,) places in the pool."""
        if self._index is None:
            flat = [self._values.index(place) for row in self._places for place in row]
            self._index = torch.tensor(flat, dtype=torch.long)
        return self._index

    def of(self, pool: Tensor) -> Tensor:
        """The numbers, (..., rows, width). pool: (..., N)."""
        return pool[..., self.index].reshape(*pool.shape[:-1], *self.shape)
