"""What training makes small: how far the solutions of a field lie from the observations, in scaled
states."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from .data import Dataset
from .options import Options
from .scaling import Scaling
from .shooting import joined, shoot
from .times import sample_times
from .warmstart import interpolated


@dataclass(frozen=True)
class _Run:
    """A trajectory in scaled states. t: (T,); u: (T, n), gaps filled by interpolation; weight,
    held: (T, n), the factors of the errors in the loss and in that of held-out observations, zero
    where there is none."""

    t: torch.Tensor
    u: torch.Tensor
    weight: torch.Tensor
    held: torch.Tensor


class Objective:
    """The mean error over all observed values after the starts, of a data set with its scaling.

    Kim et al. 2021: the loss is taken of the states divided by their ranges, so that a species of
    1e-5 counts like one of 1. 'mae' is the mean of |u - u_observed|, 'mse' of its square. With
    ``relative`` an error is divided by the value observed instead, and ``weights`` give each state
    its own factor. A part of the observation times, drawn with the seed, is held out with
    ``validation``.
    """

    def __init__(self, data: Dataset, scaling: Scaling, options: Options):
        self.options = options
        if options.weights and len(options.weights) != len(data.columns):
            raise ValueError(
                f"{len(options.weights)} weights for {len(data.columns)} states: give one for each"
                f" of {', '.join(data.columns)}, in this order"
            )
        generator = torch.Generator().manual_seed(options.seed)
        self.runs = [self._run(run, scaling, generator) for run in data.trajectories]
        self.rows = [None] * len(self.runs)
        self.count, self.held_count = (
            sum(int((part > 0).sum()) for part in parts)
            for parts in zip(*((run.weight, run.held) for run in self.runs), strict=True)
        )
        self.drawn = self.count
        if not self.count or (options.validation and not self.held_count):
            raise ValueError(
                f"validation={options.validation:g} leaves nothing on one side of"
                f" {data.observations} values"
            )

    def _run(self, run, scaling, generator) -> _Run:
        u = scaling.scaled(run.y)
        unit = torch.ones_like(run.y)
        if self.options.relative:
            unit = (run.y.abs() / run.y.new_tensor(scaling.y_scale)).clamp(
                min=self.options.relative
            )
        weight = run.seen / unit
        if self.options.weights:
            weight = weight * weight.new_tensor(self.options.weights)
        weight[0] = 0.0
        held = torch.zeros(len(run.t), 1, dtype=torch.bool)
        if self.options.validation:
            held[1:, 0] = (
                torch.rand(len(run.t) - 1, dtype=torch.float64, generator=generator)
                < self.options.validation
            )
        _, filled = interpolated(run.t, u, run.seen, torch.arange(len(run.t), dtype=torch.float64))
        return _Run(run.t, filled, weight * ~held, weight * held)

    def __len__(self) -> int:
        """The number of trajectories."""
        return len(self.runs)

    def baseline(self) -> float:
        """The loss of states that never move from where they start: what a field that learned
        nothing achieves."""
        return float(
            sum(self._cost((run.u[:1] - run.u) * run.weight, self.count) for run in self.runs)
        )

    def draw(self, generator) -> None:
        """Choose the observations of the next epoch, evenly over the decades, where the options ask
        for a sample."""
        for i, run in enumerate(self.runs):
            rows = sample_times(run.t, self.options.sample, generator)
            also = run.held.any(1).nonzero().flatten()
            self.rows[i] = torch.cat((rows, also, torch.zeros(1, dtype=rows.dtype))).unique()
        self.drawn = max(
            1,
            sum(
                int((run.weight[rows] > 0).sum())
                for run, rows in zip(self.runs, self.rows, strict=True)
            ),
        )

    def part(self, field, i: int, shooting: bool = False):
        """Solve trajectory i: its part of the loss, differentiable, None where the solve failed;
        its part of the held-out loss; and the Solutions, of which the last failed if any did.
        shooting: in segments, with a penalty for where they do not join."""
        errors, held, solved = self.errors(field, i, shooting)
        if errors is None:
            return None, math.nan, solved
        part = self._cost(errors, self.drawn)
        if len(solved) > 1:
            # The ends of segments are observations, and weigh more.
            size = self.options.shooting
            part = part + self.options.continuity * self._cost(
                errors[size - 1 : -1 : size], self.drawn
            )
        return part, float(self._cost(held.detach(), max(self.held_count, 1))), solved

    def errors(self, field, i, shooting=False, **options):
        """Weighted errors after the start of trajectory i, (T - 1, n), zero where nothing is
        observed; those held out; and the Solutions. None where a solve failed. options: further
        ones of ``solve``."""
        run = self.runs[i]
        if self.rows[i] is None:
            rows = slice(None)
        else:
            rows = self.rows[i]
        t = run.t[rows]
        u = run.u[rows]
        if shooting:
            size = self.options.shooting
        else:
            size = max(len(t) - 1, 1)
        solved, _ = shoot(field, t, u, size, throw=False, **self.options.tolerances, **options)
        if not solved[-1].success:
            return None, None, solved
        errors = joined(solved) - u[1:]
        return errors * run.weight[rows][1:], errors * run.held[rows][1:], solved

    @contextmanager
    def _whole(self):
        """In its block, all observations instead of those drawn."""
        before = self.rows, self.drawn
        self.rows = [None] * len(self.runs)
        self.drawn = self.count
        try:
            yield
        finally:
            self.rows, self.drawn = before

    def value(self, field) -> tuple[float, float]:
        """The loss of a field over all observations, and that over those held out; infinite where a
        solve fails."""
        total = 0.0
        other = 0.0
        with torch.no_grad(), self._whole():
            for i in range(len(self.runs)):
                part, held, _ = self.part(field, i)
                if part is None:
                    total = math.inf
                    break
                total = total + float(part)
                other = other + held
        if math.isfinite(total):
            return (total, other)
        return (math.inf, math.inf)

    def residuals(self, field, tell, **options):
        """All weighted errors as one vector, whose square is the mean squared error; None where a
        solve failed. tell(solution) is called for each."""
        found = []
        for i, run in enumerate(self.runs):
            with self._whole():
                errors, _, solved = self.errors(field, i, **options)
            for solution in solved:
                tell(solution)
            if errors is None:
                return None
            found.append(errors[run.weight[1:] > 0])
        return torch.cat(found) / self.count**0.5

    def _cost(self, errors, count):
        """The part of some weighted errors in the mean."""
        if self.options.loss == "mae":
            errors = errors.abs()
        else:
            errors = errors * errors
        return errors.sum() / count
