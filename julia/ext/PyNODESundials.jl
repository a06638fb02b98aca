module PyNODESundials

using PyNODE: PyNODE, ALGORITHMS
using Sundials: Sundials, CVODE_BDF

const Integrator = Sundials.AbstractSundialsIntegrator

# Newton's matrix from the field's own Jacobian, dense.
__init__() = (ALGORITHMS["CVODE_BDF"] = () -> CVODE_BDF(); nothing)

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
PyNODE.special(::Sundials.SundialsODEAlgorithm, F, fixed) = (;)
PyNODE.solves(::Sundials.SundialsODEAlgorithm, stats) = stats.nnonliniter  # a linear solve each

end
