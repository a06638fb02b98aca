"""
The Julia side of pynode: solves, and gradients, of vector fields that live in another language.

A field is a handful of C functions over memory that the other side owns (`Field`), so that
nothing here is compiled anew for a new model. `forward` integrates it, `native_gauss` and
`reverse_solve` make the gradient. The other side calls the functions of `entries`.
"""
module PyNODE

using ADTypes: AutoFiniteDiff
using LinearAlgebra
using SparseArrays
using PrecompileTools: @compile_workload, @setup_workload
using SciMLBase: SciMLBase, CallbackSet, DiscreteCallback, ODEFunction, ODEProblem, init, solve!
using DiffEqCallbacks: PresetTimeCallback
using FunctionWrappers: FunctionWrapper
using LinearSolve: LinearSolve, KrylovJL_GMRES
using OrdinaryDiffEqBDF, OrdinaryDiffEqCore, OrdinaryDiffEqRosenbrock, OrdinaryDiffEqSDIRK,
    OrdinaryDiffEqTsit5, OrdinaryDiffEqVerner

include("request.jl")
include("python.jl")
include("field.jl")
include("direct.jl")
include("algorithms.jl")
include("compat.jl")
include("solve.jl")
include("gauss.jl")
include("adjoint.jl")
include("rows.jl")
include("entries.jl")
include("workload.jl")

end
