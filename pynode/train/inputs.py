"""Fields of training that depend on an input u(t): dy/dt = f(t, y, u(t))."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Dataset, Trajectory
from ..models.inputs import InputTable


@dataclass(frozen=True)
class Inputs:
    """The m inputs of a data set, as plain numbers.

    names: of the inputs. kind: 'held' or 'linear', how they change between their values.
    low, size: m numbers; an input is scaled to (u - low) / size.
    times, values: K times and K rows of m values, those of the first trajectory. A learned field
    has them until it gets others.
    """

    names: tuple[str, ...]
    kind: str
    low: tuple[float, ...]
    size: tuple[float, ...]
    times: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, data: Dataset) -> Inputs | None:
        """The Inputs of a data set, None if it has none. A constant input is scaled by its size."""
        if not data.inputs:
            return None
        every = torch.cat([run.u for run in data.trajectories if run.u is not None])
        low = every.amin(0)
        size = every.amax(0) - low
        magnitude = torch.where(low == 0, torch.ones_like(low), low.abs())
        size = torch.where(size > 0, size, magnitude)
        first = data.trajectories[0]
        assert first.u is not None
        return cls(
            data.inputs,
            "held" if data.held else "linear",
            tuple(low.tolist()),
            tuple(size.tolist()),
            tuple(first.t.tolist()),
            tuple(map(tuple, first.u.tolist())),
        )

    def scaled(self, u: Tensor) -> Tensor:
        """(u - low) / size, for inputs (..., m) in the units of the data."""
        return (u - u.new_tensor(self.low)) / u.new_tensor(self.size)

    def table(self, t: Tensor | None = None, u: Tensor | None = None) -> InputTable:
        """The scaled inputs as a function of time: of values u, (K, m), at the times t, (K,), or of
        those that are kept here."""
        if t is None or u is None:
            t = torch.tensor(self.times, dtype=torch.float64)
            u = torch.tensor(self.values, dtype=torch.float64)
        return InputTable(t, self.scaled(u), self.kind)  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, the inverse of from_dict."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Inputs:
        """From the data of as_dict, in which tuples may be lists."""
        made = {key: tuple(value) for key, value in plain.items() if key != "kind"}
        made["values"] = tuple(map(tuple, plain["values"]))
        return cls(kind=plain["kind"], **made)


class Driven(nn.Module):
    """A field f(t, y, w) with the inputs w of one trajectory, as f(t, y).

    table: w(t). stops: options of ``solve``, the times where w jumps or has a kink.
    """

    def __init__(self, field: nn.Module, table: InputTable) -> None:
        super().__init__()
        self.field = field
        self.table = table

    @property
    def stops(self) -> dict[str, Any]:
        """Options of ``solve``."""
        return self.table.stops()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.field(t, y, self.table(t))


class AtRows(nn.Module):
    """A field f(t, y, w) at K rows whose inputs w, (K, m), are known, as f(t, y)."""

    def __init__(self, field: nn.Module, w: Tensor) -> None:
        super().__init__()
        self.field = field
        self.w = w

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.field(t, y, self.w)


def driven(field: Callable[..., Tensor], table: InputTable | None) -> tuple[Any, dict[str, Any]]:
    """(f(t, y), options of ``solve``) for a field with the inputs of a trajectory, or without
    any."""
    if table is None or not isinstance(field, nn.Module):
        return field, {}
    made = Driven(field, table)
    return made, made.stops


def for_run(field: Any, run: Trajectory) -> tuple[Any, dict[str, Any]]:
    """A learned field in the units of the data, with the inputs of a trajectory, and options of
    ``solve`` for it."""
    if run.u is None or not hasattr(field, "with_inputs"):
        return field, {}
    own = field.with_inputs(run.t, run.u)
    return own, own.stops


def start_of(field: Any, run: Trajectory) -> Tensor:
    """The start of a trajectory, (n,): what a learned field knows of it, or its first
    observation."""
    if not hasattr(field, "start_of"):
        return run.y[0]
    return field.start_of(run)
