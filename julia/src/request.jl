# What the other side asks of a solve, and what it gets back: memory that it owns and lays out
# as C does. Its twin is pynode/backends/julia/request.py; both have the same fields in the same
# order, of eight bytes each.

const VERSION = 1

"""
How a solve ended, written at the end of its Request.

ending: of ENDINGS; cause: of CAUSES where a limit stopped it. t: reached; reached: outputs.
nfe, njac, nvjp, njvp: calls of native functions. kept: number of what `KEPT` holds, or 0.
finite: whether f was finite where it was asked last.
"""
struct Outcome
    ending::Int64
    cause::Int64
    t::Float64
    reached::Int64
    accepted::Int64
    rejected::Int64
    factorisations::Int64
    solves::Int64
    failures::Int64
    next_step::Float64
    switches::Int64
    nfe::Int64
    njac::Int64
    nvjp::Int64
    njvp::Int64
    finite::Int64
    kept::Int64
end

"""
One solve: the field, the options, the places of the results, and the Outcome.

The field. bits: 64 or 32. n, np: states and parameters; nodes: states that the step hook sees.
device: 0 for main memory, 1 for the GPU of number `ordinal`. origin, direction: of `clock`.
y to inside: buffers of `Buffers`, null where no hook needs them. f to step: Hooks. signals: whether
to ask for Python's signals, which is for the thread that brings the request. native_f to
inputs: of `Functions`. places, entries: where the values of the native Jacobian go, one-based;
colptr, rowval, nonzeros: the pattern of a sparse Jacobian, null for a dense one.

The options. algorithm: its number in `CHOSEN`. start: (n,) state at t0, at the end the state
at the time reached. atol: (n,), or one value where uniform is not 0. outputs, stops: times;
mass: (n, n), null for the identity. dense: keep what the interpolant and the adjoints need.
first: first step, 0 for automatic; fixed: steps of that size without error control.
matrix: whether the solver gets the Jacobian, else products alone. most: evaluations of a
native f at most; seconds: time that is left; stop: a number that becomes 1 to stop the solve.

states: (n, outputs) for the results. message, room: bytes for the text of an error; error: the
exception of Python that ended the solve (python.jl).
"""
struct Request
    version::Int64
    bits::Int64
    n::Int64
    np::Int64
    nodes::Int64
    device::Int64
    ordinal::Int64
    origin::Float64
    direction::Float64
    y::Ptr{Cvoid}
    t::Ptr{Cvoid}
    dy::Ptr{Cvoid}
    v::Ptr{Cvoid}
    jtv::Ptr{Cvoid}
    ptv::Ptr{Cvoid}
    jv::Ptr{Cvoid}
    J::Ptr{Cvoid}
    dT::Ptr{Cvoid}
    times::Ptr{Float64}
    thetas::Ptr{Float64}
    inside::Ptr{Cvoid}
    f::Ptr{Cvoid}
    vjp::Ptr{Cvoid}
    vjp_p::Ptr{Cvoid}
    jvp::Ptr{Cvoid}
    jac::Ptr{Cvoid}
    tgrad::Ptr{Cvoid}
    domain::Ptr{Cvoid}
    step::Ptr{Cvoid}
    signals::Int64
    native_f::Ptr{Cvoid}
    native_vjp::Ptr{Cvoid}
    native_vjp_p::Ptr{Cvoid}
    native_jvp::Ptr{Cvoid}
    native_jac::Ptr{Cvoid}
    native_jac_time::Ptr{Cvoid}
    native_repair::Ptr{Cvoid}
    work::Int64
    inputs::Ptr{Cvoid}
    places::Ptr{Int64}
    entries::Int64
    colptr::Ptr{Int64}
    rowval::Ptr{Int64}
    nonzeros::Int64
    algorithm::Int64
    start::Ptr{Cvoid}
    t0::Float64
    t1::Float64
    rtol::Float64
    atol::Ptr{Cvoid}
    uniform::Int64
    outputs::Ptr{Float64}
    output_count::Int64
    stops::Ptr{Float64}
    stop_count::Int64
    mass::Ptr{Cvoid}
    dense::Int64
    first::Float64
    fixed::Int64
    smallest::Float64
    largest::Float64
    maxiters::Int64
    matrix::Int64
    most::Int64
    seconds::Float64
    stop::Ptr{Int64}
    states::Ptr{Cvoid}
    message::Ptr{UInt8}
    room::Int64
    outcome::Outcome
    error::NTuple{3, Ptr{Cvoid}}
end

"""
The gradient of a kept solve. kept: its number; adjoint: text of `adjoint_length` bytes, none
for `native_gauss`. cotangents: (n, count) of the states at the ascending `times`. t1: where the
forward solve ended. atol: in the units of the cotangents, or with scaled a fraction of their
natural sizes (`cotangent_scales`). dy0: (n,), dp: (np,) for the results.

Written back: reached, the time at which the reverse solve ended; cause and counts as in Outcome.
"""
struct GradientRequest
    version::Int64
    kept::Int64
    algorithm::Int64
    adjoint::Ptr{UInt8}
    adjoint_length::Int64
    checkpointing::Int64
    cotangents::Ptr{Cvoid}
    times::Ptr{Float64}
    count::Int64
    t1::Float64
    rtol::Float64
    atol::Float64
    scaled::Int64
    dy0::Ptr{Cvoid}
    dp::Ptr{Cvoid}
    seconds::Float64
    stop::Ptr{Int64}
    message::Ptr{UInt8}
    room::Int64
    cause::Int64
    reached::Float64
    nvjp::Int64
    njac::Int64
    accepted::Int64
    rejected::Int64
    error::NTuple{3, Ptr{Cvoid}}
end

"""
A batch. rows: the address of the first of `count` Requests or GradientRequests; threads: how many
serve them at most, the calling one among them. signals: whether the calling thread asks for
Python's signals; seconds: time that is left for the batch; stop: what the rows read as their
`stop`, set to 1 here where a signal has raised an exception, which goes into `error`. answers:
(count,) what the entry of one row returned, or SKIPPED. message, room: bytes for the text of an
error of the batch.
"""
struct RowsRequest
    version::Int64
    rows::Ptr{Cvoid}
    count::Int64
    threads::Int64
    signals::Int64
    seconds::Float64
    stop::Ptr{Int64}
    answers::Ptr{Int64}
    message::Ptr{UInt8}
    room::Int64
    error::NTuple{3, Ptr{Cvoid}}
end

"""Write one field of a structure at an address."""
@inline function write_field!(address::Ptr{R}, ::Val{name}, value) where {R, name}
    index = Base.fieldindex(R, name)
    place = Ptr{fieldtype(R, index)}(address + fieldoffset(R, index))
    unsafe_store!(place, value)
    return nothing
end
