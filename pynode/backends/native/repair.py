"""Finite differences in place of derivatives that are not finite, as algebra/jacobian.py.

This is rare, so compiled code calls Python for it. The function has the signature of a field
function, and gets the memory of the Jacobian as ``out``.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch

from ...core.finite_differences import repaired_entries, repaired_slope
from .machine import FIELD


def repairs(field: Any) -> Any:
    """The C function that repairs df/dy and df/dt of a NativeField. The caller keeps it alive."""
    return FIELD(_Repair(field))


def where(function: Any) -> int:
    """The address of a C function."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class _Repair:
    def __init__(self, field: Any) -> None:
        self.f = field.function("f")
        self.call = FIELD(self.f.address)
        self.n = field.n
        self.dtype = field.dtype
        self.rows, self.columns = field.pattern()

    def __call__(self, t: float, y: int, v: int, inputs: int, out: int, work: int) -> None:
        real: Any = ctypes.c_double
        if self.dtype == torch.float32:
            real = ctypes.c_float
        state = np.ctypeslib.as_array((real * self.n).from_address(y)).copy()
        count = len(self.rows)
        jac = np.ctypeslib.as_array((real * (count + self.n)).from_address(out))
        scratch = np.empty(max(1, self.f.work), state.dtype)

        def f(time: float, at: torch.Tensor) -> torch.Tensor:
            point = at.numpy()
            result = np.empty_like(point)
            self.call(
                time,
                point.ctypes.data,
                point.ctypes.data,
                inputs,
                result.ctypes.data,
                scratch.ctypes.data,
            )
            return torch.from_numpy(result)

        tensor = torch.from_numpy(state)
        if not np.isfinite(jac[:count]).all():
            jac[:count] = repaired_entries(
                lambda moved: f(t, moved), tensor, jac[:count], self.rows, self.columns
            )
        if not np.isfinite(jac[count:]).all():
            slope = torch.from_numpy(jac[count:].copy())
            time = torch.tensor(t, dtype=tensor.dtype)
            jac[count:] = repaired_slope(
                lambda moved: f(float(moved), tensor), time, tensor, slope
            ).numpy()
