# The gradient of a loss of two outputs by the native Gauss adjoint, against its closed form.
loss(p) = sum(example_solution(p, 0.4)) + dot([1.0, -1.0, 0.5], example_solution(p, 2.0))

@testset "native Gauss adjoint: $name" for name in ("FBDF", "QNDF", "Rodas5P", "Tsit5")
    rtol = 1e-9
    _, dy0, dp = PyNODE.example(name; rtol, reverse_with = name == "Tsit5" ? "Tsit5" : "Rodas5P")
    A = PyNODE.Example.A
    @test dy0 ≈ exp(0.4A)' * ones(3) + exp(2A)' * [1.0, -1.0, 0.5] rtol = 1e-7
    @test dp[1] ≈ (loss(1 + 1e-5) - loss(1 - 1e-5)) / 2e-5 rtol = 1e-6
end

# What a reverse solve reads of its adjoint, with lambda' = sin(t) lambda, whose derivative in t is known.
mutable struct Waving
    const asked::Vector{Float64}
    const answered::Vector{Float64}
    const first::Float64
    asked_time::Float64
    step::Float64
end
PyNODE.reverse_slope!(out, ::Waving, lambda, t) = (out .= sin(t) .* lambda; nothing)

@testset "the derivative of lambda' in t, at $t, where it was asked before: $is_known" for t in (0.0, 1.2, 1e6), is_known in (true, false)
    g = Waving(zeros(2), zeros(2), 0.0, NaN, 0.01)
    lambda, dT = [1.0, -2.0], zeros(2)
    is_known && PyNODE.ReverseSlope(g)(zeros(2), lambda, nothing, t)
    PyNODE.ReverseTimeGradient(g)(dT, lambda, nothing, t)
    @test dT ≈ cos(t) .* lambda rtol = 1e-6
end
