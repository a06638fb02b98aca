"""Numbers that a module knows from its construction: they are no data and in no state_dict.

A module that is made without memory (``torch.device("meta")``, ``to("meta")``) and gets some later
(``to_empty``) would lose them.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Constants(torch.nn.Module):
    """A module whose buffers outside of the state_dict keep their values, on the meta device as
    well."""

    def keep(self, name: str, value: Tensor, device: torch.device | str | None = None) -> None:
        """Registers value, made by ``valued``, as such a buffer, on the device or where it is."""
        if device is None:
            if default_device().type == "meta":
                device = default_device()
            else:
                device = value.device
        device = torch.device(device)
        self.register_buffer(name, value.to(device), persistent=False)
        if device.type == "meta":
            self._remember(name, value)

    def _remember(self, name, value):
        # Plain numbers: no device that a block sets, and no cast of the module, reaches them.
        self.__dict__.setdefault("_numbers", {})[name] = value.tolist(), value.dtype

    def _apply(self, fn, recurse=True):
        kept = {name: self._buffers[name] for name in self._non_persistent_buffers_set}
        super()._apply(fn, recurse)
        for name, before in kept.items():
            after = self._buffers[name]
            if before.is_meta and not after.is_meta:
                numbers, dtype = self._numbers.pop(name)
                before = torch.tensor(numbers, dtype=dtype, device="cpu")
            elif after.is_meta and not before.is_meta:
                self._remember(name, before)
            # What to_empty() has put there are no numbers.
            if not after.is_meta:
                self._buffers[name] = before.to(after)
            else:
                self._buffers[name] = after
        return self


def default_device() -> torch.device:
    """The device of tensors that are made without one."""
    return torch.empty(0).device


def in_memory(device: torch.device | str) -> torch.device:
    """The device, the CPU for the meta device."""
    return torch.device("cpu" if torch.device(device).type == "meta" else device)


def valued(
    x: object, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    """x as a tensor to compute with, on its own or on the given device; in memory where that is the
    meta device."""
    if device is None:
        if isinstance(x, torch.Tensor):
            device = x.device
        else:
            device = default_device()
    return torch.as_tensor(x, dtype=dtype, device=in_memory(device))
