# The gradient of a loss of two outputs by the native Gauss adjoint, against its closed form.
loss(p) = sum(example_solution(p, 0.4)) + dot([1.0, -1.0, 0.5], example_solution(p, 2.0))

@testset "native Gauss adjoint: $name" for name in ("FBDF", "QNDF", "Rodas5P", "Tsit5")
    rtol = 1e-9
    _, dy0, dp = PyNODE.example(name; rtol, reverse_with = name == "Tsit5" ? "Tsit5" : "Rodas5P")
    A = PyNODE.Example.A
    @test dy0 ≈ exp(0.4A)' * ones(3) + exp(2A)' * [1.0, -1.0, 0.5] rtol = 1e-7
    @test dp[1] ≈ (loss(1 + 1e-5) - loss(1 - 1e-5)) / 2e-5 rtol = 1e-6
end
