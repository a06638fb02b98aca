"""The loss of training: the distance between the solutions of a field and the observations, in
scaled states."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..core.solution import Solution
from ..data import Dataset
from ..models.inputs import InputTable
from .collocate import slopes
from .features import fewest_seen
from .inputs import driven
from .options import Options
from .ranks import Ranks
from .scaling import ScaledField, Scaling
from .shooting import joined, shoot
from .times import sample_evenly, sample_times, spread_over_decades
from .warmstart import interpolated

# With more neighbours than this, a smoothed observation has less noise than one alone.
INTERPOLATING = 5


@dataclass(frozen=True)
class _Run:
    """A trajectory in scaled states.

    t: (T,). u: (T, n), gaps filled by interpolation.
    smooth: (T, n), the same with less noise; segments and learned starts begin there.
    inputs: the scaled inputs as a function of time, None without any.
    weight, held_out: (T, n), the factors of the errors in the loss and in the loss of held-out
        observations. Zero if there is no value.
    """

    t: torch.Tensor
    u: torch.Tensor
    smooth: torch.Tensor
    weight: torch.Tensor
    held_out: torch.Tensor
    inputs: InputTable | None


class Objective:
    """The mean error over all observed values after the starts, for a data set with its scaling.

    Kim et al. 2021: the loss uses the states divided by their ranges, so that a species of 1e-5
    counts as much as one of 1. 'mae' is the mean of |u - u_observed|, 'mse' of its square. With
    ``relative`` an error is divided by the observed value instead. ``weights`` give each state a
    factor. Errors of values with standard deviations count in units of these, and errors of means
    of replicates more than those of one. ``validation`` holds out a part of the observation times,
    which are drawn with the seed. Hidden states have no observations.

    ranks: the processes of the run; None for the ones of torch.distributed.
    starts: (K, d) the learned starts of the last d states of the K trajectories, scaled; None if
        none are learned.
    told: for each trajectory how many observations after its start served to estimate the start;
        they cannot show what the field predicts.
    """

    def __init__(
        self,
        data: Dataset,
        scaling: Scaling,
        options: Options,
        ranks: Ranks | None = None,
    ) -> None:
        self.options = options
        self.ranks = ranks or Ranks()
        self.observed = len(data.columns) - options.augment
        if options.weights and len(options.weights) != self.observed:
            raise ValueError(
                f"{len(options.weights)} weights for {self.observed} states: give one for each"
                f" of {', '.join(data.columns[: self.observed])}, in this order"
            )
        generator = torch.Generator().manual_seed(options.seed)
        self.runs = [
            self._run(run, certainty, scaling, generator)
            for run, certainty in zip(
                data.trajectories, _certainties(data, scaling, self.observed), strict=True
            )
        ]
        self.starts = self._first_starts()
        self.told = [0] * len(self.runs)
        if self.ranks.size > len(self.runs):
            raise ValueError(
                f"{self.ranks.size} processes share {len(self.runs)} trajectories: some would"
                " have none: start fewer (torchrun --nproc-per-node)"
            )
        self.rows: list[torch.Tensor | None] = [None] * len(self.runs)
        self.count = sum(int((run.weight > 0).sum()) for run in self.runs)
        self.held_count = sum(int((run.held_out > 0).sum()) for run in self.runs)
        self.drawn = self.count
        if not self.count or (options.validation and not self.held_count):
            raise ValueError(
                f"validation={options.validation:g} leaves nothing on one side of"
                f" {data.observations} values"
            )

    def _run(self, run, certainty, scaling, generator) -> _Run:
        u = scaling.scaled(run.y)
        weight = run.seen / self._unit(run, scaling) * certainty
        if self.options.weights:
            hidden = (1.0,) * self.options.augment
            weight = weight * weight.new_tensor((*self.options.weights, *hidden))
        if not self.options.learn_starts:
            weight[0] = 0.0
        weight[:, self.observed :] = 0.0
        held_out = torch.zeros(len(run.t), 1, dtype=torch.bool)
        if self.options.validation:
            held_out[1:, 0] = (
                torch.rand(len(run.t) - 1, dtype=torch.float64, generator=generator)
                < self.options.validation
            )
        inputs = None
        if scaling.inputs is not None:
            inputs = scaling.inputs.table(run.t, run.u)
        _, filled = interpolated(run.t, u, run.seen, torch.arange(len(run.t), dtype=torch.float64))
        smooth = filled
        near = min(self.options.neighbours, fewest_seen(run))
        if near > INTERPOLATING:
            smooth = slopes(run.t, u, run.seen, near).y
        return _Run(run.t, filled, smooth, weight * ~held_out, weight * held_out, inputs)

    def _unit(self, run, scaling) -> torch.Tensor:
        """(T, n) what the errors of the scaled states are divided by: for relative errors the
        value, or a part of the range, in units of the scaled states. In other coordinates these are
        the errors of the states of the data to first order."""
        if not self.options.relative:
            return torch.ones_like(run.y)
        y = run.y
        size = y.new_tensor(scaling.y_scale)
        ranges = size
        if scaling.warp is not None:
            low = y.new_tensor(scaling.y_min)
            ranges = scaling.warp.inverse(low + size) - scaling.warp.inverse(low)
            y = scaling.warp.inverse(y)
            size = size * scaling.warp.stretch(y)
        return torch.maximum(y.abs(), self.options.relative * ranges) / size

    def _first_starts(self) -> torch.nn.Parameter | None:
        """The starts from which learned ones begin: the smoothed observations."""
        if self.options.learn_starts:
            count = self.runs[0].u.shape[1]
        else:
            count = self.options.augment
        if not count:
            return None
        return torch.nn.Parameter(torch.stack([run.smooth[0, -count:] for run in self.runs]))

    def start(self, i: int) -> torch.Tensor:
        """(n,) the scaled start of trajectory i."""
        observed = self.runs[i].u[0]
        if self.starts is None:
            return observed
        learned = self.starts[i]
        return torch.cat((observed[: len(observed) - len(learned)], learned))

    @property
    def learned(self) -> list[torch.nn.Parameter]:
        """What is learned besides the weights of the field."""
        return [] if self.starts is None else [self.starts]

    @property
    def longest(self) -> int:
        """The number of observations after the start of the longest trajectory."""
        return max(len(run.t) for run in self.runs) - 1

    def __len__(self) -> int:
        """The number of trajectories."""
        return len(self.runs)

    def baseline(self) -> float:
        """The loss of constant states: that of a field that has learned nothing."""
        return float(
            sum(self._cost((run.u[:1] - run.u) * run.weight, self.count) for run in self.runs)
        )

    def draw(self, generator: torch.Generator) -> None:
        """Choose the observations of the next epoch: evenly over the decades where the times are
        spread over decades, otherwise evenly over all."""
        for i, run in enumerate(self.runs):
            if spread_over_decades(run.t):
                sampled = sample_times(run.t, self.options.sample, generator)
            else:
                sampled = sample_evenly(len(run.t), self.options.sample, generator)
            held_out = run.held_out.any(1).nonzero().flatten()
            start = torch.zeros(1, dtype=sampled.dtype)
            self.rows[i] = torch.cat((sampled, held_out, start)).unique()
        self._count_drawn()

    def limit(self, fraction: float) -> None:
        """Use the first observations of each trajectory only, this fraction of them, at least
        two."""
        for i, run in enumerate(self.runs):
            last = max(2, math.ceil(fraction * (len(run.t) - 1)))
            self.rows[i] = torch.arange(min(last + 1, len(run.t)))
        self._count_drawn()

    def _count_drawn(self):
        pairs = zip(self.runs, self.rows, strict=True)
        self.drawn = max(1, sum(int((run.weight[rows] > 0).sum()) for run, rows in pairs))

    def part(
        self, field: ScaledField, i: int, size: int = 0
    ) -> tuple[torch.Tensor | None, float, list[Solution]]:
        """Solve trajectory i. Returns its differentiable part of the loss, None if the solve
        failed; its part of the held-out loss; and the Solutions, of which the last failed if any
        did.

        size: the observations of a segment, with a penalty where segments do not join; 0 for one
            solve.
        """
        errors, held_out, solved = self.errors(field, i, size)
        if errors is None or held_out is None:
            return None, math.nan, solved
        part = self._cost(errors, self.drawn)
        if len(solved) > 1:
            # The ends of segments are observations with a larger weight.
            part = part + self.options.continuity * self._cost(errors[size:-1:size], self.drawn)
        return part, float(self._cost(held_out.detach(), max(self.held_count, 1))), solved

    def errors(
        self, field: ScaledField, i: int, size: int = 0, **options: Any
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, list[Solution]]:
        """Weighted errors of trajectory i, (T, n), zero where nothing is observed, and at a start
        that is not learned; the held-out errors; and the Solutions. The errors are None if a solve
        failed.
        size: as for ``part``.
        options: further ones of ``solve``."""
        run = self.runs[i]
        parts, rows, solved = self._missed(field, i, size, **options)
        if parts is None:
            return None, None, solved
        missed = torch.cat(parts)
        return missed * run.weight[rows], missed * run.held_out[rows], solved

    def _missed(
        self, field: ScaledField, i: int, size: int, **options: Any
    ) -> tuple[list[torch.Tensor] | None, Any, list[Solution]]:
        """What the solution of trajectory i misses, in parts: the start, (1, n), and each segment,
        (at most size, n), None if a solve failed; the rows of the observations; the Solutions."""
        run = self.runs[i]
        rows: Any = self.rows[i]
        if rows is None:
            rows = slice(None)
        t = run.t[rows]
        u = run.u[rows]
        size = size or max(len(t) - 1, 1)
        first = self.start(i)
        starts = torch.cat((first[None], run.smooth[rows][size : len(t) - 1 : size]))
        field, stops = driven(field, run.inputs)
        options = {**self.options.tolerances, **stops, **options}
        solved, _ = shoot(field, t, u, size, starts, throw=False, **options)
        if not solved[-1].success:
            return None, rows, solved
        parts = [first[None] - u[:1]]
        for solution, seen in zip(solved, u[1:].split(size), strict=True):
            parts.append(solution.y[1:] - seen)
        return parts, rows, solved

    @contextmanager
    def _all_observations(self):
        """A context that uses all observations instead of those drawn."""
        before = self.rows, self.drawn
        self.rows = [None] * len(self.runs)
        self.drawn = self.count
        try:
            yield
        finally:
            self.rows, self.drawn = before

    def solutions(self, field: ScaledField, **options: Any) -> tuple[list[torch.Tensor], str]:
        """The scaled states of all trajectories at all times after their starts, (T - 1, n) each;
        and the message of the first solve that failed, '' if none did. options: further ones of
        ``solve``."""
        found: list[torch.Tensor] = []
        with torch.no_grad(), self._all_observations():
            for i in range(len(self.runs)):
                _, _, solved = self.errors(field, i, **options)
                if not solved[-1].success:
                    return found, solved[-1].message
                found.append(joined(solved))
        return found, ""

    @property
    def mine(self) -> Sequence[int]:
        """The trajectories that this process solves."""
        return self.ranks.mine(range(len(self.runs)))

    def value(self, field: ScaledField, size: int = 0) -> tuple[float, float]:
        """The loss of a field over all observations, and over those held out. Infinite if a solve
        fails. size: as for ``part``."""
        total = 0.0
        total_held = 0.0
        with torch.no_grad(), self._all_observations():
            for i in self.mine:
                part, held_out, _ = self.part(field, i, size)
                if part is None:
                    total = math.inf
                    break
                total = total + float(part)
                total_held = total_held + held_out
        both = torch.tensor([total, total_held], dtype=torch.float64)
        total, total_held = self.ranks.total(both).tolist()
        if math.isfinite(total):
            return total, total_held
        return math.inf, math.inf

    def residuals(
        self,
        field: ScaledField,
        on_solution: Callable[[Solution], None],
        size: int = 0,
        **options: Any,
    ) -> list[torch.Tensor] | None:
        """All weighted errors, whose square is the mean squared error, as vectors that have no
        solve in common, for the trajectories that this process solves. None if a solve failed.
        on_solution(solution) is called for each. size: as for ``part``."""
        weighted = []
        for i in self.mine:
            with self._all_observations():
                parts, _, solved = self._missed(field, i, size, **options)
            for solution in solved:
                on_solution(solution)
            if parts is None:
                return None
            weights = self.runs[i].weight.split([len(part) for part in parts])
            for part, weight in zip(parts, weights, strict=True):
                if bool((weight > 0).any()):
                    weighted.append((part * weight)[weight > 0] / self.count**0.5)
        return weighted

    def _cost(self, errors, count):
        """The part of some weighted errors in the mean."""
        if self.options.loss == "mae":
            size = errors.abs()
        else:
            size = errors * errors
        return size.sum() / count


def _certainties(data, scaling, observed) -> list[torch.Tensor]:
    """For each trajectory how much more certain its observations are than a typical one, (T, n):
    an error counts in units of its standard deviation, and the mean of k replicates has that of one
    divided by the root of k. The mean square over all observations is one, so that a loss keeps the
    units of the scaled states."""
    typical = _typical_error(data, scaling)
    found = []
    squares = []
    for run in data.trajectories:
        certainty = run.count.to(run.y.dtype).clamp(min=1).sqrt()
        if run.sd is not None:
            size = run.sd / run.y.new_tensor(scaling.y_scale)
            certainty = torch.where(size > 0, typical / size, certainty)
        found.append(certainty)
        squares.append(certainty[1:, :observed][run.seen[1:, :observed]].square())
    mean = torch.cat(squares).mean().sqrt()
    return [certainty / mean for certainty in found]


def _typical_error(data, scaling) -> float:
    """The median of the standard deviations in the data, in units of the scaled states; 1 without
    any."""
    known = []
    for run in data.trajectories:
        if run.sd is not None:
            size = run.sd / run.y.new_tensor(scaling.y_scale)
            known.append(size[size > 0])
    if not known or not sum(len(part) for part in known):
        return 1.0
    return float(torch.cat(known).median())
