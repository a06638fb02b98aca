# The vector field as SciML sees it. It lives on the other side, in one of two forms: hooks, C
# functions without arguments over shared buffers, which may enter Python; and native functions,
# compiled code that takes its arguments and that any thread may call.

"""A C function `int f(void)`; a null pointer where the other side has none."""
struct Hook
    pointer::Ptr{Cvoid}
end

"""
A compiled function `void f(double t, T *y, T *v, T **inputs, T *out, T *work)`; a null pointer
where the other side has none.
"""
struct NativeFunction
    pointer::Ptr{Cvoid}
end

is_given(function_::Union{Hook, NativeFunction}) = function_.pointer != C_NULL

"""
The solve has to stop: a hook failed, or a limit is reached. The reason stays with the field, or
on the other side, which kept its exception and will raise it there.
"""
struct Stopped <: Exception end
Base.showerror(io::IO, ::Stopped) = print(io, "the vector field stopped the solve")

"""
Where the states lie: `Host`, or a device of an extension. A device has a method of `place`,
which makes it, of `wrapped`, which makes its array of memory of the other side, and of
`synchronise`, which waits for what Julia has begun there. The other side waits for what it has
begun before a hook returns, so that neither reads what the other still writes.
"""
struct Host end

place(::Val{0}, ordinal) = Host()
place(::Val{N}, ordinal) where {N} =
    throw(ArgumentError("no states on the device $N: load the package whose extension has it"))
wrapped(::Host, ::Type{T}, address, dims...) where {T} = host_array(T, address, dims...)
synchronise(::Host) = nothing

"""The array of the other side at an address; an empty one where there is none."""
function host_array(::Type{T}, address, dims::Int...) where {T}
    address == C_NULL && return Array{T}(undef, map(zero, dims))
    return unsafe_wrap(Array, Ptr{T}(address), dims)
end
host_array(::Type{T}, address, dims::Integer...) where {T} = host_array(T, address, Int.(dims)...)

"""
What the hooks read and write; empty arrays where there are none. See Field. `extend!` puts
another ptv in the place of the first.
"""
mutable struct Buffers{T, V <: AbstractVector{T}, M <: AbstractMatrix{T}}
    const y::V
    const t::Vector{T}
    const dy::V
    const v::V
    const jtv::V
    ptv::V
    const jv::V
    const J::V
    const dT::V
    const times::Vector{Float64}
    const thetas::Vector{Float64}
    const inside::M
end

"""
The native functions of a field and what they need. values: of the Jacobian, one for each of
`places`, and df/dt behind them. known_t, known_y: where `values` were computed.
"""
mutable struct Functions{T}
    const f::NativeFunction
    const vjp::NativeFunction
    const vjp_p::NativeFunction
    const jvp::NativeFunction
    const jac::NativeFunction
    const jac_time::NativeFunction
    const repair::NativeFunction
    const inputs::Ptr{Cvoid}
    const work::Vector{T}
    const places::Vector{Int64}
    const values::Vector{T}
    const known_y::Vector{T}
    known_t::Float64
end

"""
How often native functions were called; the limits that hold inside of a step; the next moment,
in nanoseconds, at which they are looked at. calls: from one look at the clock to the next;
calls_left: until the next one; looked: the moment of the last one. signals: whether to ask for
Python's signals; error: what they raised. cause: of CAUSES; finite: of the last value of f. strict:
whether the products with df/dp have to be fit for an adaptive quadrature; node: where one was asked
last.
"""
mutable struct Watch
    nfe::Int
    njac::Int
    nvjp::Int
    njvp::Int
    most::Int
    deadline::UInt64
    next::UInt64
    calls::Int
    calls_left::Int
    looked::UInt64
    stop::Ptr{Int64}
    const signals::Bool
    const error::Vector{Ptr{Cvoid}}
    cause::Int
    finite::Bool
    strict::Bool
    node::Float64
end

const CAUSES = (max_nfe = 1, max_seconds = 2, interrupted = 3)
const NEVER = typemax(UInt64)
const PATIENCE = UInt64(20_000_000)  # nanoseconds between two looks at the limits

function Watch(most, seconds, stop, signals)
    error = fill(C_NULL, 3)
    now = time_ns()
    return Watch(
        0, 0, 0, 0, most, deadline(now, seconds), now + PATIENCE, 1, 1, now, stop, signals, error,
        0, true, false, NaN,
    )
end

"""The moment, in nanoseconds, at which these seconds have passed."""
deadline(now, seconds) =
    seconds < 1e9 ? now + round(UInt64, 1e9 * max(0.0, seconds)) : NEVER

"""
One vector field dy/dt = f(t, y) with n states and np parameters.

Its hooks ask for what stands in the buffers. y, t: where f is asked; dy: its value; v: a vector
to multiply with; jtv: (df/dy)' v; ptv: (df/dp)' v; jv: (df/dy) v; J: df/dy, column-major (or
the nonzeros of `pattern`); dT: df/dt. step: sees start and end of a step in `times`, states at
`thetas` (fractions of the step) in the columns of `inside`. The third of `times` is not 0 where
f refused a state. All but t, times and thetas lie at `place`.
"""
struct Field{T, P, V <: AbstractVector{T}, M <: AbstractMatrix{T}, D}
    n::Int
    np::Int
    buffers::Buffers{T, V, M}
    f::Hook
    vjp::Hook
    vjp_p::Hook
    jvp::Hook
    jac::Hook
    tgrad::Hook
    domain::Hook
    step::Hook
    functions::Functions{T}
    watch::Watch
    pattern::P
    place::D
    origin::Float64
    direction::Float64
end

"""Whether compiled code answers, not a hook."""
is_native(F::Field) = is_given(F.functions.f)

"""How many parameters there are."""
parameter_count(F::Field) = is_native(F) ? F.np : length(F.buffers.ptv)

"""The Field of a Request; its type depends on the request."""
function field(request::Request)
    T = request.bits == 64 ? Float64 : Float32
    pattern = nothing
    if request.colptr != C_NULL
        starts = copy(host_array(Int64, request.colptr, request.n + 1))
        rows = copy(host_array(Int64, request.rowval, request.nonzeros))
        pattern = SparseMatrixCSC(request.n, request.n, starts, rows, zeros(T, length(rows)))
    end
    return field(T, request, pattern, place(Val(Int(request.device)), Int(request.ordinal)))
end

function field(::Type{T}, request::Request, pattern, place) where {T}
    n, np, nodes = Int(request.n), Int(request.np), Int(request.nodes)
    entries = pattern === nothing ? n * n : length(pattern.rowval)
    buffers = Buffers(
        wrapped(place, T, request.y, n), host_array(T, request.t, 1),
        wrapped(place, T, request.dy, n), wrapped(place, T, request.v, n),
        wrapped(place, T, request.jtv, n), wrapped(place, T, request.ptv, np),
        wrapped(place, T, request.jv, n), wrapped(place, T, request.J, entries),
        wrapped(place, T, request.dT, n), host_array(Float64, request.times, 3),
        host_array(Float64, request.thetas, nodes), wrapped(place, T, request.inside, n, nodes),
    )
    count = Int(request.entries)
    functions = Functions(
        NativeFunction(request.native_f), NativeFunction(request.native_vjp),
        NativeFunction(request.native_vjp_p), NativeFunction(request.native_jvp),
        NativeFunction(request.native_jac), NativeFunction(request.native_jac_time),
        NativeFunction(request.native_repair), request.inputs, zeros(T, request.work),
        host_array(Int64, request.places, count), zeros(T, count + n), zeros(T, n), NaN,
    )
    return Field(
        n, np, buffers, Hook(request.f), Hook(request.vjp), Hook(request.vjp_p),
        Hook(request.jvp), Hook(request.jac), Hook(request.tgrad), Hook(request.domain),
        Hook(request.step), functions,
        Watch(Int(request.most), request.seconds, request.stop, request.signals != 0), pattern,
        place,
        request.origin, request.direction,
    )
end

"""
The other side's time where the solver's is s, and the other way round. The solver's runs
forward, and from 0 where the span is short beside its start: there rounding takes from a time
what the step to it was longer.
"""
clock(F::Field, s) = F.origin + F.direction * s
inner(F::Field, t) = F.direction * (t - F.origin)

"""
A call that may enter Python. Meanwhile other threads may collect garbage: this one may have to
wait for Python's lock, which one of them holds.
"""
function call_safely(pointer::Ptr{Cvoid})
    state = ccall(:jl_gc_safe_enter, Int8, ())
    answer = ccall(pointer, Cint, ())
    ccall(:jl_gc_safe_leave, Cvoid, (Int8,), state)
    return answer
end

"""Stop the solve where a signal has raised an exception in Python."""
function heed_signals(F::Field)
    raised_by_signal!(F.watch.error) && stop(F, CAUSES.interrupted)
    return nothing
end

"""What a hook answers: 0, or 2 to stop; throws Stopped where it failed."""
function ask(F::Field, hook::Hook)
    synchronise(F.place)
    answer = call_safely(hook.pointer)
    answer == 0 || answer == 2 || throw(Stopped())
    return answer
end

"""Stop the solve for one of CAUSES."""
function stop(F::Field, cause)
    F.watch.cause = cause
    throw(Stopped())
end

# A look at the clock costs as much as a small f. While this many calls last less than SOON
# nanoseconds, one look serves twice as many of them.
const MOST_CALLS = 64
const SOON = UInt64(300_000)

"""Look at the limits, if that is due. Native code lets nobody else do it."""
@inline function look(F::Field)
    watch = F.watch
    watch.calls_left -= 1
    watch.calls_left > 0 || look_at_clock(F)
    return nothing
end

@noinline function look_at_clock(F::Field)
    watch = F.watch
    now = time_ns()
    is_soon = now - watch.looked < SOON
    watch.calls = is_soon ? min(2 * watch.calls, MOST_CALLS) : 1
    watch.calls_left = watch.calls
    watch.looked = now
    now < watch.next || look_now(F, now)
    return nothing
end

@noinline function look_now(F::Field, now)
    watch = F.watch
    watch.next = now + PATIENCE
    now > watch.deadline && stop(F, CAUSES.max_seconds)
    watch.stop != C_NULL && unsafe_load(watch.stop) != 0 && stop(F, CAUSES.interrupted)
    watch.signals && heed_signals(F)
    return nothing
end

"""Put what a native function computes at (t, y) with the vector v into out."""
@inline function compute!(out, F::Field{T}, g::NativeFunction, y, v, t) where {T}
    functions = F.functions
    ccall(
        g.pointer, Cvoid, (Cdouble, Ptr{T}, Ptr{T}, Ptr{Cvoid}, Ptr{T}, Ptr{T}),
        clock(F, t), y, v, functions.inputs, out, functions.work,
    )
    return out
end

"""Arrays where the states lie: of zeros, and with the values of an array of the host."""
blank(F::Field{T}, dims...) where {T} = fill!(similar(F.buffers.y, T, dims), 0)
placed(F::Field{T}, values::Array{T}) where {T} =
    copyto!(similar(F.buffers.y, T, size(values)), values)

"""Tell the hooks where they are asked."""
function at!(F::Field, y, t)
    copyto!(F.buffers.y, y)
    F.buffers.t[1] = clock(F, t)
    return F.buffers
end

"""A product of the other side has the sign of its own time."""
signed!(out, F::Field) = F.direction < 0 ? (out .*= -1; nothing) : nothing

function (F::Field)(dy, y, p, t)
    is_native(F) && return native_slope!(dy, F, y, t)
    at!(F, y, t)
    ask(F, F.f)
    copyto!(dy, F.buffers.dy)
    return nothing
end

function native_slope!(dy, F::Field, y, t)
    watch = F.watch
    watch.nfe < watch.most || stop(F, CAUSES.max_nfe)
    watch.nfe += 1
    look(F)
    compute!(dy, F, F.functions.f, y, y, t)
    watch.finite = isfinite(sum(dy))
    return signed!(dy, F)
end

struct VJP{F}
    field::F
end
function (g::VJP)(out, v, y, p, t)
    F = g.field
    if is_given(F.functions.vjp)
        F.watch.nvjp += 1
        look(F)
        compute!(out, F, F.functions.vjp, y, v, t)
        return signed!(out, F)
    end
    copyto!(at!(F, y, t).v, v)
    ask(F, F.vjp)
    copyto!(out, F.buffers.jtv)
    return nothing
end

struct ParameterVJP{F}
    field::F
end
function (g::ParameterVJP)(out, v, y, p, t)
    F = g.field
    if is_given(F.functions.vjp_p)
        F.watch.nvjp += 1
        look(F)
        F.np == length(out) || fill!(out, 0)
        F.np > 0 && compute!(out, F, F.functions.vjp_p, y, v, t)
        signed!(out, F)
    else
        copyto!(at!(F, y, t).v, v)
        ask(F, F.vjp_p)
        copyto!(fill!(out, 0), F.buffers.ptv)
    end
    F.watch.strict && demand_fit!(F.watch, out, t)
    return nothing
end

"""
Throw `Ended` where an adaptive quadrature would go on without end: a value is not finite, or the
distance of two nodes has become zero.
"""
function demand_fit!(watch::Watch, out, t)
    isfinite(sum(out)) && t != watch.node || throw(Ended(t))
    watch.node = t
    return nothing
end

struct JVP{F}
    field::F
end
function (g::JVP)(out, v, y, p, t)
    F = g.field
    if is_given(F.functions.jvp)
        F.watch.njvp += 1
        look(F)
        compute!(out, F, F.functions.jvp, y, v, t)
        return signed!(out, F)
    end
    copyto!(at!(F, y, t).v, v)
    ask(F, F.jvp)
    copyto!(out, F.buffers.jv)
    return nothing
end

struct Jac{F}
    field::F
end
function (g::Jac)(J, y, p, t)
    F = g.field
    if is_given(F.functions.jac)
        native_jacobian!(F, y, t)
        return spread!(J, F)
    end
    at!(F, y, t)
    ask(F, F.jac)
    fill_jacobian!(J, F.buffers.J)
    return nothing
end
fill_jacobian!(J::AbstractMatrix, values) = copyto!(J, values)
fill_jacobian!(J::SparseMatrixCSC, values) = copyto!(nonzeros(J), values)

struct TimeGradient{F}
    field::F
end
function (g::TimeGradient)(dT, y, p, t)
    F = g.field
    if is_given(F.functions.jac_time)
        native_jacobian!(F, y, t)
        # It keeps its sign back in time: f and time both change theirs.
        copyto!(dT, 1, F.functions.values, length(F.functions.places) + 1, F.n)
        return nothing
    end
    is_given(F.tgrad) || throw(ArgumentError("this field has no df/dt, which the method asks for"))
    at!(F, y, t)
    ask(F, F.tgrad)
    copyto!(dT, F.buffers.dT)
    return nothing
end

"""
The values of the Jacobian at (t, y), and df/dt where the field has a function for both. A
Rosenbrock method asks for the two at the same point, one after the other: they are computed once.
"""
function native_jacobian!(F::Field, y, t)
    functions = F.functions
    functions.known_t == t && functions.known_y == y && return nothing
    F.watch.njac += 1
    look(F)
    both = is_given(functions.jac_time)
    compute!(functions.values, F, both ? functions.jac_time : functions.jac, y, y, t)
    functions.known_t = t
    copyto!(functions.known_y, y)
    count = both ? length(functions.values) : length(functions.places)
    isfinite(sum(view(functions.values, 1:count))) || repair!(F, y, t)
    return nothing
end

"""The other side puts finite differences where a derivative is not finite, in Python."""
@noinline function repair!(F::Field{T}, y, t) where {T}
    functions = F.functions
    is_given(functions.repair) || return nothing
    GC.@preserve y begin
        state = ccall(:jl_gc_safe_enter, Int8, ())
        ccall(
            functions.repair.pointer, Cvoid,
            (Cdouble, Ptr{T}, Ptr{T}, Ptr{Cvoid}, Ptr{T}, Ptr{T}), clock(F, t), y, y,
            functions.inputs, functions.values, functions.work,
        )
        ccall(:jl_gc_safe_leave, Cvoid, (Int8,), state)
    end
    return nothing
end

"""The values of the native Jacobian at their places in J."""
function spread!(J, F::Field)
    entries = storage(J)
    fill!(entries, 0)
    for (place, value) in zip(F.functions.places, F.functions.values)
        entries[place] = F.direction < 0 ? -value : value
    end
    return nothing
end
storage(J::AbstractMatrix) = J
storage(J::SparseMatrixCSC) = nonzeros(J)

"""Whether a state lies outside of the domain; also where f refused the state (RejectStep)."""
struct Outside{F}
    field::F
end
function (g::Outside)(y, p, t)
    F = g.field
    times = F.buffers.times
    if !isempty(times) && times[3] != 0
        times[3] = 0
        return true
    end
    is_given(F.domain) || return false
    at!(F, y, t)
    return ask(F, F.domain) == 2
end

"""
The ODEFunction of a field. matrix: whether the solver gets the Jacobian (else it has products
alone, for GMRES).

FullSpecialize, since the type of a field does not depend on the model: everything is compiled
once, and cached.
"""
function odefunction(F::Field, mass = I; matrix = true)
    has_jacobian = is_given(F.jac) || is_given(F.functions.jac)
    # With a native Jacobian always, so that the type is the same for all methods: those that need
    # df/dt have the function, the others never ask.
    has_slope = is_given(F.tgrad) || is_given(F.functions.jac)
    jac = matrix && has_jacobian ? Jac(F) : nothing
    shape = jac === nothing ? nothing : prototype(F)
    return ODEFunction{true, SciMLBase.FullSpecialize}(
        F; jac, jac_prototype = shape, sparsity = nothing,
        tgrad = has_slope ? TimeGradient(F) : nothing, jvp = matrix ? nothing : JVP(F),
        vjp = VJP(F), vjp_p = ParameterVJP(F), mass_matrix = mass,
    )
end

"""A matrix with the shape of the Jacobian."""
prototype(F::Field) = F.pattern === nothing ? blank(F, F.n, F.n) : copy(F.pattern)
