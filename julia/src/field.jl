# The vector field as SciML sees it. Every buffer is memory of the other side, wrapped once a solve; every hook is a C function
# without arguments that reads and writes these buffers and returns 0, or another number to stop the solve.

"""A C function `int f(void)`; a null pointer where the other side has none."""
struct Hook
    pointer::Ptr{Cvoid}
end

"""A hook returned an error. The reason stays on the other side, which kept it and will raise it there."""
struct ForeignError <: Exception end
Base.showerror(io::IO, ::ForeignError) = print(io, "the vector field stopped the solve")

given(hook::Hook) = hook.pointer != C_NULL

"""
Where the states lie: `Host`, or a device of an extension. A device has a method of `place`, which makes it, of `own`, which
wraps memory of the other side as its array, and of `settle`, which waits for what Julia has begun there. The other side waits
for what it has begun before a hook returns, so that neither reads what the other still writes.
"""
struct Host end

place(::Val{:cpu}, ordinal) = Host()
place(::Val{S}, ordinal) where {S} = throw(ArgumentError("no states on $S: the extension of PyNODE for it is not loaded"))
own(::Host, ::Type{T}, address, dims...) where {T} = wrap(T, address, dims...)
settle(::Host) = nothing

"""
Buffers and hooks of one vector field dy/dt = f(t, y) with n states and np parameters.

y, t: where f is asked; dy: its value; v: a vector to multiply with; jtv: (df/dy)' v; ptv: (df/dp)' v; jv: (df/dy) v;
J: df/dy, column-major (or the nonzeros of `pattern`); dT: df/dt. step: what a step hook sees: start and end of a step in
`times`, states at `nodes` (fractions of the step) in the columns of `inside`. The third of `times` is not 0 where f refused a
state. All but t, times and nodes lie at `place`. ptv is held by reference, since `extend!` puts another one in its place.
"""
struct Field{T, P, V <: AbstractVector{T}, M <: AbstractMatrix{T}, D}
    y::V
    t::Vector{T}
    dy::V
    v::V
    jtv::V
    ptv::Base.RefValue{V}
    jv::V
    J::V
    dT::V
    times::Vector{Float64}
    nodes::Vector{Float64}
    inside::M
    f::Hook
    vjp::Hook
    vjp_p::Hook
    jvp::Hook
    jac::Hook
    tgrad::Hook
    domain::Hook
    step::Hook
    pattern::P
    place::D
    origin::Float64
    direction::Float64
end

"""
The other side's time where the solver's is s, and the other way round. The solver's runs forward, and from 0 where the span is
short beside its start: there rounding takes from a time what the step to it was longer.
"""
clock(F::Field, s) = F.origin + F.direction * s
inner(F::Field, t) = F.direction * (t - F.origin)

"""What a hook answers: 0, 2 to stop; throws ForeignError where it failed."""
function ask(F::Field, hook::Hook)
    settle(F.place)
    answer = ccall(hook.pointer, Cint, ())
    answer == 0 || answer == 2 || throw(ForeignError())
    return answer
end

wrap(::Type{T}, address, dims...) where {T} = unsafe_wrap(Array, Ptr{T}(UInt(address)), dims)

"""
    field(bits, n, np, nodes, table, nnz, colptr, rowval; state = "cpu", ordinal = 0, origin = 0.0, direction = 1.0)

A Field over the addresses in the Int64 array at `table`: twelve buffers, in the order of the struct, then eight hooks.
bits: 32 or 64; nodes: how many states a step hook sees; colptr, rowval: addresses of the pattern of a sparse Jacobian in
compressed columns, one-based, 0 for a dense one; nnz: its nonzeros. state, ordinal: of `place`, and which of its devices.
origin, direction: of `clock`.
"""
function field(bits::Integer, n::Integer, np::Integer, nodes::Integer, table::Integer, nnz = 0, colptr = 0, rowval = 0;
        state = "cpu", ordinal = 0, origin = 0.0, direction = 1.0)
    T = bits == 64 ? Float64 : Float32
    pattern = colptr == 0 ? nothing :
        SparseMatrixCSC(n, n, copy(wrap(Int64, colptr, n + 1)), copy(wrap(Int64, rowval, nnz)), zeros(T, nnz))
    lies = place(Val(Symbol(state)), Int(ordinal))
    return _field(T, Int(n), Int(np), Int(nodes), wrap(Int64, table, 20), pattern, lies, Float64(origin), Float64(direction))
end

function _field(::Type{T}, n, np, nodes, a, pattern, place, origin, direction) where {T}
    entries = a[8] == 0 ? 0 : pattern === nothing ? n * n : length(pattern.rowval)
    mine(i, dims...) = own(place, T, a[i], dims...)
    return Field(
        mine(1, n), wrap(T, a[2], 1), mine(3, n), mine(4, n), mine(5, n), Ref(mine(6, np)), mine(7, n), mine(8, entries), mine(9, n),
        wrap(Float64, a[10], 3), wrap(Float64, a[11], nodes), mine(12, n, nodes),
        ntuple(i -> Hook(Ptr{Cvoid}(UInt(a[12 + i]))), 8)..., pattern, place, origin, direction,
    )
end

"""An array where the states lie: of zeros, and with the values of a host array."""
blank(F::Field{T}, dims...) where {T} = fill!(similar(F.y, T, dims), 0)
there(F::Field{T}, values::Array{T}) where {T} = copyto!(similar(F.y, T, size(values)), values)

at!(F::Field, y, t) = (copyto!(F.y, y); F.t[1] = clock(F, t); F)

(F::Field)(dy, y, p, t) = (at!(F, y, t); ask(F, F.f); copyto!(dy, F.dy); nothing)

struct VJP{F}
    field::F
end
(g::VJP)(out, v, y, p, t) = (F = at!(g.field, y, t); copyto!(F.v, v); ask(F, F.vjp); copyto!(out, F.jtv); nothing)

struct ParameterVJP{F}
    field::F
end
(g::ParameterVJP)(out, v, y, p, t) = (F = at!(g.field, y, t); copyto!(F.v, v); ask(F, F.vjp_p); copyto!(fill!(out, 0), F.ptv[]); nothing)

struct JVP{F}
    field::F
end
(g::JVP)(out, v, y, p, t) = (F = at!(g.field, y, t); copyto!(F.v, v); ask(F, F.jvp); copyto!(out, F.jv); nothing)

struct Jac{F}
    field::F
end
(g::Jac)(J, y, p, t) = (F = at!(g.field, y, t); ask(F, F.jac); fill_jacobian!(J, F); nothing)
fill_jacobian!(J::AbstractMatrix, F::Field) = copyto!(J, F.J)
fill_jacobian!(J::SparseMatrixCSC, F::Field) = copyto!(nonzeros(J), F.J)

struct TimeGradient{F}
    field::F
end
(g::TimeGradient)(dT, y, p, t) = (F = at!(g.field, y, t); ask(F, F.tgrad); copyto!(dT, F.dT); nothing)

"""Whether a state lies outside of the domain; also where f refused the state during the step (RejectStep)."""
struct Outside{F}
    field::F
end
function (g::Outside)(y, p, t)
    F = g.field
    if F.times[3] != 0
        F.times[3] = 0
        return true
    end
    given(F.domain) || return false
    at!(F, y, t)
    return ask(F, F.domain) == 2
end

"""
The ODEFunction of a field. matrix: whether the solver gets the Jacobian (else it has products alone, for GMRES).

FullSpecialize, since the type of a field does not depend on the model: everything is compiled once, and cached.
"""
function odefunction(F::Field, mass = I; matrix = true)
    jac = matrix && given(F.jac) ? Jac(F) : nothing
    n = length(F.y)
    shape = jac === nothing ? nothing : F.pattern === nothing ? blank(F, n, n) : copy(F.pattern)
    return ODEFunction{true, SciMLBase.FullSpecialize}(
        F; jac, jac_prototype = shape, sparsity = nothing, tgrad = given(F.tgrad) ? TimeGradient(F) : nothing,
        jvp = matrix ? nothing : JVP(F), vjp = VJP(F), vjp_p = ParameterVJP(F), mass_matrix = mass,
    )
end
