"""Observations of a physical system: trajectories with states, inputs and errors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..core.unit_names import with_unit
from .names import short_name, time_label


class DataError(ValueError):
    """Observations that cannot be used for training. The message says where the fault is and what
    to do."""


@dataclass(frozen=True)
class Repeats:
    """The single observations of a trajectory with replicates, R lines.

    row: (R,) the index of the time of each line. y, seen: (R, n), as in ``Trajectory``. sd: (R, n)
    the standard deviations, or None.
    """

    row: Tensor
    y: Tensor
    seen: Tensor
    sd: Tensor | None = None


@dataclass(frozen=True)
class Trajectory:
    """One run of the system.

    t: (T,), strictly increasing.
    y: (T, n), zero where missing. Where a time has several observations, it is their mean,
        weighted by 1 / sd^2 if they have standard deviations.
    seen: (T, n), False where missing.
    u: (T, m) inputs, without gaps; None without inputs.
    sd: (T, n) standard deviations of y: NaN for a state without them, and where nothing is seen.
        None if no state has them.
    repeats: the single observations, None where each time has at most one.
    """

    name: str
    t: Tensor
    y: Tensor
    seen: Tensor
    u: Tensor | None = None
    sd: Tensor | None = None
    repeats: Repeats | None = None

    @property
    def lines(self) -> Repeats:
        """The single observations, with replicates or without."""
        if self.repeats is not None:
            return self.repeats
        return Repeats(torch.arange(len(self.t)), self.y, self.seen, self.sd)

    @cached_property
    def count(self) -> Tensor:
        """(T, n) how many observations y is the mean of."""
        if self.repeats is None:
            return self.seen.to(torch.int64)
        zero = torch.zeros(self.seen.shape, dtype=torch.int64)
        return zero.index_add(0, self.repeats.row, self.repeats.seen.to(torch.int64))


@dataclass(frozen=True)
class Dataset:
    """Trajectories of the n states named ``columns``, in the units of the file, float64.

    columns, time: the names in the file, with their units.
    units, time_unit: what the names say of units, such as mmol/L; '' where they say nothing.
    inputs: names of the m inputs.
    errors: for each state the column of its standard deviations, None for a state without. () if
        there are none at all.
    notes: what was understood, a sentence each.
    """

    columns: tuple[str, ...]
    time: str
    trajectories: tuple[Trajectory, ...]
    units: tuple[str, ...] = ()
    time_unit: str = ""
    inputs: tuple[str, ...] = ()
    errors: tuple[str | None, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the states without their units."""
        return tuple(short_name(column) for column in self.columns)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the axes of a picture say of the states: their names, with units such as (mM) where
        they are known."""
        units = self.units or ("",) * len(self.columns)
        return tuple(map(with_unit, self.columns, units))

    @property
    def time_label(self) -> str:
        """What the axis of the time says, such as 'time (h)'."""
        return time_label(self.time, self.time_unit)

    @property
    def held(self) -> bool:
        """Whether the inputs keep each value until the next one: most of their values repeat the
        one before, and most changes stand alone. Otherwise the inputs change along straight lines
        between their values, such as a temperature on a ramp, which then stays."""
        steps = 0
        changed = 0
        on_ramps = 0
        for run in self.trajectories:
            if run.u is not None:
                way = run.u.diff(dim=0).sign()
                along = (way[1:] == way[:-1]) & (way[1:] != 0)
                on_ramp = torch.zeros_like(way, dtype=torch.bool)
                on_ramp[1:] |= along
                on_ramp[:-1] |= along
                steps += way.numel()
                changed += int((way != 0).sum())
                on_ramps += int(on_ramp.sum())
        return 2 * changed <= steps and 2 * on_ramps <= changed

    @property
    def observations(self) -> int:
        """The number of observed values after the initial states. The loss is a mean over them."""
        return sum(int(run.count[1:].sum()) for run in self.trajectories)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of names and numbers. A resumed run compares it with the hash of the new data."""
        digest = hashlib.sha256(repr((self.columns, self.time)).encode())
        if self.inputs or self.errors:
            digest.update(repr((self.inputs, self.errors)).encode())
        for run in self.trajectories:
            digest.update(run.name.encode())
            parts = [run.t, run.y, run.seen, run.u, run.sd]
            if run.repeats is not None:
                parts += [run.repeats.row, run.repeats.y, run.repeats.seen, run.repeats.sd]
            for part in parts:
                if part is not None:
                    digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()


def dataset(
    t: Any,
    y: Any,
    columns: Sequence[str] | None = None,
    seen: Tensor | Sequence[Sequence[bool]] | None = None,
) -> Dataset:
    """One trajectory as a data set, from tensors or NumPy arrays.

    t: (T,), increasing. y: (T, n).
    columns: names of the states.
    seen: (T, n), False where a value is missing. NaN also means missing.

    Raises DataError if the shapes do not fit, a value is infinite, the start has gaps, or a state
    has no value after it.
    """
    t = torch.as_tensor(t).detach().to("cpu", torch.float64)
    y = torch.as_tensor(y).detach().to("cpu", torch.float64)
    if y.dim() != 2 or t.shape != y.shape[:1] or len(t) < 2 or not bool((t.diff() > 0).all()):
        raise DataError(
            f"give increasing times, (T,), and states, (T, n), not {tuple(t.shape)} and"
            f" {tuple(y.shape)}"
        )
    present = torch.ones_like(y, dtype=torch.bool)
    if seen is not None:
        present = torch.as_tensor(seen).cpu()
    names = tuple(columns or (f"y{i + 1}" for i in range(y.shape[1])))
    if present.shape != y.shape or len(names) != y.shape[1]:
        raise DataError(
            f"seen {tuple(present.shape)} and {len(names)} columns do not fit y {tuple(y.shape)}"
        )
    present = present & ~y.isnan()
    if not bool(present[0].all()):
        raise DataError("the first row is the initial state, with no gaps")
    if bool(y.isinf().any()) or not bool(present[1:].any(0).all()):
        raise DataError("every state needs a value after the start, and all of them must be finite")
    return Dataset(names, "t", (Trajectory("", t, y.nan_to_num(0.0) * present, present),))
