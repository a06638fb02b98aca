# The extension for OrdinaryDiffEqExponentialRK; orders.jl measures its algorithms.
@test issubset(["ETDRK2", "ETDRK3", "ETDRK4"], PyNODE.names_loaded())

@testset "sparse Jacobian: $name" for name in ("ETDRK2", "ETDRK3", "ETDRK4")
    options = (; dt = 1 / 32, adaptive = false)
    pattern = forced(; jac = forced_jacobian!, jac_prototype = sparse(ones(2, 2)))
    @test final_error(pattern, PyNODE.algorithm(name); options...) ≈ final_error(forced(), PyNODE.algorithm(name); options...) rtol = 1e-6
end
