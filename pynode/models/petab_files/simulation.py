"""The simulation of all experiments of a problem, for several theta at once."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...equilibrium import SteadyState, steady_state
from ...integrate import solve
from ..reactions.refusal import UnsupportedFeature
from .networks import LateNetworks
from .one_by_one import OneByOne
from .plan import Group, Plan


@dataclass(frozen=True)
class SolveOptions:
    """How the experiments are solved.

    method, rtol, atol, backend, max_steps: of ``pynode.solve``. adjoint: how gradients go back.
    """

    method: Any = "radauiia9"
    rtol: float = 1e-9
    atol: float = 1e-12
    backend: Any = "native"
    adjoint: Any = "auto"
    max_steps: int = 100_000


class SimulationFailed(RuntimeError):
    """An experiment cannot be simulated for these parameters."""


@dataclass
class States:
    """The states of one stage. outputs: (K, rows, T, n); end: (K, rows, n); constants: (K, rows,
    p). steady: row -> (K, n) its steady state. triggers: (k, row) -> which triggers of events are
    true at the end."""

    outputs: Tensor
    end: Tensor
    constants: Tensor
    steady: dict[int, Tensor] = field(default_factory=dict)
    triggers: dict[tuple[int, int], tuple[bool, ...]] = field(default_factory=dict)


class Simulation:
    """Runs the stages of a plan.

    networks: the ones in the dynamics, or None. The first run finds the conserved sums of the
    steady states, and later runs use them.
    """

    def __init__(
        self, plan: Plan, options: SolveOptions, networks: LateNetworks | None = None
    ) -> None:
        self.plan = plan
        self.model = plan.model
        self.networks = networks
        self.field: Any = plan.model
        if networks is not None:
            self.field = networks.field
        self.options = options
        self._initial: dict[Any, Any] = {}
        self._quantities: dict[Any, Any] = {}
        self._known: dict[Any, SteadyState] = {}
        # Models with events or algebraic equations are simulated one by one.
        self.alone: OneByOne | None = None
        if self.model.events or self.model.mass is not None:
            self.alone = self._one_by_one()

    def _one_by_one(self):
        if self.networks is not None:
            raise UnsupportedFeature(
                "networks in the dynamics of a model with events or algebraic rules",
                "problems with one or the other are read",
            )
        return OneByOne(
            self.model,
            {
                "method": self.options.method,
                "rtol": self.options.rtol,
                "atol": self.options.atol,
                "backend": self.options.backend,
                "max_steps": self.options.max_steps,
            },
        )

    def with_adjoint(self, adjoint: Any) -> Simulation:
        """The same simulation with another way to carry gradients."""
        other = copy.copy(self)
        other.options = replace(self.options, adjoint=adjoint)
        return other

    def run(self, pool: Tensor, values: Tensor) -> list[States]:
        """The states of all stages. pool: (K, N) numbers; values: (K, P) parameters."""
        results: list[States] = []
        previous = None
        for stage in self.plan.stages:
            previous = self._run_stage(stage, pool, values, previous)
            results.append(previous)
        self._go_on(results, values)
        return results

    def _run_stage(self, stage, pool, values, previous):
        constants = stage.constants.of(pool)
        starts, constants = self._starts(stage, pool, values, constants, previous)
        if self.alone is not None:
            return self._run_alone(stage, starts, constants, previous)
        if stage.steady:
            rest = self._steady(starts, constants, "before", stage.rows, values)
            return States(rest.unsqueeze(2), rest, constants)
        if stage.times is None or not starts.shape[-1]:
            count = 1
            if stage.times is not None:
                count = len(stage.times)
            return States(starts.unsqueeze(2).expand(-1, -1, count, -1), starts, constants)
        return self._solve(stage, starts, constants, values)

    def _run_alone(self, stage, starts, constants, previous):
        """The states of a stage, simulated row by row."""
        before = {}
        if previous is not None:
            before = previous.triggers
        if stage.steady:
            rest, triggers = self.alone.rest(starts, constants, before)
            return States(rest.unsqueeze(2), rest, constants, triggers=triggers)
        outputs, triggers = self.alone.periods(stage.rows, starts, constants, before)
        return States(outputs, outputs[:, :, -1], constants, triggers=triggers)

    def _starts(self, stage, pool, values, constants, previous):
        """The states, (K, rows, n), at the beginning of a stage, and its constants."""
        if len(stage.groups) == 1:
            return self._group_starts(stage, stage.groups[0], pool, values, constants, previous)
        parts = []
        changed = []
        for group in stage.groups:
            own = constants[:, group.rows]
            part, own = self._group_starts(stage, group, pool, values, own, previous)
            parts.append(part)
            changed.append(own)
        order = torch.argsort(torch.cat([group.rows for group in stage.groups]))
        return torch.cat(parts, 1)[:, order], torch.cat(changed, 1)[:, order]

    def _group_starts(self, stage, group, pool, values, constants, previous):
        entries = group.entries.of(pool)
        time = stage.rows[int(group.rows[0])].period.time
        if stage.steady:
            time = max(time, 0.0)
        if group.before is None:
            return self._fresh(group.names, constants, entries, time), constants
        before = previous.end[:, group.before]
        if group.carried:
            old = previous.constants[:, group.before]
            return self._carried(group, time, before, old, constants, entries, values)
        if not group.names:
            return before, constants
        fresh = self._fresh(group.names, constants, entries, time)[..., group.columns]
        return torch.index_copy(before, -1, group.columns, fresh), constants

    def _carried(self, group: Group, time, before, old, constants, entries, values):
        """States that keep the values of their quantities while units change. The names of the
        group have new values, and so have quantities that depend on the state before."""
        states = tuple(state.quantity for state in self.model.network.states.values())
        moment = torch.full(before.shape[:-1], time, dtype=before.dtype).unsqueeze(-1)
        kept = self._quantities_of(states, ())(moment, before, old)
        given = dict(zip(states, kept.unbind(-1), strict=True))
        given.update(zip(group.names, entries.unbind(-1), strict=True))
        if group.dynamic:
            formulas = tuple(expression for _, expression in group.dynamic)
            extra = tuple(
                name for name in self.plan.values.names if name not in self.plan.names.quantities
            )
            columns = [self.plan.values.names.index(name) for name in extra]
            others = values[:, None, columns].expand(*before.shape[:-1], len(columns))
            changed = self._quantities_of(formulas, extra)(moment, before, old, others)
            for (name, _), value in zip(group.dynamic, changed.unbind(-1), strict=True):
                place = self.plan.names.constant(name)
                if place is None:
                    given[name] = value
                else:
                    at = torch.tensor([place])
                    constants = torch.index_copy(constants, -1, at, value.unsqueeze(-1))
        named = torch.stack([given[name] for name in states], -1)
        return self._fresh(states, constants, named, time), constants

    def _fresh(self, names, constants, entries, time):
        """Initial states of the model, (K, rows, n), where the names have these values."""
        if names not in self._initial:
            self._initial[names] = self.model.initial_with(names)
        if not self.model.states:
            return constants.new_zeros(*constants.shape[:-1], 0)
        start = self._initial[names](constants, entries, time)
        return start.expand(*constants.shape[:-1], start.shape[-1])

    def _quantities_of(self, formulas, extra):
        key = (formulas, extra)
        if key not in self._quantities:
            self._quantities[key] = self.model.quantities(formulas, extra)
        return self._quantities[key]

    def _solve(self, stage, starts, constants, values):
        """Solve the rows that last."""
        lead, rows, n = starts.shape
        solved = stage.solved
        whole = len(solved) == rows
        if not bool(torch.isfinite(starts.detach()).all()):
            raise SimulationFailed("an initial state is not finite")
        begin = starts
        own = constants
        if not whole:
            begin = starts[:, solved]
            own = constants[:, solved]
        count = begin.shape[1]
        times = stage.times
        if lead > 1:
            times = times.repeat(1, lead)
        chosen = [stage.rows[i] for i in solved.tolist()]
        args, by_row = self._arguments(own.reshape(lead * count, -1), chosen, values)
        solution = solve(
            self.field,
            begin.reshape(lead * count, n),
            times,
            args=args,
            params=list(args),
            batched=True,
            by_row=by_row,
            method=self.options.method,
            rtol=self.options.rtol,
            atol=self.options.atol,
            backend=self.options.backend,
            adjoint=self.options.adjoint,
            max_steps=self.options.max_steps,
            throw=False,
            **self._jumps(args[0], begin.detach().reshape(lead * count, n)),
        )
        found = solution.y.reshape(-1, lead, count, n).permute(1, 2, 0, 3)
        if whole:
            outputs = found
        else:
            outputs = starts.unsqueeze(2).expand(-1, -1, found.shape[2], -1)
            outputs = torch.index_copy(outputs, 1, solved, found)
        last = torch.tensor([len(row.times) - 1 for row in stage.rows])
        end = outputs[:, torch.arange(rows), last]
        return States(outputs, end, constants)

    def _arguments(self, constants, rows, values):
        """(args of the field, which of them belong to the rows)."""
        if self.networks is None:
            return (constants,), [True]
        arrays = self.networks.arrays([self.plan.conditions_of(row) for row in rows])
        weights = self.networks.weights(values[0])
        by_row = [True] * (1 + len(arrays)) + [False] * len(weights)
        return (constants, *arrays, *weights), by_row

    def _jumps(self, constants, starts):
        jumps = getattr(self.model, "jumps", None)
        if jumps is None:
            return {}
        # Without events the times depend on no state: these spare the model its initial one.
        times = jumps(constants, y=starts)
        if not times.numel():
            return {}
        return {"jumps": torch.where(torch.isfinite(times), times, math.nan)}

    def _steady(self, starts, constants, key, chosen, values):
        """The steady states, (K, rows, n). key: under which the conserved sums are kept; chosen:
        the rows of the plan."""
        lead, rows, n = starts.shape
        known = self._known.get(key)
        options: dict[str, Any] = {}
        if known is not None:
            options = {"conserved": known.conserved[:rows] * lead, "span": known.span}
        args, by_row = self._arguments(constants.reshape(lead * rows, -1), chosen, values)
        rest = steady_state(
            self.field,
            starts.reshape(lead * rows, n),
            args=args,
            t=0.0,
            batched=True,
            by_row=by_row,
            backend=self.options.backend,
            solver=self.options.method,
            atol=self.options.atol * 1e-1,
            **options,
        )
        if known is None:
            self._known[key] = rest
        return rest.y.reshape(lead, rows, n)

    def _go_on(self, results, values):
        """The steady states of the rows whose measurements ask for them."""
        for stage in {place[0] for place in self.plan.after}:
            rows = [row for at, row in self.plan.after if at == stage]
            states = results[stage]
            chosen = [self.plan.stages[stage].rows[row] for row in rows]
            ends = states.end[:, rows]
            if self.alone is not None:
                own = {
                    (k, i): states.triggers[k, row]
                    for k in range(len(ends))
                    for i, row in enumerate(rows)
                }
                rest, _ = self.alone.rest(ends, states.constants[:, rows], own)
            else:
                rest = self._steady(ends, states.constants[:, rows], stage, chosen, values)
            states.steady = {row: rest[:, i] for i, row in enumerate(rows)}
