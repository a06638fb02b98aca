# The second stage of Kvaerno's methods, which PyNODE puts in its place. orders.jl shows that it has to.
using PyNODE: AutoTsit5, Kvaerno3, Kvaerno4, Kvaerno5, OrdinaryDiffEqSDIRK

@testset "$(nameof(typeof(algorithm)))" for algorithm in (Kvaerno3(), Kvaerno4(), Kvaerno5())
    tableau = OrdinaryDiffEqSDIRK.ESDIRKIMEXTableau(algorithm, Float64, Float64)
    pair, caches = AutoTsit5(algorithm), (; caches = ((;), (; tab = tableau)))
    PyNODE.place_stages!(pair, caches)
    @test tableau.c ≈ vec(sum(tableau.Ai; dims = 2)) rtol = 1e-12
end
