# A hook that fails stops the solve.
@testset "before the first step" begin
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

@testset "a place that nothing serves" begin
    @test_throws ArgumentError PyNODE.example("Tsit5"; state = "nowhere")
end
