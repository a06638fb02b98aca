# Orders on a problem that depends on time, by steps of one size. Name => (order, steps).
const ORDERS = Dict(
    "ImplicitEuler" => (1, 64), "ABDF2" => (2, 64), "ImplicitMidpoint" => (2, 32), "Trapezoid" => (2, 32), "TRBDF2" => (2, 32),
    "Kvaerno3" => (3, 32), "Kvaerno4" => (4, 32), "Kvaerno5" => (5, 16), "KenCarp3" => (3, 32), "KenCarp4" => (4, 32),
    "KenCarp47" => (4, 32), "KenCarp5" => (5, 16), "KenCarp58" => (5, 16), "Rosenbrock23" => (2, 64), "Rodas23W" => (2, 64),
    "Rodas3P" => (3, 32), "Rodas4" => (4, 32), "Rodas4P" => (4, 32), "Rodas4P2" => (4, 32), "Rodas4PW" => (4, 32),
    "Rodas5" => (5, 16), "Rodas5P" => (5, 16), "Rodas6P" => (6, 4), "ROS34PW2" => (3, 32), "ROS34PW3" => (4, 32),
    "ROS34PRw" => (3, 32), "ROK4a" => (4, 32), "Tsit5" => (5, 16), "Vern6" => (6, 8), "Vern7" => (7, 4), "Vern8" => (8, 4),
    "Vern9" => (9, 2), "RadauIIA3" => (3, 32), "RadauIIA5" => (5, 8), "RadauIIA9" => (9, 4), "ETDRK2" => (2, 64),
    "ETDRK3" => (3, 32), "ETDRK4" => (4, 32),
)
# Their order or their steps vary: accuracy.jl and sundials.jl compare their errors with the tolerance.
const VARIABLE = ["FBDF", "QNDF", "CVODE_BDF", "ARKODE"]

@testset "an order for every name" begin
    @test issubset(PyNODE.names_loaded(), [collect(keys(ORDERS)); VARIABLE])
end

@testset "order of $name" for name in setdiff(PyNODE.names_loaded(), VARIABLE)
    order, steps = ORDERS[name]
    @test observed_order(PyNODE.algorithm(name), steps) > order - 0.4
end
