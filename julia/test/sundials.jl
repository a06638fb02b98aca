# The extension for Sundials: the linear solver follows the Jacobian.
linear_solver_of(integrator) = typeof(integrator.sol.alg).parameters[2]
const CASES = (
    :Dense => (forced(), (;)),
    :KLU => (forced(; jac = forced_jacobian!, jac_prototype = sparse(ones(2, 2))), (;)),
    :GMRES => (forced(; jvp = forced_product!), (; krylov = true)),
)

@testset "$name, $solver" for name in ("CVODE_BDF", "ARKODE"), (solver, (prob, options)) in CASES
    algorithm = PyNODE.algorithm(name; options...)
    @test linear_solver_of(PyNODE.begin_solve(prob, algorithm)) == solver
    for rtol in (1e-4, 1e-6, 1e-8)
        @test final_error(prob, algorithm; reltol = rtol, abstol = rtol) < 300 * rtol
    end
end

@testset "order $order of ARKODE" for (order, steps) in ((2, 32), (3, 16), (4, 8))
    # Tolerances that every step passes, and Newton's iteration far below its error.
    algorithm = PyNODE.algorithm("ARKODE"; order, max_nonlinear_iters = 20, nonlinear_convergence_coefficient = 1e-9)
    errors = [
        final_error(forced(), algorithm; dt = 1 / n, dtmax = 1 / n, tstops = [1.0], reltol = 1e-2, abstol = 1e-2)
            for n in (steps, 2steps)
    ]
    @test log2(errors[1] / errors[2]) > order - 0.4
end
