"""Series of observations at irregular times with missing values: checks, and filling of gaps."""

from __future__ import annotations

import torch

from ..core.protocols import Times


class Observations:
    """Checked series of observations.

    times: (T,) for all series, or (batch, T) with a row for each.
    values: (batch, T, channels) or (T, channels). NaN marks a value that was not observed.

    A row of times may end in NaN if its series has fewer observations; the values there are
    ignored. Attributes after the checks: times (rows, T), where a series that has ended keeps its
    last time; values (rows, T, channels); shared: whether all series have the same times; batched:
    whether values have a batch dimension; lasting (rows, T): False after the end of a series.
    Raises ValueError or TypeError for anything else.
    """

    def __init__(self, times: Times, values: torch.Tensor) -> None:
        if not isinstance(values, torch.Tensor) or not values.dtype.is_floating_point:
            if isinstance(values, torch.Tensor):
                kind = values.dtype
            else:
                kind = type(values).__name__
            raise TypeError(f"the values of a path must be a floating-point tensor, not {kind}")
        if values.dim() not in (2, 3) or 0 in values.shape:
            raise ValueError(
                "the values of a path must be (T, channels) or (batch, T, channels), not"
                f" {tuple(values.shape)}; give a single channel a dimension of its own,"
                " values.unsqueeze(-1)"
            )
        given = torch.as_tensor(times, dtype=torch.float64, device=values.device)
        if given.requires_grad:
            raise ValueError(
                "the times of observations get no gradients: detach them, or use ZeroOrderHold,"
                " whose times do"
            )
        self.shared = given.dim() == 1
        self.batched = values.dim() == 3
        if given.shape not in (values.shape[-2:-1], values.shape[:-1]):
            raise ValueError(
                f"values of shape {tuple(values.shape)} go with times {tuple(values.shape[-2:-1])}"
                + (f" or {tuple(values.shape[:-1])}" if self.batched else "")
                + f", not {tuple(given.shape)}"
            )
        rows = torch.atleast_2d(given)
        if self.batched:
            self.values = values
        else:
            self.values = values.unsqueeze(0)
        self.lasting = _lasting(rows, self.shared)
        _check_increasing(rows, self.lasting, values.dtype)
        seen = self.lasting.unsqueeze(-1) & ~self.values.isnan()
        if bool((self.values.isinf() & seen).any()):
            raise ValueError(
                "the values of a path must be finite; mark what was not observed by NaN"
            )
        _check_channels(seen, self.batched)
        self.seen = seen
        last = self.lasting.sum(1, keepdim=True) - 1
        self.times = torch.where(self.lasting, rows, rows.gather(1, last))

    def interpolated(self) -> torch.Tensor:
        """values with gaps filled linearly in time. Before the first observation of a channel and
        after its last one it is constant."""
        before, after = self._neighbours()
        count = self.values.shape[1]
        one = torch.where(before < 0, after, before)
        two = torch.where(after == count, before, after)
        times = self.times.unsqueeze(-1).expand(self.values.shape)
        start = times.gather(1, one)
        end = times.gather(1, two)
        weight = torch.where(
            one == two, 0.0, (times - start) / torch.where(one == two, 1.0, end - start)
        ).to(self.values)
        previous = self.values.gather(1, one)
        following = self.values.gather(1, two)
        return torch.where(self.seen, previous, previous + weight * (following - previous))

    def held(self) -> torch.Tensor:
        """values in which a channel keeps its last observation in gaps, and is 0 before the first:
        nothing comes from the future."""
        before, _ = self._neighbours()
        return torch.where(before < 0, 0.0, self.values.gather(1, before.clamp(min=0)))

    def with_time(self, values: torch.Tensor) -> torch.Tensor:
        """values (rows, T, channels) with the times as a further channel, the first one."""
        times = self.times.to(values).unsqueeze(-1)
        return torch.cat((times.expand(*values.shape[:-1], 1), values), -1)

    def _neighbours(self):
        """For each place and channel: where the channel was last observed, -1 before the first; and
        where it is observed next, T after the last."""
        count = self.seen.shape[1]
        place = torch.arange(count, device=self.seen.device).view(1, -1, 1)
        before = torch.where(self.seen, place, -1).cummax(1).values
        after = torch.where(self.seen, place, count).flip(1).cummin(1).values.flip(1)
        return before, after


def _lasting(times, shared):
    """Where a series has not ended, (rows, T). Raises ValueError if a time is missing before the
    end."""
    missing = times.isnan()
    if (
        bool(times.isinf().any())
        or bool((missing[:, :-1] & ~missing[:, 1:]).any())
        or (shared and bool(missing.any()))
    ):
        raise ValueError(
            "the times of a path must be finite; NaN is possible only at the end of a row of times"
            " (batch, T), where a series has fewer observations than others"
        )
    counts = (~missing).sum(1)
    short = (counts < 2).nonzero().flatten().tolist()
    if short:
        if len(times) > 1:
            where = f"row {short[0]} has"
        else:
            where = "there is"
        raise ValueError(
            f"a path needs at least two observations, and {where} {int(counts[short[0]])}; leave"
            " such a series out, or repeat its observation at a later time"
        )
    return ~missing


def _check_increasing(times, lasting, dtype):
    """Compares in the dtype of the values, because a vector field gets the time in this dtype."""
    wrong = ((times.to(dtype).diff(dim=1) <= 0) & lasting[:, 1:]).nonzero().tolist()
    if wrong:
        row, i = wrong[0]
        one, two = times[row, i : i + 2].tolist()
        if two > one:
            rounded = f" (in {dtype} they are the same: subtract the first time, or use float64)"
        else:
            rounded = ""
        raise ValueError(
            f"the times of a path must increase strictly, but {one:.10g} is followed by {two:.10g}"
            + (f" in row {row}" if len(times) > 1 else "")
            + f"{rounded}; sort the observations and merge those at the same time"
        )


def _check_channels(seen, batched):
    never = (~seen.any(1)).nonzero().tolist()
    if never:
        row, channel = never[0]
        raise ValueError(
            f"channel {channel}"
            + (f" of row {row}" if batched else "")
            + " was never observed: put a neutral value there (0 for standardised data), and tell"
            " the model by a further channel"
        )
