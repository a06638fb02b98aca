"""Compiles the loops once for each family of methods and dtype, and keeps them on disk.

The loops are plain Python functions. numba compiles them, with all functions of pynode that they
call. The result is machine code, which llvmlite loads. With code from the disk nothing imports
numba.
"""

from __future__ import annotations

import ctypes
import functools
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
from ...translate.machine import Loaded, compiled, processor
from . import machine, parts
from .blocks import Blueprint
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
        self._address = code.address(name)
        self._call = ENTRY(self._address)
        self._result = ctypes.create_string_buffer(64)
        self._pointer = ctypes.addressof(self._result)
        # Of the last call: solves by one method follow one another.
        self._last: tuple[Any, Any, int] = (None, None, 0)

    def __call__(self, runs: np.ndarray, tables: Any, numbers: np.ndarray) -> None:
        """Go on with one solve. runs: (1,) records. tables: a NamedTuple of contiguous arrays.
        numbers: (1, ...) int64, where the arrays of its memory are (blocks.Blocks.slots)."""
        kept, where = self._tables(tables)
        check(
            self._call(
                self._pointer,
                self._pointer + 32,
                address(runs),
                where,
                address(numbers),
            )
        )
        del kept

    def each(self, runs: np.ndarray, tables: Any, numbers: np.ndarray, which: np.ndarray) -> None:
        """Go on with the solves of these places, int64, one after another. runs: (B,). numbers:
        (B, ...). Python does not hold the GIL between them."""
        function, _ = each_entry()
        kept, where = self._tables(tables)
        check(
            function(
                self._address,
                self._pointer,
                self._pointer + 32,
                address(runs),
                runs.strides[0],
                where,
                address(numbers),
                numbers.strides[0],
                address(which),
                len(which),
            )
        )
        del kept

    def _tables(self, tables):
        """(the numbers that say where the tables are, their address). The caller keeps them during
        its call: another thread can solve by another method meanwhile."""
        known, table_slots, where = self._last
        if known is not tables:
            table_slots = slots(tables)
            where = address(table_slots)
            self._last = (tables, table_slots, where)
        return table_slots, where


def check(code: int) -> None:
    """RuntimeError if a loop has ended with an error of numba."""
    if code > 0:
        raise RuntimeError(
            f"the native loop ended with the error {code}; please report this, and use"
            " backend='torch'"
        )


# int each(entry, result, exception, runs, size of a record, tables, memories, size of a memory,
# which, count): the entry for the solves at these places, until one fails.
EACH = """
define i32 @each(i64 %entry, i64 %result, i64 %exception, i64 %runs, i64 %record, i64 %tables,
                 i64 %memories, i64 %memory, i64 %which, i64 %count) {
begin:
  %work = inttoptr i64 %entry to i32 (i64, i64, i64, i64, i64)*
  %places = inttoptr i64 %which to i64*
  br label %head
head:
  %i = phi i64 [ 0, %begin ], [ %next, %body ]
  %failed = phi i32 [ 0, %begin ], [ %code, %body ]
  %left = icmp slt i64 %i, %count
  %good = icmp sle i32 %failed, 0
  %more = and i1 %left, %good
  br i1 %more, label %body, label %end
body:
  %place = getelementptr i64, i64* %places, i64 %i
  %k = load i64, i64* %place
  %run_offset = mul i64 %k, %record
  %run = add i64 %runs, %run_offset
  %memory_offset = mul i64 %k, %memory
  %arrays = add i64 %memories, %memory_offset
  %code = call i32 %work(i64 %result, i64 %exception, i64 %run, i64 %tables, i64 %arrays)
  %next = add i64 %i, 1
  br label %head
end:
  ret i32 %failed
}
"""


@functools.cache
def each_entry() -> tuple[Any, Loaded]:
    """The function ``each`` of EACH, and what keeps it in memory."""
    code = Loaded(compiled(EACH))
    kind = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int64] * 10)
    return kind(code.address("each")), code


def entry(work: Callable, family: Any, record: Any, tables: Any, blueprint: Blueprint) -> Entry:
    """The compiled work(family, run, tables, memory) for arrays like those of tables, and for the
    memory of this Blueprint.

    record: the dtype of run.
    """
    key = (work, family, blueprint.real, blueprint.absent)
    found = _loaded.get(key)
    if found is None:
        with _lock:
            found = _loaded.get(key)
            if found is None:
                found = load(work, family, record, tables, blueprint)
                _loaded[key] = found
    return found


def forget() -> None:
    """Forget the compiled functions. The next ``entry`` reads them from the disk."""
    with _lock:
        _loaded.clear()


def load(work: Callable, family: Any, record: Any, tables: Any, blueprint: Blueprint) -> Entry:
    """The compiled function from the disk. If it is not there, compile and store it."""
    functions = list(reached(work, family))
    shapes = [*_kinds(tables).values(), *blueprint.kinds.values()]
    more = [work.__qualname__, family.__name__, str(shapes), str(blueprint.absent), str(record)]
    key = key_of(functions, more)
    code = store.read(key, ENDING)
    if code is None:
        code = _compile(functions, work, family, record, tables, blueprint)
        store.write(key, ENDING, code)
    name, _, binary = code.partition(b"\n")
    return Entry(Loaded(binary), name.decode())


def _kinds(arrays):
    """The dtype and the number of dimensions of the arrays of a NamedTuple."""
    return {
        name: (array.dtype, array.ndim) for name, array in zip(arrays._fields, arrays, strict=True)
    }


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


def _compile(functions, work, family, record, tables, blueprint):
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
    tables_at = machine.arrays_at(type(tables).__qualname__, _kinds(tables))
    name = blueprint.kind.__qualname__
    memory_at = machine.arrays_at(name, blueprint.kinds, blueprint.absent)

    def whole(run, tables, memory):
        work(family, run_at(run), tables_at(tables), memory_at(memory))

    dispatcher = njit(nogil=True, **OPTIONS, **parts.whole_options())(whole)
    dispatcher.compile((kinds.int64,) * 3)
    (result,) = dispatcher.overloads.values()
    _, _, (binary, _) = result.library.serialize_using_object_code()
    return result.fndesc.llvm_func_name.encode() + b"\n" + binary


_registered: set = set()
