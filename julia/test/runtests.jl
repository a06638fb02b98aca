# The Julia side alone: fields are C functions made here, as the other side makes them.
using LinearAlgebra, Test
using PyNODE
using PyNODE: AutoTsit5, Kvaerno3, Kvaerno4, Kvaerno5, OrdinaryDiffEqSDIRK

exact(p, t) = begin  # y' = p (A y + t): y = e^{pAt} (y0 + c) - c', with the particular solution -(A \ t) - (A \ (A \ 1)) / p
    A = PyNODE.Example.A
    particular(s) = -(A \ fill(s, 3)) - (A \ (A \ ones(3))) / p
    exp(p * A * t) * ([1.0, 0.5, -0.2] - particular(0.0)) + particular(t)
end
loss(p) = sum(exact(p, 0.4)) + dot([1.0, -1.0, 0.5], exact(p, 2.0))
slope = (loss(1 + 1e-5) - loss(1 - 1e-5)) / 2e-5

# Each further name compiles for 10 seconds or more: one of each family.
@testset "forward: $name" for name in ("FBDF", "QNDF", "Rosenbrock23", "Rodas5P", "TRBDF2", "KenCarp4", "Tsit5", "Vern7")
    out, _, _ = PyNODE.example(name; rtol = 1e-7)
    @test out[:, 2] ≈ exact(1.0, 0.4) rtol = 2e-4
    @test out[:, 3] ≈ exact(1.0, 2.0) rtol = 2e-4
end

@testset "switching" begin
    out, _, _ = PyNODE.example("AutoTsit5(Rodas5P())"; rtol = 1e-8)
    @test out[:, 3] ≈ exact(1.0, 2.0) rtol = 1e-6
end

@testset "native Gauss adjoint: $name" for name in ("FBDF", "QNDF", "Rodas5P", "Tsit5")
    _, dy0, dp = PyNODE.example(name; rtol = 1e-9, reverse_with = name == "Tsit5" ? "Tsit5" : "Rodas5P")
    A = PyNODE.Example.A
    @test dy0 ≈ exp(0.4A)' * ones(3) + exp(2A)' * [1.0, -1.0, 0.5] rtol = 1e-5
    @test dp[1] ≈ slope rtol = 1e-5
end

@testset "Gauss and Legendre" begin
    for m in 1:7
        x, w = PyNODE.gauss_legendre(m)
        for k in 0:(2m - 1)
            @test sum(w .* x .^ k) ≈ (iseven(k) ? 2 / (k + 1) : 0) atol = 1e-13
        end
    end
end

@testset "a hook that fails stops the solve" begin
    fails() = Cint(1)
    table = PyNODE.Example.table()
    table[13] = Int64(UInt(@cfunction($fails, Cint, ()).ptr))
    y0, atol, stops, outputs = [1.0, 0.5, -0.2], fill(1e-8, 3), Float64[], [0.0, 1.0]
    GC.@preserve table y0 atol outputs stops begin
        F = PyNODE.field(64, 3, 1, 3, PyNODE.address(table))
        @test_throws PyNODE.ForeignError PyNODE.forward(
            F, PyNODE.algorithm("FBDF"), PyNODE.address(y0), 0.0, 1.0, 1e-6, PyNODE.address(atol),
            (PyNODE.address(outputs), 2), (PyNODE.address(stops), 0),
        )
    end
end

@testset "unknown names" begin
    @test_throws ArgumentError PyNODE.algorithm("Rodas99")
end

@testset "the stages of Kvaerno's methods: $(nameof(typeof(alg)))" for alg in (Kvaerno3(), Kvaerno4(), Kvaerno5())
    T = OrdinaryDiffEqSDIRK.ESDIRKIMEXTableau(alg, Float64, Float64)
    pair, caches = AutoTsit5(alg), (; caches = ((;), (; tab = T)))
    PyNODE.place_stages!(pair, caches)
    @test T.c ≈ vec(sum(T.Ai; dims = 2)) rtol = 1e-12
end

# Pkg.test brings JLArrays along; the file alone runs without.
if Base.find_package("JLArrays") === nothing
    @info "JLArrays is not installed: the states on a device are not tested. Run them by Pkg.test(\"PyNODE\")."
else
    include("device.jl")
end
