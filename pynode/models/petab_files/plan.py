"""What a problem needs to be simulated: all experiments side by side, period after period."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from ..reactions.model import ReactionModel
from ..reactions.refusal import UnsupportedFeature
from ..reactions.symbols import symbol
from .records import PRE_EQUILIBRATION, STEADY, Definition, Experiment, Measurement, Period
from .targets import Names
from .values import Table, Values

# How far apart, relative to the span, the times stand that fill up the rows of a batch.
FILL = 1e-7


@dataclass
class Row:
    """One period of one experiment.

    constants: number of a constant -> entry of the pool. states: name of a quantity that a state
    carries -> entry. extras: name that the model does not have -> entry. dynamic: quantity ->
    expression of the state before the period. before: the row of the stage before, or None.
    is_last: whether no other period follows. times: of the outputs, beginning with the start of the
    period.
    """

    experiment: str
    period: Period
    constants: dict[int, Any]
    states: dict[str, Any]
    extras: dict[str, Any]
    dynamic: dict[str, sp.Expr] = field(default_factory=dict)
    before: int | None = None
    carried: bool = False
    is_last: bool = True
    times: list[float] = field(default_factory=list)

    @property
    def setting(self) -> tuple:
        """What decides the row's steady state: the constants and the states that are set."""
        return tuple(sorted(self.constants.items())), tuple(self.states.items())


@dataclass(frozen=True)
class Group:
    """Rows of a stage whose starts are made in the same way.

    rows: their numbers, (g,). before: rows of the stage before, (g,), or None where they begin with
    the model's initial state. names: quantities that are set; entries: (g, len(names)). columns:
    the states that carry them. carried: whether the names mean all quantities of states, because
    units of states change. dynamic: expressions of the state before, by quantity.
    """

    rows: Tensor
    before: Tensor | None
    names: tuple[str, ...]
    entries: Table
    columns: Tensor
    carried: bool
    dynamic: tuple[tuple[str, sp.Expr], ...] = ()


@dataclass
class Stage:
    """Rows that are simulated together.

    steady: whether their end is the steady state. constants: (rows, p). times: (T, rows), or None.
    """

    rows: list[Row]
    steady: bool
    constants: Table
    groups: list[Group]
    times: Tensor | None = None
    solved: Tensor | None = None


@dataclass(frozen=True)
class Place:
    """Where the state of a measurement is. stage, row, output: numbers; output -1 means the steady
    state after the row."""

    stage: int
    row: int
    output: int


class Plan:
    """The stages of a problem, and the places of its measurements.

    assigned: constant -> its value where no table sets it. stages[0] is the pre-equilibration, if
    there is one. after: the rows, as (stage, row), that go on to a steady state.
    """

    def __init__(
        self,
        definition: Definition,
        model: ReactionModel,
        values: Values,
        assigned: dict[str, sp.Expr],
    ) -> None:
        self.definition = definition
        self.model = model
        self.values = values
        self.names = Names(model, definition.mapping)
        self.given = model.values.detach().tolist()
        self.of_table = self._of_table()
        self.assigned = {self.names.constant(name): value for name, value in assigned.items()}
        self.stages: list[Stage] = []
        chains = {
            name: self._chain(experiment) for name, experiment in definition.experiments.items()
        }
        self._arrange(chains)
        self._place_measurements(chains)
        self._finish()

    def _of_table(self):
        """The constants that the parameter table sets: number -> entry."""
        found = {}
        for item in self.values.parameters:
            place = self.names.constant(self.names.of_model(item.name))
            if place is not None:
                found[place] = symbol(item.name)
        return found

    # Periods

    def _chain(self, experiment: Experiment) -> list[Row]:
        """The rows of an experiment, one for each period."""
        constants = dict(self.of_table)
        extras: dict[str, Any] = {}
        rows = []
        for k, period in enumerate(experiment.periods):
            states: dict[str, Any] = {}
            dynamic: dict[str, sp.Expr] = {}
            for name, value in period.changes.items():
                target = self.names.of_model(name)
                self.names.check_target(target)
                place = self.names.constant(target)
                if value is None:
                    self._reset(target, place, constants, extras)
                    continue
                if place is not None:
                    value = value / self.names.factor(target)
                entry = self._entry(value, constants)
                if entry is None:
                    dynamic[target] = self.names.in_model(value)
                elif place is not None:
                    constants = {**constants, place: entry}
                elif self.names.component(target) is not None:
                    states[target] = entry
                else:
                    extras = {**extras, name: entry}
            whole = self._with_assigned(constants)
            rows.append(Row(experiment.name, period, whole, states, dict(extras), dynamic))
            if k and (dynamic or self._units_change(rows[-2], rows[-1])):
                rows[-1].carried = True
        return rows

    def _with_assigned(self, constants):
        """The constants of a row, with the initial assignments of those that no table sets."""
        whole = dict(constants)
        for place, value in self.assigned.items():
            if place not in constants:
                entry = self._entry(value, whole)
                if entry is None:
                    raise UnsupportedFeature(
                        f"{self.model.constants[place]!r}, which only some experiments set",
                        "its initial assignment depends on more than constants",
                    )
                whole[place] = entry
        return whole

    def _reset(self, target, place, constants, extras):
        if place is None:
            extras.pop(target, None)
        elif place in self.of_table:
            constants[place] = self.of_table[place]
        else:
            constants.pop(place, None)

    def _entry(self, value, constants):
        """The entry of the pool for a value of a condition; None if it depends on the state."""
        expression = self.names.in_model(value)
        pairs = {}
        for found in expression.free_symbols:
            if found.name in self.values.names and found.name not in self.names.quantities:
                continue
            place = self.names.constant(found.name)
            if place is None:
                return None
            pairs[found] = sp.sympify(constants.get(place, self.given[place]))
        return expression.xreplace(pairs)

    def _units_change(self, before, after):
        """Whether a volume changes between two periods, and a state is an amount in it."""
        changed = {
            place
            for place in {*before.constants, *after.constants}
            if before.constants.get(place) != after.constants.get(place)
        }
        volumes = {self.names.constants.get(name) for name in self.model.network.compartments}
        return bool(changed & volumes)

    # Stages

    def _arrange(self, chains):
        """Put the rows of all experiments into stages."""
        first: dict[Any, int] = {}
        steady: list[Row] = []
        for chain in chains.values():
            if chain[0].period.time != PRE_EQUILIBRATION:
                continue
            key = chain[0].setting
            if key not in first:
                first[key] = len(steady)
                steady.append(chain[0])
            if len(chain) > 1:
                chain[1].before = first[key]
        self.has_steady = bool(steady)
        self._row_lists: list[list[Row]] = []
        if steady:
            self._row_lists.append(steady)
        offset = len(self._row_lists)
        self._where: dict[str, list[tuple[int, int]]] = {}
        for name, chain in chains.items():
            own = [row for row in chain if row.period.time != PRE_EQUILIBRATION]
            places = []
            for j, row in enumerate(own):
                while len(self._row_lists) <= j + offset:
                    self._row_lists.append([])
                row.is_last = j == len(own) - 1
                if j:
                    row.before = places[-1][1]
                places.append((j + offset, len(self._row_lists[j + offset])))
                self._row_lists[j + offset].append(row)
                row.times = [row.period.time]
                if not row.is_last and own[j + 1].period.time > row.period.time:
                    row.times.append(own[j + 1].period.time)
            self._where[name] = places
        self._steady_of = {
            name: first[chain[0].setting]
            for name, chain in chains.items()
            if chain[0].period.time == PRE_EQUILIBRATION
        }

    def _place_measurements(self, chains):
        """Find the period of every measurement, and add its time to the outputs."""
        pending = []
        for item in self.definition.measurements:
            places = self._where[item.experiment]
            if item.time == STEADY:
                last = None
                if places:
                    last = places[-1]
                pending.append((item, last, None))
                continue
            begun = [p for p in places if self._row(p).period.time <= item.time]
            if not begun:
                raise ValueError(
                    f"the measurement in line {item.row + 1} is at time {item.time:g}, before its"
                    f" experiment {item.experiment!r} begins"
                )
            row = self._row(begun[-1])
            if item.time not in row.times:
                row.times.append(item.time)
            pending.append((item, begun[-1], item.time))
        for rows in self._row_lists:
            for row in rows:
                row.times.sort()
        self.places: list[Place] = []
        self.after: list[tuple[int, int]] = []
        for item, place, time in pending:
            if place is None:
                self.places.append(Place(0, self._steady_of[item.experiment], 0))
            elif time is None:
                if place not in self.after:
                    self.after.append(place)
                self.places.append(Place(*place, -1))
            else:
                self.places.append(Place(*place, self._row(place).times.index(time)))

    def _row(self, place):
        return self._row_lists[place[0]][place[1]]

    def row_of(self, item: Measurement, place: Place) -> Row:
        """The row of a measurement."""
        return self._row_lists[place.stage][place.row]

    def conditions_of(self, row: Row) -> tuple[str, ...]:
        """The names of the conditions of a row, or of the first period where the row has none."""
        return row.period.names or self.definition.experiments[row.experiment].periods[0].names

    def _finish(self):
        """The tables and times of all stages."""
        for number, rows in enumerate(self._row_lists):
            steady = self.has_steady and number == 0
            stage = Stage(rows, steady, self._constants(rows), self._groups(rows))
            if not steady:
                stage.times, stage.solved = _times(rows)
            self.stages.append(stage)

    def _constants(self, rows):
        entries = []
        for row in rows:
            line = list(self.given)
            for place, entry in row.constants.items():
                line[place] = entry
            entries.append(line)
        return self.values.table(entries, len(self.given))

    def _groups(self, rows):
        kinds: dict[Any, list[int]] = {}
        for i, row in enumerate(rows):
            fresh = row.before is None
            key = (fresh, tuple(sorted(row.states)), row.carried, tuple(row.dynamic.items()))
            kinds.setdefault(key, []).append(i)
        groups = []
        for (fresh, names, carried, dynamic), members in kinds.items():
            before = None
            if not fresh:
                before = torch.tensor([rows[i].before for i in members], dtype=torch.long)
            entries = [[rows[i].states[name] for name in names] for i in members]
            columns = [self.names.component(name) for name in names]
            groups.append(
                Group(
                    torch.tensor(members, dtype=torch.long),
                    before,
                    names,
                    self.values.table(entries, len(names)),
                    torch.tensor(columns, dtype=torch.long),
                    carried,
                    dynamic,
                )
            )
        return groups


def _times(rows):
    """((T, m) times of the rows that last, (m,) their numbers). Short rows are filled up with times
    right after their end."""
    lasting = [i for i, row in enumerate(rows) if len(row.times) > 1]
    if not lasting:
        return None, torch.tensor([], dtype=torch.long)
    longest = max(len(rows[i].times) for i in lasting)
    columns = []
    for i in lasting:
        times = list(rows[i].times)
        gap = FILL * max(abs(times[-1]), times[-1] - times[0])
        missing = longest - len(times)
        times += [times[-1] + gap * (k + 1) / max(missing, 1) for k in range(missing)]
        columns.append(times)
    table = np.array(columns).T
    return torch.tensor(table, dtype=torch.float64), torch.tensor(lasting, dtype=torch.long)
