# Through C callbacks, as the other side solves: the error at the outputs, in units of the tolerance. One algorithm a family, since
# each compiles for seconds; TRBDF2 estimates its error too low.
const ALLOWED = Dict("FBDF" => 10, "QNDF" => 10, "Rosenbrock23" => 1, "Rodas5P" => 1, "KenCarp4" => 30, "Tsit5" => 1, "Vern7" => 1,
    "TRBDF2" => 1000, "AutoTsit5(Rodas5P())" => 1)

@testset "forward: $name" for (name, allowed) in ALLOWED
    rtol = 1e-7
    states, _, _ = PyNODE.example(name; rtol)
    for (i, t) in ((2, 0.4), (3, 2.0))
        @test states[:, i] ≈ example_solution(1.0, t) rtol = allowed * rtol
    end
end

@testset "the error follows the tolerance: $name" for name in ("FBDF", "QNDF", "Rodas5P", "ROS34PW2")
    errors = [final_error(forced(), PyNODE.algorithm(name); reltol = rtol, abstol = rtol) for rtol in (1e-4, 1e-6, 1e-8)]
    @test all(errors .< 300 .* [1e-4, 1e-6, 1e-8])
end
