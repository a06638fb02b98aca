"""Buffers whose numbers native code has as constants: coefficients that nobody learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.constants import Constants


class DataSheet(Constants):
    """A module with constant numbers and indices, which are not in its state_dict."""

    def numbers(self, name: str, values: Any) -> None:
        """Keep values, float64, as the buffer ``name``."""
        self.keep(name, torch.tensor(np.asarray(values, dtype=float).copy()))
        self._declare(name)

    def indices(self, name: str, values: Any) -> None:
        """Keep values, int64, as the buffer ``name``."""
        self.keep(name, torch.tensor(np.asarray(values, dtype=np.int64).copy()))

    def _declare(self, name: str) -> None:
        # Here, so that native code of a module need not watch what the function uses.
        from ...translate.tables import declare_table

        buffer = self._buffers[name]
        assert buffer is not None
        if buffer.device.type == "cpu":
            declare_table(buffer)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DataSheet:
        # It makes other tensors.
        super()._apply(fn, recurse)
        self._declare_all()
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Of a copy, and of a module that was pickled.
        super().__setstate__(state)
        self._declare_all()

    def _declare_all(self) -> None:
        for name, buffer in self._buffers.items():
            if buffer is not None and buffer.dtype.is_floating_point:
                self._declare(name)
