"""Access to memory by address, and calls of functions by address.

In Python the functions here do what their docstrings say, so that the loops also run without a
compiler. ``teach`` tells numba how to compile them.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

# void fn(double t, T* y, T* v, T** inputs, T* out, T* work)
FIELD = ctypes.CFUNCTYPE(
    None,
    ctypes.c_double,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
)


def call(
    address: int,
    t: float,
    y: np.ndarray,
    v: np.ndarray,
    inputs: np.ndarray,
    out: np.ndarray,
    work: np.ndarray,
) -> None:
    """Call a field function, which writes its result into out.

    address: of the function. v: its further vectors. inputs: int64 addresses of the parameters.
    """
    _prototype(int(address))(
        t, y.ctypes.data, v.ctypes.data, inputs.ctypes.data, out.ctypes.data, work.ctypes.data
    )


def row(matrix: np.ndarray, i: int) -> np.ndarray:
    """Row i of a matrix, as a view."""
    return matrix[i]


def flat(matrix: np.ndarray, first: int, count: int) -> np.ndarray:
    """Rows first to first + count - 1 of a contiguous matrix as one vector, a view."""
    return matrix[first : first + count].reshape(-1)


@functools.lru_cache(maxsize=64)
def _prototype(address: int) -> Any:
    return FIELD(address)


@functools.cache
def teach() -> None:
    """Register ``call``, ``row`` and ``flat`` with numba."""
    from llvmlite import ir
    from numba import types
    from numba.extending import lower_builtin, type_callable

    @type_callable(call)
    def type_call(context):
        def typer(address, t, y, v, inputs, out, work):
            return types.none

        return typer

    @lower_builtin(call, *[types.Any] * 7)
    def lower_call(context, builder, signature, arguments):
        pointer = ir.IntType(8).as_pointer()
        double = ir.DoubleType()
        function = ir.FunctionType(ir.VoidType(), [double, *[pointer] * 5])
        data = [
            builder.bitcast(context.make_array(kind)(context, builder, value).data, pointer)
            for kind, value in zip(signature.args[2:], arguments[2:])
        ]
        target = builder.inttoptr(arguments[0], function.as_pointer())
        t = context.cast(builder, arguments[1], signature.args[1], types.float64)
        builder.call(target, [t, *data])
        return context.get_dummy_value()

    @type_callable(row)
    def type_row(context):
        def typer(matrix, i):
            return types.Array(matrix.dtype, matrix.ndim - 1, "C")

        return typer

    @lower_builtin(row, types.Array, types.Integer)
    def lower_row(context, builder, signature, arguments):
        matrix = context.make_array(signature.args[0])(context, builder, arguments[0])
        shape = [builder.extract_value(matrix.shape, k) for k in range(signature.args[0].ndim)]
        offset = arguments[1]
        for size in shape[1:]:
            offset = builder.mul(offset, size)
        data = builder.gep(matrix.data, [offset])
        return array_value(context, builder, signature.return_type, data, shape[1:])

    @type_callable(flat)
    def type_flat(context):
        def typer(matrix, first, count):
            return types.Array(matrix.dtype, 1, "C")

        return typer

    @lower_builtin(flat, types.Array, types.Integer, types.Integer)
    def lower_flat(context, builder, signature, arguments):
        matrix = context.make_array(signature.args[0])(context, builder, arguments[0])
        width = builder.extract_value(matrix.shape, 1)
        first = context.cast(builder, arguments[1], signature.args[1], types.intp)
        count = context.cast(builder, arguments[2], signature.args[2], types.intp)
        data = builder.gep(matrix.data, [builder.mul(first, width)])
        size = builder.mul(count, width)
        return array_value(context, builder, signature.return_type, data, [size])


def array_value(context: Any, builder: Any, kind: Any, data: Any, shape: list) -> Any:
    """The LLVM value of a contiguous array of this numba type, at this pointer."""
    from numba import types
    from numba.np.arrayobj import populate_array

    itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    size = context.get_constant(types.intp, itemsize)
    strides = [size]
    for extent in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], extent))
    array = context.make_array(kind)(context, builder)
    populate_array(
        array,
        data=data,
        shape=shape,
        strides=strides,
        itemsize=size,
        meminfo=None,
    )
    return array._getvalue()


def record_at(kind: Any) -> Any:
    """A compiled function address -> record of this numba type."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def at(context, address):
        def code(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(kind))

        return kind(types.int64), code

    return at


def arrays_at(
    name: str, arrays: Mapping[str, tuple[Any, int]], absent: tuple[str, ...] = ()
) -> Any:
    """A compiled function address -> object with these arrays: for each name the dtype and the
    number of dimensions. absent: names of those without numbers, whose lengths are constants.

    At the address are int64 numbers, four for each array: its address and its shape, filled up with
    ones. Compiled code passes the address on, and reads the numbers of an array where it needs the
    array: to pass a tuple of thirty arrays by value takes half of the time to compile.
    """
    from llvmlite import ir
    from numba import from_dtype, types
    from numba.extending import intrinsic

    fields = {
        key: types.Array(from_dtype(np.dtype(dtype)), ndim, "C")
        for key, (dtype, ndim) in arrays.items()
    }
    kind = _arrays_type()(name, fields, absent)

    @intrinsic
    def at(context, address):
        def code(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

        return kind(types.int64), code

    return at


@functools.cache
def _arrays_type():
    """The numba type of a NamedTuple of arrays at an address."""
    from llvmlite import ir
    from numba import types
    from numba.core.datamodel import models
    from numba.core.typing.templates import AttributeTemplate
    from numba.extending import infer_getattr, lower_getattr_generic, register_model

    class Arrays(types.Type):
        def __init__(self, name, fields, absent):
            self.fields = fields
            self.absent = absent
            super().__init__(f"Arrays({name}, {fields}, {absent})")

    register_model(Arrays)(models.OpaqueModel)

    @infer_getattr
    class ArraysAttributes(AttributeTemplate):
        key = Arrays

        def generic_resolve(self, kind, name):
            return kind.fields.get(name)

    @lower_getattr_generic(Arrays)
    def lower_field(context, builder, kind, value, name):
        field = kind.fields[name]
        word = ir.IntType(64)
        slots = builder.bitcast(value, word.as_pointer())
        first = SLOT * list(kind.fields).index(name)
        # The numbers do not change during a call, so LLVM may read them before a loop.
        constant = builder.module.add_metadata([])
        numbers = []
        for i in range(1 + field.ndim):
            number = builder.load(builder.gep(slots, [ir.Constant(word, first + i)]))
            number.set_metadata("invariant.load", constant)
            numbers.append(number)
        if name in kind.absent:
            numbers[1:] = [ir.Constant(word, 0)] * field.ndim
        item = context.get_data_type(field.dtype).as_pointer()
        data = builder.inttoptr(numbers[0], item)
        return array_value(context, builder, field, data, numbers[1:])

    return Arrays


SLOT = 4  # numbers of one array: its address and its shape


def slots(arrays: Any) -> np.ndarray:
    """The int64 numbers of a NamedTuple of contiguous arrays, for a function of ``arrays_at``."""
    numbers = []
    for array in arrays:
        shape = array.shape
        numbers += [address(array), *shape, *(1,) * (SLOT - 1 - len(shape))]
    return np.array(numbers, dtype=np.int64)


def address(array: np.ndarray) -> int:
    """Where the numbers of a contiguous array are; any number if it has none."""
    if array.size == 0:
        return 0
    if not array.flags.writeable:
        return array.ctypes.data
    # A quarter of the time of array.ctypes.data, and a short solve asks for thirty addresses.
    return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
