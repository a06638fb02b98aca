"""Steps in advance. Error control is arithmetic on a few numbers, so one compiled function can take
many steps in a row. The integrator consumes these steps until an event or a rejected state
invalidates them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ...core.arithmetic import Tensors
from ...core.step_control import next_step

if TYPE_CHECKING:
    from collections.abc import Callable


# A call costs about 30 us and a step 5 to 50 us. More steps a call would save a microsecond or two
# a step, and waste more steps at the end of a solve.
COUNT = 16


def attempts(attempt: Callable, method: Any, count: int) -> Callable:
    """A function that attempts ``count`` steps.

    attempt(t, h, y, first, f, args) -> (y1, error, stages): one step; first: f(t, y), None for
    methods that are not FSAL. The function takes numbers, (8,) float64: t, h, ratios of the two
    steps before, next stop, the distance to it (in steps) below which a step is stretched to it,
    longest step, rtol; and y, first, atol, f, args. It returns (t, h, ratio) of every attempt,
    (count, 3), their final states, (count, n), and their stages, (count, s, n).
    """
    from torch._higher_order_ops.scan import scan  # private: only whole compiled steps depend on it

    controller = method.controller
    order = method.error_order

    def block(numbers, y, first, atol, f, args):
        t, h, r1, r2, stop, stop_tolerance, longest, rtol = (x.clone() for x in numbers.unbind())
        direction = torch.sign(h)

        def one(loop_state, _):
            t, h, r1, r2, stop, y, *slope = loop_state
            size, end, hits_stop = next_step(Tensors, t, h, stop, stop_tolerance, direction)
            if slope:
                first = slope[0]
            else:
                first = None
            y1, error, ks = attempt(t.to(y.dtype), size.to(y.dtype), y, first, f, args)
            if method.adaptive:
                scaled = error / (atol + rtol.to(y.dtype) * torch.maximum(y.abs(), y1.abs()))
                ratio = (scaled.square().sum() / scaled.numel()).to(t.dtype).sqrt()
                good = ratio <= 1
                factor, past = controller.control(Tensors, ratio, (r1, r2), order)
            else:
                ratio = torch.zeros_like(t)
                past = (r1.clone(), r2.clone())
                good = torch.ones_like(hits_stop)
                factor = torch.ones_like(t)
            at_stop = good & hits_stop
            after = size.abs() * factor
            # A step shortened to end at a stop was not shortened because of its error.
            after = direction * torch.minimum(
                torch.where(at_stop, torch.maximum(after, h.abs()), after), longest
            )
            loop_state = (
                torch.where(good, end, t),
                after,
                *past,
                torch.where(at_stop, direction * torch.inf, stop),
                torch.where(good, y1, y),
                *([torch.where(good, ks[-1], first)] if slope else []),
            )
            return loop_state, (torch.stack((t, size, ratio)), y1.clone(), torch.stack(ks))

        loop_state = (t, h, r1, r2, stop, y, *([] if first is None else [first]))
        if count == 1:
            return tuple(out.unsqueeze(0) for out in one(loop_state, None)[1])
        return scan(one, loop_state, torch.zeros(count, dtype=y.dtype, device=y.device))[1]

    return block
