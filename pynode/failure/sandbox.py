"""Evaluations of a vector field that leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..core.vector_field import VectorField


@contextmanager
def sandboxed(field: VectorField) -> Iterator[None]:
    """A context that restores the counts of the field, torch's random numbers, and the buffers and
    attributes of its modules. Inside, the modules hold the tensors of the solve (ModuleState) and
    copies of their buffers."""
    counts = field.stats.as_dict()
    device = field.device
    if device.type == "cpu":
        devices = []
    else:
        devices = [device]
    if device.type == "cpu":
        kind = "cuda"
    else:
        kind = device.type
    fork = torch.random.fork_rng(devices=devices, device_type=kind)
    with torch.no_grad(), fork, field.module_state.restored(()):
        attributes = [(vars(module), dict(vars(module))) for module in field.module_state.modules]
        buffers = [
            (holder, dict(holder))
            for holder in (module._buffers for module in field.module_state.modules)
        ]
        try:
            for holder, saved in buffers:
                holder.update(
                    {
                        name: None if buffer is None else buffer.clone()
                        for name, buffer in saved.items()
                    }
                )
            yield
        finally:
            for holder, saved in [*attributes, *buffers]:
                holder.clear()
                holder.update(saved)
            for name, value in counts.items():
                setattr(field.stats, name, value)
