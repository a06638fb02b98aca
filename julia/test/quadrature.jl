# Gauss and Legendre's nodes integrate polynomials up to the degree 2m - 1.
@testset "$m nodes" for m in 1:7
    x, w = PyNODE.gauss_legendre(m)
    for k in 0:(2m - 1)
        @test sum(w .* x .^ k) ≈ (iseven(k) ? 2 / (k + 1) : 0) atol = 1e-13
    end
end
