# States on a device, without one: the arrays of JLArrays are a GPU's in all but place, and refuse to be read entry by entry.
using JLArrays: JLArrays, JLArray
using PyNODE: LinearSolve
JLArrays.allowscalar(false)

"""Elimination on the host, in the place of that of a GPU's own library."""
struct Elimination <: LinearSolve.AbstractDenseFactorization end
LinearSolve.init_cacheval(
    ::Elimination, A, b, u, Pl, Pr, maxiters::Int, abstol, reltol, verbose::Union{Bool, LinearSolve.LinearVerbosity},
    assumptions::LinearSolve.OperatorAssumptions,
) = nothing
function SciMLBase.solve!(cache::LinearSolve.LinearCache, alg::Elimination; options...)
    copyto!(cache.u, lu(Array(cache.A)) \ Array(cache.b))
    return SciMLBase.build_linear_solution(alg, cache.u, nothing, cache)
end
by_lu(name) = name == "Tsit5" ? PyNODE.algorithm(name) : PyNODE.algorithm(name; linsolve = Elimination())

struct Pretended
    waited::Base.RefValue{Int}
end
const PRETENDED = Pretended(Ref(0))

PyNODE.place(::Val{:pretended}, ordinal) = PRETENDED
function PyNODE.own(::Pretended, ::Type{T}, address, dims...) where {T}
    bytes = unsafe_wrap(Vector{UInt8}, Ptr{UInt8}(UInt(address)), prod(dims) * sizeof(T))
    return JLArray{T, length(dims)}(JLArrays.GPUArrays.DataRef(identity, bytes), dims)
end
PyNODE.settle(place::Pretended) = (place.waited[] += 1; nothing)

@testset "a state on a device: $name" for name in ("Tsit5", "FBDF", "Rodas5P")
    before = PRETENDED.waited[]
    back = name == "Tsit5" ? "Tsit5" : "Rodas5P"
    expected = PyNODE.example(name; rtol = 1e-7, stepping = true, reverse_with = back)
    found = PyNODE.example(name; rtol = 1e-7, stepping = true, reverse_with = back, state = "pretended", choose = by_lu)
    for (a, b) in zip(found, expected)
        @test a ≈ b rtol = 1e-6
    end
    @test PRETENDED.waited[] > before + 100
end

@testset "a state on a device, by GMRES" begin
    by_gmres(name) = PyNODE.algorithm(name; krylov = true)
    expected, _, _ = PyNODE.example("FBDF"; rtol = 1e-7)
    found, _, _ = PyNODE.example("FBDF"; rtol = 1e-7, matrix = false, state = "pretended", choose = by_gmres)
    @test found ≈ expected rtol = 1e-5
end
