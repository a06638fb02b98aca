"""The laws that the options of a run name, for the states of its data."""

from __future__ import annotations

import re

import torch

from ..data import Dataset
from .features import state_noise
from .laws import Laws
from .options import Options
from .warp import LOG, Warp

# The positive states may be given as all of them.
ALL = "all"
# A sum is not conserved if it varies by more than so many times its noise and by more than this
# part of the ranges of its states.
TIMES_NOISE = 3.0
PART = 0.02


def laws_of(options: Options, data: Dataset, hidden: int = 0, warp: Warp | None = None) -> Laws:
    """The laws in the options for the states of a data set, of which the last ones are hidden.

    data: in the units of the user. warp: the coordinates in which the field is learned. A state
    that is learned as its logarithm is positive without a law.

    Raises ValueError for an unknown state, for a negative start of a positive one, and for laws
    that do not go together.
    """
    count = len(data.columns) - hidden
    names = _names(data, count)
    sums = tuple(coefficients(text, names, len(data.columns)) for text in options.conserve)
    if not options.positive:
        return Laws(sums)
    wanted = options.positive
    if ALL in wanted:
        wanted = data.columns[:count]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ValueError(
            f"positive names {', '.join(unknown)}, but the states are"
            f" {', '.join(data.columns[:count])}: name these, or all"
        )
    chosen = {names[name] for name in wanted}
    for run in data.trajectories:
        for i in chosen:
            if float(run.y[0, i]) < 0:
                raise ValueError(
                    f"{data.columns[i]} is negative at the start, so it cannot stay positive:"
                    " leave it out of positive"
                )
    if warp is not None:
        chosen = {i for i in chosen if warp.kinds[i] != LOG}
    if not chosen:
        return Laws(sums)
    laws = Laws(sums, tuple(i in chosen for i in range(len(data.columns))))
    if warp is not None and laws.both:
        plain = ", ".join(data.columns[i] for i in sorted(chosen))
        raise ValueError(
            f"warp does not learn {plain} as a logarithm, and conserve would change the rates that"
            " keep it positive: leave out warp, positive or conserve"
        )
    return laws


def broken_sums(laws: Laws, data: Dataset) -> list[str]:
    """A sentence for each sum that is not conserved in the data."""
    found = []
    for row in laws.sums:
        weights = torch.tensor(row, dtype=torch.float64)
        noise = 0.0
        size = 0.0
        for i in weights.nonzero().flatten().tolist():
            y = torch.cat([run.y[run.seen[:, i], i] for run in data.trajectories])
            noise += (row[i] * state_noise(data, i)) ** 2
            size += abs(row[i]) * float(y.amax() - y.amin())
        moves = []
        for run in data.trajectories:
            whole = run.seen[:, weights != 0].all(1)
            total = run.y[whole] @ weights
            moves.append(total - total.mean())
        spread = float(torch.cat(moves).square().mean().sqrt())
        if spread > max(TIMES_NOISE * noise**0.5, PART * size):
            terms = (
                f"{factor:g} {name}"
                for factor, name in zip(row, data.columns, strict=True)
                if factor
            )
            found.append(
                f"The sum of {', '.join(terms)} is not conserved in the data: it varies by"
                f" {spread:.2g}."
            )
    return found


def _names(data, count) -> dict[str, int]:
    """The states by their names with and without units."""
    names = {}
    for i in range(count):
        names[data.columns[i]] = i
        names.setdefault(data.names[i], i)
    return names


def coefficients(text: str, names: dict[str, int], count: int) -> tuple[float, ...]:
    """The factors of ``count`` states in a sum such as 'A + 2*B - C'. Raises ValueError."""
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    term = re.compile(rf"\s*([+-]?)\s*(?:([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*\*\s*)?({known})\s*")
    found = [0.0] * count
    position = 0
    while position < len(text):
        match = term.match(text, position)
        if match is None or (position and not match[1]):
            break
        factor = float(match[2] or 1.0)
        if match[1] == "-":
            factor = -factor
        found[names[match[3]]] += factor
        position = match.end()
    if position < len(text) or not any(found):
        raise ValueError(
            f"conserve {text!r} is no sum of states: write one such as"
            f" {' + '.join(list(names)[:2])}, or with factors such as 2*{next(iter(names))}"
        )
    return tuple(found)
