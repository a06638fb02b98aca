"""Compiles the loops once for each family of methods and dtype, and keeps them on disk.

The loops are plain Python functions. numba compiles them, with all functions of pynode that they
call. The result is machine code, which llvmlite loads. With code from the disk nothing imports
numba.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import inspect
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ...translate import store
from ...translate.machine import Loaded, processor
from . import machine, parts
from .machine import address, slots

# Without reference counts, wrappers for Python and checks of division: the loops need none, and
# each costs time to compile.
OPTIONS = {
    "_nrt": False,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
# int fn(void* result, void** exception, int64 run, int64 tables, int64 memory): numba's convention.
ENTRY = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_int64,
)

ENDING = "loop"  # of the files in the store
MISSING = (
    "the native engine compiles with numba, which is not installed: run"
    " pip install 'torch-stiff-ode[native]', or use backend='torch'"
)

_lock = threading.RLock()
_loaded: dict[tuple, Entry] = {}


class Entry:
    """A compiled function work(family, run, tables, memory). A call releases the GIL."""

    def __init__(self, code: Loaded, name: str) -> None:
        self._code = code  # keeps the function in memory
        self._call = ENTRY(code.address(name))
        self._result = ctypes.create_string_buffer(64)
        self._pointer = ctypes.addressof(self._result)
        # Of the last call: solves by one method follow one another.
        self._last: tuple[Any, Any] = (None, None)

    def __call__(self, run: np.ndarray, tables: Any, memory: Any) -> None:
        """run: (1,) records; tables, memory: NamedTuples of contiguous arrays."""
        known, table_slots = self._last
        if known is not tables:
            table_slots = slots(tables)
            self._last = (tables, table_slots)
        memory_slots = slots(memory)
        code = self._call(
            self._pointer,
            self._pointer + 32,
            address(run),
            address(table_slots),
            address(memory_slots),
        )
        if code > 0:
            raise RuntimeError(
                f"the native loop ended with the error {code}; please report this, and use"
                " backend='torch'"
            )


def entry(work: Callable, family: Any, record: Any, tables: Any, memory: Any) -> Entry:
    """The compiled work(family, run, tables, memory) for arrays like those of tables and memory.

    record: the dtype of run.
    """
    dtype = memory[0].dtype.char
    key = (work, family, dtype)
    found = _loaded.get(key)
    if found is None:
        with _lock:
            found = _loaded.get(key)
            if found is None:
                found = load(work, family, record, tables, memory)
                _loaded[key] = found
    return found


def forget() -> None:
    """Forget the compiled functions. The next ``entry`` reads them from the disk."""
    with _lock:
        _loaded.clear()


def load(work: Callable, family: Any, record: Any, tables: Any, memory: Any) -> Entry:
    """The compiled function from the disk. If it is not there, compile and store it."""
    functions = list(reached(work, family))
    shapes = [(a.dtype.str, a.ndim) for a in (*tables, *memory)]
    key = key_of(functions, [work.__qualname__, family.__name__, str(shapes), str(record)])
    code = store.read(key, ENDING)
    if code is None:
        code = _compile(functions, work, family, record, tables, memory)
        store.write(key, ENDING, code)
    name, _, binary = code.partition(b"\n")
    return Entry(Loaded(binary), name.decode())


def reached(*roots: Any) -> Iterator[Callable]:
    """The functions of pynode that compiled functions, and the functions of modules, call by global
    names."""
    seen = set()
    todo = list(roots)
    while todo:
        item = todo.pop()
        if isinstance(item, types.ModuleType):
            todo += [
                value
                for value in vars(item).values()
                if isinstance(value, types.FunctionType)
                and value.__module__ == item.__name__
                and not value.__name__.startswith("_")
            ]
        if not isinstance(item, types.FunctionType) or item in seen:
            continue
        seen.add(item)
        if item.__module__ == machine.__name__:
            continue
        yield item
        names = item.__globals__
        for name in item.__code__.co_names:
            value = names.get(name)
            if getattr(value, "__module__", getattr(value, "__name__", "")).startswith("pynode."):
                todo.append(value)
            elif isinstance(value, types.ModuleType) and value.__name__.startswith("pynode."):
                todo.append(value)


def key_of(functions: Iterable[Callable], more: Iterable[str]) -> str:
    """A hash of the sources of all modules that the functions are in, of the versions and of the
    processor."""
    digest = hashlib.sha256()
    modules = {sys.modules[f.__module__] for f in functions}
    modules |= {machine, parts, sys.modules[__name__]}
    for module in sorted(modules, key=lambda m: m.__name__):
        digest.update(inspect.getsource(module).encode())
    for text in (*more, sys.version, _numba_version(), processor()):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def _numba_version():
    """Without an import, which takes longer than all the rest. Code on the disk needs no numba."""
    try:
        return importlib.metadata.version("numba")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _compile(functions, work, family, record, tables, memory):
    """The name of the compiled function, a newline, and the object code."""
    try:
        from numba import from_dtype, njit
        from numba import types as kinds
        from numba.extending import register_jitable
    except ImportError as error:
        raise ImportError(MISSING) from error

    machine.teach()
    for function in functions:
        if function not in _registered:
            register_jitable(**OPTIONS, **parts.part_options())(function)
            _registered.add(function)
    run_at = machine.record_at(from_dtype(record))
    tables_at = machine.arrays_at(tables)
    memory_at = machine.arrays_at(memory)

    def whole(run, tables, memory):
        work(family, run_at(run), tables_at(tables), memory_at(memory))

    dispatcher = njit(nogil=True, **OPTIONS, **parts.whole_options())(whole)
    dispatcher.compile((kinds.int64,) * 3)
    (result,) = dispatcher.overloads.values()
    _, _, (binary, _) = result.library.serialize_using_object_code()
    return result.fndesc.llvm_func_name.encode() + b"\n" + binary


_registered: set = set()
