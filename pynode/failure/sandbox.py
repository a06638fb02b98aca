"""Evaluations of a vector field of which nothing remains."""

from __future__ import annotations

from contextlib import contextmanager

import torch


@contextmanager
def sandboxed(field):
    """A block that leaves the counts of the field, torch's random numbers, and the buffers and
    attributes of its modules as they were. Inside, the modules hold what they held during the solve
    (ModuleState.again), and copies of their buffers.
    """
    counts = field.stats.as_dict()
    device = field.device
    if device.type == "cpu":
        random = {"devices": []}
    else:
        random = {"devices": [device], "device_type": device.type}
    with torch.no_grad(), torch.random.fork_rng(**random), field.module_state.restored(()):
        attributes = [(vars(module), dict(vars(module))) for module in field.module_state.modules]
        buffers = [
            (holder, dict(holder))
            for holder in (module._buffers for module in field.module_state.modules)
        ]
        try:
            for holder, given in buffers:
                holder.update(
                    {
                        name: None if buffer is None else buffer.clone()
                        for name, buffer in given.items()
                    }
                )
            yield
        finally:
            for holder, given in [*attributes, *buffers]:
                holder.clear()
                holder.update(given)
            for name, value in counts.items():
                setattr(field.stats, name, value)
