"""Plain functions of pynode as device functions.

The loops of the native engine are plain Python functions (compiler.py). A kernel needs the same
functions with other globals: what they call must be a device function, and the functions of the
field stand in the place of calls by address. So each function is copied, with its code as it is and
globals of its own. numba compiles the copies for the GPU. Its simulator runs them as Python.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import machine


class DeviceFunctions:
    """Copies of pynode's functions.

    replaced: other functions for some of them. jit: makes a device function of a plain one. names:
    all names that the copies use.
    """

    def __init__(self, replaced: Mapping[Callable, Any], jit: Callable[[Callable], Any]) -> None:
        self._made: dict[Any, Any] = dict(replaced)
        self._jit = jit
        self.names: set[str] = set()

    def of(self, value: Any) -> Any:
        """The copy of a function, or of a module of functions; any other value as it is."""
        known = self._known(value)
        if known is not None:
            return known
        if isinstance(value, types.FunctionType) and _ours(value.__module__):
            return self._function(value)
        if isinstance(value, types.ModuleType) and _ours(value.__name__):
            return self._module(value)
        return value

    def _known(self, value: Any) -> Any:
        if isinstance(value, (types.FunctionType, types.ModuleType)):
            return self._made.get(value)
        return None

    def _function(self, function: types.FunctionType) -> Any:
        self.names.update(function.__code__.co_names)
        names = dict(function.__globals__)
        copy = types.FunctionType(
            function.__code__, names, function.__name__, function.__defaults__
        )
        made = self._jit(copy)
        self._made[function] = made  # before its globals: functions can call one another in turn
        for name in function.__code__.co_names:
            if name in names:
                names[name] = self.of(names[name])
        return made

    def _module(self, module: types.ModuleType) -> types.ModuleType:
        copy = types.ModuleType(module.__name__)
        self._made[module] = copy
        for name, value in vars(module).items():
            own = isinstance(value, types.FunctionType) and value.__module__ == module.__name__
            if own and not name.startswith("_"):
                setattr(copy, name, self.of(value))
            elif isinstance(value, types.BuiltinFunctionType):
                setattr(copy, name, value)
        return copy


def _ours(name: str) -> bool:
    return name.startswith("pynode.")


def device_functions(replaced: Mapping[Callable, Any]) -> DeviceFunctions:
    """Device functions for the GPU, or for numba's simulator if it is on."""
    flat = first_row
    if simulated():
        flat = machine.flat
    views: dict[Callable, Any] = {
        machine.row: in_callers(machine.row),
        machine.flat: in_callers(flat),
    }
    return DeviceFunctions({**views, **replaced}, as_device_function)


def as_device_function(function: Callable) -> Any:
    """The device function of a plain one. The simulator takes it as it is."""
    from numba import cuda

    if simulated():
        return function
    return cuda.jit(device=True)(function)


def in_callers(function: Callable) -> Any:
    """The same for a function that returns a part of an array: numba cannot return it, and writes
    the function into its callers."""
    from numba import cuda

    if simulated():
        return function
    return cuda.jit(device=True, inline="always")(function)


def first_row(matrix: np.ndarray, first: int, count: int) -> np.ndarray:
    """In place of machine.flat on the GPU, where numba cannot reshape. The rows lie one after the
    other, and no index is checked, so the first row reaches into the others."""
    return matrix[first]


def simulated() -> bool:
    """Whether kernels run in numba's simulator (NUMBA_ENABLE_CUDASIM)."""
    from numba import config

    return bool(getattr(config, "ENABLE_CUDASIM", False))


def record_in(array: np.ndarray) -> Any:
    """The only record of a local array, (1,), with its fields as attributes."""
    return array[0]


def record_in_simulator(array: np.ndarray) -> Any:
    """The same in the simulator, where a local array is a NumPy array."""
    return array.view(np.recarray)[0]
