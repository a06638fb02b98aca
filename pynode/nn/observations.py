"""Series of observations at irregular times, some of them missing: checked, and their gaps
filled."""

from __future__ import annotations

import torch


class Observations:
    """times: (T,) for all series, or (batch, T) with a row for each; values: (batch, T, channels),
    or (T, channels), NaN where a channel was not observed.

    A row of times may end in NaN: its series has fewer observations, and what its values hold there
    is not looked at. After checks: times (rows, T), the last one held where a series has ended,
    values (rows, T, channels), shared (whether all series have the same times), batched (whether
    values came with a batch), lasting (rows, T), False after the end. ValueError or TypeError for
    anything else.
    """

    def __init__(self, times, values):
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
        times = torch.as_tensor(times, dtype=torch.float64, device=values.device)
        if times.requires_grad:
            raise ValueError(
                "the times of observations have no gradients: detach them (ZeroOrderHold has those"
                " of its times)"
            )
        self.shared = times.dim() == 1
        self.batched = values.dim() == 3
        if times.shape not in (values.shape[-2:-1], values.shape[:-1]):
            raise ValueError(
                f"values of shape {tuple(values.shape)} go with times {tuple(values.shape[-2:-1])}"
                + (f" or {tuple(values.shape[:-1])}" if self.batched else "")
                + f", not {tuple(times.shape)}"
            )
        times = torch.atleast_2d(times)
        if self.batched:
            self.values = values
        else:
            self.values = values.unsqueeze(0)
        self.lasting = _lasting(times, self.shared)
        _check_increasing(times, self.lasting, values.dtype)
        seen = self.lasting.unsqueeze(-1) & ~self.values.isnan()
        if bool((self.values.isinf() & seen).any()):
            raise ValueError(
                "the values of a path must be finite; mark what was not observed by NaN"
            )
        _check_channels(seen, self.batched)
        self.seen = seen
        last = self.lasting.sum(1, keepdim=True) - 1
        self.times = torch.where(self.lasting, times, times.gather(1, last))

    def interpolated(self):
        """values with gaps filled linearly in time; the first and last observation hold outside of
        theirs."""
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
        left = self.values.gather(1, one)
        right = self.values.gather(1, two)
        return torch.where(self.seen, left, left + weight * (right - left))

    def held(self):
        """values with the last observation of a channel in its gaps, and 0 before the first:
        nothing comes from the future."""
        before, _ = self._neighbours()
        return torch.where(before < 0, 0.0, self.values.gather(1, before.clamp(min=0)))

    def with_time(self, values):
        """values (rows, T, channels) with the times as a further channel, the first."""
        times = self.times.to(values).unsqueeze(-1)
        return torch.cat((times.expand(*values.shape[:-1], 1), values), -1)

    def _neighbours(self):
        """By place and channel: where the channel was last observed, -1 before the first, and where
        next, T after the last."""
        count = self.seen.shape[1]
        place = torch.arange(count, device=self.seen.device).view(1, -1, 1)
        before = torch.where(self.seen, place, -1).cummax(1).values
        after = torch.where(self.seen, place, count).flip(1).cummin(1).values.flip(1)
        return before, after


def _lasting(times, shared):
    """Where a series has not ended, (rows, T); ValueError where times are missing elsewhere than at
    the end."""
    missing = times.isnan()
    if (
        bool(times.isinf().any())
        or bool((missing[:, :-1] & ~missing[:, 1:]).any())
        or (shared and bool(missing.any()))
    ):
        raise ValueError(
            "the times of a path must be finite; NaN may stand only at the end of a row of times"
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
            " such a series out, or give its observation once more at a later time"
        )
    return ~missing


def _check_increasing(times, lasting, dtype):
    """In the dtype of the values, which is that of the time that a vector field is told."""
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
            + f"{rounded}; sort the observations and put those at one time into one"
        )


def _check_channels(seen, batched):
    never = (~seen.any(1)).nonzero().tolist()
    if never:
        row, channel = never[0]
        raise ValueError(
            f"channel {channel}"
            + (f" of row {row}" if batched else "")
            + " was never observed: put a value there that means nothing (0 where the data are"
            " standardised), and say so to the model by a channel of its own"
        )
