"""f and its Jacobian for the rows of a batch, by native functions."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..core.batched_field import RowField

# translate/field_code.NativeFunction
_CALL = ctypes.CFUNCTYPE(None, ctypes.c_double, *[ctypes.c_void_p] * 5)


class NativeFunctions:
    """The native functions f and df/dy of a RowField at a fixed time.

    y0: (B, n). Raise TranslationRefused if f cannot become native code.
    """

    def __init__(self, field: RowField, t: float, y0: Tensor) -> None:
        from ..backends.native.row_fields import RowFields

        self._fields = RowFields(field, t, y0[0])
        self._f = self._fields.bound.function("f")
        self._jacobian = self._fields.bound.function("jac")
        self._pattern = self._fields.bound.pattern()
        self._dtype = y0.numpy().dtype
        self._work = np.zeros(max(1, self._f.work, self._jacobian.work), self._dtype)
        self._none = np.zeros(y0.shape[1], self._dtype)
        self._n = y0.shape[1]

    def values(self, t: float, y: Tensor, which: Tensor) -> Tensor:
        """f, (m, n), of the rows in which at y, (m, n)."""
        return torch.from_numpy(self._called(self._f, t, y, which))

    def jacobians(self, t: float, y: Tensor, which: Tensor) -> Tensor:
        """df/dy, (m, n, n)."""
        found = self._called(self._jacobian, t, y, which)
        whole = np.zeros((len(found), self._n, self._n), self._dtype)
        rows, columns = self._pattern
        whole[:, rows, columns] = found[:, : len(rows)]
        return torch.from_numpy(whole)

    def _called(self, function: Any, t: float, y: Tensor, which: Tensor) -> np.ndarray:
        """(m, size) what a function writes for each row."""
        states = np.ascontiguousarray(y.detach().numpy())
        addresses = np.ascontiguousarray(self._fields.addresses(which.numpy()))
        out = np.zeros((len(states), max(1, function.size)), self._dtype)
        call = _CALL(function.address)
        none = self._none.ctypes.data
        work = self._work.ctypes.data
        for state, inputs, result in zip(states, addresses, out, strict=True):
            places = (state.ctypes.data, none, inputs.ctypes.data, result.ctypes.data, work)
            call(t, *places)
        return out
