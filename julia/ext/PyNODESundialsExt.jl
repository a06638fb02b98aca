module PyNODESundialsExt

using LinearAlgebra: LinearAlgebra
using PyNODE: PyNODE
using PyNODE.SciMLBase: SciMLBase, init, remake
using PyNODE.SparseArrays: SparseMatrixCSC
using Sundials: Sundials, ARKODE, CVODE_BDF, Implicit, SundialsODEAlgorithm

const SciMLOperators = SciMLBase.SciMLOperators
const Integrator = Sundials.AbstractSundialsIntegrator

"""What solves the linear systems: GMRES, or elimination of the matrix."""
linear_solver(krylov::Bool) = krylov ? :GMRES : :Dense

PyNODE.algorithm(::Val{:CVODE_BDF}; krylov = false, max_order = 5) =
    CVODE_BDF(; linear_solver = linear_solver(krylov), max_order)

# The tables are ARKODE's defaults for the orders 2 to 5. In Sundials 7 they are ARK2_DIRK_3_1_2, ESDIRK325L2SA_5_2_3,
# ESDIRK436L2SA_6_3_4 and ESDIRK547L2SA2_7_4_5 (Kennedy & Carpenter 2016).
PyNODE.algorithm(
    ::Val{:ARKODE}; krylov = false, order = 4, max_nonlinear_iters = 3, nonlinear_convergence_coefficient = 0.1,
) = ARKODE(
    Implicit(); linear_solver = linear_solver(krylov), order, max_nonlinear_iters, nonlinear_convergence_coefficient,
)

"""(df/dy) v as an operator, at the state and time of the last update."""
mutable struct Products{P} <: SciMLOperators.AbstractSciMLOperator{Float64}
    const product::P
    const y::Vector{Float64}
    t::Float64
end
SciMLOperators.update_coefficients!(J::Products, y, p, t; kwargs...) = (copyto!(J.y, y); J.t = t; J)
LinearAlgebra.mul!(out::AbstractVector, J::Products, v::AbstractVector) = (J.product(out, v, J.y, nothing, J.t); out)
Base.size(J::Products) = (length(J.y), length(J.y))

"""
    begin_solve(prob, alg; keywords...)

The linear solver follows the Jacobian, as it does by LinearSolve's default for other algorithms: KLU for a sparse matrix. CVODE's
GMRES takes products from the field; ARKODE's takes differences of f, since Sundials.jl hands it no products (6.2).
"""
PyNODE.begin_solve(prob, alg::SundialsODEAlgorithm; keywords...) =
    init(prob, suited(alg, prob.f.jac_prototype); keywords...)

function PyNODE.begin_solve(prob, alg::CVODE_BDF{:Newton, :GMRES}; keywords...)
    f = prob.f
    if f.jvp !== nothing && f.jac_prototype === nothing
        products = Products(f.jvp, copy(prob.u0), prob.tspan[1])
        prob = remake(prob; f = remake(f; jac_prototype = products))
    end
    return init(prob, alg; keywords...)
end

suited(alg, jacobian) = alg
suited(alg::CVODE_BDF{:Newton, :Dense, P, S}, ::SparseMatrixCSC) where {P, S} =
    CVODE_BDF{:Newton, :KLU, P, S}(fields(alg)...)
suited(alg::ARKODE{:Newton, :Dense, M, T, I, E, P, S}, ::SparseMatrixCSC) where {M, T, I, E, P, S} =
    ARKODE{:Newton, :KLU, M, T, I, E, P, S}(fields(alg)...)
fields(alg) = (getfield(alg, i) for i in 1:fieldcount(typeof(alg)))

# Its own memory holds the state while a step is made, and a step it refuses is not seen from outside.
PyNODE.note!(integrator::Integrator) = (copyto!(integrator.uprev, integrator.u); 1)
PyNODE.reached(integrator::Integrator, noted) = noted == 0 ? integrator.sol.prob.u0 : integrator.uprev
PyNODE.running(::Integrator) = 1
PyNODE.made_jacobians(::Integrator) = 0
PyNODE.outdate!(::Integrator) = nothing  # it has such a limit itself
PyNODE.proposed(integrator::Integrator) = integrator.t - integrator.tprev
# It refuses a time that rounding has brought out of the step.
PyNODE.between!(state, integrator::Integrator, t) = copyto!(state, integrator(clamp(t, integrator.tprev, integrator.t)))
PyNODE.tally!(integrator::Integrator) = Sundials.fill_stats!(integrator)
PyNODE.special(::SundialsODEAlgorithm, F, fixed) = (;)
PyNODE.solves(::SundialsODEAlgorithm, stats) = stats.nnonliniter  # a linear solve each

end
