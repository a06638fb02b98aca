"""Fields for the tests of the native engine, compiled by numba from formulas."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import cfunc, types

SIGNATURE = types.void(
    types.float64,
    types.CPointer(types.float64),
    types.CPointer(types.float64),
    types.CPointer(types.CPointer(types.float64)),
    types.CPointer(types.float64),
    types.CPointer(types.float64),
)


class Function(NamedTuple):
    address: int
    size: int
    work: int


class StandIn:
    """A NativeField of numba's cfuncs. functions: by name (translate/field.py)."""

    def __init__(self, n, functions, pattern, targets=()):
        self.n = n
        self.dtype = torch.float64
        self.targets = list(targets)
        self.differentiable = list(range(len(self.targets)))
        self._functions = functions
        self._pattern = pattern

    def pointers(self):
        return np.array([p.data_ptr() for p in self.targets], dtype=np.int64), self.targets

    def function(self, name):
        return Function(self._functions[name].address, 0, 0)

    def pattern(self):
        rows, columns = self._pattern
        return np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64)


@cfunc(SIGNATURE)
def robertson_f(t, y, v, inputs, out, work):
    k = inputs[0]
    r1 = k[0] * y[0]
    r2 = k[1] * y[1] * y[2]
    r3 = k[2] * y[1] * y[1]
    out[0] = -r1 + r2
    out[1] = r1 - r2 - r3
    out[2] = r3


@cfunc(SIGNATURE)
def robertson_jac(t, y, v, inputs, out, work):
    k = inputs[0]
    out[0] = -k[0]
    out[1] = k[1] * y[2]
    out[2] = k[1] * y[1]
    out[3] = k[0]
    out[4] = -k[1] * y[2] - 2 * k[2] * y[1]
    out[5] = -k[1] * y[1]
    out[6] = 2 * k[2] * y[1]
    out[7] = 0.0
    out[8] = 0.0
    out[9] = 0.0


@cfunc(SIGNATURE)
def robertson_pullback(t, y, w, inputs, out, work):
    k = inputs[0]
    a = w[1] - w[0]
    c = w[2] - w[1]
    out[0] = a * k[0]
    out[1] = -a * k[1] * y[2] + 2 * c * k[2] * y[1]
    out[2] = -a * k[1] * y[1]
    out[3] = a * y[0]
    out[4] = -a * y[1] * y[2]
    out[5] = c * y[1] * y[1]
    out[6] = 0.0


@cfunc(SIGNATURE)
def robertson_second(t, y, v, inputs, out, work):
    k = inputs[0]
    a = v[1] - v[0]
    c = v[2] - v[1]
    out[0] = 0.0
    out[1] = -a * k[1] * v[5] + 2 * c * k[2] * v[4]
    out[2] = -a * k[1] * v[4]
    out[3] = a * v[3]
    out[4] = -a * (v[4] * y[2] + y[1] * v[5])
    out[5] = 2 * c * y[1] * v[4]
    out[6] = 0.0
