"""Times spread evenly over decades: when to observe a stiff system, and which of many observations
to use."""

from __future__ import annotations

import math

import torch

from ..core.protocols import Times

# Times are spread over decades if the span is so many times the first interval, and half of them
# lie in the first part of it of this size.
DECADES = 1e3
EARLY = 0.1


def spread_over_decades(t: torch.Tensor) -> bool:
    """Whether the times (T,) are spread over decades since the first. Many even ones are not."""
    since = t - t[0]
    return bool(since[-1] > DECADES * since[1] and since.median() < EARLY * since[-1])


def log_times(first: float, last: float, count: int, start: float | None = 0.0) -> torch.Tensor:
    """``count`` times from first to last with equal ratios, float64, after ``start``, the time of
    the initial state.

    start None leaves it out. Kim et al. 2021 observe Robertson's reaction at log_times(1e-5, 1e5,
    50). Raises ValueError unless start < first < last, first > 0 and count > 1.
    """
    if not 0 < first < last < math.inf:
        raise ValueError(
            f"times from {first!r} to {last!r} have no equal ratios: give 0 < first < last, both"
            " finite"
        )
    if int(count) != count or count < 2:
        raise ValueError(f"count must be a whole number from 2 on, not {count!r}")
    t = torch.logspace(math.log10(first), math.log10(last), int(count), dtype=torch.float64)
    t[0] = first
    t[-1] = last
    if start is None:
        return t
    if not start < first:
        raise ValueError(f"start must lie before the first time, {first:g}, not at {start!r}")
    return torch.cat((t.new_tensor([start]), t))


def sample_times(t: Times, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Indices, increasing, of at most ``count`` of the times t, (T,), drawn evenly over the decades
    since t[0].

    The logarithm of the time since t[0] is divided into ``count`` equal parts. In each part a time
    is drawn, and the nearest observation is taken, once. A decade without observations gives fewer.
    t[0], the initial state, is never drawn.
    """
    since = torch.as_tensor(t, dtype=torch.float64)
    since = (since[1:] - since[0]).log()
    if len(since) == 0 or count < 1:
        raise ValueError(
            f"sample_times needs two times and a positive count, not {len(since) + 1} and {count!r}"
        )
    part = torch.arange(count, dtype=torch.float64) + torch.rand(
        count, dtype=torch.float64, generator=generator
    )
    drawn = since[0] + (since[-1] - since[0]) * part / count
    return (drawn[:, None] - since).abs().argmin(1).unique() + 1


def part_done(step: int, steps: int, elapsed: float) -> float:
    """The part of a schedule that is over, from 0 to 1. It counts steps, or takes ``elapsed``, the
    part of the time, where this is ahead by more than a step. A limit that does not bind changes no
    bit."""
    steps = max(steps, 1)
    done = step / steps
    if elapsed > done + 1 / steps:
        done = elapsed
    return min(1.0, done)


def sample_evenly(times: int, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Indices, increasing, of at most ``count`` of so many times, one from each of ``count`` equal
    parts of them. The first, the initial state, is never drawn."""
    part = torch.arange(count, dtype=torch.float64) + torch.rand(
        count, dtype=torch.float64, generator=generator
    )
    drawn = (part * (times - 1) / count).long().clamp(max=times - 2)
    return drawn.unique() + 1
