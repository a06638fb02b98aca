"""Constants of a module: buffers that are not in its state_dict.

A module on the meta device (``torch.device("meta")``, ``to("meta")``) loses its buffers. Constants
restore theirs when ``to_empty`` gives the module memory.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Constants(torch.nn.Module):
    """A module whose buffers outside the state_dict keep their values, also on the meta device."""

    def keep(self, name: str, value: Tensor, device: torch.device | str | None = None) -> None:
        """Register value, made by ``valued``, as such a buffer, on the device or where it is."""
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
        # Plain numbers: device contexts and casts of the module do not change them.
        self.__dict__.setdefault("_numbers", {})[name] = value.tolist(), value.dtype

    def _apply(self, fn, recurse=True):
        buffers = {name: self._buffers[name] for name in self._non_persistent_buffers_set}
        super()._apply(fn, recurse)
        for name, before in buffers.items():
            after = self._buffers[name]
            if before.is_meta and not after.is_meta:
                numbers, dtype = self._numbers.pop(name)
                before = torch.tensor(numbers, dtype=dtype, device="cpu")
            elif after.is_meta and not before.is_meta:
                self._remember(name, before)
            # to_empty() fills buffers with arbitrary memory.
            if not after.is_meta:
                self._buffers[name] = before.to(after)
            else:
                self._buffers[name] = after
        return self


def default_device() -> torch.device:
    """The device of new tensors."""
    return torch.empty(0).device


def in_memory(device: torch.device | str) -> torch.device:
    """The device. The CPU instead of the meta device."""
    return torch.device("cpu" if torch.device(device).type == "meta" else device)


def valued(
    x: object, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    """x as a tensor with values, on its own or the given device. In memory if this is the meta
    device."""
    if device is None:
        if isinstance(x, torch.Tensor):
            device = x.device
        else:
            device = default_device()
    return torch.as_tensor(x, dtype=dtype, device=in_memory(device))
