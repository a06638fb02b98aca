# Signals of a Python that has called from one of its threads: only there, and only in its main
# thread, their handlers run. Ctrl-C raises an exception in them.

"""
Functions of Python's C interface: PyGILState_Ensure, PyGILState_Release, PyErr_CheckSignals and
PyErr_Fetch. Null pointers where the other side is not Python.
"""
mutable struct PythonInterface
    ensure::Ptr{Cvoid}
    release::Ptr{Cvoid}
    check_signals::Ptr{Cvoid}
    fetch::Ptr{Cvoid}
end
const PYTHON = PythonInterface(C_NULL, C_NULL, C_NULL, C_NULL)

"""The other side is Python, with these functions."""
function use_python!(ensure, release, check_signals, fetch)
    PYTHON.ensure, PYTHON.release = Ptr{Cvoid}(UInt(ensure)), Ptr{Cvoid}(UInt(release))
    PYTHON.check_signals, PYTHON.fetch = Ptr{Cvoid}(UInt(check_signals)), Ptr{Cvoid}(UInt(fetch))
    return nothing
end

"""
Run the handlers of signals that have arrived; whether one has raised an exception, whose type,
value and traceback go into `error`. Julia's garbage collector does not wait for this thread,
which may have to wait for Python's lock.
"""
function raised_by_signal!(error::Vector{Ptr{Cvoid}})
    PYTHON.check_signals == C_NULL && return false
    state = ccall(:jl_gc_safe_enter, Int8, ())
    lock = ccall(PYTHON.ensure, Cint, ())
    raised = ccall(PYTHON.check_signals, Cint, ()) != 0
    if raised
        place = pointer(error)
        step = sizeof(Ptr{Cvoid})
        ccall(
            PYTHON.fetch, Cvoid, (Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Cvoid}), place, place + step,
            place + 2step,
        )
    end
    ccall(PYTHON.release, Cvoid, (Cint,), lock)
    ccall(:jl_gc_safe_leave, Cvoid, (Int8,), state)
    return raised
end
