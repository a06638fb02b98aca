"""
The Julia side of pynode: solves, and gradients, of vector fields that live in another language.

A field is a handful of C callbacks without arguments over buffers that the other side owns (`Field`), so that nothing here
is compiled anew for a new model. `forward` integrates it, `reverse` and `native_gauss` make the gradient.
"""
module PyNODE

using ADTypes: AutoFiniteDiff
using LinearAlgebra
using SparseArrays
using PrecompileTools: @compile_workload, @setup_workload
using SciMLBase: SciMLBase, CallbackSet, DiscreteCallback, ODEFunction, ODEProblem, init, solve!
using DiffEqCallbacks: PresetTimeCallback
using LinearSolve: LinearSolve, KrylovJL_GMRES
using OrdinaryDiffEqBDF, OrdinaryDiffEqCore, OrdinaryDiffEqRosenbrock, OrdinaryDiffEqSDIRK, OrdinaryDiffEqTsit5,
    OrdinaryDiffEqVerner

include("field.jl")
include("algorithms.jl")
include("solve.jl")
include("statistics.jl")
include("gauss.jl")
include("adjoint.jl")
include("workload.jl")

end
