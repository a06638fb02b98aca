# Problems with known solutions. `PyNODE.example` solves the first one through C callbacks, as the other side would.
using LinearAlgebra
using PyNODE.SciMLBase: SciMLBase, ODEFunction, ODEProblem, solve!
using PyNODE.SparseArrays: sparse

"""The solution of `PyNODE.example`, y' = p (A y + t): e^{pAt} (y0 + c) - c', with the particular solution -(A \\ t) - (A \\ (A \\ 1)) / p."""
function example_solution(p, t)
    A = PyNODE.Example.A
    particular(s) = -(A \ fill(s, 3)) - (A \ (A \ ones(3))) / p
    return exp(p * A * t) * ([1.0, 0.5, -0.2] - particular(0.0)) + particular(t)
end

# Not autonomous, not linear: y = (exp(sin t), cos t) solves it.
forced_solution(t) = [exp(sin(t)), cos(t)]
function forced!(dy, y, p, t)
    dy[1] = y[1] * y[2]
    dy[2] = exp(2 * sin(t)) - y[1]^2 - sin(t)
    return nothing
end
function forced_jacobian!(J, y, p, t)
    J[1, 1] = y[2]
    J[1, 2] = y[1]
    J[2, 1] = -2 * y[1]
    J[2, 2] = 0
    return nothing
end
function forced_slope!(dT, y, p, t)
    dT[1] = 0
    dT[2] = 2 * cos(t) * exp(2 * sin(t)) - cos(t)
    return nothing
end
forced_product!(out, v, y, p, t) = (J = zeros(2, 2); forced_jacobian!(J, y, p, t); mul!(out, J, v); nothing)

"""The forced problem over (0, 1). keywords: of ODEFunction, in the place of a dense Jacobian."""
function forced(; keywords...)
    derivatives = isempty(keywords) ? (; jac = forced_jacobian!, jac_prototype = zeros(2, 2)) : keywords
    f = ODEFunction{true, SciMLBase.FullSpecialize}(forced!; tgrad = forced_slope!, sparsity = nothing, derivatives...)
    return ODEProblem(f, forced_solution(0.0), (0.0, 1.0), zeros(1))
end

"""The error at the end of a solve as PyNODE begins it."""
function final_error(prob, algorithm; options...)
    solution = solve!(PyNODE.begin_solve(prob, algorithm; save_everystep = false, options...))
    @test SciMLBase.successful_retcode(solution)
    return norm(solution.u[end] - forced_solution(1.0))
end

"""The order that the errors of `count` and 2 `count` steps of one size show."""
function observed_order(algorithm, count)
    errors = [final_error(forced(), algorithm; dt = 1 / n, adaptive = false, reltol = 1e-12, abstol = 1e-12) for n in (count, 2count)]
    return log2(errors[1] / errors[2])
end
