# The Julia side alone. A file holds one property; `Pkg.test` brings along the packages that some of them need.
using PyNODE, Test

include("problems.jl")

"""Run a file where these packages are in the environment; note what was left out."""
function include_with(file, packages...)
    missing_ones = filter(name -> Base.find_package(name) === nothing, collect(packages))
    isempty(missing_ones) || return push!(LEFT_OUT, "$file needs $(join(missing_ones, " and "))")
    foreach(name -> Core.eval(Main, :(import $(Symbol(name)))), packages)
    return @testset "$file" include(file)
end
const LEFT_OUT = String[]

@testset "PyNODE" begin
    # The packages whose extensions add algorithms come first, and are in every later test.
    include_with("radau.jl", "OrdinaryDiffEqFIRK")
    include_with("exponential.jl", "OrdinaryDiffEqExponentialRK")
    include_with("sundials.jl", "Sundials")
    for file in ("names.jl", "direct.jl", "orders.jl", "accuracy.jl", "adjoint.jl", "quadrature.jl", "stages.jl", "faults.jl",
            "allocations.jl", "rows.jl")
        @testset "$file" include(file)
    end
    include_with("device.jl", "JLArrays")
    include_with("quality.jl", "Aqua")
end

foreach(reason -> @info("Not run: $reason"), LEFT_OUT)
