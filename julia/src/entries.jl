# The C functions that the other side calls. Each takes the address of a Request, of a
# GradientRequest or, for many of them (rows.jl), of a RowsRequest, which holds everything it needs.
# It returns 0 where the request was served, 1 where a hook or a limit stopped it before it had a
# result, 2 where Julia failed; `message` then says why. No exception leaves them. Any thread may
# call them: Julia adopts it.

const SERVED, STOPPED, FAILED = Cint(0), Cint(1), Cint(2)

"""How a solve ends, by number. The other side has the same table."""
const ENDINGS = (
    SciMLBase.ReturnCode.Success => 0, SciMLBase.ReturnCode.Terminated => 1,
    SciMLBase.ReturnCode.MaxIters => 2, SciMLBase.ReturnCode.DtNaN => 3,
    SciMLBase.ReturnCode.ConvergenceFailure => 4, SciMLBase.ReturnCode.InitialFailure => 5,
    SciMLBase.ReturnCode.DtLessThanMin => 6, SciMLBase.ReturnCode.Unstable => 7,
)
const OTHER_ENDING = 8

function ending(retcode)
    for (code, number) in ENDINGS
        code == retcode && return number
    end
    return OTHER_ENDING
end

"""A table of values that the other side knows by number."""
mutable struct Numbered
    const values::Dict{Int, Any}
    const lock::ReentrantLock
    last::Int
end
Numbered() = Numbered(Dict{Int, Any}(), ReentrantLock(), 0)

"""Add a value; its number."""
function add!(table::Numbered, value)
    return lock(table.lock) do
        table.last += 1
        table.values[table.last] = value
        return table.last
    end
end
Base.getindex(table::Numbered, number) = lock(() -> table.values[number], table.lock)
remove!(table::Numbered, number) = lock(() -> delete!(table.values, number), table.lock)

"""Algorithms that were chosen, and solves that were kept for dense output or a gradient."""
const CHOSEN = Numbered()
const KEPT = Numbered()

"""The number of an algorithm, for Requests."""
choose(name::AbstractString; krylov = false) = add!(CHOSEN, algorithm(name; krylov))
choose(algorithm) = add!(CHOSEN, algorithm)

function options(F::Field{T}, request::Request) where {T}
    n = F.n
    atol = host_array(T, request.atol, n)
    return SolveOptions(
        (request.t0, request.t1), request.rtol, request.uniform != 0 ? minimum(atol) :
        placed(F, atol), copy(host_array(Float64, request.outputs, request.output_count)),
        copy(host_array(Float64, request.stops, request.stop_count)), request.dense != 0,
        request.first, request.fixed != 0, request.smallest, request.largest,
        Int(request.maxiters), placed(F, host_array(T, request.start, n)),
    )
end

"""Serve a Request."""
function serve_forward(address::Ptr{Request})
    request = unsafe_load(address)
    request.version == VERSION || return mismatch(request)
    return guarded(request.message, request.room) do
        F = field(request)
        return serve_forward(address, request, F, CHOSEN[request.algorithm])
    end
end

function serve_forward(address, request, F::Field{T}, alg) where {T}
    chosen = options(F, request)
    M = request.mass == C_NULL ? I : placed(F, host_array(T, request.mass, F.n, F.n))
    f = odefunction(F, M; matrix = request.matrix != 0)
    local S
    try
        S = forward(F, alg, f, chosen)
    catch error
        error isa Stopped || rethrow()
        write_field!(address, Val(:outcome), outcome(F, nothing, 0, 0))
        write_field!(address, Val(:error), raised(F))
        return STOPPED
    end
    copyto!(host_array(T, request.start, F.n), S.y)
    states = host_array(T, request.states, F.n, request.output_count)
    count = outputs!(states, S, chosen)
    kept = chosen.dense ? add!(KEPT, S) : 0
    write_field!(address, Val(:outcome), outcome(F, S, count, kept))
    write_field!(address, Val(:error), raised(F))
    return SERVED
end

function outcome(F::Field, S::Solved, count, kept)
    watch, stats = F.watch, S.sol.stats
    return Outcome(
        ending(S.sol.retcode), watch.cause, S.t, count, S.accepted, stats.nreject, stats.nw,
        solves(S.alg, stats), stats.nnonlinconvfail, S.next_step, S.switches, watch.nfe,
        watch.njac, watch.nvjp, watch.njvp, watch.finite, kept,
    )
end
function outcome(F::Field, ::Nothing, count, kept)
    watch = F.watch
    return Outcome(
        OTHER_ENDING, watch.cause, 0.0, 0, 0, 0, 0, 0, 0, 0.0, 0, watch.nfe, watch.njac,
        watch.nvjp, watch.njvp, watch.finite, 0,
    )
end

"""Serve a GradientRequest."""
function serve_gradient(address::Ptr{GradientRequest})
    request = unsafe_load(address)
    request.version == VERSION || return mismatch(request)
    return guarded(request.message, request.room) do
        S = KEPT[request.kept]
        name = request.adjoint == C_NULL ? nothing :
            unsafe_string(request.adjoint, request.adjoint_length)
        return serve_gradient(address, request, S, CHOSEN[request.algorithm], name)
    end
end

function serve_gradient(address, request, S::Solved, alg, name)
    F = S.field
    T = eltype(S.y)
    n, np, count = F.n, parameter_count(F), Int(request.count)
    restart!(F.watch, request.seconds, request.stop)
    ts = copy(host_array(Float64, request.times, count))
    G = placed(F, host_array(T, request.cotangents, n, count))
    scales = request.scaled == 0 ? fill!(similar(S.y), 1) : cotangent_scales(S, G)
    tolerances = (; rtol = request.rtol, atol = scales .* T(request.atol))
    local dy0, dp, time, stats
    try
        if name === nothing
            dy0, dp, time, stats = native_gauss(S, G, ts, alg; tolerances...)
        else
            dy0, dp, time, stats = reverse_solve(
                S, G, ts, request.t1, alg, name; tolerances...,
                checkpointing = request.checkpointing != 0,
            )
        end
    catch error
        error isa Stopped || rethrow()
        write_field!(address, Val(:cause), F.watch.cause)
        write_field!(address, Val(:error), raised(F))
        return STOPPED
    end
    copyto!(host_array(T, request.dy0, n), dy0)
    np > 0 && copyto!(host_array(T, request.dp, np), dp)
    write_field!(address, Val(:reached), time)
    write_field!(address, Val(:nvjp), F.watch.nvjp)
    write_field!(address, Val(:njac), F.watch.njac)
    write_field!(address, Val(:accepted), stats === nothing ? 0 : stats.naccept)
    write_field!(address, Val(:rejected), stats === nothing ? 0 : stats.nreject)
    return SERVED
end

"""The exception of Python that a signal has raised, or null pointers."""
raised(F::Field) = (F.watch.error[1], F.watch.error[2], F.watch.error[3])

"""Begin to count, and to look at the limits, anew."""
function restart!(watch::Watch, seconds, stop)
    now = time_ns()
    watch.nfe, watch.njac, watch.nvjp, watch.njvp = 0, 0, 0, 0
    watch.deadline, watch.next, watch.stop = deadline(now, seconds), now + PATIENCE, stop
    watch.cause = 0
    watch.strict = false
    watch.node = NaN
    return nothing
end

"""Call serve(); what it throws becomes a message."""
function guarded(serve, message, room)
    try
        return serve()
    catch error
        write_message(message, room, sprint(showerror, error))
        return FAILED
    end
end

mismatch(request) = (write_message(
    request.message, request.room, "PyNODE serves version $VERSION of the request, but got " *
    "$(request.version): install the PyNODE that belongs to this pynode",
); FAILED)

"""As much of a text as there is room for, and a zero."""
function write_message(message::Ptr{UInt8}, room, text)
    message == C_NULL && return nothing
    bytes = codeunits(text)
    count = min(length(bytes), room - 1)
    for i in 1:count
        unsafe_store!(message, bytes[i], i)
    end
    unsafe_store!(message, 0x00, count + 1)
    return nothing
end

"""Let go of a kept solve."""
release(kept::Int64) = (remove!(KEPT, kept); SERVED)

"""The number of accepted steps of a kept solve, in the other side's time."""
step_count(kept::Int64) = length(mesh(KEPT[kept])) - 1

"""
The mesh of a kept solve into (steps + 1,) at `times`, and the states at `count` thetas of every
step into (n, count, steps) at `states`.
"""
function sample(kept::Int64, thetas::Ptr{Float64}, count::Int64, times::Ptr{Float64},
        states::Ptr{Cvoid})
    return sample(KEPT[kept], host_array(Float64, thetas, count), times, states)
end
function sample(S::Solved, thetas, times, states)
    ts = mesh(S)
    copyto!(host_array(Float64, times, length(ts)), ts)
    into = host_array(eltype(S.y), states, S.field.n, length(thetas), length(ts) - 1)
    samples!(into, S, thetas)
    return SERVED
end

extend(kept::Int64, np::Int64, ptv::Ptr{Cvoid}) = (extend!(KEPT[kept], np, ptv); SERVED)

"""Choose an algorithm by its name, `length` bytes at `name`: its number for Requests; or -1, and
the reason as a message."""
function choose_named(name::Ptr{UInt8}, length::Int64, krylov::Int64, message::Ptr{UInt8},
        room::Int64)
    try
        return Int64(choose(unsafe_string(name, length); krylov = krylov != 0))
    catch error
        write_message(message, room, sprint(showerror, error))
        return Int64(-1)
    end
end

"""The entries by name, with their addresses."""
entries() = (;
    forward = @cfunction(serve_forward, Cint, (Ptr{Request},)),
    gradient = @cfunction(serve_gradient, Cint, (Ptr{GradientRequest},)),
    forward_rows = @cfunction(serve_forward_rows, Cint, (Ptr{RowsRequest},)),
    gradient_rows = @cfunction(serve_gradient_rows, Cint, (Ptr{RowsRequest},)),
    release_rows = @cfunction(release_rows, Cint, (Ptr{Int64}, Int64)),
    choose = @cfunction(
        choose_named, Int64, (Ptr{UInt8}, Int64, Int64, Ptr{UInt8}, Int64),
    ),
    release = @cfunction(release, Cint, (Int64,)),
    steps = @cfunction(step_count, Int64, (Int64,)),
    sample = @cfunction(
        sample, Cint, (Int64, Ptr{Float64}, Int64, Ptr{Float64}, Ptr{Cvoid}),
    ),
    extend = @cfunction(extend, Cint, (Int64, Int64, Ptr{Cvoid})),
)

"""
What the other side must know of this Julia, as text, so that a foreign function interface has
nothing to convert: `name=number` for its threads, whether it handles signals, and the addresses
of the entries. The arguments: of `use_python!`.
"""
function connect(ensure::Int, release::Int, check_signals::Int, fetch::Int)
    use_python!(ensure, release, check_signals, fetch)
    numbers = Pair{Symbol, Int}[
        :threads => Threads.nthreads(), :signals => Base.JLOptions().handle_signals,
    ]
    for (name, pointer) in pairs(entries())
        push!(numbers, name => Int(UInt(pointer)))
    end
    return join(("$name=$number" for (name, number) in numbers), ' ')
end
