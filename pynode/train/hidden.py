"""Hidden states: dimensions of the dynamics that nobody observed.

A trajectory whose observed state goes on in different ways from the same value needs more states
than the table has. E. Dupont, A. Doucet, Y. W. Teh, Augmented neural ODEs, NeurIPS 2019, add states
that start at zero. Here they start as the principal components of the slopes of the observations,
which determine the state where enough of them are known (F. Takens, Lect. Notes Math. 898 (1981)).
Their true starts are then learned with the weights, one for each trajectory.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ..data import Dataset, Repeats
from .collocate import slopes
from .features import fewest_seen


def with_hidden(data: Dataset, count: int, neighbours: int) -> Dataset:
    """A data set with ``count`` more states, hidden1, hidden2 and so on, and first guesses of their
    values at all times; all guesses count as seen.

    neighbours: the observations that smooth one. The guesses are principal components of the
    slopes, and then of the slopes of slopes, each with the standard deviation one.
    """
    if not count:
        return data
    guesses: list[torch.Tensor] = []
    high = torch.stack([run.y.amax(0) for run in data.trajectories]).amax(0)
    low = torch.stack([run.y.amin(0) for run in data.trajectories]).amin(0)
    scale = torch.where(high > low, high - low, torch.ones_like(high))
    series = [(run.y - low) / scale for run in data.trajectories]
    seen = [run.seen for run in data.trajectories]
    while sum(guess.shape[1] for guess in guesses) < count:
        series = [
            _rates(run, values, there, neighbours)
            for run, values, there in zip(data.trajectories, series, seen, strict=True)
        ]
        seen = [torch.ones_like(there) for there in seen]
        guesses.append(_components(torch.cat(series)))
    every = torch.cat(guesses, 1)[:, :count]
    parts = every.split([len(run.t) for run in data.trajectories])
    runs = [_extended(run, part) for run, part in zip(data.trajectories, parts, strict=True)]
    names = tuple(f"hidden{k + 1}" for k in range(count))
    errors = data.errors
    if errors:
        errors = (*errors, *(None,) * count)
    return replace(
        data,
        columns=(*data.columns, *names),
        trajectories=tuple(runs),
        units=(*data.units, *("",) * count) if data.units else (),
        errors=errors,
    )


def _rates(run, values, seen, neighbours) -> torch.Tensor:
    """The slopes of values at the times of a trajectory, (T, n), in units of its span, or of the
    time since the start where times are spread over decades; zero where there are too few."""
    near = min(neighbours, int(seen[1:].sum(0).min()), fewest_seen(run))
    if near < 3:
        return torch.zeros_like(values)
    found = slopes(run.t, values, seen, near)
    return found.slope * found.unit[:, None]


def _components(rates: torch.Tensor) -> torch.Tensor:
    """(R, n) principal components of rates, (R, n), the largest first, of standard deviation
    one."""
    centred = rates - rates.mean(0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    # The sign of an axis is arbitrary: its largest number is made positive.
    largest = axes.abs().argmax(1, keepdim=True)
    axes = axes * axes.gather(1, largest).sign()
    found = centred @ axes.T
    size = found.square().mean(0).sqrt()
    return found / torch.where(size > 0, size, torch.ones_like(size))


def _extended(run, guess):
    """A trajectory with hidden states."""
    rows, count = guess.shape
    sd = run.sd
    if sd is not None:
        sd = torch.cat((sd, torch.full_like(guess, torch.nan)), 1)
    repeats = run.repeats
    if repeats is not None:
        lines = len(repeats.row)
        more = repeats.y.new_zeros(lines, count)
        repeats = Repeats(
            repeats.row,
            torch.cat((repeats.y, more), 1),
            torch.cat((repeats.seen, torch.ones_like(more, dtype=torch.bool)), 1),
            None if repeats.sd is None else torch.cat((repeats.sd, more * torch.nan), 1),
        )
    return replace(
        run,
        y=torch.cat((run.y, guess), 1),
        seen=torch.cat((run.seen, torch.ones(rows, count, dtype=torch.bool)), 1),
        sd=sd,
        repeats=repeats,
    )
