"""Observables and their noise at all measurements, and the likelihood."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import sympy as sp
import torch
from torch import Tensor

from ..reactions.symbols import symbol
from .networks import LateNetworks
from .plan import Plan
from .records import Observable
from .simulation import States
from .targets import substituted
from .values import Table

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class _Group(NamedTuple):
    """Measurements of one observable, which stand side by side.

    begin, end: their places. evaluate: (t, y, p, e) -> (..., 2), the value and its noise. extras:
    (m, len(extra)) entries. outputs: of networks, which follow the extras. conditions: of each
    measurement, for arrays.
    """

    begin: int
    end: int
    evaluate: Any
    extras: Table
    outputs: list[str]
    conditions: list[tuple[str, ...]]


class _Kind(NamedTuple):
    """Measurements with one distribution. members: their places, or slice(None) for all.
    constant: the part of the negative log likelihood that depends only on the measured values."""

    members: Tensor | slice
    transform: str
    laplace: bool
    measured: Tensor
    constant: float


class Observations:
    """The measurements of a plan, sorted by observable.

    order: (M,) the number in the files of each; measured: (M,) the values.
    """

    def __init__(self, plan: Plan, networks: LateNetworks | None = None) -> None:
        self.plan = plan
        self.networks = networks
        definition = plan.definition
        names = list(definition.observables)
        sort = sorted(
            range(len(definition.measurements)),
            key=lambda i: names.index(definition.measurements[i].observable),
        )
        self.items = [definition.measurements[i] for i in sort]
        self.places = [plan.places[i] for i in sort]
        self.measured = torch.tensor([item.value for item in self.items], dtype=torch.float64)
        times = [item.time for item in self.items]
        self.times = torch.tensor(times, dtype=torch.float64).unsqueeze(-1)
        self._gathers = self._make_gathers()
        self.groups = self._make_groups()
        self.kinds = self._make_kinds()

    def _make_gathers(self):
        """For each stage: (places of its measurements, their rows, their outputs)."""
        found = []
        for stage in range(len(self.plan.stages)):
            regular = [
                i for i, at in enumerate(self.places) if at.stage == stage and at.output >= 0
            ]
            rows = [self.places[i].row for i in regular]
            outputs = [self.places[i].output for i in regular]
            steady = [i for i, at in enumerate(self.places) if at.stage == stage and at.output < 0]
            lists = (regular, rows, outputs)
            found.append((*(torch.tensor(x, dtype=torch.long) for x in lists), steady))
        return found

    def _make_groups(self):
        observables = self.plan.definition.observables
        groups = []
        begin = 0
        while begin < len(self.items):
            name = self.items[begin].observable
            end = begin
            while end < len(self.items) and self.items[end].observable == name:
                end += 1
            groups.append(self._group(observables[name], begin, end))
            begin = end
        return groups

    def _group(self, observable: Observable, begin: int, end: int) -> _Group:
        plan = self.plan
        known = {name: item.formula for name, item in plan.definition.observables.items()}
        formulas = [
            plan.names.in_model(substituted(x, known, plan.names.quantities))
            for x in (observable.formula, observable.noise)
        ]
        foreign = plan.names.foreign(sp.Tuple(*formulas))
        known_outputs = {}
        if self.networks is not None:
            known_outputs = self.networks.outputs
        outputs = [name for name in foreign if name in known_outputs]
        extra = [name for name in foreign if name not in known_outputs]
        entries = [self._entries(observable, extra, i) for i in range(begin, end)]
        evaluate = plan.model.quantities(formulas, (*extra, *outputs))
        conditions = [
            plan.conditions_of(plan.row_of(self.items[i], self.places[i]))
            for i in range(begin, end)
        ]
        table = plan.values.table(entries, len(extra))
        return _Group(begin, end, evaluate, table, outputs, conditions)

    def _entries(self, observable, extra, i):
        """The entries of the extra names of one measurement."""
        item = self.items[i]
        if len(item.overrides) < len(observable.placeholders):
            raise ValueError(
                f"the measurement in line {item.row + 1} gives {len(item.overrides)} values for"
                f" {', '.join(observable.placeholders)}"
            )
        given = dict(zip(observable.placeholders, item.overrides))
        row = self.plan.row_of(item, self.places[i])
        entries = []
        for name in extra:
            entry = given.get(name, row.extras.get(name, symbol(name)))
            place = None
            if entry.is_Symbol and entry.name not in self.plan.values.names:
                place = self.plan.names.constant(self.plan.names.of_model(entry.name))
            if place is not None:
                entry = row.constants.get(place, sp.Float(self.plan.given[place]))
            entries.append(entry)
        return entries

    def _make_kinds(self):
        observables = self.plan.definition.observables
        kinds: dict[tuple[str, bool], list[int]] = {}
        for i, item in enumerate(self.items):
            observable = observables[item.observable]
            kinds.setdefault((observable.transform, observable.laplace), []).append(i)
        return [self._kind(*key, members) for key, members in kinds.items()]

    def _kind(self, transform, laplace, members):
        chosen: Tensor | slice = slice(None)
        if len(members) < len(self.items):
            chosen = torch.tensor(members, dtype=torch.long)
        values = self.measured[members]
        if transform != "lin" and bool((values <= 0).any()):
            raise ValueError("a measured value on a log scale is not positive")
        constant = len(members) * HALF_LOG_2PI
        if laplace:
            constant = len(members) * math.log(2)
        if transform != "lin":
            constant += float(torch.log(values).sum())
        if transform == "log10":
            constant += len(members) * math.log(math.log(10))
        return _Kind(chosen, transform, laplace, _transformed(values, transform), constant)

    def evaluate(
        self, results: list[States], pool: Tensor, parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(values, noise), (K, M) each. parameters: (K, P)."""
        states, constants = self._gathered(results)
        times = self.times
        parts = []
        for group in self.groups:
            own = slice(group.begin, group.end)
            extras = group.extras.of(pool)
            if group.outputs:
                given = states[0, own], constants[0, own]
                found = self._outputs(group, times[own], *given, parameters[0])
                extras = torch.cat((extras, found.unsqueeze(0)), -1)
            found = group.evaluate(times[own], states[:, own], constants[:, own], extras)
            parts.append(found.expand(*states.shape[:1], -1, -1))
        both = parts[0]
        if len(parts) > 1:
            both = torch.cat(parts, 1)
        return both[..., 0], both[..., 1]

    def _outputs(self, group, times, states, constants, parameters):
        """The outputs of networks at the measurements of a group, (m, len(outputs))."""
        arrays = self.networks.arrays(group.conditions)
        weights = self.networks.weights(parameters)
        return self.networks.values_of(group.outputs, times, states, constants, arrays, weights)

    def _gathered(self, results):
        """(states (K, M, n), constants (K, M, p)) at the measurements."""
        places = []
        states = []
        constants = []
        for (regular, rows, outputs, steady), result in zip(self._gathers, results, strict=True):
            if len(regular):
                places.append(regular)
                states.append(result.outputs[:, rows, outputs])
                constants.append(result.constants[:, rows])
            for i in steady:
                row = self.places[i].row
                places.append(torch.tensor([i]))
                states.append(result.steady[row].unsqueeze(1))
                constants.append(result.constants[:, row : row + 1])
        if len(places) == 1:
            return states[0], constants[0]
        order = torch.argsort(torch.cat(places))
        return torch.cat(states, 1)[:, order], torch.cat(constants, 1)[:, order]

    def negative_log_likelihood(self, values: Tensor, noise: Tensor) -> Tensor:
        """(K,) of values and noise, (K, M)."""
        total = values.new_zeros(values.shape[0])
        for kind in self.kinds:
            own = values[..., kind.members]
            width = noise[..., kind.members]
            residual = (_transformed(own, kind.transform) - kind.measured) / width
            if kind.laplace:
                cost = residual.abs() + torch.log(width)
            else:
                cost = 0.5 * residual * residual + torch.log(width)
            total = total + cost.sum(-1) + kind.constant
        return total

    def weights(self, values: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(of the values, of the noise), (K, M): the expected second derivatives of the negative
        log likelihood of each measurement."""
        of_values = torch.zeros_like(values)
        of_noise = torch.zeros_like(values)
        for kind in self.kinds:
            width = noise[..., kind.members]
            slope = _slope(values[..., kind.members], kind.transform)
            of_values[..., kind.members] = (slope / width) ** 2
            curvature = 2.0
            if kind.laplace:
                curvature = 1.0
            of_noise[..., kind.members] = curvature / width**2
        return of_values, of_noise

    def chi2(self, values: Tensor, noise: Tensor) -> Tensor:
        """(K,) sums of squared normalised residuals."""
        total = values.new_zeros(values.shape[0])
        for kind in self.kinds:
            own = _transformed(values[..., kind.members], kind.transform)
            residual = (own - kind.measured) / noise[..., kind.members]
            total = total + (residual * residual).sum(-1)
        return total


def _transformed(values: Tensor, transform: str) -> Tensor:
    if transform == "log":
        return torch.log(values)
    if transform == "log10":
        return torch.log10(values)
    return values


def _slope(values: Tensor, transform: str) -> Tensor:
    """The derivative of the transformed value."""
    if transform == "log":
        return 1 / values
    if transform == "log10":
        return 1 / (values * math.log(10))
    return torch.ones_like(values)
