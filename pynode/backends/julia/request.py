"""What Julia is asked, and what it answers: memory with the layout of C.

The twin is julia/src/request.jl, where every field is explained. Both have the same fields in the
same order, of eight bytes each.
"""

from __future__ import annotations

import ctypes

import numpy as np

VERSION = 1
MESSAGE_BYTES = 2000

# What an entry returns.
SERVED = 0
STOPPED = 1
# The same of a row that was not begun.
SKIPPED = 3

_REALS = (
    "t",
    "next_step",
    "origin",
    "direction",
    "t0",
    "t1",
    "rtol",
    "first",
    "smallest",
    "largest",
    "seconds",
)


def _fields(names: str, reals: tuple[str, ...] = _REALS) -> list[tuple[str, type]]:
    """The fields of a structure, from their names."""
    return [(name, ctypes.c_double if name in reals else ctypes.c_int64) for name in names.split()]


class Outcome(ctypes.Structure):
    """How a solve ended."""

    _fields_ = _fields(
        "ending cause t reached accepted rejected factorisations solves failures next_step switches"
        " nfe njac nvjp njvp finite kept"
    )


# Type, value and traceback of an exception, as PyErr_Fetch of Python's C interface gives them.
_ERROR = ctypes.c_void_p * 3
# The state's time is a buffer here, and no number.
_POINTERS = (
    "y t dy v jtv ptv jv J dT times thetas inside f vjp vjp_p jvp jac tgrad domain step signals"
    " native_f native_vjp native_vjp_p native_jvp native_jac native_jac_time native_repair"
)


class Request(ctypes.Structure):
    """One solve."""

    _fields_ = [
        *_fields("version bits n np nodes device ordinal origin direction"),
        *_fields(_POINTERS, ()),
        *_fields(
            "work inputs places entries colptr rowval nonzeros algorithm start t0 t1 rtol atol"
            " uniform outputs output_count stops stop_count mass dense first fixed smallest largest"
            " maxiters matrix most seconds stop states message room"
        ),
        ("outcome", Outcome),
        ("error", _ERROR),
    ]


class GradientRequest(ctypes.Structure):
    """The gradient of a solve that Julia has kept."""

    _fields_ = [
        *_fields(
            "version kept algorithm adjoint adjoint_length checkpointing cotangents times count t1"
            " rtol atol scaled dy0 dp seconds stop message room cause reached nvjp njac accepted"
            " rejected",
            ("t1", "rtol", "atol", "seconds", "reached"),
        ),
        ("error", _ERROR),
    ]


class RowsRequest(ctypes.Structure):
    """An array of Requests, or of GradientRequests, one for each row of a batch."""

    _fields_ = [
        *_fields("version rows count threads signals seconds stop answers message room"),
        ("error", _ERROR),
    ]


def array_of(structure: type[ctypes.Structure], count: int) -> np.ndarray:
    """(count,) structures of zeros, whose fields NumPy reads and writes."""
    return np.zeros(count, np.dtype(structure))
