# Algorithms by name: what a name makes, and what is refused.

@testset "every name makes its algorithm: $name" for name in PyNODE.names_loaded()
    @test nameof(typeof(PyNODE.algorithm(name))) == Symbol(name)
end

@testset "pairs" begin
    pair = PyNODE.algorithm("AutoTsit5(Rodas5P())")
    @test nameof.(typeof.(pair.algs)) == (:Tsit5, :Rodas5P)
    krylov = PyNODE.algorithm("AutoVern9(KenCarp4())"; krylov = true)
    @test krylov.algs[2].linsolve isa PyNODE.LinearSolve.KrylovJL
end

@testset "linear systems by GMRES" begin
    @test PyNODE.algorithm("FBDF"; krylov = true).linsolve isa PyNODE.LinearSolve.KrylovJL
    @test PyNODE.algorithm("FBDF"; krylov = false).linsolve isa PyNODE.DirectSolver
end

refusal(name; options...) = try
    PyNODE.algorithm(name; options...)
    ""
catch error
    error isa ArgumentError ? error.msg : rethrow()
end

@testset "no keyword is swallowed" begin
    @test refusal("Vern7"; krylov = true) == "Vern7 takes no keyword krylov: leave it out"
    @test refusal("Tsit5"; linsolve = nothing) == "Tsit5 takes no keyword linsolve: leave it out"
    @test refusal("Rodas5P"; order = 4) == "Rodas5P takes no keyword order: leave it out"
    @test refusal("Tsit5"; krylov = false) == ""
end

@testset "unknown names: $name" for name in ("Rodas99", "AutoTsit5(Rodas99())", "AutoRodas5P(FBDF())", "")
    @test startswith(refusal(name), "no algorithm $(name == "AutoTsit5(Rodas99())" ? "Rodas99" : name) is loaded: choose one of ")
end
